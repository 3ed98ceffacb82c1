"""Adapters that rows wear: a PEFT folder by the digest of its files, and who wears which in a pass."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.digest import digest_bytes
from steer_core.tables.errors import ConfigError, SteerworksError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: What a row without an adapter is called by PEFT.
BASE = "__base__"


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in a folder that `save_pretrained` of PEFT wrote.

    Attributes:
        digest: digest of its settings and weights: what plans refer to it by.
        folder: where it lies.
        base: the model that it says it was trained on; None where it does not say.
    """

    digest: str
    folder: Path
    base: str | None

    @classmethod
    def of(cls, folder: str | Path) -> Adapter:
        """The adapter in a folder.

        Raises:
            ConfigError: it is none, has pickled weights only, or is of a kind that single rows cannot wear.
        """
        path = Path(folder)
        config, weights = path / CONFIG, path / WEIGHTS
        if not config.is_file():
            raise ConfigError(
                f"{path} is no adapter: it has no {CONFIG}; give a folder that PEFT's save_pretrained wrote"
            )
        if not weights.is_file():
            raise ConfigError(f"adapter {path} has no {WEIGHTS}: pickled weights are not read, save it as safetensors")
        settings = json.loads(config.read_text(encoding="utf-8"))
        if why := _why_not_worn(settings):
            raise ConfigError(
                f"adapter {path} {why}, which rows of a shared batch cannot wear each for itself: merge it"
            )
        digest = digest_bytes(config.read_bytes() + weights.read_bytes())
        return cls(digest, path, settings.get("base_model_name_or_path"))


def _why_not_worn(settings: dict[str, Any]) -> str | None:
    """Why an adapter cannot be worn by single rows, in words; None where it can."""
    kind = settings.get("peft_type")
    if kind != "LORA":
        return f"is of type {kind}"
    if settings.get("use_dora"):
        return "uses DoRA"
    if settings.get("bias", "none") != "none":
        return "also trains biases"
    if settings.get("modules_to_save"):
        return f"replaces whole modules ({', '.join(settings['modules_to_save'])})"
    return None


class Wardrobe:
    """The adapters of one loaded model. A row that wears none answers as before, to the bit.

    Args:
        model: a causal language model of transformers; its linear layers are wrapped by PEFT when the first is added.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._worn: tuple[str, ...] | None = None
        self._known: set[str] = set()
        self._hooked: set[int] = set()

    def add(self, adapters: Iterable[Adapter]) -> None:
        """Let rows wear further adapters.

        Raises:
            SteerworksError: the model wears one already, or an adapter does not fit it.
        """
        for adapter in adapters:
            if adapter.digest not in self._known:
                self._inject(adapter)

    def check(self, digest: str | None) -> None:
        """Look whether an adapter is known.

        Raises:
            SteerworksError: it is not; says what to do.
        """
        if digest is not None and digest not in self._known:
            raise SteerworksError(f"adapter {digest} is not known to this engine: hand it over with `add_adapters`")

    @contextmanager
    def worn(self, digests: Sequence[str | None]) -> Iterator[None]:
        """The passes inside have one row for each of these; None wears nothing."""
        self._worn = tuple(d or BASE for d in digests) if any(digests) else None
        try:
            yield
        finally:
            self._worn = None

    def _inject(self, adapter: Adapter) -> None:
        from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
        from peft.tuners.lora import LoraLayer
        from safetensors.torch import load_file

        if not self._known and any(isinstance(m, LoraLayer) for m in self._model.modules()):
            raise SteerworksError(
                "the model wears an adapter already, which rows could not take off: load the base model without it"
            )
        config = LoraConfig.from_pretrained(str(adapter.folder))
        config.inference_mode = True
        state = load_file(adapter.folder / WEIGHTS)
        device = next(self._model.parameters()).device
        try:
            with warnings.catch_warnings():
                # several adapters on one model are what is meant here
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
                inject_adapter_in_model(config, self._model, adapter.digest)
            result: Any = set_peft_model_state_dict(self._model, state, adapter.digest)
        except (ValueError, RuntimeError, KeyError) as error:
            raise SteerworksError(
                f"adapter {adapter.folder} (trained on {adapter.base or 'a model that it does not name'}) does not fit "
                f"this model: {str(error).splitlines()[0]}"
            ) from error
        if result.unexpected_keys:
            raise SteerworksError(
                f"adapter {adapter.folder} (trained on {adapter.base or 'a model that it does not name'}) has weights "
                f"for layers that this model lacks: {', '.join(sorted(result.unexpected_keys)[:3])}"
            )
        self._known.add(adapter.digest)
        wrapped: list[Any] = [m for m in self._model.modules() if isinstance(m, LoraLayer)]
        for module in wrapped:
            module.to(device)
            if id(module) not in self._hooked:
                module.register_forward_pre_hook(self._dress, with_kwargs=True)
                self._hooked.add(id(module))
        self._model.eval()

    def _dress(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        # without names PEFT would put its active adapter on every row
        worn = [BASE] * len(args[0]) if self._worn is None else list(self._worn)
        return args, {**kwargs, "adapter_names": worn}
