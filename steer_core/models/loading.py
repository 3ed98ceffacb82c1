"""Load a model and its tokenizer with transformers, fingerprinted."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.digest import digest_json
from schemas.specs import ModelSpec
from steer_core.models.gguf import convert, file_digest
from steer_core.models.info import ModelInfo, context_of, describe_model, gguf_file, model_folder
from steer_core.models.quantization import (
    check_environment,
    check_finite_files,
    check_quantization,
    is_quantized,
    quantization_config,
    refuse_packed_config,
)
from steer_core.tables.errors import ConfigError


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    Attributes:
        spec: what was asked for.
        model: a `transformers` causal language model in eval mode.
        tokenizer: its tokenizer; pads on the left, with a pad token.
        info: context length and chat use; chat is never None here.
        fingerprint: digest of the files of a local folder, or hub id and commit, and of the quantisation if any.
        device: torch device, as text.
    """

    spec: ModelSpec
    model: Any
    tokenizer: Any
    info: ModelInfo
    fingerprint: str
    device: str


def ready_folder(spec: ModelSpec) -> Path | None:
    """The folder that a model is loaded from; a GGUF file is converted first. None for a hub model.

    Raises:
        ConfigError: the file cannot be converted.
    """
    file = gguf_file(spec)
    if file is None:
        return model_folder(spec)
    try:
        return convert(file)
    except ConfigError as error:
        raise ConfigError(f"model {spec.name!r}: {error}") from error


def fingerprint_of(spec: ModelSpec) -> str:
    """Digest of the files that a model is read from; for a hub model of its id and commit.

    Of a quantised model, of these and of the quantisation: what was fitted on the one was not fitted on the other.
    """
    if (file := gguf_file(spec)) is not None:
        return digest_json(["gguf", file_digest(file)])
    folder = model_folder(spec)
    found = digest_json([spec.source, spec.revision]) if folder is None else digest_folder(folder)
    return digest_json(["quantised", found, spec.quantization]) if spec.quantization else found


def load_tokenizer(spec: ModelSpec) -> Any:
    """The tokenizer alone, for counting tokens before a run; needs no weights.

    Raises:
        ConfigError: there is none, or its files are damaged.
    """
    from transformers import AutoTokenizer

    folder = ready_folder(spec)
    where = folder or spec.source
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            where, revision=None if folder else spec.revision, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raises bare exceptions on damaged files
        raise ConfigError(f"model {spec.name!r}: no tokenizer can be read at {where}: {_first_line(error)}") from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        # masked out anyway: any valid id serves
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_model(spec: ModelSpec) -> LoadedModel:
    """Load weights and tokenizer, and look whether they are whole.

    Code that a model brings with it is never run, and pickled weights are never read.

    Raises:
        ConfigError: the model cannot be found or read, its weights are not those of its architecture or are no numbers,
            it wants a device that is not there, or it cannot be quantised as it asks for.
    """
    describe_model(spec)  # a missing local folder is said in our words
    check_quantization(spec)
    device = device_of(spec)
    model = _weights(spec, _packing(spec, device))
    tokenizer = load_tokenizer(spec)
    if not spec.quantization:
        try:
            model.to(device)
        except RuntimeError as error:
            raise ConfigError(
                f"model {spec.name!r}: its weights do not go onto {device!r}: {_first_line(error)}"
            ) from error
    model.eval()
    _check_finite(spec, model)
    _check_words(spec, model, tokenizer)
    context = spec.max_context or context_of(model.config)
    chat = spec.chat if spec.chat is not None else bool(tokenizer.chat_template)
    if chat and not tokenizer.chat_template:
        raise ConfigError(f"model {spec.name!r} has `chat: true`, and its tokenizer has no chat template")
    return LoadedModel(spec, model, tokenizer, ModelInfo(context, chat), fingerprint_of(spec), device)


def device_of(spec: ModelSpec) -> str:
    """The torch device that a model asks for.

    Raises:
        ConfigError: torch does not know it, or sees none of its kind.
    """
    import torch

    device = spec.device
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ConfigError(
            f"model {spec.name!r} asks for device {device!r}, which torch does not know: use `auto`, `cpu` or `cuda:0`"
        ) from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"model {spec.name!r} asks for device {device!r}, and torch sees no CUDA device; use `auto` or `cpu`"
        )
    return device


def _packing(spec: ModelSpec, device: str) -> dict[str, Any]:
    """Arguments with which transformers packs the weights while it loads them; none for other models.

    They go onto the device as they are packed: packed ones refuse to be moved.
    """
    if not spec.quantization:
        return {}
    check_environment(spec, device)
    if model_folder(spec) is None:
        from transformers import AutoConfig

        try:
            found: Any = AutoConfig.from_pretrained(spec.source, revision=spec.revision, trust_remote_code=False)
        except Exception as error:  # as with weights
            raise ConfigError(f"model {spec.name!r}: no config at {spec.source}: {_first_line(error)}") from error
        refuse_packed_config(spec, found.to_dict(), spec.source)
    return {"quantization_config": quantization_config(spec), "device_map": {"": device}}


