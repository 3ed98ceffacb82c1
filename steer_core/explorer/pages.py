"""Views as HTML: what a model wrote is escaped because everything is, and every page keeps to its own origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import jinja2
import polars as pl

from schemas.evaluation import HEADLINE, Steerability
from steer_core.explorer.asking import Given, check
from steer_core.explorer.bench import Bench, MovedError
from steer_core.explorer.index import Index
from steer_core.explorer.query import Query
from steer_core.explorer.sample import asked_words, snippet, texts_of
from steer_core.explorer.state import ORDERS, State
from steer_core.reports.numbers import slug_words
from steer_core.reports.page import environment
from steer_core.tables.errors import SteerworksError

#: Views, in the order of the navigation: module in `views`, title.
VIEWS = {
    "board": "Leaderboard",
    "samples": "Samples",
    "compare": "Compare",
    "space": "Goal space",
    "strengths": "Strengths",
    "learnt": "Vectors and adapters",
    "review": "Review",
    "play": "Playground",
    "submit": "Submit",
    "data": "Data",
}
#: Stands where the server puts the link that saves a view: the view itself knows no address.
SAVE = "about:save"
#: Views that others lead to -> the one that is marked in the navigation.
WITHIN = {"sample": "samples", "beside": "compare"}


def static(name: str) -> bytes:
    """A file that pages link to: `style.css` (the reports' and the explorer's), `explore.js`.

    Raises:
        KeyError: there is no such file.
    """
    own = files("steer_core.explorer").joinpath("static")
    if name == "style.css":
        shared = files("steer_core.reports").joinpath("templates/style.css").read_bytes()
        return shared + b"\n" + own.joinpath("explore.css").read_bytes()
    if name == "explore.js":
        return own.joinpath("explore.js").read_bytes()
    raise KeyError(name)


class NoViewError(SteerworksError):
    """There is no view of that name here."""


class Asking(Protocol):
    """Whom a text can be given to."""

    def cells(self) -> list[str]:
        """Cells that can be asked."""

    def concepts(self) -> dict[str, tuple[list[str], str]]:
        """Cell with a vector -> its concepts, and the unit of its strengths."""

    def tried(self) -> pl.DataFrame:
        """Rows of `schemas.Tried`, the last first."""


class Reviewing(Protocol):
    """What waits for a person."""

    def cells(self) -> list[str]:
        """Cells whose answers were judged."""

    def queue(self, cell: str, spot: int) -> tuple[pl.DataFrame, int]:
        """What waits, with source and answer, and how many there were before anybody looked."""

    def why(self, row: dict[str, Any]) -> str:
        """Why somebody should look."""

    def reviewer(self) -> str:
        """Who looks, as far as this machine knows."""


@dataclass(frozen=True)
class Submitted:
    """A submission.

    Attributes:
        name: of its folder.
        state: what became of it, in words.
        lines: problems and notes, one each.
        method: what it is called on the bench; empty where it is not on it.
        going: whether its state will change by itself.
        scorable: whether it waits for somebody to have it scored.
        ranks: place among how many, by probe.
        says: what its card says of what the answers took; empty where it says nothing.
    """

    name: str
    state: str
    lines: tuple[str, ...] = ()
    method: str = ""
    going: bool = False
    scorable: bool = False
    ranks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    says: str = ""


class Submitting(Protocol):
    """What takes answers that were made elsewhere."""

    def goal_space_id(self) -> str:
        """Of the released probe; empty: there is none yet."""

    def listed(self) -> list[Submitted]:
        """Submissions, by name."""


class Pages:
    """The views of one bench.

    Attributes:
        bench: its tables.
        index: its samples.
        query: finds them.
        others: names of the benches that are served beside it, its own included.
        dagster: address of Dagster's web interface; empty: none is known.
        asking: what can be asked in the playground; None: this explorer only reads.
        reviewing: what people can look at; likewise.
        submitting: what takes answers made elsewhere; None: the bench takes none, or this explorer only reads.
    """

    asking: Asking | None = None
    reviewing: Reviewing | None = None
    submitting: Submitting | None = None

    def __init__(self, bench: Bench, others: Sequence[str] = (), dagster: str = "") -> None:
        self.bench, self.others, self.dagster = bench, tuple(others), dagster
        self.index = Index(bench)
        self.query = Query(bench, self.index)
        self._env = templates()

    @property
    def views(self) -> dict[str, str]:
        """Views that there are here: those that take something only where somebody takes it."""
        lacking = {"play"} if self.asking is None else set()
        lacking |= {"review"} if self.reviewing is None else set()
        lacking |= {"submit"} if self.submitting is None else set()
        return {view: title for view, title in VIEWS.items() if view not in lacking}

    def render(self, view: str, given: Given) -> str:
        """A view, with the state that its address says.

        Args:
            view: a key of `VIEWS` or `WITHIN`.
            given: parameters of the address.

        Raises:
            NoViewError: no such view.
            ConfigError: a parameter that means nothing.
            TableError: a file is damaged.
        """
        if view not in self.views and view not in WITHIN:
            raise NoViewError(view)
        # two tries: a table that was published in between is of another moment than those that were read before
        for last in (False, True):
            try:
                with self.bench.one_look(view):
                    values = import_module(f"steer_core.explorer.views.{view}").show(self, given)
                break
            except (MovedError, IndexError, pl.exceptions.OutOfBoundsError):
                if last:
                    raise
        return self.fill(view, values)

    def fill(self, view: str, values: Mapping[str, Any]) -> str:
        """The template of a view, filled with what it shows."""
        shared = {
            "bench": self.bench.name,
            "others": self.others,
            "views": self.views,
            "view": WITHIN.get(view, view),
            "save": SAVE,
            "dagster": self.dagster,
        }
        return self._env.get_template(f"{view}.explore.jinja").render(**shared, **values)

    def probes(self) -> list[str]:
        """Probes with a scored request."""
        there = set(self.index.samples()["probe"].unique())
        return [p for p in self.bench.spec.test_probes if p in there]

    def state(self, given: Given) -> State:
        """The state of an address.

        Raises:
            ConfigError: a value that means nothing, or a cell or an arm without scores.
        """
        state = State.read(given, self.bench.axes, self.probes())
        check("cell", state.cells, self.bench.cells())
        # by the contract, not by what is there: the link to a kind that nobody has any more shows that nobody has it
        kinds = Steerability.rules()["failure"].isin or ()
        check("failure", [state.failure] if state.failure else [], ["none", "any", *kinds])
        if state.arm not in (HEADLINE, "*"):
            check("arm", [state.arm], [HEADLINE, "*", *self.index.samples()["arm"].unique().drop_nulls().sort()])
        return state

    def choices(self) -> dict[str, Any]:
        """What the filters of samples offer."""
        samples, axes = self.index.samples(), self.bench.axes
        by_goal = {f"goal:{g}": f"distance from {g.replace('_', ' ')} asked" for g in axes}
        return {
            "cells": self.bench.cells(),
            "probes": self.probes(),
            "goals": axes,
            "failures": sorted(samples["failure"].drop_nulls().unique().to_list()),
            "arms": samples["arm"].n_unique() > 1,
            "orders": {**ORDERS, **by_goal},
        }

    def listed(self, rows: pl.DataFrame) -> list[dict[str, Any]]:
        """Samples with the request in words, and the begin of source and answer."""
        words = asked_words(self.bench, self.index, rows["number"].to_list())
        texts, ids = texts_of(self.bench, rows), self.index.asked().ids
        return [
            {
                **row,
                "asked": asked,
                "source_text": snippet(source),
                "answer": snippet(answer),
                "request_id": ids[row["number"]],
            }
            for row, asked, (source, answer) in zip(rows.iter_rows(named=True), words, texts, strict=True)
        ]


def templates() -> jinja2.Environment:
    """The reports' environment, with the explorer's own templates before theirs."""
    env = environment()
    own = jinja2.PackageLoader("steer_core.explorer", "templates")
    env.loader = jinja2.ChoiceLoader([own, *([env.loader] if env.loader else [])])
    env.globals["query"] = address
    env.filters["map_same"] = lambda values: [(v, v) for v in values]
    env.filters["map_words"] = lambda values: [(v, slug_words(v)) for v in values]
    env.filters["map_titles"] = lambda values, titles: [(v, titles[v]) for v in values]
    return env


def address(**values: Any) -> str:
    """A query string of what is said."""
    return urlencode([(k, v) for k, v in values.items() if v not in ("", None)], doseq=True)


def report_link(bench: str, cell: str) -> str:
    """Address of a cell's report."""
    method, model = cell.split("|")
    return f"/files/{quote(bench)}/report/model={quote(model)}/method={quote(method)}/report.html"
