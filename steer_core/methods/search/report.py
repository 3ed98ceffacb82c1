"""Run a search, and tell what was found without flattering it.

1. A trial is measured on stretches of the validation questions, 1/4, 1/2 and all of them; behind the median of complete
   trials after as many, it ends.
2. The best is chosen on validation questions and told on test questions, with both means: the difference is what
   choosing made of noise, and the test interval knows nothing of it.
3. Beside it, on the same test questions: the model as it is, another choice (a grid's), and random directions of the
   same size in its place, whose share that do as much is the p of the direction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from steer_core.evaluation.columns import to_array
from steer_core.methods.search.measuring import Measured, Measurer
from steer_core.methods.search.space import Setting, params_of
from steer_core.methods.search.study import Study
from steer_core.statistics import Estimate, PairedContrast, clustered_mean, paired_contrast
from steer_core.steering.intervention import Intervention
from steer_core.steering.random_vectors import random_like
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

#: Shares of the validation questions after which a trial may end.
STRETCHES = (0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Searched:
    """A setting that was chosen on validation questions, told on test questions.

    Attributes:
        setting: the chosen one.
        params: its parameters, by which it is loaded again.
        validation: mean of the first objective on the questions that it was chosen by: too good.
        test: the same on the test questions.
        effect: test less the model as it is, question by question.
        gap: validation less test.
        random: rank of the effect among those of random directions of the same size; None where none were tried.
        n_random: how many.
    """

    setting: Setting
    params: Mapping[str, Any]
    validation: float
    test: Estimate
    effect: PairedContrast
    random: float | None
    n_random: int

    @property
    def gap(self) -> float | None:
        """What choosing made of noise, as it came out."""
        return None if self.test.value is None else self.validation - self.test.value

    def __str__(self) -> str:
        e, t = self.effect, self.test
        ends = "" if e.low is None or e.high is None else f" [{e.low:+.2f}, {e.high:+.2f}]"
        value = "nothing" if t.value is None or e.difference is None else f"{t.value:.2f}, {e.difference:+.2f}{ends}"
        said = f"{self.setting.label}: {value} against the model as it is, on {t.n} test items"
        said += f" ({self.validation:.2f} where it was chosen)"
        if self.random is not None:
            said += f"; of {self.n_random} random directions of its size p = {self.random:.3f}"
        return said


def search(
    study: Study,
    measurer: Measurer,
    vectors: Sequence[SteeringVector],
    trials: int,
    *,
    stretches: Sequence[float] = STRETCHES,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Bring a study to a number of trials; those that the journal has are not run again.

    Args:
        study: where they are kept.
        measurer: of the validation items.
        vectors: that settings are made of; the engine must know them.
        trials: how many there are to be in all: more may be asked for at any time.
        stretches: shares of the questions, rising, the last of them 1.
        progress: told trials done and wanted.

    Raises:
        SteerworksError: a setting's vector is missing, or what has nothing to do with a setting: a judge that cannot be
            reached, a full disk. The trials so far are kept.
    """
    questions = measurer.places
    counts = sorted({max(1, round(share * len(questions))) for share in stretches} | {len(questions)})
    first = study.objectives[0].name
    while len(study) < trials:
        _, params = study.propose()
        steps = study.space.steps(study.space.setting(params), vectors)
        seen, reports, found, pruned, note = 0, {}, list[Measured](), False, ""
        try:
            for count in counts:
                found.append(measurer.measure(steps, questions[seen:count]))
                seen = count
                value = _together(found).mean(first)
                if value is None:
                    break
                reports[seen] = value
                if seen < len(questions) and study.hopeless(reports):
                    pruned = True
                    break
        except SteerworksError as error:
            # of the setting itself; an endpoint, a budget, a disk or a configuration is nothing that it did
            if type(error) is not SteerworksError:
                raise
            note = str(error)
        whole = _together(found)
        values = {} if note else {o.name: whole.mean(o.name) for o in study.objectives}
        n = sum(m.answers for m in found)
        study.finish(params, values, reports=reports, pruned=pruned, items=seen, answers=n, note=note)
        if progress is not None:
            progress(len(study), trials)
    return study


