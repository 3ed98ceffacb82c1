"""A model that reads attributes off a text: a linear head, in 32 bits, on a causal language model's hidden state.

    prediction = middle + half range * (W h + b),    h: final hidden state of the last token, or the mean over tokens

(HelpSteer, Wang et al. 2023, with one output an attribute). The body is frozen, wears a low-rank adapter, or learns as
a whole. Rows are padded on the right: attention is causal, and padding is masked besides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253  (this module exists for torch code)
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253

from schemas.steerlm import AttributeModelSpec, AttributeSet
from steer_core.adapters.recipe import lora_config
from steer_core.adapters.steerlm.labels import ranges
from steer_core.tables.damage import reading
from steer_core.tables.errors import ConfigError

Floats = NDArray[np.float64]

WEIGHTS, SETTINGS = "attribute_model.safetensors", "attribute_model.json"


class AttributeModel(torch.nn.Module):
    """Predicts levels.

    Args:
        causal_lm: a transformers causal language model; it is changed in place where its body learns.
        attributes: what is predicted.
        spec: what learns, and what is read.

    Raises:
        ConfigError: the model has no body below its language-model head, or no layer for the adapter.
    """

    def __init__(self, causal_lm: Any, attributes: AttributeSet, spec: AttributeModelSpec) -> None:
        super().__init__()
        self.attributes, self.spec = attributes, spec
        body = getattr(causal_lm, getattr(causal_lm, "base_model_prefix", "") or "model", None)
        if body is None or body is causal_lm:
            raise ConfigError(f"{type(causal_lm).__name__} has no body below its head: give a causal language model")
        causal_lm.requires_grad_(False)
        if spec.body == "lora":
            causal_lm = _with_adapter(causal_lm, spec)
        elif spec.body == "full":
            body.requires_grad_(True)
        self.lm = causal_lm
        # in a list: the body is registered already, as a part of `lm`
        self._body = [body]
        device = next(body.parameters()).device
        width = int(body.get_input_embeddings().weight.shape[1])
        # some models embed in another width than they think in
        width = int(getattr(body.config, "hidden_size", width))
        self.head = torch.nn.Linear(width, len(attributes), device=device, dtype=torch.float32)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        low, high = ranges(attributes)
        self.middle: Tensor
        self.half_range: Tensor
        self.register_buffer("middle", torch.tensor((low + high) / 2, dtype=torch.float32, device=device))
        self.register_buffer("half_range", torch.tensor((high - low) / 2, dtype=torch.float32, device=device))

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.middle.device

    def features(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states that the head reads, shape [rows, width]."""
        longest = max(len(r) for r in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        there = torch.zeros(len(rows), longest, dtype=torch.long)
        for k, row in enumerate(rows):
            ids[k, : len(row)] = torch.tensor(row)
            there[k, : len(row)] = 1
        ids, there = ids.to(self.device), there.to(self.device)
        found = self._body[0](input_ids=ids, attention_mask=there, use_cache=False).last_hidden_state.float()
        length = there.sum(1)
        if self.spec.read == "mean":
            return torch.as_tensor((found * there[..., None]).sum(1) / length[:, None])
        return torch.as_tensor(found[torch.arange(len(rows), device=self.device), length - 1])

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Predictions in shares of the half range around the middle, shape [rows, attributes]."""
        return torch.as_tensor(self.head(self.features(rows)))

    def scaled(self, targets: Floats) -> Tensor:
        """Levels [rows, attributes] in the units of `forward`; NaN stays."""
        given = torch.tensor(targets, dtype=torch.float32, device=self.device)
        return (given - self.middle) / self.half_range

    def frozen_features(self, rows: Sequence[Sequence[int]], batch_rows: int = 64) -> Tensor:
        """`features` of any number of rows, without gradients, shape [rows, width].

        Args:
            rows: tokens of each text, at least one.
            batch_rows: rows of a pass; rows of about one length share one.

        Raises:
            ValueError: a row has no token.
        """
        if any(not r for r in rows):
            raise ValueError("a row without a token: there is nothing to read")
        found = torch.empty(len(rows), self.head.in_features, device=self.device)
        order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
        learning = self.training
        self.eval()
        with torch.no_grad():
            for start in range(0, len(order), batch_rows):
                part = order[start : start + batch_rows]
                found[part] = self.features([rows[k] for k in part])
        self.train(learning)
        return found

    def predict(self, rows: Sequence[Sequence[int]], batch_rows: int = 64) -> Floats:
        """Predictions in levels, not rounded and not brought into the range, shape [rows, attributes].

        Args:
            rows: tokens of each text, at least one.
            batch_rows: as in `frozen_features`.

        Raises:
            ValueError: a row has no token.
        """
        with torch.no_grad():
            levels = self.middle + self.half_range * self.head(self.frozen_features(rows, batch_rows))
        return np.asarray(levels.double().cpu().numpy())

    def learned(self) -> dict[str, Tensor]:
        """What training changes, by name: the head, and the adapter or the body."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def take(self, weights: Mapping[str, Tensor]) -> None:
        """Put learned weights in place.

        Raises:
            ConfigError: they are not those of this model.
        """
        own = self.learned()
        if set(own) != set(weights) or any(own[n].shape != weights[n].shape for n in own):
            odd = sorted(set(own) ^ set(weights)) or [n for n in own if own[n].shape != weights[n].shape]
            raise ConfigError(f"weights are not of this model and spec: {len(odd)} do not fit (first: {odd[0]!r})")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])


def save_attribute_model(model: AttributeModel, folder: Path, base: str) -> None:
    """Write what was learnt, as safetensors, and what it belongs to.

    Args:
        model: trained.
        folder: is made.
        base: what the language model is known by: its fingerprint.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: p.detach().cpu().contiguous() for n, p in model.learned().items()}, folder / WEIGHTS)
    said = {
        "attributes": model.attributes.model_dump(mode="json"),
        "spec": model.spec.model_dump(mode="json"),
        "base": base,
    }
    (folder / SETTINGS).write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_attribute_model(folder: Path, causal_lm: Any, base: str) -> AttributeModel:
    """What `save_attribute_model` wrote, on the same language model.

    Raises:
        ConfigError: nothing is there, it is damaged, or it was trained on another language model.
    """
    from safetensors.torch import load

    try:
        text, data = (folder / SETTINGS).read_text(encoding="utf-8"), (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise ConfigError(f"{folder} holds no attribute model: {SETTINGS} and {WEIGHTS} are needed") from error
    with reading(str(folder / SETTINGS), ConfigError):
        said = json.loads(text)
        attributes = AttributeSet.model_validate(said["attributes"])
        spec, trained_on = AttributeModelSpec.model_validate(said["spec"]), said["base"]
    if trained_on != base:
        raise ConfigError(f"{folder} was trained on the language model {trained_on!r}, and this is {base!r}")
    model = AttributeModel(causal_lm, attributes, spec)
    try:
        weights = load(data)
    except Exception as error:  # safetensors raises an exception class of its own without a common base
        raise ConfigError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    model.take(weights)
    return model.eval()


def _with_adapter(causal_lm: Any, spec: AttributeModelSpec) -> Any:
    from peft import get_peft_model

    # the first weights of an adapter come from torch's global generator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        try:
            return get_peft_model(causal_lm, lora_config(spec.lora))
        except ValueError as error:
            raise ConfigError(f"the adapter does not fit {type(causal_lm).__name__}: {error}") from error
