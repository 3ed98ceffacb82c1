"""Models and adapters that turn up in a watched folder, or on a list: each is an entry as if somebody had written it.

Only what is whole counts: a file of safetensors says in its first bytes how long it is, and JSON by its end that it is
whole, so that what is still being copied is told from what is there, whatever the clock. A file whose room was taken
before it was filled cannot be told: move such a folder in when it is done.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from schemas.digest import digest_bytes
from schemas.operations import WatchedAdapters, WatchedModels
from schemas.specs import BenchSpec, MethodSpec, ModelSpec

#: Names that mean something else: every method or model, the figure over all goals, published numbers, addresses.
RESERVED = {
    "methods": ("all", "source"),
    "models": ("all",),
    "goals": ("overall",),
    "benches": ("parity", "files", "static"),
}
#: What a folder has of a tokenizer, at least one of them.
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "spiece.model")
MODEL_CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
MODEL_WEIGHTS, ADAPTER_WEIGHTS = "model.safetensors", "adapter_model.safetensors"
#: Bytes of a header, as the format limits them.
LONGEST_HEADER = 100_000_000
#: What a submission of answers has; and what is put beside it once it is taken (`evaluation.submissions`).
CARD, ANSWERS = "card.yaml", ("answers.parquet", "answers.csv", "answers.jsonl")
ADMITTED = "admitted.json"
#: The model that answers from elsewhere are of.
ELSEWHERE = "elsewhere"
_ID = re.compile(r"^(?P<source>[\w.-]+/[\w.-]+)@(?P<revision>\S+)$")


@dataclass(frozen=True)
class Arrivals:
    """What turned up for a bench.

    Attributes:
        watched: whether the bench watches anything.
        models: name -> model.
        methods: name -> method.
        refused: what is there and cannot be taken, or not yet; a line each, with why.
    """

    watched: bool
    models: Mapping[str, ModelSpec]
    methods: Mapping[str, MethodSpec]
    refused: tuple[str, ...]


def arrivals(bench: BenchSpec, models: Mapping[str, ModelSpec], methods: Mapping[str, MethodSpec]) -> Arrivals:
    """Look through what a bench watches. Reads names, settings and the first bytes of files.

    Args:
        bench: the bench.
        models: models that are known already, by name.
        methods: methods that are known already, by name.
    """
    refused: list[str] = []
    new_models: dict[str, ModelSpec] = {}
    new_methods: dict[str, MethodSpec] = {}
    watched_models, watched_adapters = bench.watch.models, bench.watch.adapters
    if watched_models is not None:
        for where, entry in _models(watched_models, refused):
            _take(where, entry, ModelSpec, models, new_models, refused)
    if watched_adapters is not None:
        for where, entry in _adapters(watched_adapters, refused):
            _take(where, entry, MethodSpec, methods, new_methods, refused)
    if bench.watch.submissions is not None:
        for where, entry in _submissions(Path(bench.watch.submissions.folder), refused):
            _take(where, entry, MethodSpec, methods, new_methods, refused)
        own = [n for n, m in new_methods.items() if is_submission(m, bench)]
        nobody = {"name": ELSEWHERE, "source": "elsewhere", "description": "Answers that were made elsewhere"}
        if own:
            # without a submission there is nothing that it would stand for
            _take(ELSEWHERE, nobody, ModelSpec, models, new_models, refused)
    watched = any(w is not None for w in (watched_models, watched_adapters, bench.watch.submissions))
    return Arrivals(watched, new_models, new_methods, tuple(refused))


def whole(weights: Path) -> bool:
    """Whether a file of safetensors is all there: its header says where the last tensor ends.

    Raises:
        ValueError: it is no such file.
    """
    try:
        size = weights.stat().st_size
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER:
                raise ValueError(f"{weights.name} is no file of safetensors")
            head = file.read(length)
    except OSError as error:
        raise ValueError(f"{weights.name} cannot be read ({error.strerror})") from error
    if size < 8 + length or not length:
        return False
    try:
        ends = [int(t["data_offsets"][1]) for name, t in json.loads(head).items() if name != "__metadata__"]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{weights.name} is no file of safetensors") from error
    return size >= 8 + length + max(ends, default=0)


def why_no_model(folder: Path) -> str | None:
    """Why a folder is no model yet, in words; None where it is one."""
    if not (folder / MODEL_CONFIG).is_file():
        return f"has no {MODEL_CONFIG} (yet)"
    if not any((folder / name).is_file() for name in TOKENIZERS):
        return f"has no tokenizer (yet): {', '.join(TOKENIZERS)}"
    # what is written in text says by its end that it is whole
    for name in (MODEL_CONFIG, *(n for n in TOKENIZERS if n.endswith(".json"))):
        if (folder / name).is_file() and not _is_json(folder / name):
            return f"has a {name} that is no JSON (yet)"
    index = folder / f"{MODEL_WEIGHTS}.index.json"
    names = {MODEL_WEIGHTS}
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, TypeError, KeyError, AttributeError):
            return f"has a {index.name} that cannot be read (yet)"
    return _why_not_whole(folder, sorted(names))


def why_no_adapter(folder: Path) -> str | None:
    """Why a folder is no adapter yet, in words; None where it is one."""
    if not (folder / ADAPTER_CONFIG).is_file():
        return f"has no {ADAPTER_CONFIG} (yet)"
    if not _is_json(folder / ADAPTER_CONFIG):
        return f"has an {ADAPTER_CONFIG} that is no JSON (yet)"
    return _why_not_whole(folder, [ADAPTER_WEIGHTS])


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _why_not_whole(folder: Path, names: list[str]) -> str | None:
    for name in names:
        if not (folder / name).is_file():
            return f"has no {name} (yet)"
        try:
            if not whole(folder / name):
                return f"has a {name} that is still being written"
        except ValueError as error:
            return str(error)
    return None


def _models(watched: WatchedModels, refused: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if watched.folder is not None:
        for folder in _folders(Path(watched.folder), why_no_model, refused):
            yield str(folder), {**watched.settings, "name": spelt(folder.name), "source": str(folder)}
    if watched.listed is None:
        return
    try:
        lines = Path(watched.listed).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        refused.append(f"{watched.listed} cannot be read: {error}")
        return
    for number, line in enumerate(lines, start=1):
        where, text = f"{watched.listed}, line {number}", line.partition("#")[0].strip()
        if not text:
            continue
        if (found := _ID.match(text)) is None:
            refused.append(f"{where}: {text!r} is not `org/name@revision`: a repository changes, a commit does not")
            continue
        name = spelt(f"{found['source'].split('/')[1]}-{found['revision'][:8]}")
        yield where, {**watched.settings, "name": name, "source": found["source"], "revision": found["revision"]}


def _adapters(watched: WatchedAdapters, refused: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for folder in _folders(Path(watched.folder), why_no_adapter, refused):
        adapter = {"kind": "adapter", "folder": str(folder)}
        yield str(folder), {"name": spelt(folder.name), "parts": [*watched.beside, adapter]}


def answers_of(folder: Path) -> Path | None:
    """The file of answers in a submission; None where there is none, or several."""
    found = [folder / name for name in ANSWERS if (folder / name).is_file()]
    return found[0] if len(found) == 1 else None


def is_submission(method: MethodSpec, bench: BenchSpec) -> bool:
    """Whether a method is a submission of a bench: its answers are of no model that is here."""
    watched = bench.watch.submissions
    paths = [str(getattr(part, "options", {}).get("path", "")) for part in method.of_kind("prompt")]
    return watched is not None and any(Path(p).parent.parent == Path(watched.folder) for p in paths if p)


def digest_of(folder: Path) -> str:
    """Digest of a submission's card and answers."""
    answers = answers_of(folder)
    return digest_bytes(b"".join(f.read_bytes() for f in (folder / CARD, answers) if f is not None and f.is_file()))


