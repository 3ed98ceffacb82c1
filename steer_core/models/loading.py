"""Load a model and its tokenizer with transformers, fingerprinted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.digest import digest_json
from schemas.specs import ModelSpec
from steer_core.models.info import ModelInfo, describe_model, model_folder
from steer_core.tables.errors import ConfigError


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        spec: what was asked for.
        model: a `transformers` causal language model in eval mode.
        tokenizer: its tokenizer; pads on the left, with a pad token.
        info: context length and chat use; chat is never None here.
        fingerprint: digest of the files of a local folder, or hub id and commit.
        device: torch device, as text.
    """

    spec: ModelSpec
    model: Any
    tokenizer: Any
    info: ModelInfo
    fingerprint: str
    device: str


def load_tokenizer(spec: ModelSpec) -> Any:
    """The tokenizer alone, for counting tokens before a run; needs no weights.

    Raises:
        ConfigError: there is none.
    """
    from transformers import AutoTokenizer

    folder = model_folder(spec)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder or spec.source, revision=None if folder else spec.revision)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model {spec.name!r}: no tokenizer at {folder or spec.source}: {_first_line(error)}"
        ) from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        # masked out anyway: any valid id serves
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_model(spec: ModelSpec) -> LoadedModel:
    """Load weights and tokenizer.

    Raises:
        ConfigError: the model cannot be found, or wants a device that is not there.
    """
    import torch
    from transformers import AutoModelForCausalLM

    describe_model(spec)  # a missing local folder is said in our words
    device = spec.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"model {spec.name!r} asks for device {device!r}, and torch sees no CUDA device; use `auto` or `cpu`"
        )
    folder = model_folder(spec)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder or spec.source,
            revision=None if folder else spec.revision,
            dtype=getattr(torch, spec.dtype),
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"model {spec.name!r}: {folder or spec.source} (revision {spec.revision}) could not be loaded: "
            f"{_first_line(error)}. Check name, revision and network, or point `source` at a local folder"
        ) from error
    tokenizer = load_tokenizer(spec)
    model.to(device)  # type: ignore[arg-type]  # a decorator hides the signature
    model.eval()
    config = model.config.get_text_config()
    context = spec.max_context or getattr(config, "max_position_embeddings", None)
    chat = spec.chat if spec.chat is not None else bool(tokenizer.chat_template)
    if chat and not tokenizer.chat_template:
        raise ConfigError(f"model {spec.name!r} has `chat: true`, and its tokenizer has no chat template")
    fingerprint = digest_folder(folder) if folder else digest_json([spec.source, spec.revision])
    return LoadedModel(spec, model, tokenizer, ModelInfo(context, chat), fingerprint, device)


def load_encoder(spec: ModelSpec) -> tuple[Any, Any]:
    """A sentence encoder and its tokenizer, for `steer_core.evaluation.meaning.embedding_cosine`.

    Raises:
        ConfigError: it cannot be found.
    """
    from transformers import AutoModel

    folder = model_folder(spec)
    try:
        encoder = AutoModel.from_pretrained(folder or spec.source, revision=None if folder else spec.revision)
    except (OSError, ValueError) as error:
        raise ConfigError(f"encoder {spec.name!r}: {spec.source} could not be loaded: {_first_line(error)}") from error
    return encoder.eval(), load_tokenizer(spec)


def digest_folder(folder: Path) -> str:
    """Digest of the files that decide a model's answers: weights, configs, tokenizer, template."""
    decisive = {".safetensors", ".bin", ".json", ".jinja", ".model", ".txt"}
    files = sorted(p for p in folder.iterdir() if p.suffix in decisive)
    total = hashlib.blake2b(digest_size=16)
    for file in files:
        if file.name == "MANIFEST.json":
            continue
        with file.open("rb") as handle:
            total.update(file.name.encode() + hashlib.file_digest(handle, "blake2b").digest())
    return total.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
