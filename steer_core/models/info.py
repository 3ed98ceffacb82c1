"""What can be known of a model from its files, without torch and without loading weights."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.specs import ModelSpec
from steer_core.models.gguf import GgufFacts, converted_folder, read_facts
from steer_core.models.packaged import packaged_model
from steer_core.tables.errors import ConfigError

#: Kinds of device that torch runs models on.
DEVICES = ("cpu", "cuda", "mps", "xpu", "hpu", "mtia", "xla")
#: Names that architectures give their context length, in order of preference.
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len", "seq_length")


@dataclass(frozen=True)
class ModelInfo:
    """Facts that decide which methods a model can run; None where they are not known before loading.

    Attributes:
        max_context: tokens of prompt and answer together.
        chat: whether prompts go through a chat template.
    """

    max_context: int | None
    chat: bool | None


def model_path(spec: ModelSpec) -> Path | None:
    """Where a model's files are: a folder, or a GGUF file; None for a hub model.

    Raises:
        ConfigError: it is in a package that is not installed.
    """
    match spec.kind:
        case "embedded":
            from steer_core.models.embedded import weights_folder

            return weights_folder()
        case "package":
            try:
                return packaged_model(spec.source)
            except ConfigError as error:
                raise ConfigError(f"model {spec.name!r}: {error}") from error
        case "local":
            return Path(spec.source).expanduser()
    return None


def gguf_file(spec: ModelSpec) -> Path | None:
    """The GGUF file that a model is read from; None for other models.

    Raises:
        ConfigError: the file is not there.
    """
    path = model_path(spec)
    if path is None or path.suffix != ".gguf":
        return None
    if not path.is_file():
        raise ConfigError(f"model {spec.name!r}: there is no file {path}")
    return path


def model_folder(spec: ModelSpec) -> Path | None:
    """The folder of a model whose files are at hand; None for a hub model.

    That of a GGUF file may not be there yet: `steer_core.models.loading` converts the file on first use.
    """
    file = gguf_file(spec)
    return model_path(spec) if file is None else converted_folder(file)


def describe_model(spec: ModelSpec) -> ModelInfo:
    """Read a model's config and template, if its files are at hand.

    Raises:
        ConfigError: a local folder is missing, is no `save_pretrained` folder, or its settings cannot be read.
    """
    if not re.fullmatch(rf"auto|({'|'.join(DEVICES)})(:[0-9]+)?", spec.device):
        raise ConfigError(
            f"model {spec.name!r} asks for device {spec.device!r}, which torch does not know: use `auto`, `cpu` or "
            "`cuda:0`"
        )
    facts = _gguf_facts(spec)
    if facts is not None:
        chat = spec.chat if spec.chat is not None else facts.template is not None
        return ModelInfo(spec.max_context or facts.context, chat)
    folder = model_folder(spec)
    if folder is None:
        return ModelInfo(spec.max_context, spec.chat)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ConfigError(
            f"model {spec.name!r}: {folder} has no config.json; `source` must be a folder written by `save_pretrained`"
        )
    config = _read_json(spec, config_file)
    if not isinstance(config.get("model_type"), str):
        # transformers would guess it from the folder's name
        raise ConfigError(f"model {spec.name!r}: {config_file} names no `model_type`: copy it from the original model")
    context = _context(config)
    if context is not None and context < 1:
        raise ConfigError(f"model {spec.name!r}: {config_file} gives a context of {context} tokens: it must be above 0")
    chat = spec.chat if spec.chat is not None else _has_template(spec, folder)
    return ModelInfo(spec.max_context or context, chat)


def layers_of(spec: ModelSpec) -> int | None:
    """Decoder layers of a model, from its config; None where its files are not at hand or do not say.

    Raises:
        ConfigError: its config cannot be read.
    """
    if (facts := _gguf_facts(spec)) is not None:
        return facts.layers
    folder = model_folder(spec)
    if folder is None or not (folder / "config.json").is_file():
        return None
    config = _read_json(spec, folder / "config.json")
    for scope in (config.get("text_config") or {}, config):
        for key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"):
            if isinstance(scope.get(key), int):
                return int(scope[key])
    return None


def _gguf_facts(spec: ModelSpec) -> GgufFacts | None:
    """What the head of a GGUF file says; None for other models, and for files that are converted already."""
    file = gguf_file(spec)
    if file is None or (converted_folder(file) / "config.json").is_file():
        return None
    try:
        return read_facts(file)
    except ConfigError as error:
        raise ConfigError(f"model {spec.name!r}: {error}") from error


def context_of(config: Any) -> int | None:
    """The context length of a config of transformers, under whatever name its architecture has for it."""
    text = config.get_text_config()
    return _context({key: getattr(text, key, None) for key in _CONTEXT_KEYS})


def _context(config: dict[str, Any]) -> int | None:
    for scope in (config, config.get("text_config") or {}):
        for key in _CONTEXT_KEYS:
            if isinstance(scope.get(key), int):
                return int(scope[key])
    return None


def _has_template(spec: ModelSpec, folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and bool(_read_json(spec, file).get("chat_template"))


def _read_json(spec: ModelSpec, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"model {spec.name!r}: {file} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"model {spec.name!r}: {file} holds no settings, but a {type(found).__name__}")
    return found