def why_not_admitted(folder: Path) -> str | None:
    """Why a submission does not stand on its bench, in words; None where it does."""
    try:
        noted = json.loads((folder / ADMITTED).read_text(encoding="utf-8"))["digest"]
    except FileNotFoundError:
        return "is a submission that nobody has admitted yet: steerworks submissions --admit"
    except (OSError, ValueError, KeyError, TypeError):
        return f"has an {ADMITTED} that cannot be read: remove it, and admit the submission again"
    return None if noted == digest_of(folder) else "was changed after it was admitted: admit it again"


def _submissions(folder: Path, refused: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in _folders(folder, why_not_admitted, refused):
        options = {"path": str(answers_of(one))}
        part = {"kind": "prompt", "strategy": "imported", "options": options}
        yield str(one), {"name": spelt(one.name), "parts": [part], "description": "Answers that were made elsewhere"}


def _folders(folder: Path, why_not: Callable[[Path], str | None], refused: list[str]) -> Iterator[Path]:
    """Folders in it that are whole; hidden ones are how others copy, and are none of ours."""
    try:
        found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        refused.append(f"{folder} cannot be read: {error.strerror}")
        return
    for one in found:
        if (why := why_not(one)) is None:
            yield one
        else:
            refused.append(f"{one} {why}")


def spelt(name: str) -> str:
    """A name as partitions are spelt."""
    return re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("-._")


def _take(
    where: str,
    entry: dict[str, Any],
    kind: type[Any],
    known: Mapping[str, Any],
    new: dict[str, Any],
    refused: list[str],
) -> None:
    """Make an entry of it, unless somebody else has its name."""
    try:
        spec = kind.model_validate(entry)
    except pydantic.ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'entry'}: {e['msg']}" for e in error.errors())
        refused.append(f"{where}: {said}")
        return
    if spec.name in RESERVED.get("models" if kind is ModelSpec else "methods", ()):
        refused.append(f"{where}: the name {spec.name!r} has a meaning of its own: rename it")
        return
    other = new.get(spec.name, known.get(spec.name))
    # another bench may watch the same folder
    if other is None or (other == spec and spec.name not in new):
        new[spec.name] = spec
    else:
        refused.append(f"{where}: the name {spec.name!r} is taken: rename it")
