"""Submissions by the browser: a file and a card become a folder, which is looked at at once."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from schemas import Leaderboard
from schemas.specs import BenchSpec
from steer_assets.explore.scoring import Scoring
from steer_assets.io import read_published, table_url
from steer_assets.settings import storage_root
from steer_assets.submitting import checked, is_admitted, released, submissions_of
from steer_core.evaluation.submissions import admit, read_card
from steer_core.explorer.pages import Submitted
from steer_core.registry_arrivals import CARD, ELSEWHERE, spelt
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.snapshot import table_exists

#: Seconds after which a submission that is still being sent is one that nobody sends any more.
LEFT = 600.0
#: Bytes of a request with a file in it.
LARGEST = 100_000_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,59}")


class Submissions:
    """The submissions of a bench that takes them.

    Args:
        bench: the bench.
    """

    def __init__(self, bench: BenchSpec) -> None:
        self.bench, self.scoring = bench, Scoring(bench)

    def goal_space_id(self) -> str:
        """Of the released probe; empty: there is none yet."""
        try:
            return str(released(self.bench)[2]["goal_space_id"][0])
        except SteerworksError:
            return ""

    def listed(self) -> list[Submitted]:
        """Submissions, by name."""
        return [self._admitted(f) if is_admitted(f) else self._looked_at(f) for f in submissions_of(self.bench)]

    def _looked_at(self, folder: Path) -> Submitted:
        looked = checked(self.bench, folder)
        state = "not taken" if looked.problems else "can be admitted"
        return Submitted(folder.name, state, (*looked.problems, *looked.notes))

    def _admitted(self, folder: Path) -> Submitted:
        method = spelt(folder.name)
        tokens = read_card(folder).tokens_per_request
        says = "" if tokens is None else f"{tokens:g} tokens a request, as its card says"
        ranks = self._ranks(method)
        if going := self.scoring.state(method):
            failed = going.startswith("was not")
            return Submitted(folder.name, going, (), method, not failed, failed, {} if not failed else ranks, says)
        state = "on the bench, ranked" if ranks else "on the bench, not scored yet"
        return Submitted(folder.name, state, (), method, False, not ranks, ranks, says)

    def _ranks(self, method: str) -> dict[str, tuple[int, int]]:
        url = table_url(storage_root(), self.bench.name, "leaderboard", None)
        if not table_exists(url):
            return {}
        board = read_published(url, Leaderboard)
        own = board.filter(pl.col("method") == method, pl.col("model") == ELSEWHERE)
        among = dict(board.group_by("probe").len().iter_rows())
        return {probe: (rank, among[probe]) for probe, rank in own.select("probe", "rank").iter_rows()}

    def score(self, name: str) -> str:
        """Have a submission that was admitted scored and ranked, in a process of its own.

        Args:
            name: of its folder.

        Raises:
            ConfigError: there is none that was admitted, or it is being scored.
        """
        folder = next((f for f in submissions_of(self.bench) if f.name == name), None)
        if folder is None or not is_admitted(folder):
            raise ConfigError(f"there is no submission {name!r} that was admitted")
        self.scoring.start(spelt(name))
        return f"{name} is being scored."

    def send(self, name: str, card: dict[str, Any], ends: str, content: str) -> str:
        """Take a submission; of one that has problems nothing stays. Returns what to know, in words.

        Args:
            name: of its folder.
            card: what it says of itself, as `card.yaml` would.
            ends: `csv`, `jsonl` or `parquet`.
            content: of the file, in base64.

        Raises:
            ConfigError: a name that cannot be or is taken, or an answer that is none; all problems in words.
            SteerworksError: the folder cannot be written to.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError(f"name {name!r}: up to 60 small letters, digits, `-`, `_`, `.`, a letter or digit first")
        if ends not in ("csv", "jsonl", "parquet"):
            raise ConfigError(f"a file is called .csv, .jsonl or .parquet; this one ends in {ends!r}")
        try:
            body = base64.b64decode(content, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ConfigError(f"the file did not arrive whole: {error}") from error
        submissions_of(self.bench)
        assert self.bench.watch.submissions is not None  # `submissions_of` looked
        folder = Path(self.bench.watch.submissions.folder)
        if (folder / name).exists():
            raise ConfigError(f"there is a submission {name!r} already: choose another name")
        # hidden, it is no submission yet
        aside = folder / f".{name}.sent"
        _sweep(aside)
        try:
            aside.mkdir()
        except FileExistsError as error:
            raise ConfigError(f"a submission {name!r} is being sent just now: choose another name") from error
        except OSError as error:
            raise SteerworksError(f"{folder} cannot be written to: {error.strerror}") from error
        try:
            (aside / CARD).write_text(yaml.safe_dump(_typed(card), allow_unicode=True), encoding="utf-8")
            (aside / f"answers.{ends}").write_bytes(body)
            found = checked(self.bench, aside, name)
            if found.problems:
                raise ConfigError("\n".join(found.problems))
            admit(found)
            aside.rename(folder / name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self.scoring.start(spelt(name))
        return "\n".join([f"{name} is admitted, and is being scored.", *found.notes])


def _sweep(aside: Path) -> None:
    """Remove what a killed explorer left of a submission that was being sent."""
    with contextlib.suppress(OSError):
        if time.time() - aside.stat().st_mtime > LEFT:
            shutil.rmtree(aside, ignore_errors=True)


def _typed(card: dict[str, Any]) -> dict[str, Any]:
    """A card as a form sends it: numbers are text there."""
    tokens = card.get("tokens_per_request")
    if not isinstance(tokens, str):
        return card
    try:
        return {**card, "tokens_per_request": json.loads(tokens)}
    except ValueError as error:
        raise ConfigError(f"tokens_per_request: {tokens!r} is no number") from error
