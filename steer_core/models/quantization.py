"""Models whose weights are packed into few bits while they are loaded, as transformers' own configs say.

`quantization` of a model is a `quantization_config` as transformers writes it. Whatever can be known to fail is refused
before weights are read: a method that transformers lacks, a setting that the method lacks, a file that is quantised
already, a library that is not installed, a device that the library does not use.
"""

from __future__ import annotations

import copy
import importlib.metadata
import inspect
import json
from pathlib import Path
from typing import Any

from schemas.specs import ModelSpec
from steer_core.models.info import gguf_file, model_folder
from steer_core.tables.errors import ConfigError

#: Method -> package to install, where the two have different names.
PACKAGES = {"quanto": "optimum-quanto"}
#: The method that transformers knows as two, with the setting that tells them apart.
BITS_AND_BYTES, BITS = "bitsandbytes", {"load_in_4bit": "bitsandbytes_4bit", "load_in_8bit": "bitsandbytes_8bit"}


def check_quantization(spec: ModelSpec) -> None:
    """Refuse a quantisation that makes no sense for the model, from its settings and files alone.

    Raises:
        ConfigError: says what, and what to do.
    """
    if spec.quantization:
        _refuse_packed_files(spec)
        quantization_config(spec)


def quantization_config(spec: ModelSpec) -> Any:
    """The config of transformers that a model's settings give.

    Raises:
        ConfigError: transformers has no such method, it packs nothing while loading, or it does not take a setting.
    """
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

    kind: Any = AUTO_QUANTIZATION_CONFIG_MAPPING[_method(spec)]
    try:
        # some configs change the mapping that they are made of
        config: Any = kind.from_dict(copy.deepcopy(spec.quantization))
    except ImportError as error:
        raise ConfigError(_missing(spec, error)) from error
    except Exception as error:  # each config checks its settings in its own way
        raise ConfigError(
            f"model {spec.name!r}: `quantization` makes no {kind.__name__} of transformers: "
            f"{type(error).__name__}: {_first_line(error)}"
        ) from error
    # what a config does not know it passes over, and the default would act without a word
    known = set(inspect.signature(kind.__init__).parameters) - {"self", "kwargs"} | set(config.to_dict())
    known = {name for name in known if not name.startswith("_")} | {"quant_method"}
    if unknown := sorted(set(spec.quantization) - known):
        raise ConfigError(
            f"model {spec.name!r}: {kind.__name__} of transformers has no setting {', '.join(map(repr, unknown))}; it "
            f"has {', '.join(sorted(known))}"
        )
    return config


def check_environment(spec: ModelSpec, device: str) -> None:
    """Refuse a quantisation whose library is not here, or does not use the device; reads no weights.

    Args:
        spec: the model.
        device: torch device, as text.

    Raises:
        ConfigError: says what to install, or which device is refused, in the library's words.
    """
    from transformers.quantizers.auto import AutoHfQuantizer

    config = quantization_config(spec)
    try:
        quantizer: Any = AutoHfQuantizer.from_config(config, pre_quantized=False)
        quantizer.validate_environment(device_map={"": device}, weights_only=True)
    except ImportError as error:
        raise ConfigError(_missing(spec, error)) from error
    except Exception as error:  # quantizers raise whatever they like
        raise ConfigError(
            f"model {spec.name!r}: quant_method {spec.quantization['quant_method']!r} cannot be used on device "
            f"{device!r}: {_first_line(error)}"
        ) from error


def packed_by(spec: ModelSpec) -> dict[str, str]:
    """Method, and version of its library, for the fingerprint of an execution; nothing for other models."""
    if not spec.quantization:
        return {}
    method = str(spec.quantization["quant_method"])
    try:
        version = importlib.metadata.version(PACKAGES.get(method, method))
    except importlib.metadata.PackageNotFoundError:
        return {"quantization": method}  # transformers carries it out by itself
    return {"quantization": f"{method} {version}"}


def is_quantized(model: Any) -> bool:
    """Whether weights of a transformers model are packed, so that they are no matrices of numbers."""
    return getattr(model, "hf_quantizer", None) is not None


