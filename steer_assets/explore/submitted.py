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

import yaml

from schemas.specs import BenchSpec
from steer_assets.submitting import checked, is_admitted, released, submissions_of
from steer_core.evaluation.submissions import admit
from steer_core.registry_arrivals import CARD
from steer_core.tables.errors import ConfigError, SteerworksError

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
        self.bench = bench

    def goal_space_id(self) -> str:
        """Of the released probe; empty: there is none yet."""
        try:
            return str(released(self.bench)[2]["goal_space_id"][0])
        except SteerworksError:
            return ""

    def listed(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Submissions: name, what became of it, and a line for each problem or note."""
        found = []
        for folder in submissions_of(self.bench):
            if is_admitted(folder):
                found.append((folder.name, "on the bench", ()))
                continue
            looked = checked(self.bench, folder)
            state = "not taken" if looked.problems else "can be admitted"
            found.append((folder.name, state, (*looked.problems, *looked.notes)))
        return found

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
        return "\n".join([f"{name} is admitted.", *found.notes])


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
