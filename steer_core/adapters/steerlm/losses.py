"""Losses of the attribute model: masked squares, preferences between two answers, and the SteerLM 2.0 gradient.

    masked MSE      sum (p - t)^2 over known targets / their number                  (HelpSteer, Wang et al. 2023)
    regular         -log s(D),      D = score(chosen) - score(rejected)              (Bradley and Terry 1952)
    margin          -log s(D - m),  m: how much better the chosen one is, above 0    (Touvron et al. 2023)
    scaled          m (-log s(D))                                                    (HelpSteer2-Preference, 2024)
    SteerLM 2.0     gradient -sum_i (w'_i - b'_i) grad log Q(y_i | a, x)             (HelpSteer2, Wang et al. 2024)

with s the logistic function. What is not known is NaN, and no loss is made up for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch  # noqa: TID253  (this module exists for torch code)
from torch import Tensor  # noqa: TID253
from torch.nn.functional import logsigmoid  # noqa: TID253

PreferenceLoss = Literal["regular", "margin", "scaled"]
#: How far the weights of one prompt's answers may be from 1 in sum.
ROUNDING = 1e-4


def masked_mse(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over what is known.

    Args:
        predicted: shape [rows, attributes].
        target: the same; NaN where not known.

    Returns:
        A scalar; its gradient is 0 where a target is not known.

    Raises:
        ValueError: shapes differ, or nothing is known.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"predictions of shape {tuple(predicted.shape)} for targets of {tuple(target.shape)}")
    known = ~target.isnan()
    if not bool(known.any()):
        raise ValueError(f"none of the {target.numel()} targets of the batch is known: leave such rows out beforehand")
    return (predicted[known] - target[known]).square().mean()


def preference_loss(
    chosen: Tensor, rejected: Tensor, strength: Tensor | None = None, *, kind: PreferenceLoss = "regular"
) -> Tensor:
    """Mean loss of pairs.

    Args:
        chosen: scores of the better answers, shape [pairs].
        rejected: scores of the worse ones.
        strength: how much better, above 0, shape [pairs]; for `margin` and `scaled`.
        kind: which loss.

    Raises:
        ValueError: shapes differ, there is no pair, strengths are missing, or one is not above 0: in a tie nothing is
            chosen (the published trainer takes the second answer then).
    """
    if chosen.shape != rejected.shape or chosen.ndim != 1 or not len(chosen):
        raise ValueError(f"scores of shapes {tuple(chosen.shape)} and {tuple(rejected.shape)}: give [pairs] of each")
    loss = -logsigmoid(chosen - rejected)
    if kind == "regular":
        return loss.mean()
    if strength is None or strength.shape != chosen.shape:
        raise ValueError(f"the {kind} loss needs the strength of each of the {len(chosen)} preferences")
    if not bool((strength > 0).all()):
        raise ValueError("a preference has no strength above 0: leave ties out, and give the better answer as chosen")
    if kind == "margin":
        return -logsigmoid(chosen - rejected - strength).mean()
    return (strength * loss).mean()


@dataclass(frozen=True)
class Distilled:
    """What one step of SteerLM 2.0 gives.

    Attributes:
        loss: scalar whose gradient is that of the divergence; its value means nothing.
        divergence: KL(w' || b') of each prompt in nats, shape [prompts]: what falls as the model learns.
        model_weights: b', shape [prompts, answers].
    """

    loss: Tensor
    divergence: Tensor
    model_weights: Tensor


def distillation(log_q: Tensor, log_q_old: Tensor, weights: Tensor, tokens: Tensor) -> Distilled:
    """One step of SteerLM 2.0.

    Args:
        log_q: log Q(y | a, x) of the model under training, summed over the answer's tokens in nats, shape
            [prompts, answers]; carries the gradient.
        log_q_old: the same of the model that wrote the answers.
        weights: w', shape [prompts, answers], each prompt's summing to 1; 0 for an answer that is not there, whose
            `log_q_old` is then inf (so that b' is 0 as well).
        tokens: tokens of each answer; a prompt's loss is divided by their mean over the answers that are there.

    Raises:
        ValueError: shapes differ, weights are no distribution, or a log-probability is no number.
    """
    if not log_q.shape == log_q_old.shape == weights.shape == tokens.shape or log_q.ndim != 2:
        shapes = [tuple(t.shape) for t in (log_q, log_q_old, weights, tokens)]
        raise ValueError(f"shapes {shapes}: all are [prompts, answers]")
    there = ~log_q_old.isposinf()
    if not bool((log_q.isfinite() & log_q_old.isfinite())[there].all()) or not bool(there.any(1).all()):
        raise ValueError("a log-probability is not finite, or a prompt has no answer: leave those out beforehand")
    if bool((weights < 0).any()) or bool((weights[~there] > 0).any()) or _off(weights) > ROUNDING:
        raise ValueError("weights are not 0 or more and 1 in sum for each prompt: see `weights.sample_weights`")
    log_b = (log_q.detach() - log_q_old).log_softmax(1)
    b = log_b.exp()
    length = (tokens * there).sum(1) / there.sum(1)
    gain = torch.where(there, (weights - b) * log_q, 0.0).sum(1)
    divergence = torch.where(weights > 0, weights * (weights.log() - log_b), 0.0).sum(1)
    return Distilled(-(gain / length).mean(), divergence, b)


def _off(weights: Tensor) -> float:
    return float((weights.sum(1) - 1.0).abs().max())
