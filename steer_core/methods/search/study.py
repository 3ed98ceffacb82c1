"""Trials that a sampler proposes, kept in a journal: a study that was killed goes on with the very same trials.

The sampler is Optuna's (Akiba et al. 2019): tree-structured Parzen estimators (Bergstra et al. 2011), or at random. It
is made anew for each trial, with a seed of its own, and told all earlier trials: what it proposes follows from the
journal alone, so that it makes no difference whether, and how often, the run was ended.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import polars as pl

from schemas.digest import canonical_json, digest_json
from schemas.search import Trials
from steer_core.methods.search.space import Space, params_of
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.journal import Journal

Sampler = Literal["tpe", "random"]
#: Trials that are drawn at random before the estimators have enough to go by.
STARTUP = 10
#: Complete trials before one can be called hopeless.
PATIENCE = 5


@dataclass(frozen=True)
class Objective:
    """What is looked for.

    Attributes:
        name: of a measure.
        better: 1 where more of it is better, -1 where less is.
    """

    name: str
    better: int = 1


@dataclass
class Study:
    """A search as far as it is.

    Attributes:
        space: what may be tried.
        objectives: what is looked for; with several there is no best, but a front.
        journal: of `trials`; several studies share one.
        sampler: who proposes.
        seed: of the proposals.
        measured: what the values follow from besides: model, items, measures; another one is another study.
        most: trials that are looked at; the journal may have more, of a time when more were asked for. None: all.
    """

    space: Space
    objectives: tuple[Objective, ...]
    journal: Journal
    sampler: Sampler = "tpe"
    seed: int = 0
    measured: Any = None
    most: int | None = None
    _study: Any = field(default=None, repr=False)
    _rows: list[dict[str, Any]] | None = field(default=None, repr=False)
    _asked: Any = field(default=None, repr=False)
    _read: dict[str, dict[str, float]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.objectives or len({o.name for o in self.objectives}) < len(self.objectives):
            raise ConfigError("a search has at least one objective, each once")
        if odd := [o for o in self.objectives if o.better not in (1, -1)]:
            raise ConfigError(f"objective {odd[0].name!r}: better = {odd[0].better}: 1 where more is better, else -1")

    @cached_property
    def name(self) -> str:
        """Digest of all that a trial follows from."""
        looked_for = [[o.name, o.better] for o in self.objectives]
        return digest_json([self.space.digest, looked_for, self.sampler, self.seed, self.measured])

    @property
    def trials(self) -> pl.DataFrame:
        """Rows of `trials`, by number."""
        return pl.DataFrame(self._known, schema=Trials.dtypes())

    @property
    def _known(self) -> list[dict[str, Any]]:
        # read once: what this process adds it knows
        if self._rows is None:
            own = self.journal.read().filter(pl.col("study") == self.name).sort("number")
            self._rows = (own if self.most is None else own.head(self.most)).to_dicts()
        return self._rows

    def __len__(self) -> int:
        """Trials so far."""
        return len(self._known)

    def propose(self) -> tuple[int, dict[str, Any]]:
        """Number and parameters of the next trial; the same again until it is finished."""
        if self._asked is None:
            study = self._loaded()
            study.sampler = self._sampler(len(self))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the sampler's own experimental options
                self._asked = study.ask(self.space.distributions)
        return self._asked.number, dict(self._asked.params)

    def hopeless(self, reports: Mapping[int, float]) -> bool:
        """Whether the proposed trial is behind the median of all complete ones after as many items.

        With several objectives none is: a trial that is behind in one may be ahead in another.

        Args:
            reports: items seen -> mean of the objective so far.
        """
        if len(self.objectives) > 1:
            return False
        seen, better = max(reports), self.objectives[0].better
        complete = (self._reports(row["reports"]) for row in self._known if row["state"] == "complete")
        known = sorted(better * own[str(seen)] for own in complete if str(seen) in own)
        return len(known) >= PATIENCE and better * reports[seen] < known[len(known) // 2]

    def finish(
        self,
        params: Mapping[str, Any],
        values: Mapping[str, float | None],
        *,
        reports: Mapping[int, float] | None = None,
        pruned: bool = False,
        items: int = 0,
        answers: int = 0,
        note: str = "",
    ) -> None:
        """Keep how the proposed trial ended; once this returns it survives a kill.

        Args:
            params: what was tried.
            values: objective -> mean; a trial that lacks one has failed.
            reports: items seen -> mean of the first objective.
            pruned: ended early.
            items: measured on.
            answers: asked for.
            note: why it failed.

        Raises:
            SteerworksError: nothing was proposed.
        """
        if self._asked is None:
            raise SteerworksError("no trial was proposed: call `propose` first")
        known = {o.name: values.get(o.name) for o in self.objectives}
        failed = any(v is None for v in known.values())
        state = "failed" if failed else "pruned" if pruned else "complete"
        row = {
            "study": self.name, "number": self._asked.number, "params": canonical_json(dict(params)), "state": state,
            "values": canonical_json({n: v for n, v in known.items() if v is not None}),
            "reports": canonical_json({str(k): v for k, v in (reports or {}).items()}),
            "items": items, "answers": answers, "note": note,
        }  # fmt: skip
        known_before = self._known
        self.journal.append(pl.DataFrame([row], schema=Trials.dtypes()))
        known_before.append(row)
        # what it is told is what it will be told when it is read again
        self._study.tell(self._asked, *self._told(state, known))
        self._asked = None

    def best(self) -> dict[str, Any] | None:
        """The complete trial that is best on the first objective, as a row of `trials`; None where there is none.

        Of several that are equally good the further objectives decide, then which was tried first.
        """
        rows = [row for row in self._known if row["state"] == "complete"]

        def worth(row: dict[str, Any]) -> tuple[Any, ...]:
            values = json.loads(row["values"])
            return (*(o.better * values[o.name] for o in self.objectives), -row["number"])

        return max(rows, key=worth, default=None)

    def front(self) -> pl.DataFrame:
        """Complete trials that no other beats on one objective without losing on another: rows of `trials`."""
        rows = self.trials.filter(pl.col("state") == "complete")
        points = [[o.better * json.loads(v)[o.name] for o in self.objectives] for v in rows["values"].to_list()]
        kept = [not any(all(a >= b for a, b in zip(p, q, strict=True)) and p != q for p in points) for q in points]
        return rows.filter(pl.Series(kept, dtype=pl.Boolean))

    def _reports(self, text: str) -> dict[str, float]:
        if text not in self._read:
            self._read[text] = json.loads(text)
        return self._read[text]

    def _loaded(self) -> Any:
        """Optuna's study with all trials of the journal."""
        if self._study is not None:
            return self._study
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if o.better > 0 else "minimize" for o in self.objectives
        ]
        self._study = optuna.create_study(directions=directions)
        distributions = self.space.distributions
        for row in self._known:
            told, state = self._told(row["state"], json.loads(row["values"]))
            made = optuna.trial.create_trial(
                params=params_of(row["params"]), distributions=distributions, state=state, values=told
            )
            self._study.add_trial(made)
        return self._study

    def _told(self, state: str, values: Mapping[str, float | None]) -> tuple[Any, Any]:
        """Values and state as Optuna is told of them."""
        from optuna.trial import TrialState

        if state == "failed":
            return None, TrialState.FAIL
        # a pruned trial has a value, of fewer items: to the sampler that is a value like others
        return [values[o.name] for o in self.objectives], TrialState.COMPLETE

    def _sampler(self, number: int) -> Any:
        from optuna.samplers import RandomSampler, TPESampler

        # chance draws for itself: with the seed of another sampler it would repeat that one's first trials
        drawn = f"random:{self.seed}:{number}" if self.sampler == "random" else f"{self.seed}:{number}"
        seed = int(hashlib.sha256(drawn.encode()).hexdigest()[:8], 16)
        if self.sampler == "random":
            return RandomSampler(seed=seed)
        space = self.space.distributions

        class Sampler(TPESampler):
            """Knows the space, which the trials would be searched for otherwise: all of them, at each proposal."""

            def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
                return space if number >= STARTUP else {}

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Sampler(seed=seed, multivariate=True, n_startup_trials=STARTUP)
