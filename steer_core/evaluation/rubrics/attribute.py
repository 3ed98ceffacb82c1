"""An attribute of the embedded model's grammar on a behavior's scale: ground truth, read from the words."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.specs import BehaviorSpec, GrammarBehavior
from steer_core.models.embedded.grammar import read
from steer_core.tables.errors import ConfigError

VERSION = "1"
#: What the grammar varies.
ATTRIBUTES = ("sentiment", "formality", "difficulty", "sentences")


@dataclass(frozen=True)
class AttributeRubric:
    """How levels of an attribute lie on a scale.

    Attributes:
        attribute: sentiment, formality, difficulty or sentences.
        positive: level at the top of the scale.
        negative: level at its bottom.
        scale: ends of the scale.
    """

    attribute: str
    positive: int
    negative: int
    scale: tuple[float, float]
    name: str = "attribute"
    version: str = VERSION

    def level(self, text: str) -> int | None:
        """The attribute of a text; None where it gives no sign of it."""
        found: int | None = getattr(read(text), self.attribute)
        return found

    def value(self, level: int) -> float:
        """A level on the scale, in equal steps; levels beyond the two ends count as the ends."""
        bottom, top = self.scale
        share = (level - self.negative) / (self.positive - self.negative)
        return bottom + min(max(share, 0.0), 1.0) * (top - bottom)


def build(
    behavior: BehaviorSpec, *, attribute: str | None = None, positive: int = 2, negative: int = -2
) -> AttributeRubric:
    """The rubric of a grammar behavior, or of another one whose answers the grammar writes.

    Args:
        behavior: what is judged.
        attribute: of a behavior that is none of the grammar's: the attribute that it comes to.
        positive: its level that shows it.
        negative: its level that does not.

    Raises:
        ConfigError: the behavior is none of the grammar's and no attribute is named, or its two levels are the same.
    """
    source = behavior.source
    if isinstance(source, GrammarBehavior):
        attribute, positive, negative = source.attribute, source.positive, source.negative
    elif attribute is None:
        raise ConfigError(
            f"behavior {behavior.name!r}: rubric 'attribute' reads the embedded model's grammar, and the behavior is "
            f"made from {source.kind!r} data; give it a judge of kind `llm`, or name an `attribute` in its options"
        )
    elif attribute not in ATTRIBUTES:
        raise ConfigError(
            f"behavior {behavior.name!r}: the grammar has no attribute {attribute!r}; it has {', '.join(ATTRIBUTES)}"
        )
    if positive == negative:
        raise ConfigError(f"behavior {behavior.name!r}: positive and negative are both level {positive}")
    return AttributeRubric(attribute, positive, negative, behavior.scale)
