"""Training of SteerLM 2.0: rows in groups, the answers to one prompt, with the weights that each counts with.

    gradient: -sum_i (w'_i - b'_i) grad log Q(y_i | a, x)        (`losses.distillation`; Wang et al. 2024)

b' is taken from the model under training at every step. A step takes whole groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.adapters.sft import IGNORED, Row

Floats = NDArray[np.float64]
#: Rows of a pass without gradients.
BATCH = 32


@dataclass(frozen=True)
class WeightedRow(Row):
    """An answer of a group.

    Attributes:
        weight: w'; 0 for an answer that is not there.
        log_sampler: log Q'(y | a, x) in nats; inf for an answer that is not there.
    """

    weight: float = 0.0
    log_sampler: float = float("inf")

    def laid_out(self) -> dict[str, Any]:
        """As a row, with weight and log-probability."""
        return {**super().laid_out(), "weight": self.weight, "log_sampler": self.log_sampler}


@dataclass(frozen=True)
class Distillation:
    """The loss, for groups of `answers` rows that stand together."""

    answers: int

    def trainer(self, base: Any, figures: dict[str, float]) -> Any:
        """A trainer with that loss; `divergence` of a step is the mean of KL(w' || b') over its prompts."""
        import torch

        from steer_core.adapters.steerlm.losses import distillation

        answers = self.answers

        class Trainer(base):  # type: ignore[misc]
            """trl's trainer with the loss of SteerLM 2.0."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                # the loss is a mean over prompts, not over tokens: parts of a step count alike
                self.model_accepts_loss_kwargs = False

            def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
                inputs = dict(inputs)
                given = [inputs.pop(name).view(-1, answers) for name in ("weight", "log_sampler")]
                log_q, tokens = summed_log_probs(model, inputs)
                step = distillation(log_q.view(-1, answers), given[1], given[0], tokens.view(-1, answers))
                figures["divergence"] = float(step.divergence.mean())
                figures["model_weight_largest"] = float(step.model_weights.max(1).values.mean())
                return step.loss if torch.is_grad_enabled() else step.loss.detach()

        return Trainer

    def collator(self, pad: int) -> Any:
        """Rows padded on the right, with weights and log-probabilities."""

        def batch(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
            import torch

            found = padded([r["input_ids"] for r in rows], [r["labels"] for r in rows], pad)
            for name in ("weight", "log_sampler"):
                found[name] = torch.tensor([r[name] for r in rows], dtype=torch.float32)
            return found

        return batch


def padded(ids: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], pad: int) -> dict[str, Any]:
    """`input_ids`, `labels` and `attention_mask` of shape [rows, longest], padded on the right."""
    import torch

    longest = max(len(i) for i in ids)
    return {
        "input_ids": torch.tensor([[*i, *[pad] * (longest - len(i))] for i in ids]),
        "labels": torch.tensor([[*i, *[IGNORED] * (longest - len(i))] for i in labels]),
        "attention_mask": torch.tensor([[1] * len(i) + [0] * (longest - len(i)) for i in ids]),
    }


def summed_log_probs(model: Any, inputs: Mapping[str, Any], temperature: float = 1.0) -> tuple[Any, Any]:
    """Log-probability of each row's completion in nats at a temperature, and its tokens, each of shape [rows]."""
    import torch

    labels = inputs["labels"][:, 1:]
    given = {k: v for k, v in inputs.items() if k != "labels"}
    logits = model(**given, use_cache=False).logits[:, :-1].float() / temperature  # [rows, tokens - 1, vocabulary]
    there = labels != IGNORED
    chosen = logits.log_softmax(-1).gather(2, torch.where(there, labels, 0)[..., None])[..., 0]
    return torch.where(there, chosen, 0.0).sum(1), there.sum(1)


def log_likelihoods(model: Any, rows: Sequence[Row], pad: int, temperature: float = 1.0) -> Floats:
    """Log-probability of each row's completion after its prompt, in nats, shape [rows].

    Args:
        model: a causal language model as it is to be asked: with its adapter on, or without.
        rows: prompts and completions.
        pad: id of the padding token.
        temperature: at which it is asked.
    """
    import torch

    found = np.empty(len(rows))
    places = sorted(range(len(rows)), key=lambda i: len(rows[i].prompt) + len(rows[i].completion))
    device = next(model.parameters()).device
    model.eval()
    with torch.no_grad():
        for start in range(0, len(places), BATCH):
            part = places[start : start + BATCH]
            laid = [Row(rows[i].prompt, rows[i].completion).laid_out() for i in part]
            batch = padded([r["input_ids"] for r in laid], [r["labels"] for r in laid], pad)
            given = {k: v.to(device) for k, v in batch.items()}
            found[part] = summed_log_probs(model, given, temperature)[0].double().cpu().numpy()
    return found
