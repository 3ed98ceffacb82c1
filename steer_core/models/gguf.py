"""Models as GGUF files, the format of llama.cpp: converted once to safetensors, then loaded like any other.

The converted folder lies in a cache, under the SHA-256 of the file. Numbers that were quantized are written as the
float32 that they stand for, so a model answers as its file says, not as the model did before it was quantized.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from steer_core.tables.errors import ConfigError
from steer_core.tables.folders import cache_folder

log = logging.getLogger(__name__)

#: Raised when the same file is converted to another folder.
VERSION = "1"
MANIFEST = "MANIFEST.json"
#: Bytes of a number as it is written, and how much of them is held while converting.
WIDTH, COPIES = 4, 2


@dataclass(frozen=True)
class GgufFacts:
    """What a file says of its model.

    Attributes:
        architecture: as llama.cpp names it.
        layers: decoder layers.
        context: tokens that it was made for.
        template: its chat template, or None.
        parameters: numbers in all tensors.
        special: `bos`, `eos`, `padding`, `unknown` -> token id.
    """

    architecture: str
    layers: int | None
    context: int | None
    template: str | None
    parameters: int
    special: dict[str, int]


def cache_root() -> Path:
    """Where converted models lie: `STEERWORKS_CACHE`, or `steerworks` in the user's cache folder."""
    return cache_folder()


def file_digest(file: Path) -> str:
    """SHA-256 of a file; read again only where size or time of change differ.

    Raises:
        ConfigError: it is not there.
    """
    try:
        stat = file.stat()
    except OSError as error:
        raise ConfigError(f"no file at {file}") from error
    return _file_digest(file, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _file_digest(file: Path, size: int, changed: int) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def converted_folder(file: Path) -> Path:
    """Where a file's model lies once it is converted; may not be there yet."""
    return cache_root() / "models" / f"{file_digest(file)}-{VERSION}"


def read_facts(file: Path) -> GgufFacts:
    """What a file says of its model; reads its head, not its weights.

    Raises:
        ConfigError: it is not there, no GGUF file, damaged, or not of a language model.
    """
    return _facts(file, file_digest(file))


@functools.lru_cache(maxsize=16)
def _facts(file: Path, digest: str) -> GgufFacts:
    from gguf import GGUFReader

    with file.open("rb") as handle:
        magic = handle.read(4)
    if magic != b"GGUF":
        raise ConfigError(f"{file} is no GGUF file: it does not begin with `GGUF`")
    try:
        reader = GGUFReader(file)

        def value(key: str) -> Any:
            field = reader.get_field(key)
            return None if field is None else field.contents()

        architecture = str(value("general.architecture"))
        special = {
            name: int(found)
            for name in ("bos", "eos", "padding", "unknown")
            if (found := value(f"tokenizer.ggml.{name}_token_id")) is not None
        }
        return GgufFacts(
            architecture,
            value(f"{architecture}.block_count"),
            value(f"{architecture}.context_length"),
            value("tokenizer.chat_template"),
            sum(int(t.n_elements) for t in reader.tensors),
            special,
        )
    except (ValueError, IndexError, KeyError, OSError, OverflowError, MemoryError) as error:
        raise ConfigError(f"{file} is a damaged GGUF file ({error or type(error).__name__}): copy it again") from error


def convert(file: Path) -> Path:
    """The folder of a file's model, made on first use.

    Raises:
        ConfigError: the file is not there, damaged, of an architecture that transformers does not read from GGUF, or
            there is no room for its weights.
    """
    folder = converted_folder(file)
    if (folder / MANIFEST).is_file():
        return folder
    facts = read_facts(file)
    _check_architecture(file, facts)
    needed = facts.parameters * WIDTH
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < needed * 1.05:
        raise ConfigError(
            f"{file} takes {needed / 1e6:.0f} MB once converted, and {folder.parent} has {free / 1e6:.0f} MB left: "
            "make room, or set STEERWORKS_CACHE to a folder on another disk"
        )
    with filelock.FileLock(f"{folder}.lock"):
        if (folder / MANIFEST).is_file():
            return folder
        log.warning(
            "converting %s to safetensors, once: %.0f MB in %s, about %.1f GB of memory meanwhile",
            file.name,
            needed / 1e6,
            folder,
            needed * COPIES / 1e9,
        )
        start = time.monotonic()
        aside = Path(tempfile.mkdtemp(prefix=".converting-", dir=folder.parent))
        try:
            _write(file, facts, aside)
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        log.warning("converted %s in %.0f s", file.name, time.monotonic() - start)
    return folder


def _check_architecture(file: Path, facts: GgufFacts) -> None:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"})
    if facts.architecture.replace("-", "_") not in known and facts.architecture not in known:
        raise ConfigError(
            f"{file} holds a model of architecture {facts.architecture!r}, which transformers does not read from GGUF "
            f"(it reads {', '.join(known)}): use the model's safetensors"
        )


def _write(file: Path, facts: GgufFacts, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        where: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, **where)
        loaded: Any = AutoModelForCausalLM.from_pretrained(file.parent, **where, dtype=torch.float32)
    except Exception as error:  # readers of damaged files raise whatever they like
        said = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ConfigError(f"{file} could not be converted: {said}") from error
    # what was loaded remembers that it was quantized, and refuses to be saved: an equal one does not
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    config = type(loaded.config)(**settings)
    config.dtype = torch.float32
    with torch.device("meta"):
        plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = loaded.generation_config
    _set_special(tokenizer, plain, facts)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    manifest = {"file": file.name, "sha256": file_digest(file), "version": VERSION, "architecture": facts.architecture}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _set_special(tokenizer: Any, model: Any, facts: GgufFacts) -> None:
    """The special tokens that the file names: those that transformers guesses may be others (SmolLM2's end token)."""
    for name, key in (("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("unknown", "unk")):
        if name not in facts.special:
            continue
        at = facts.special[name]
        setattr(tokenizer, f"{key}_token", tokenizer.convert_ids_to_tokens(at))
        if key != "unk":
            setattr(model.config, f"{key}_token_id", at)
            setattr(model.generation_config, f"{key}_token_id", at)
    # a setting for WordPiece, which would take away spaces
    tokenizer.clean_up_tokenization_spaces = False
    if facts.template and not tokenizer.chat_template:
        tokenizer.chat_template = facts.template
