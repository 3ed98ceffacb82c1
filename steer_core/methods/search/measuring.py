"""What a setting comes to on items: written, judged, scored, with the measures that sweeps have.

Items to choose by are made from the pairs that a behavior keeps for validation: nothing was fitted on them, and they
are none of its test items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from schemas.contrasts import BehaviorItems
from schemas.digest import digest_json
from schemas.specs import Decoding
from steer_core.evaluation.arms import Arm, Asked, answers, choices, measures, pair
from steer_core.evaluation.behaviors import as_items
from steer_core.evaluation.judges.judge import Judge, cases_of, judge_cases
from steer_core.evaluation.refusals import is_refusal
from steer_core.generation.run import Run
from steer_core.methods.cleaning import clean_answer
from steer_core.steering.intervention import Intervention
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.journal import Journal

#: Measures of a setting, and which way is better where that is not a matter of taste.
MEASURES = ("judged", "propensity", "kl", "perplexity", "refused", "length")
#: 1 where an answer has no verdict, and counts as the worst.
MISSING = "no_verdict"
#: What an answer has to be written for.
WRITTEN = frozenset(MEASURES) - {"propensity"}


@dataclass(frozen=True)
class Measured:
    """A setting on items.

    Attributes:
        values: `item_id`, `measure`, `value`; null where there is none.
        answers: answers that were asked for.
    """

    values: pl.DataFrame
    answers: int

    def mean(self, measure: str) -> float | None:
        """Mean over the items that have a value; None where none has."""
        own = self.values.filter(pl.col("measure") == measure)["value"].drop_nulls()
        return float(own.mean()) if own.len() else None  # type: ignore[arg-type]  # of floats


@dataclass
class Measurer:
    """Measures settings of a behavior.

    Attributes:
        behavior: its name.
        items: rows of `behavior_items`.
        run: who answers; its backend knows the vectors.
        decoding: of open answers.
        wanted: measures.
        judge: of open answers, for `judged`.
        verdicts: journal of `judgements`; None keeps none.
        better: measure -> -1 where less of it is wanted: an answer without a verdict counts as the worst there is.
    """

    behavior: str
    items: pl.DataFrame
    run: Run
    decoding: Decoding
    wanted: tuple[str, ...]
    judge: Judge | None = None
    verdicts: Journal | None = None
    better: Mapping[str, int] = field(default_factory=dict)
    _scored: dict[str, pl.DataFrame] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if odd := [name for name in self.wanted if name not in MEASURES]:
            raise ConfigError(f"a search knows no measure {odd[0]!r}; it has {', '.join(MEASURES)}")
        if "judged" in self.wanted and self.judge is None:
            raise ConfigError(f"behavior {self.behavior!r}: `judged` needs a judge")
        able = self.run.asking.capabilities
        if "kl" in self.wanted and not able.diverges:
            raise ConfigError(f"{able.name} backend cannot hold steered against unsteered: search without `kl`")
        if {"perplexity", "propensity"} & set(self.wanted) and not able.scores:
            raise ConfigError(f"{able.name} backend cannot score: search without `perplexity` and `propensity`")
        forms = set(self.items["form"])
        if not self.items.height or ("propensity" in self.wanted and forms == {"open"}):
            raise ConfigError(f"behavior {self.behavior!r}: no items for {', '.join(self.wanted)}")

    @property
    def places(self) -> list[str]:
        """Questions, in an order by hash: a stretch of them is a sample of all."""
        asked = self.items["messages"].unique().to_list()
        return sorted(asked, key=lambda m: digest_json(["stretch", m]))

    def measure(self, steps: Sequence[Intervention], questions: Sequence[str] | None = None) -> Measured:
        """A setting on the items of some questions; None: all.

        Raises:
            SteerworksError: the engine cannot do what the setting asks for.
        """
        rows = self.items if questions is None else self.items.filter(pl.col("messages").is_in(list(questions)))
        arm = Arm(digest_json([i.to_dict() for i in steps]), self.behavior, None, tuple(steps))
        asked = pair([arm], [as_items.item_of(r) for r in rows.iter_rows(named=True)])
        found: list[pl.DataFrame] = []
        n = 0
        if WRITTEN & set(self.wanted):
            opened = [one for one in asked if one.item.open]
            wrote = answers.write(opened, self.run, self.decoding, clean=clean_answer)
            n = len(opened)
            found += self._of_answers(wrote, opened, rows)
        if "propensity" in self.wanted:
            found.append(choices.score(asked, self.run, self.decoding, as_items.choice_measures))
        scores = pl.concat(found).filter(pl.col("measure").is_in([*self.wanted, MISSING]))
        return Measured(scores.select("item_id", "measure", "value"), n)

    def _of_answers(self, wrote: answers.Written, opened: list[Asked], rows: pl.DataFrame) -> list[pl.DataFrame]:
        makers: Mapping[str, Callable[[], pl.DataFrame]] = {
            "judged": lambda: self._judged(wrote, opened, rows),
            "kl": lambda: measures.kl_scores(wrote, opened, self.run, self.decoding),
            "perplexity": lambda: measures.perplexity_scores(wrote, opened, self.run, self.decoding),
            "refused": lambda: measures.text_scores(
                wrote, opened, lambda texts: [{"refused": float(is_refusal(t))} for t in texts]
            ),
            "length": lambda: measures.form_scores(wrote, opened),
        }
        return [make() for name, make in makers.items() if name in self.wanted]

    def _judged(self, wrote: answers.Written, opened: list[Asked], rows: pl.DataFrame) -> pl.DataFrame:
        assert self.judge is not None  # checked when it was made
        kept = self.verdicts
        done, keep = (kept.read(), kept.append) if kept is not None else (None, None)
        verdicts = judge_cases(self.judge, cases_of(wrote.answers, rows), done, keep=keep)
        means = dict(verdicts.group_by("response_id").agg(pl.col("value").mean()).iter_rows())
        found = measures.answers_of(wrote, opened)
        low, high = self.judge.scale
        # what broke an answer must not be better for it
        worst = low if self.better.get("judged", 1) > 0 else high
        told: list[measures.ScoreRow] = []
        for answer in found:
            value = means.get(answer.response_id)
            told.append(answer.row("judged", worst if value is None else value))
            told.append(answer.row(MISSING, float(value is None)))
        return measures.score_rows(told)


def validation_items(behavior: str, preferences: pl.DataFrame) -> pl.DataFrame:
    """Items to choose by: an open question and a pair of answers for each validation pair of a behavior.

    Args:
        behavior: its name.
        preferences: rows of `preference_pairs`.

    Raises:
        SteerworksError: it keeps no pair for validation.
    """
    own = preferences.filter(pl.col("concept") == behavior, pl.col("split") == "validation")
    if not own.height:
        raise SteerworksError(
            f"behavior {behavior!r} keeps no pair for validation: a setting that is chosen on the items that it is "
            "told on is told too well: raise its validation share"
        )
    rows = [
        {
            "item_id": digest_json(["validation", row["pair_id"], form]), "behavior": behavior, "form": form,
            "group": "main", "messages": row["messages"], "positive": row["chosen"], "negative": row["rejected"],
            "source": row["source"], "row": row["row"],
        }
        for row in own.iter_rows(named=True)
        for form in ("open", "pair")
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=BehaviorItems.dtypes()).unique("item_id", maintain_order=True)
