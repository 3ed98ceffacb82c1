"""The headline: what a cell's steering error is beside its controls, in one honest sentence."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from steer_core.evaluation.costs import cost_unknown
from steer_core.reports.contrast import Contrast, contrasts
from steer_core.reports.inputs import CONTROL_CELLS, CellTables
from steer_core.reports.numbers import Interval, interval, number, p_value, percent, plural, signed, span
from steer_core.statistics.power import BLIND


@dataclass(frozen=True)
class Headline:
    """All that the top of the page says."""

    sentences: tuple[str, ...]
    remedies: tuple[str, ...]
    error: Interval | None
    error_worst: Interval | None
    binned: Interval | None
    binned_copy: float | None
    contrasts: tuple[Contrast, ...]
    n_requests: int
    n_texts: int
    failures: tuple[tuple[str, int], ...]
    n_copied: int
    cost: tuple[tuple[str, str, str], ...]

    @property
    def n_failed(self) -> int:
        """Requests without a complete case."""
        return sum(n for _, n in self.failures)

    @property
    def copied_share(self) -> float | None:
        """Share of requests that were answered with the source."""
        return self.n_copied / self.n_requests if self.n_requests else None


def headline(tables: CellTables) -> Headline:
    """The headline of one probe (tables as returned by `inputs.of_probe`)."""
    rows = tables.steerability
    error = interval(tables.summary, "error")
    worst = interval(tables.summary, "error", reading="worst")
    binned = interval(tables.summary, "error_binned", statistic="median")
    every = tuple(c for c in contrasts(tables.comparisons) if c.control != tables.method)
    failures = (
        rows.filter(pl.col("failure").is_not_null())
        .group_by("failure")
        .len()
        .sort("len", "failure", descending=[True, False])
    )
    missing = _missing(tables)
    return Headline(
        sentences=_sentences(tables, error, every, missing, [(str(k), int(n)) for k, n in failures.iter_rows()]),
        remedies=tuple(f"materialize the cell {control}|{tables.model}" for control in missing),
        error=error,
        error_worst=worst,
        binned=binned,
        binned_copy=_binned_copy(tables),
        contrasts=every,
        n_requests=rows.height,
        n_texts=rows["text_id"].n_unique(),
        failures=tuple((str(kind), int(n)) for kind, n in failures.iter_rows()),
        n_copied=int(rows["copied"].sum()),
        cost=_cost(tables.outcomes),
    )


def _missing(tables: CellTables) -> list[str]:
    compared = set(tables.comparisons["control"].to_list())
    # a control is held against those before it, so that running the cells in order leaves nothing to do again
    before = CONTROL_CELLS.index(tables.method) if tables.method in CONTROL_CELLS else len(CONTROL_CELLS)
    needed = CONTROL_CELLS[:before]
    return [control for control in needed if control in tables.missing_controls or control not in compared]


def _binned_copy(tables: CellTables) -> float | None:
    copy = tables.control_steerability.get("copy")
    median = None if copy is None else copy["error_binned"].median()
    return float(median) if isinstance(median, int | float) else None


def _sentences(
    tables: CellTables,
    error: Interval | None,
    every: tuple[Contrast, ...],
    missing: list[str],
    failures: list[tuple[str, int]],
) -> tuple[str, ...]:
    if error is None or error.value is None:
        total = tables.steerability.height
        kinds = ", ".join(f"{n:,} {kind}" for kind, n in failures) or "no answer"
        return (
            f"Nothing could be measured: none of the {plural(total, 'request')} of {tables.method} has an answer that "
            f"stands ({kinds}).",
            *_missing_sentences(missing),
        )
    said: list[str] = []
    by = {(c.reading, c.control): c for c in every}
    failed = sum(n for _, n in failures)
    if tables.method == "copy":
        said.append(
            f"copy is a control: it returns every source unchanged, and its error of {number(error.value)} is "
            "the whole distance that was asked for."
        )
    elif ("worst", "copy") in by:
        said.append(_against_copy(tables.method, by["worst", "copy"]))
        if failed:
            said.append(_complete_cases(failed, tables.steerability.height, by.get(("complete", "copy"))))
    else:
        said.append(
            f"{tables.method} ends {number(error.value)} {span(error.low, error.high)} from its targets on average; "
            "without the control copy nobody can say whether that is better than doing nothing."
        )
    if tables.method == "rewrite":
        said.append("It is a control itself: a rewrite that was asked for nothing.")
    elif ("worst", "rewrite") in by:
        said.append(_against_rewrite(by["worst", "rewrite"]))
    asked = tables.steerability["requested"].sum() > 0
    if asked and ("complete", "permuted") in by and tables.method not in CONTROL_CELLS:
        said.append(listening(by["complete", "permuted"]))
    return (*said, *_missing_sentences(missing))


def _complete_cases(failed: int, total: int, contrast: Contrast | None) -> str:
    text = f"{failed:,} of {plural(total, 'answer')} failed and count at their worst"
    if contrast is None or contrast.share is None:
        return f"{text}."
    return (
        f"{text}; the rest alone, which may be the easier part, stand at {percent(contrast.share)} "
        f"{_percent_span(contrast)}."
    )


def _missing_sentences(missing: list[str]) -> list[str]:
    if not missing:
        return []
    verb = "control {} is" if len(missing) == 1 else "controls {} are"
    return [f"The {verb.format(' and '.join(missing))} missing: that comparison cannot be made yet."]


def _against_copy(method: str, contrast: Contrast) -> str:
    if contrast.verdict == "unknown":
        return f"{method} cannot be compared with doing nothing: too few texts for an interval."
    if contrast.share is None:
        if not contrast.value:
            return f"Nothing was asked, and {method} changes nothing."
        return (
            f"Nothing was asked: doing nothing is exactly right, and {method} ends {number(contrast.value, 3)} away "
            f"from it {span(contrast.low, contrast.high, 3)}."
        )
    share = f"{percent(contrast.share)} of the error of doing nothing {_percent_span(contrast)}"
    if contrast.verdict == "better":
        return f"{method} leaves {share}."
    if contrast.verdict == "worse":
        return f"{method} makes things worse: it ends at {share}."
    return (
        f"{method} cannot be told apart from doing nothing: it ends at {share}, an interval that includes 100\u00a0%."
    )


def _against_rewrite(contrast: Contrast) -> str:
    if contrast.verdict == "unknown":
        return "It cannot be compared with an unsteered rewrite: too few texts for an interval."
    if contrast.share is None:
        return "An unsteered rewrite has no error at all, so there is nothing to be better than."
    size = f"{percent(abs(contrast.share - 1))} {_percent_span(contrast, relative=True)}"
    if contrast.verdict == "better":
        return f"Its error is {size} below that of an unsteered rewrite."
    if contrast.verdict == "worse":
        return f"Its error is {size} above that of an unsteered rewrite."
    return (
        "It cannot be told apart from an unsteered rewrite: the difference is "
        f"{signed(contrast.difference, 3)} {span(contrast.low, contrast.high, 3)}."
    )


def listening(contrast: Contrast) -> str:
    """Whether outcomes follow their requests, by the rank of the real pairing among requests shuffled within texts.

    A request-blind method is said to listen in at most `BLIND` of worlds.
    """
    if contrast.p is None:
        if contrast.n:
            return "Whether it listens is not in these tables: they are of an older version; compare the cell again."
        return "Whether it listens cannot be seen: no text has two requests with an answer that stands."
    rank = f"rank p = {p_value(contrast.p)}"
    if contrast.p <= BLIND:
        return (
            "It does listen: its outputs are closer to their own targets than to those of the other requests on the "
            f"same text ({percent(contrast.share)} of that error, {rank})."
        )
    if contrast.difference == 0.0 and contrast.low == contrast.high:
        return "It gives every request on a text the same answer: nothing of the request is in it."
    return (
        "Whether it listens cannot be told: against the other requests on the same text its error differs by "
        f"{signed(contrast.difference, 3)} {span(contrast.low, contrast.high, 3)} ({rank})."
    )


def _percent_span(contrast: Contrast, relative: bool = False) -> str:
    low, high = contrast.share_low, contrast.share_high
    if low is None or high is None:
        return "[undefined]"
    if relative:
        low, high = sorted((abs(low - 1), abs(high - 1))) if (low - 1) * (high - 1) > 0 else (low - 1, high - 1)
    return f"[{number(100 * low, 0)} to {number(100 * high, 0)}]"


def _cost(outcomes: pl.DataFrame) -> tuple[tuple[str, str, str], ...]:
    """(what, per request, in all) over all attempts."""
    if outcomes.is_empty():
        return ()
    kinds = [
        ("model calls", "n_calls", 2),
        ("tokens read", "prompt_tokens", 0),
        ("tokens written", "completion_tokens", 0),
        ("seconds", "seconds", 2),
    ]
    if outcomes.select(cost_unknown().any()).item():
        return tuple((name, "not known", "not known") for name, _, _ in kinds)
    return tuple(
        (
            name,
            number(float(outcomes[column].sum()) / outcomes.height, digits),
            number(float(outcomes[column].sum()), 0),
        )
        for name, column, digits in kinds
    )


def headline_figures(found: Headline) -> dict[str, float]:
    """The headline by name, for an orchestrator to plot over time; undefined figures are absent."""
    figures: dict[str, float | None] = {
        "failed": found.n_failed / found.n_requests if found.n_requests else None,
        "copied": found.copied_share,
        "n_requests": float(found.n_requests),
        "n_texts": float(found.n_texts),
        "error_binned_median": found.binned.value if found.binned else None,
    }
    for name, one in (("error", found.error), ("error_worst", found.error_worst)):
        if one is not None:
            figures |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
    for contrast in found.contrasts:
        if contrast.reading == "worst":
            figures[f"share_of_{contrast.control}"] = contrast.share
    return {name: float(value) for name, value in figures.items() if value is not None}