def _weights(spec: ModelSpec, packing: dict[str, Any]) -> Any:
    """The weights, all of them those of the architecture and none left over."""
    import torch
    from transformers import AutoModelForCausalLM

    folder = ready_folder(spec)
    where = folder or spec.source
    if folder is not None and not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"model {spec.name!r}: {folder} has no *.safetensors; pickled weights are not read: save it with "
            "`save_pretrained`, which writes safetensors"
        )
    if folder is not None:
        _check_types(spec, folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where,
            revision=None if folder else spec.revision,
            dtype=getattr(torch, spec.dtype),
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            # told below, with the names of the weights
            ignore_mismatched_sizes=True,
            **packing,
        )
    except Exception as error:  # torch, safetensors and configs raise whatever they like on damaged files
        raise ConfigError(
            f"model {spec.name!r}: {where} (revision {spec.revision}) could not be loaded: {_first_line(error)}. Check "
            "name, revision and network, or point `source` at a local folder whose files are whole"
        ) from error
    model, report = loaded
    mismatched = [k[0] if isinstance(k, tuple) else k for k in report["mismatched_keys"]]
    for keys, what in (
        (report["missing_keys"], "its files lack {n} of its weights, and random ones would take their place"),
        (mismatched, "{n} of its weights have another shape than its config says"),
        (report["unexpected_keys"], "its files hold {n} weights that its config has no place for"),
    ):
        if keys:
            first = ", ".join(sorted(map(str, keys))[:3])
            raise ConfigError(
                f"model {spec.name!r}: {what.format(n=len(keys))} (first: {first}): config and weights at {where} "
                "are not of one model"
            )
    return model


def _check_types(spec: ModelSpec, folder: Path) -> None:
    """Raises a ConfigError where weights are stored as whole numbers or in 8 bits, and no config says how to read them.

    transformers casts them to the model's type as they stand: other weights, without a word.
    """
    from safetensors import SafetensorError, safe_open

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if "quantization_config" in config:
            return
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118  (it is no mapping)
                    kind = str(tensors.get_slice(name).get_dtype())
                    # masks are stored as whole numbers too, under other names
                    if name.endswith(".weight") and not kind.startswith(("F16", "F32", "F64", "BF16")):
                        raise ConfigError(
                            f"model {spec.name!r}: weight {name!r} in {file} is stored as {kind}, and its config has "
                            "no `quantization_config` that says what they mean: save the model dequantised"
                        )
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, SafetensorError):
        # a file that cannot be read is refused by whoever loads it, with what is wrong
        return


def _check_finite(spec: ModelSpec, model: Any) -> None:
    """Raises a ConfigError where a weight is no finite number; of a quantised model, one in its files."""
    if is_quantized(model):
        from huggingface_hub import snapshot_download

        # what was read lies in the hub's cache
        where = model_folder(spec) or snapshot_download(spec.source, revision=spec.revision, local_files_only=True)
        check_finite_files(spec, Path(where))
        return
    for name, parameter in model.named_parameters():
        # a sum is no number if a part of it is none; only then is it looked at closely
        if not bool(parameter.detach().float().sum().isfinite()) and not bool(parameter.isfinite().all()):
            n = int((~parameter.isfinite()).sum())
            raise ConfigError(
                f"model {spec.name!r}: {n} numbers of weight {name!r} are not finite: its file is damaged"
            )


def _check_words(spec: ModelSpec, model: Any, tokenizer: Any) -> None:
    """Raises a ConfigError where a text may hold a token that the model has no embedding of."""
    rows = model.get_input_embeddings().weight.shape[0]
    # models of texts alone keep the marks of pictures in their tokenizer; no text becomes one
    marks = {k for k, token in getattr(tokenizer, "added_tokens_decoder", {}).items() if token.special}
    if beyond := [w for w, k in tokenizer.get_vocab().items() if k >= rows and k not in marks]:
        raise ConfigError(
            f"model {spec.name!r}: its tokenizer knows {len(beyond)} tokens that its {rows} embeddings lack (first: "
            f"{beyond[0]!r}): tokenizer and weights are not of one model"
        )


def load_encoder(spec: ModelSpec) -> tuple[Any, Any]:
    """A sentence encoder and its tokenizer, for `steer_core.evaluation.meaning.embedding_cosine`.

    Raises:
        ConfigError: it cannot be found.
    """
    from transformers import AutoModel

    folder = ready_folder(spec)
    try:
        encoder = AutoModel.from_pretrained(
            folder or spec.source,
            revision=None if folder else spec.revision,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:  # as above: damaged files raise whatever they like
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
