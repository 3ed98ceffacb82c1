"""Adapters that rows wear: a PEFT folder by the digest of its files, and who wears which in a pass."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.digest import digest_bytes
from steer_core.tables.errors import ConfigError, SteerworksError

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: What a row without an adapter is called by PEFT.
BASE = "__base__"
#: Settings of LoRA that say where it goes and how strong it is, and change nothing but the rows that wear it.
HARMLESS = frozenset(
    {
        "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
        "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out", "lora_bias", "auto_mapping", "peft_version",
        "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_type",
    }
)  # fmt: skip
#: Ways to draw the first weights that leave the base model as it is; others subtract from it.
FIRST_WEIGHTS = (True, False, "gaussian")
_ATTRIBUTE = "_steerworks_wardrobe"


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in a folder that `save_pretrained` of PEFT wrote.

    Attributes:
        digest: digest of its settings and weights: what plans refer to it by.
        folder: where it lies.
        base: the model that it says it was trained on; None where it does not say.
        served: what a server that has it already calls it; None: its files are at hand.
    """

    digest: str
    folder: Path
    base: str | None
    served: str | None = None

    @classmethod
    def of(cls, folder: str | Path) -> Adapter:
        """The adapter in a folder.

        Raises:
            ConfigError: it is none, has pickled weights only, or has settings that single rows cannot wear.
        """
        path = Path(folder)
        config, weights = path / CONFIG, path / WEIGHTS
        if not config.is_file():
            raise ConfigError(
                f"{path} is no adapter: it has no {CONFIG}; give a folder that PEFT's save_pretrained wrote"
            )
        if not weights.is_file():
            raise ConfigError(f"adapter {path} has no {WEIGHTS}: pickled weights are not read, save it as safetensors")
        try:
            settings = json.loads(config.read_text(encoding="utf-8"))
            why = _why_not_worn(settings)
        except (ValueError, AttributeError) as error:
            raise ConfigError(f"{config} cannot be read as JSON settings: {error}") from error
        if why is not None:
            raise ConfigError(
                f"adapter {path} {why}, which rows of a shared batch cannot wear each for itself: merge it"
            )
        digest = digest_bytes(config.read_bytes() + weights.read_bytes())
        return cls(digest, path, settings.get("base_model_name_or_path"))


def _why_not_worn(settings: dict[str, Any]) -> str | None:
    """Why an adapter cannot be worn by single rows, in words; None where it can.

    Whatever is not known to be harmless is refused: replicated layers, starts taken from the base, invocation tokens
    and the like change the base model for everybody, or need what a pass does not tell.
    """
    from peft import LoraConfig

    kind = settings.get("peft_type")
    if kind != "LORA":
        return f"is of type {kind}"
    if settings.get("modules_to_save"):
        return f"replaces whole modules ({', '.join(settings['modules_to_save'])})"
    plain = LoraConfig().to_dict()
    for name, value in settings.items():
        if name in HARMLESS or value == plain.get(name) or not value:
            continue
        if name == "init_lora_weights" and value in FIRST_WEIGHTS:
            continue
        return f"has {name}: {value!r}"
    return None


def wardrobe_of(model: Any) -> Wardrobe:
    """The adapters that were handed to a model so far: one object a model, whoever asks."""
    if _ATTRIBUTE not in vars(model):
        # past torch's own bookkeeping: it is no part of the model
        vars(model)[_ATTRIBUTE] = Wardrobe(model)
    found: Wardrobe = vars(model)[_ATTRIBUTE]
    return found


def has_adapters(model: Any) -> bool:
    """Whether adapters were handed to a model: its layers are then wrapped, and `lora_` weights are not its own."""
    return _ATTRIBUTE in vars(model) and bool(vars(model)[_ATTRIBUTE].known)


