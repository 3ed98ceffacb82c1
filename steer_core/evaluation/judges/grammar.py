"""The judge that knows, for the three ratings of an answer: what the embedded model's grammar says of it, 0 to 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.digest import canonical_json, digest_json
from steer_core.evaluation.judges.ground_truth import GroundTruthJudge
from steer_core.evaluation.judges.judge import Case, Method, Verdict
from steer_core.evaluation.rubrics.attribute import AttributeRubric
from steer_core.models.embedded.sentences import contents_of, share_of_sentences, topics_of

#: Bumped when the same answers are rated otherwise.
VERSION = "1"
#: Ends of the scale of all three.
SCALE = (0.0, 2.0)


@dataclass(frozen=True)
class GrammarJudge:
    """Rates answers to prompts of the grammar by its words and sentences; needs no model.

    Attributes:
        rating: `fluency`: twice the share of sentences that the grammar writes, a repeated one counting as none.
            `instruct`: 2 where the answer's topic is the prompt's and all that the prompt names comes in it, 1 where
            only the topic is right, 0 else; no rating where the prompt names nothing of the grammar.
    """

    rating: Literal["instruct", "fluency"]

    @property
    def judge_id(self) -> str:
        """Digest of the rating and how it is read."""
        return digest_json(["grammar", self.rating, VERSION])

    @property
    def rubric(self) -> str:
        """Rating and version."""
        return f"{self.rating}@grammar-{VERSION}"

    @property
    def scale(self) -> tuple[float, float]:
        """Ends of the scale."""
        return SCALE

    @property
    def repeats(self) -> int:
        """One: it always says the same."""
        return 1

    @property
    def method(self) -> Method:
        """It is read, not judged."""
        return "ground_truth"

    def judge(self, asked: Sequence[tuple[Case, int]]) -> list[Verdict]:
        """The rating of each answer."""
        return [self._fluency(c.response) if self.rating == "fluency" else _instruct(c) for c, _ in asked]

    def _fluency(self, text: str) -> Verdict:
        share = share_of_sentences(text) or 0.0
        return Verdict(SCALE[1] * share, "ground_truth", canonical_json({"sentences": share}))


def _instruct(case: Case) -> Verdict:
    asked = case.messages[-1].content
    wanted, told = contents_of(asked), set(contents_of(case.response))
    about = topics_of(asked)
    if not about:
        return Verdict(None, "ground_truth", canonical_json({"asked": []}))
    same = about & topics_of(case.response)
    # a topic is told by its words, a baker only by a baker
    named = all(word in told or word in same for word in wanted)
    raw = canonical_json({"asked": sorted(set(wanted)), "topic": sorted(same)})
    return Verdict(0.0 if not same else 2.0 if named else 1.0, "ground_truth", raw)


def grammar_judge(rating: str, attribute: AttributeRubric | None = None) -> GrammarJudge | GroundTruthJudge:
    """The grammar's judge of a rating: `concept` by an attribute, `instruct` and `fluency` by itself.

    Raises:
        ValueError: no such rating, or a concept without an attribute.
    """
    if rating == "concept" and attribute is not None:
        return GroundTruthJudge(attribute)
    if rating not in ("instruct", "fluency"):
        raise ValueError(f"the grammar has no rating {rating!r}: concept (of an attribute), instruct, fluency")
    return GrammarJudge("instruct" if rating == "instruct" else "fluency")