def _together(found: Sequence[Measured]) -> Measured:
    empty = pl.DataFrame(schema={"item_id": pl.String, "measure": pl.String, "value": pl.Float64})
    return Measured(pl.concat([empty, *(m.values for m in found)]), sum(m.answers for m in found))


def tell(
    study: Study,
    measurer: Measurer,
    vectors: Sequence[SteeringVector],
    *,
    params: Mapping[str, Any] | None = None,
    validation: float | None = None,
    random_directions: int = 0,
    seed: int = 0,
) -> Searched:
    """What the chosen setting comes to on test items.

    Args:
        study: a study with a complete trial.
        measurer: of the test items.
        vectors: as in `search`.
        params: another setting than the study's best.
        validation: its mean where it was chosen.
        random_directions: directions of the same size that are tried in its place.
        seed: of those.

    Raises:
        SteerworksError: no trial is complete.
    """
    if params is None:
        best = study.best()
        if best is None:
            raise SteerworksError(f"none of {study.trials.height} trials is complete: there is no setting to tell")
        params, validation = params_of(best["params"]), json.loads(best["values"])[study.objectives[0].name]
    assert validation is not None  # given with the parameters
    first = study.objectives[0]
    setting = study.space.setting(params)
    steps = study.space.steps(setting, vectors)
    plain, steered = (_of_items(measurer.measure(s), first.name) for s in ((), steps))
    effect = beside(steered, plain)
    test = clustered_mean(to_array(steered["value"]), steered["item_id"].to_numpy())
    rank, n = None, 0
    if random_directions and effect.difference is not None:
        effects = [
            beside(_of_items(measurer.measure(own), first.name), plain).difference
            for own in _random(steps, vectors, measurer, random_directions, seed)
        ]
        known = np.array([np.nan if e is None else e for e in effects])
        known = known[~np.isnan(known)]
        n = len(known)
        # as far in the direction that is wanted
        rank = float((1 + (first.better * known >= first.better * effect.difference).sum()) / (1 + n))
    return Searched(setting, dict(params), validation, test, effect, rank, n)


def beside(one: pl.DataFrame, other: pl.DataFrame) -> PairedContrast:
    """Two settings on the same items, with columns `item_id` and `value`."""
    both = one.join(other.rename({"value": "beside"}), on="item_id", how="inner", maintain_order="left")
    return paired_contrast(to_array(both["value"]), to_array(both["beside"]), both["item_id"].to_numpy())


def values_of(
    study: Study, measurer: Measurer, vectors: Sequence[SteeringVector], params: Mapping[str, Any]
) -> pl.DataFrame:
    """Values of the first objective of a setting on a measurer's items: `item_id`, `value`."""
    return _of_items(
        measurer.measure(study.space.steps(study.space.setting(params), vectors)), study.objectives[0].name
    )


def _of_items(found: Measured, measure: str) -> pl.DataFrame:
    return (
        found.values.filter(pl.col("measure") == measure)
        .group_by("item_id", maintain_order=True)
        .agg(pl.col("value").mean())
    )


def _random(
    steps: Sequence[Intervention], vectors: Sequence[SteeringVector], measurer: Measurer, n: int, seed: int
) -> list[tuple[Intervention, ...]]:
    """The same steps with random edits of equal size in the vectors' place, as sweeps have them."""
    known = {v.id: v for v in vectors}
    found = []
    for k in range(n):
        own = []
        for step in steps:
            # of what is done with it: operators differ in what of an edit is turned at random
            made = random_like(replace(known[step.vector], operator=step.operator), seed + k)
            measurer.run.asking.add_vectors([made])
            own.append(replace(step, vector=made.id))
        found.append(tuple(own))
    return found
