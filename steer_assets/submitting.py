"""Submissions of a bench: what lies in its folder, whether it is taken, and the probe that is released for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from schemas import GoalSpaceTable, RequestGoals, Requests
from schemas.digest import digest_text
from schemas.specs import BenchSpec
from steer_assets.io import read_published, table_url
from steer_assets.measuring import measure_texts
from steer_assets.settings import registry, storage_root
from steer_core.evaluation.reassigned import fits_others, reassigned
from steer_core.evaluation.submissions import Checked, check_submission
from steer_core.goals.space import GoalSpace
from steer_core.methods.cleaning import clean_answer
from steer_core.registry_arrivals import RESERVED, is_submission, spelt, why_not_admitted
from steer_core.reports.examples import in_words
from steer_core.reports.numbers import number, span
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.files import write_bytes
from steer_core.tables.folders import new_folder
from steer_core.tables.snapshot import table_exists


def submissions_of(bench: BenchSpec) -> list[Path]:
    """Folders of submissions.

    Raises:
        ConfigError: the bench watches none, or the folder cannot be read.
    """
    if bench.watch.submissions is None:
        raise ConfigError(f"bench {bench.name!r} takes no submissions: set `watch: {{submissions: {{folder: ...}}}}`")
    folder = Path(bench.watch.submissions.folder)
    try:
        return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise ConfigError(f"the folder of submissions {folder} cannot be read: {error.strerror}") from error


def is_admitted(folder: Path) -> bool:
    """Whether a submission was looked at and taken, as it lies there now."""
    return why_not_admitted(folder) is None


def why_no_name(bench: BenchSpec, folder: Path, name: str | None = None) -> str | None:
    """Why a submission cannot stand on its bench under its folder's name, in words; None where it can.

    Args:
        bench: the bench.
        folder: of the submission.
        name: what the folder is to be called; None: as it is.
    """
    wanted = spelt(name or folder.name)
    others = [f.name for f in submissions_of(bench) if f != folder and spelt(f.name) == wanted]
    if others:
        return f"submission {others[0]!r} comes to the same name {wanted!r}: rename it"
    if wanted in RESERVED["methods"]:
        return f"the name {wanted!r} has a meaning of its own: rename it"
    method = registry().methods.get(wanted)
    taken = method is not None and not is_submission(method, bench)
    return f"there is a method {wanted!r} already: rename it" if taken else None


def checked(bench: BenchSpec, folder: Path, name: str | None = None) -> Checked:
    """A submission held against the bench's probe, and its name against the bench.

    Args:
        bench: the bench.
        folder: of the submission.
        name: what the folder is to be called; None: as it is.

    Raises:
        SteerworksError: there is no probe yet.
    """
    requests, goals, space = released(bench)
    found = check_submission(folder, requests, str(space["goal_space_id"][0]))
    if (why := why_no_name(bench, folder, name)) is not None:
        return replace(found, problems=(why, *found.problems))
    if found.answers is None:
        return found
    said = _reassigned(bench, found.answers, requests, goals, space)
    return replace(found, notes=(*found.notes, *said))


def _reassigned(
    bench: BenchSpec, answers: pl.DataFrame, requests: pl.DataFrame, goals: pl.DataFrame, space: pl.DataFrame
) -> list[str]:
    """A note where answers fit the other requests on their texts better than their own.

    They are measured for it, and kept: scoring them measures nothing again.
    """
    axes = GoalSpace.from_table(space)
    rows = requests.select("request_id", source="text_id").join(answers, on="request_id", maintain_order="left")
    rows = rows.with_columns(text=pl.Series([clean_answer(t) for t in rows["text"]], dtype=pl.String))
    rows = rows.with_columns(text_id=pl.Series([digest_text(t) for t in rows["text"]], dtype=pl.String))
    texts = rows.filter(pl.col("text") != "").select("text_id", "text").unique("text_id", maintain_order=True)
    reached, _ = axes.locate(axes.matrix(measure_texts(bench, texts), rows["text_id"]))
    asked = goals.with_columns(pl.coalesce("z_star", "z0").alias("target"))
    targets = np.column_stack(
        [
            rows.join(asked.filter(goal=g), on="request_id", how="left", maintain_order="left")["target"].to_numpy()
            for g in axes.goals
        ]
    )
    found = reassigned(reached, targets, rows["source"].to_numpy())
    if not fits_others(found):
        return []
    off = f"{number(found.difference, 3)} {span(found.low, found.high, 3)}"
    return [
        f"answers end {off} farther from what their own request asks than from what others on the same text ask: they "
        "are swapped between requests on a text, or steered the wrong way"
    ]


def released(bench: BenchSpec) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Requests of the test probes, their goals, and the goal space.

    Raises:
        SteerworksError: there is no probe yet.
    """
    frames = []
    for table, contract in (("requests", Requests), ("request_goals", RequestGoals), ("goal_space", GoalSpaceTable)):
        url = table_url(storage_root(), bench.name, table, None)
        if not table_exists(url):
            raise SteerworksError(f"bench {bench.name!r} has no table {table!r} yet: steerworks run copy")
        frames.append(read_published(url, contract))
    requests, goals, space = frames
    requests = requests.filter(pl.col("probe").is_in(bench.test_probes))
    return requests, goals.join(requests, on="request_id", how="semi", maintain_order="left"), space