class Wardrobe:
    """The adapters of one loaded model.

    Its linear layers are wrapped by PEFT when the first is added. Outside `worn` all of them are off, so whoever else
    uses the model finds it as it was, and rows that wear none answer as before.

    Attributes:
        known: digests of the adapters.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._worn: list[str] | None = None
        self._layers: dict[int, Any] = {}
        self.known: set[str] = set()

    def add(self, adapters: Iterable[Adapter]) -> None:
        """Let rows wear further adapters; one that is refused leaves nothing behind.

        Raises:
            SteerworksError: the model wears one of its own, or an adapter does not fit it.
        """
        for adapter in adapters:
            if adapter.digest not in self.known:
                try:
                    self._inject(adapter)
                except BaseException:
                    self._take_off(adapter.digest)
                    raise

    def check(self, digest: str | None) -> None:
        """Look whether an adapter is known.

        Raises:
            SteerworksError: it is not; says what to do.
        """
        if digest is not None and digest not in self.known:
            raise SteerworksError(f"adapter {digest} is not known to this engine: hand it over with `add_adapters`")

    @contextmanager
    def worn(self, digests: Sequence[str | None]) -> Iterator[None]:
        """The passes inside have one row for each of these; None wears nothing."""
        if not any(digests):
            yield
            return
        self._worn = [d or BASE for d in digests]
        self._switch(off=False)
        try:
            yield
        finally:
            self._worn = None
            self._switch(off=True)

    def _switch(self, *, off: bool) -> None:
        for layer in self._layers.values():
            # PEFT's own switch also turns gradients on
            layer._disable_adapters = off

    def _inject(self, adapter: Adapter) -> None:
        from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
        from peft.tuners.lora import LoraLayer
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if adapter.served is not None:
            raise SteerworksError(f"adapter {adapter.served!r} is on a server, and its weights are not here")
        if not self._layers and any(isinstance(m, LoraLayer) for m in self._model.modules()):
            raise SteerworksError(
                "the model wears an adapter of its own, which rows could not take off: load the base model without it"
            )
        try:
            state = load_file(adapter.folder / WEIGHTS)
        except (SafetensorError, OSError) as error:
            raise SteerworksError(f"{adapter.folder / WEIGHTS} cannot be read: {error}") from error
        state = self._own_weights(adapter, state)
        device = next(self._model.parameters()).device
        config = LoraConfig.from_pretrained(str(adapter.folder))
        config.inference_mode = True
        try:
            with warnings.catch_warnings():
                # several adapters on one model are what is meant here
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                warnings.filterwarnings("ignore", message="fan_in_fan_out is set to False")
                inject_adapter_in_model(config, self._model, adapter.digest)
            result: Any = set_peft_model_state_dict(self._model, state, adapter.digest)
        except (ValueError, RuntimeError, KeyError) as error:
            raise self._misfit(adapter, f"does not fit this model: {str(error).splitlines()[0]}") from error
        if result.unexpected_keys:
            some = ", ".join(sorted(result.unexpected_keys)[:3])
            raise self._misfit(adapter, f"has weights for layers that this model lacks: {some}")
        if lacking := sorted(k for k in result.missing_keys if "lora_" in k and adapter.digest in k):
            some = lacking[0].replace(f".{adapter.digest}", "")
            raise self._misfit(adapter, f"lacks {len(lacking)} of the weights that its settings name, first: {some}")
        for name, module in self._model.named_modules():
            if isinstance(module, LoraLayer):
                found: Any = module
                found.to(device)
                if id(module) not in self._layers:
                    found.register_forward_pre_hook(self._dress, with_kwargs=True)
                    self._layers[id(module)] = module
                for part, parameter in found.named_parameters():
                    if adapter.digest in part and "lora_" in part:
                        # as PEFT does it: half precision is too coarse for small updates
                        parameter.data = parameter.data.float()
                        if not bool(parameter.isfinite().all()):
                            raise self._misfit(adapter, f"has weights that are no finite numbers, at {name}")
        self._switch(off=True)
        self._model.eval()
        self._check_shapes(adapter)
        self.known.add(adapter.digest)

    def _own_weights(self, adapter: Adapter, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The adapter's own weights; weights of the base model that PEFT saved with it must be those of this one."""
        import torch

        # tied embeddings stand under both their names
        base = dict(self._model.named_parameters(remove_duplicate=False))
        base = {name.replace(".base_layer", ""): p for name, p in base.items() if "lora_" not in name}
        own = {}
        for name, tensor in state.items():
            if "lora_" in name:
                own[name] = tensor
                continue
            known = base.get(name.removeprefix("base_model.model.").replace(".base_layer", ""))
            same = known is not None and known.shape == tensor.shape
            if not same or not torch.equal(known.detach().cpu().float(), tensor.float()):  # type: ignore[union-attr]
                raise self._misfit(adapter, f"comes with base weights that are not this model's ({name})")
        return own

    def _check_shapes(self, adapter: Adapter) -> None:
        """One small pass: each layer must see the rows of the batch as rows, or it could not tell who wears what.

        Raises:
            SteerworksError: a layer sees tokens of several rows in one, or is not called for every token.
        """
        import torch

        names = {id(m): n for n, m in self._model.named_modules() if id(m) in self._layers}
        rows: dict[int, int] = {}

        def note(module: Any, args: tuple[Any, ...]) -> None:
            rows[id(module)] = len(args[0]) if args else 0

        handles = [layer.register_forward_pre_hook(note) for layer in self._layers.values()]
        try:
            with torch.inference_mode():
                self._model(
                    input_ids=torch.zeros((2, 3), dtype=torch.long, device=next(self._model.parameters()).device)
                )
        finally:
            for handle in handles:
                handle.remove()
        if odd := [names[key] for key in self._layers if rows.get(key) != 2]:
            raise self._misfit(
                adapter, f"sits on {odd[0]}, which does not see the rows of a batch one by one: merge it instead"
            )

    def _misfit(self, adapter: Adapter, why: str) -> SteerworksError:
        trained = adapter.base or "a model that it does not name"
        return SteerworksError(f"adapter {adapter.folder} (trained on {trained}) {why}")

    def _take_off(self, digest: str) -> None:
        """Remove what a refused adapter has left; layers that were wrapped for it stay wrapped, and off."""
        from peft.tuners.lora import LoraLayer

        for module in self._model.modules():
            if isinstance(module, LoraLayer) and id(module) not in self._layers:
                module.register_forward_pre_hook(self._dress, with_kwargs=True)  # type: ignore[attr-defined]
                self._layers[id(module)] = module
        for layer in self._layers.values():
            if any(digest in getattr(layer, kind) for kind in layer.adapter_layer_names):
                layer.delete_adapter(digest)
        getattr(self._model, "peft_config", {}).pop(digest, None)
        self._switch(off=True)

    def _dress(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return None if self._worn is None else (args, {**kwargs, "adapter_names": self._worn})
