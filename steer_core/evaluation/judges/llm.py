"""The judge that is a language model with a rubric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from schemas.digest import digest_json, digest_text
from schemas.specs import Decoding
from steer_core.evaluation.judges.asking import LEAST_MASS, ask_expected, ask_text
from steer_core.evaluation.judges.judge import Case, Method, Verdict
from steer_core.evaluation.rubrics.rubric import Rubric
from steer_core.generation.backend import Backend
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError

#: Temperature of repeated text verdicts: greedy ones would all be the same.
REPEAT_TEMPERATURE = 1.0


@dataclass(frozen=True)
class LlmJudge:
    """A language model with a rubric.

    Repeats of one case show its example answers in the other order; repeats that are written are drawn as well.

    Attributes:
        backend: runs the judge.
        model: `ModelSpec.identity` of the judge.
        question: the rubric.
        repeats: judgements of each response.
        reading: `expected`: mean over the probabilities of the options; `text`: read from what it writes; `auto`:
            expected where the backend returns log-probabilities.
        seed: of drawn replies.
        batch_size: rows run together; part of no id.
        least_mass: probability of all options together below which an expected verdict is not taken.

    Raises:
        ConfigError: `expected` is asked of a backend without log-probabilities, or there are no repeats.
    """

    backend: Backend
    model: str
    question: Rubric
    repeats: int = 1
    reading: Literal["auto", "expected", "text"] = "auto"
    seed: int = 0
    batch_size: int = 32
    least_mass: float = LEAST_MASS

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ConfigError(f"a judge with {self.repeats} repeats judges nothing: `repeats` is at least 1")
        if self.reading == "expected" and not self.backend.capabilities.scores:
            raise ConfigError(
                f"{self.backend.capabilities.name} backend returns no log-probabilities, so a judge on it has no "
                "expected score; use `text`"
            )

    @property
    def judge_id(self) -> str:
        """Digest of kind, model, settings, and the rubric with its options and wording."""
        drawn = self.method == "text"
        settings = [self.seed, self.decoding.spec_hash] if drawn else [self.least_mass]
        return digest_json(["llm", self.model, self.rubric, self.question.fingerprint, self.method, settings])

    @property
    def rubric(self) -> str:
        """Rubric name and version."""
        return f"{self.question.name}@{self.question.version}"

    @property
    def scale(self) -> tuple[float, float]:
        """Ends of the rubric's scale."""
        return self.question.scale

    @property
    def method(self) -> Method:
        """How verdicts are come by."""
        scores = self.backend.capabilities.scores
        return "expected" if self.reading == "expected" or (self.reading == "auto" and scores) else "text"

    @property
    def decoding(self) -> Decoding:
        """Greedy, or drawn where there are repeats to tell apart."""
        temperature = REPEAT_TEMPERATURE if self.method == "text" and self.repeats > 1 else 0.0
        return Decoding(max_new_tokens=self.question.max_new_tokens, temperature=temperature, top_p=1.0, min_p=0.0)

    def judge(self, asked: Sequence[tuple[Case, int]]) -> list[Verdict]:
        """A verdict for each case and repeat."""
        plans = [Plan(self.model, self.decoding, self.question.ask(case, repeat)) for case, repeat in asked]
        options = self.question.options
        if self.method == "expected":
            return ask_expected(plans, options, self.backend, batch_size=self.batch_size, least_mass=self.least_mass)
        keys = [f"{self.seed}:{case.response_id}:{case.item_id}:{repeat}" for case, repeat in asked]
        return ask_text(
            plans,
            options,
            self.backend,
            samples=[repeat for _, repeat in asked],
            seeds=[int(digest_text(k)[:15], 16) for k in keys],
            batch_size=self.batch_size,
        )