def export_probe(bench: BenchSpec, folder: Path) -> Path:
    """Write a bench's probe to a new folder: requests and goals as Parquet and CSV, and a card that says how to answer.

    Raises:
        SteerworksError: there is no probe yet, or the folder is there.
    """
    requests, goals, space = released(bench)
    specs, order = registry().goals_of(bench), space.sort("position")["goal"].to_list()
    deltas = {
        request: {g: z - z0 for g, z0, z in sorted(rows, key=lambda r: order.index(r[0])) if z is not None}
        for request, rows in _grouped(goals)
    }
    asked = requests.with_columns(
        asked=pl.Series([in_words(specs, deltas.get(i, {})) for i in requests["request_id"]], dtype=pl.String)
    )
    tables = {"requests": asked.drop("split"), "request_goals": goals, "goal_space": space}
    with new_folder(folder, "the probe") as aside:
        for name, rows in tables.items():
            rows.write_parquet(aside / f"{name}.parquet")
            rows.write_csv(aside / f"{name}.csv")
        write_bytes(str(aside / "README.md"), _card(bench, asked, space).encode())
        example = {"model": "", "method": "", "by": "", "licence": "", "goal_space_id": str(space["goal_space_id"][0])}
        write_bytes(str(aside / "card.yaml"), "".join(f"{k}: {json.dumps(v)}\n" for k, v in example.items()).encode())
    return folder


def _grouped(goals: pl.DataFrame) -> list[tuple[str, list[tuple[str, float, float | None]]]]:
    found: dict[str, list[tuple[str, float, float | None]]] = {}
    for request, goal, z0, z in goals.select("request_id", "goal", "z0", "z_star").iter_rows():
        found.setdefault(request, []).append((goal, z0, z))
    return list(found.items())


def _card(bench: BenchSpec, requests: pl.DataFrame, space: pl.DataFrame) -> str:
    specs = registry().goals_of(bench)
    goals = "\n".join(
        f"| {r['goal']} | {specs[r['goal']].unit} | {r['scorer_id']} | {r['lower']:g} | {r['upper']:g} |"
        for r in space.sort("position").iter_rows(named=True)
    )
    probes = "\n".join(
        f"| {name} | {rows.height:,} | {rows['text_id'].n_unique():,} |"
        for (name,), rows in requests.group_by("probe", maintain_order=True)
    )
    return f"""# Probe of bench {bench.name}

{bench.description}

Each row of `requests` is a text and what is asked of it: in words (`asked`), and in numbers in `request_goals`
(start z0 and target z*; null where nothing is asked of a goal). The goal space is
`{space["goal_space_id"][0]}`:

| goal | unit | measured by | z = 0 | z = 1 |
|---|---|---|---|---|
{goals}

| probe | requests | texts |
|---|---|---|
{probes}

## To submit answers

Make a folder with `answers.parquet`, `.csv` or `.jsonl`: a row for each request, with `request_id`, `text`, and
`text_id` as it stands here. An answer that failed is a row with an empty text. Fill in `card.yaml`, put it beside
them, and put the folder where the bench's submissions are taken.

It is looked at before it is scored: every request once and no other, of this release and this goal space, not the
sources themselves, and with more words in common with their own sources than with others'.
"""
