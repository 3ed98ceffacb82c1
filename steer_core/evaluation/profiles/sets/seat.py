"""Texts of tests of association (WEAT: Caliskan et al. 2017; SEAT: May et al. 2019), in the published JSON files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from schemas.profile_sets import SEAT_TYPES, SeatSet
from steer_core.corpus.contrasts.files import read_document
from steer_core.evaluation.profiles.sets.items import Item, ItemSet, build
from steer_core.evaluation.profiles.sets.reading import NAMED_IN, SHIPPED, shipped_path
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import filesystem

#: Part of a file -> side of the test.
SIDES: Mapping[str, str] = {"targ1": "x", "targ2": "y", "attr1": "a", "attr2": "b"}
TYPE_OF = {test: kind for kind, tests in SEAT_TYPES.items() for test in tests}
ENDINGS = (".json", ".jsonl")
#: How a test of sentences is named after the test of words that they are made of.
OF_SENTENCES = "sent-"


def load(spec: SeatSet) -> pl.DataFrame:
    """Items of the set; see `read`."""
    return read(spec).items


def read(spec: SeatSet) -> ItemSet:
    """Items of the set: a text each, to be embedded.

    `group` is the type of bias. `facts`: `test`, `type`, `side` (`x`, `y`: targets; `a`, `b`: attributes) and `word`,
    what the text is made of: of a single word itself; of a sentence what the field `words` of its part says, or which
    word of the test of words beside it (`weat6` of `sent-weat6`) it holds; the whole text, a unit of its own, for a
    part where neither tells all. `cluster` is the word within its test, where it is known. `row` counts the
    texts of a file.

    Raises:
        SteerworksError: a file is no test, a test that was asked for is not there, or the place cannot be read.
    """
    files = {path.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0]: path for path in _files(spec)}
    for asked in (*(spec.tests or ()), *spec.types):
        if asked not in files:
            raise SteerworksError(f"no test {asked!r}; there are {', '.join(files)}")
    items: list[Item] = []
    for name in spec.tests or files:
        twin = files.get(name.removeprefix(OF_SENTENCES)) if name.startswith(OF_SENTENCES) else None
        items += _texts(files[name], name, spec.types, None if twin is None else _body(twin))
    return build("seat", items, spec.path or SHIPPED)


def _files(spec: SeatSet) -> list[str]:
    place = spec.path or shipped_path("seat")
    fs, local = filesystem(place)
    if not fs.isdir(local):
        return [place]
    names = sorted(str(p).replace("\\", "/").rsplit("/", 1)[-1] for p in fs.ls(local, detail=False))
    files = [f"{place.rstrip('/')}/{name}" for name in names if name.endswith(ENDINGS)]
    if not files:
        raise SteerworksError(f"{place} holds no file that ends in {' or '.join(ENDINGS)}")
    return files


def _body(path: str) -> dict[str, Any]:
    body = read_document(path, named_in=NAMED_IN)
    if not isinstance(body, dict) or any(part not in body for part in SIDES):
        raise SteerworksError(f"{path} is no association test: it must be one JSON object with {', '.join(SIDES)}")
    return body


def _texts(path: str, test: str, types: Mapping[str, str], twin: Mapping[str, Any] | None) -> Iterator[Item]:
    body = _body(path)
    kind = types.get(test) or TYPE_OF.get(test) or _kind(path, body)
    row = 0
    for part, side in SIDES.items():
        texts, words = _examples(path, part, body[part])
        if twin is not None and None in words:
            words = _words_in(texts, _examples(path, part, twin[part])[0])
        for text, word in zip(texts, words, strict=True):
            facts = {"test": test, "type": kind, "side": side, "word": word or text}
            cluster = None if word is None else f"{test}/{word}"
            yield Item(row=row, raw=text, cluster=cluster, group=kind, facts=facts)
            row += 1


def _kind(path: str, body: Mapping[str, Any]) -> str:
    kind = body.get("type", "")
    if not isinstance(kind, str):
        raise SteerworksError(f"{path}: type is {str(kind)[:60]}, and must be a text")
    return kind


def _examples(path: str, part: str, given: Any) -> tuple[list[str], list[str | None]]:
    texts = given.get("examples") if isinstance(given, dict) else None
    if not isinstance(texts, list) or not texts:
        raise SteerworksError(f"{path}, {part}: no list `examples` of texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise SteerworksError(f"{path}, {part}, row {row} (0-based): {str(text)[:60]!r} is no text, or blank")
    words = given.get("words")
    if words is None:
        return texts, [None if any(c.isspace() for c in text.strip()) else text.strip() for text in texts]
    if not isinstance(words, list) or len(words) != len(texts) or not all(isinstance(w, str) and w for w in words):
        raise SteerworksError(f"{path}, {part}: `words` must name the word of each of the {len(texts)} examples")
    return texts, list(words)


def _words_in(texts: Sequence[str], words: Sequence[str]) -> list[str | None]:
    """The one word that each text holds, in the singular or plural; nothing at all unless it is one in each."""
    endings = {w: re.compile(rf"\b({re.escape(w.lower())}(s|es)?|{re.escape(w.lower()[:-1])}ies)\b") for w in words}
    held = [[w for w, found in endings.items() if found.search(text.lower())] for text in texts]
    return [h[0] for h in held] if all(len(h) == 1 for h in held) else [None] * len(texts)