def numbers_of(parameter: Any) -> Any:
    """A parameter as an ordinary tensor: what it stands for where its type keeps that to itself, else as it is stored.

    Those of bitsandbytes are stored as whole numbers; those of torchao and quanto say that they are floating-point.
    """
    import torch

    found = parameter.detach()
    packed = type(found) not in (torch.Tensor, torch.nn.Parameter) and found.is_floating_point()
    return found.dequantize() if packed else found


def mixes_rows(model: Any) -> bool:
    """Whether the rows of a pass change each other: LLM.int8 looks for outliers in all of them together.

    With `llm_int8_threshold: 0.0` it looks for none, and each token is rounded by itself.
    """
    config = getattr(model.config, "quantization_config", None) if is_quantized(model) else None
    return bool(getattr(config, "load_in_8bit", False)) and float(getattr(config, "llm_int8_threshold", 0.0)) > 0.0


def check_finite_files(spec: ModelSpec, folder: Path) -> None:
    """Refuse files that hold no finite numbers: packing would turn these into ordinary ones.

    Raises:
        ConfigError: names the weight, and how many of its numbers are not finite in the model's type.
    """
    import torch
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (it is no mapping)
                numbers = tensors.get_tensor(name).to(getattr(torch, spec.dtype))
                if not bool(numbers.isfinite().all()):
                    n = int((~numbers.isfinite()).sum())
                    raise ConfigError(
                        f"model {spec.name!r}: {n} numbers of weight {name!r} in {file} are not finite as "
                        f"{spec.dtype}: the file is damaged, or the type too narrow"
                    )


def refuse_packed_config(spec: ModelSpec, config: dict[str, Any], where: object) -> None:
    """Refuse to quantise what is quantised already: transformers would pass over the settings.

    Args:
        spec: the model.
        config: its `config.json`.
        where: what the error calls its place.

    Raises:
        ConfigError: it is.
    """
    found = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if found:
        method = found.get("quant_method", "unknown") if isinstance(found, dict) else "unknown"
        raise ConfigError(
            f"model {spec.name!r}: {where} is quantised already (quant_method {method!r}), and `quantization` would "
            "quantise it again: leave `quantization` out, or point `source` at the unquantised model"
        )


def _refuse_packed_files(spec: ModelSpec) -> None:
    if (file := gguf_file(spec)) is not None:
        raise ConfigError(
            f"model {spec.name!r}: {file} is a GGUF file, whose numbers are quantised as it says, and `quantization` "
            "would quantise them again: leave `quantization` out, or point `source` at the model's safetensors"
        )
    folder = model_folder(spec)
    if folder is None or not (folder / "config.json").is_file():
        return  # a hub model's config is looked at when it is loaded
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"model {spec.name!r}: {folder / 'config.json'} cannot be read as JSON: {error}") from error
    if isinstance(config, dict):
        refuse_packed_config(spec, config, folder)


def _method(spec: ModelSpec) -> str:
    """The method, under the name that transformers' tables have for it."""
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING

    named = spec.quantization["quant_method"]
    if named == BITS_AND_BYTES:
        asked = [key for key in BITS if spec.quantization.get(key)]
        if len(asked) != 1:
            raise ConfigError(
                f"model {spec.name!r}: quant_method {named!r} needs one of `load_in_4bit: true` and `load_in_8bit: "
                f"true`; it has {' and '.join(asked) or 'neither'}"
            )
        return BITS[asked[0]]
    quantizers: dict[str, Any] = dict(AUTO_QUANTIZER_MAPPING)
    while_loading = {
        BITS_AND_BYTES if name in BITS.values() else name
        for name in AUTO_QUANTIZATION_CONFIG_MAPPING
        if name != "gguf" and not quantizers[name].requires_calibration
    }
    if named in while_loading:
        return str(named)
    known = named in AUTO_QUANTIZATION_CONFIG_MAPPING and named not in BITS.values()
    why = (
        "packs no weights while they are loaded: point `source` at a checkpoint that it has made, without "
        "`quantization`; those that do"
        if known
        else "is none that transformers knows; it knows"
    )
    raise ConfigError(f"model {spec.name!r}: quant_method {named!r} {why}: {', '.join(sorted(while_loading))}")


def _missing(spec: ModelSpec, error: ImportError) -> str:
    method = spec.quantization["quant_method"]
    return (
        f"model {spec.name!r}: quant_method {method!r} needs a package that is not installed: "
        f"`pip install {PACKAGES.get(method, method)}` ({_first_line(error)})"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
