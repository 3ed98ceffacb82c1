"""A model that reads attributes off a text: a linear head, in 32 bits, on a causal language model's hidden state.

    prediction = middle + half range * (W h + b),    h: final hidden state of the last token, or the mean over tokens

(HelpSteer, Wang et al. 2023, with one output an attribute). The body is frozen, wears a low-rank adapter, or learns as
a whole. Rows are padded on the right: attention is causal, and padding is masked besides.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253  (this module exists for torch code)
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253

from schemas.steerlm import AttributeModelSpec, AttributeSet
from steer_core.adapters.steerlm.generative import GenerativeModel, WrittenLabels
from steer_core.adapters.steerlm.learner import Learner, padded
from steer_core.adapters.steerlm.losses import masked_mse
from steer_core.tables.damage import reading
from steer_core.tables.errors import ConfigError

Floats = NDArray[np.float64]

WEIGHTS, SETTINGS = "attribute_model.safetensors", "attribute_model.json"


class AttributeModel(Learner):
    """Predicts levels by regression.

    Args:
        causal_lm: a transformers causal language model; it is changed in place where its body learns.
        attributes: what is predicted.
        spec: what learns, and what is read.

    Raises:
        ConfigError: the model has no body below its language-model head, or no layer for the adapter.
    """

    def __init__(self, causal_lm: Any, attributes: AttributeSet, spec: AttributeModelSpec) -> None:
        body = getattr(causal_lm, getattr(causal_lm, "base_model_prefix", "") or "model", None)
        if body is None or body is causal_lm:
            raise ConfigError(f"{type(causal_lm).__name__} has no body below its head: give a causal language model")
        super().__init__(causal_lm, attributes, spec)
        if spec.body == "full":
            body.requires_grad_(True)
        # in a list: the body is registered already, as a part of `lm`
        self._body = [body]
        device = next(body.parameters()).device
        width = int(body.get_input_embeddings().weight.shape[1])
        # some models embed in another width than they think in
        width = int(getattr(body.config, "hidden_size", width))
        self.head = torch.nn.Linear(width, len(attributes), device=device, dtype=torch.float32)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        low, high = self.low, self.high
        self.middle: Tensor
        self.half_range: Tensor
        self.register_buffer("middle", torch.tensor((low + high) / 2, dtype=torch.float32, device=device))
        self.register_buffer("half_range", torch.tensor((high - low) / 2, dtype=torch.float32, device=device))

    def features(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Hidden states that the head reads, shape [rows, width]."""
        ids, there = padded(rows, self.device)
        found = self._body[0](input_ids=ids, attention_mask=there, use_cache=False).last_hidden_state.float()
        length = there.sum(1)
        if self.spec.read == "mean":
            return torch.as_tensor((found * there[..., None]).sum(1) / length[:, None])
        return torch.as_tensor(found[torch.arange(len(rows), device=self.device), length - 1])

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Predictions in shares of the half range around the middle, shape [rows, attributes]."""
        return torch.as_tensor(self.head(self.features(rows)))

    def loss(self, rows: Sequence[Sequence[int]], targets: Floats) -> Tensor:
        """Mean square over the levels that are known, in half ranges.

        Args:
            rows: tokens of texts.
            targets: levels, shape [rows, attributes]; NaN where not known.
        """
        return masked_mse(self(rows), self.scaled(targets))

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


def attribute_model(
    causal_lm: Any, attributes: AttributeSet, spec: AttributeModelSpec, tokenizer: Any = None
) -> AttributeModel | GenerativeModel:
    """A model of the form that a spec asks for.

    Args:
        causal_lm: a transformers causal language model; it is changed in place.
        attributes: what is predicted.
        spec: form, and what learns.
        tokenizer: of the language model; a regression needs none.

    Raises:
        ConfigError: the model or the tokenizer cannot carry that form.
    """
    if spec.form == "regression":
        return AttributeModel(causal_lm, attributes, spec)
    if tokenizer is None:
        raise ConfigError("`form: generative` writes labels as tokens: give the tokenizer")
    return GenerativeModel(causal_lm, attributes, spec, WrittenLabels.of(tokenizer, attributes))


def save_attribute_model(model: AttributeModel | GenerativeModel, folder: Path, base: str) -> None:
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


def load_attribute_model(
    folder: Path, causal_lm: Any, base: str, tokenizer: Any = None
) -> AttributeModel | GenerativeModel:
    """What `save_attribute_model` wrote, on the same language model; a generative one needs its tokenizer.

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
    model = attribute_model(causal_lm, attributes, spec, tokenizer)
    try:
        weights = load(data)
    except Exception as error:  # safetensors raises an exception class of its own without a common base
        raise ConfigError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    model.take(weights)
    return model.eval()
