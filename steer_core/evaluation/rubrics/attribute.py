"""An attribute of the embedded model's grammar on a behavior's scale: ground truth, read from the words."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.specs import BehaviorSpec, GrammarBehavior
from steer_core.models.embedded.grammar import read
from steer_core.tables.errors import ConfigError

VERSION = "1"


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


def build(behavior: BehaviorSpec) -> AttributeRubric:
    """The rubric of a grammar behavior.

    Raises:
        ConfigError: the behavior is none of the grammar's, or its two levels are the same.
    """
    source = behavior.source
    if not isinstance(source, GrammarBehavior):
        raise ConfigError(
            f"behavior {behavior.name!r}: rubric 'attribute' reads the embedded model's grammar, and the behavior is "
            f"made from {source.kind!r} data; give it a judge of kind `llm`"
        )
    if source.positive == source.negative:
        raise ConfigError(f"behavior {behavior.name!r}: positive and negative are both level {source.positive}")
    return AttributeRubric(source.attribute, source.positive, source.negative, behavior.scale)
