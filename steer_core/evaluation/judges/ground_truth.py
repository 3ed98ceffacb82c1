"""The judge that knows: reads the attribute of the embedded model's grammar that defines a behavior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.digest import canonical_json, digest_json
from steer_core.evaluation.judges.judge import Case, Method, Verdict
from steer_core.evaluation.rubrics.attribute import AttributeRubric


@dataclass(frozen=True)
class GroundTruthJudge:
    """Judges by the words of the grammar; needs no model and never errs on its texts.

    Attributes:
        reader: which attribute, and how its levels lie on the scale.
    """

    reader: AttributeRubric

    @property
    def judge_id(self) -> str:
        """Digest of the rubric and its settings."""
        r = self.reader
        return digest_json(["ground_truth", self.rubric, r.attribute, r.positive, r.negative, list(r.scale)])

    @property
    def rubric(self) -> str:
        """Rubric name and version."""
        return f"{self.reader.name}@{self.reader.version}"

    @property
    def scale(self) -> tuple[float, float]:
        """Ends of the behavior's scale."""
        return self.reader.scale

    @property
    def repeats(self) -> int:
        """One: it always says the same."""
        return 1

    @property
    def method(self) -> Method:
        """The attribute is read, not judged."""
        return "ground_truth"

    def judge(self, asked: Sequence[tuple[Case, int]]) -> list[Verdict]:
        """The attribute of each response on the scale; None where its text gives no sign of it."""
        verdicts = []
        for case, _ in asked:
            level = self.reader.level(case.response)
            value = None if level is None else self.reader.value(level)
            verdicts.append(Verdict(value, "ground_truth", canonical_json({self.reader.attribute: level})))
        return verdicts
