"""A way to pack weights that needs no library, registered with transformers as any other is.

Linear layers keep whole numbers in 8 bits and a scale a row, and refuse to be moved, as 4-bit ones do.
"""

from contextlib import contextmanager
from typing import ClassVar

import torch
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AUTO_QUANTIZER_MAPPING
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

METHOD = "rounding"


class RoundedLinear(torch.nn.Module):
    """A linear layer whose weight is int8 times a scale a row."""

    def __init__(self, linear: torch.nn.Linear, levels: int) -> None:
        super().__init__()
        scale = linear.weight.detach().abs().amax(1, keepdim=True) / levels
        self.weight = torch.nn.Parameter((linear.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.scale, self.bias = scale, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight.to(x.dtype) * self.scale.to(x.dtype), self.bias)


class RoundingConfig(QuantizationConfigMixin):
    """`levels`: whole numbers on either side of 0."""

    def __init__(self, levels: int = 127, **kwargs) -> None:
        if levels < 1:
            raise ValueError(f"levels = {levels}")
        self.quant_method, self.levels = METHOD, levels


class RoundingQuantizer(HfQuantizer):
    """Packs what transformers would leave to it; told on which device, and refuses `meta`."""

    seen: ClassVar[list] = []

    def validate_environment(self, *args, **kwargs) -> None:
        self.seen.append(kwargs["device_map"])
        if "meta" in str(kwargs["device_map"]):
            raise ValueError("weights on `meta` are not rounded")

    def _process_model_after_weight_loading(self, model, **kwargs):
        kept = self.get_modules_to_not_convert(model)
        for name, module in list(model.named_modules()):
            if isinstance(module, torch.nn.Linear) and name not in kept:
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, RoundedLinear(module, self.quantization_config.levels))
        model.to = _stays
        return model

    def is_serializable(self) -> bool:
        return False

    is_trainable = False


def _stays(*args, **kwargs):
    raise ValueError("`.to` is not supported for packed weights")


@contextmanager
def rounding():
    """transformers knows the method inside."""
    AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD], AUTO_QUANTIZER_MAPPING[METHOD] = RoundingConfig, RoundingQuantizer
    try:
        yield RoundingQuantizer.seen
    finally:
        del AUTO_QUANTIZATION_CONFIG_MAPPING[METHOD], AUTO_QUANTIZER_MAPPING[METHOD]
        RoundingQuantizer.seen.clear()
