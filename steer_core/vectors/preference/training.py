"""Training vectors on trunks: steps, learning-rate schedule, and the epoch that validation likes best."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch  # noqa: TID253
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253

from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.evidence import Fit
from steer_core.vectors.preference.objectives import Objective
from steer_core.vectors.preference.schedule import cosine_with_warmup
from steer_core.vectors.preference.trunk import Trunk

log = logging.getLogger(__name__)

#: Pairs times factors of one batch of validation.
VALIDATION_BATCH = 32


@dataclass(frozen=True)
class Schedule:
    """How long and how fast, as BiPO was published where not said otherwise.

    Attributes:
        epochs: passes over the training pairs.
        batch: pairs of a step.
        learning_rate: of AdamW, at its top.
        warmup: steps until it is there.
        horizon: epochs after which the cosine ends at 0; None: `epochs`. Published vectors were saved after 5 to 20
            epochs of a horizon of 100.
        clip: largest L2 norm of a gradient.
        weight_decay: of AdamW. The published code reads a value of .05 and never uses it: 0.
        seed: of the order of the pairs, and of what the objective draws.

    Raises:
        ConfigError: a setting makes no sense.
    """

    epochs: int = 20
    batch: int = 4
    learning_rate: float = 5e-4
    warmup: int = 100
    horizon: int | None = None
    clip: float = 1.0
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.warmup < 0 or self.weight_decay < 0:
            raise ConfigError("epochs and batch are at least 1, warmup and weight_decay at least 0; got " + str(self))
        if self.learning_rate <= 0 or self.clip <= 0:
            raise ConfigError(f"learning_rate and clip must be positive; got {self.learning_rate} and {self.clip}")
        if self.horizon is not None and self.horizon < self.epochs:
            raise ConfigError(f"the cosine ends after {self.horizon} epochs, before the {self.epochs} of the training")


@dataclass(frozen=True)
class Epoch:
    """One point of the training curve; epoch 0 is the start.

    Attributes:
        epoch: passes done.
        train_loss: mean over the steps of the epoch, each before its update; None at the start.
        validation_loss: mean over the validation pairs, all factors; None without such pairs.
        margins: factor -> mean margin on the validation pairs. It is positive where the right answer is preferred.
        accuracies: factor -> share of validation pairs with a positive margin.
    """

    epoch: int
    train_loss: float | None
    validation_loss: float | None
    margins: Mapping[str, float] = field(default_factory=dict)
    accuracies: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A trained vector with its history.

    Attributes:
        layer: layer of its trunk.
        vector: values after the best epoch, of the shape of the objective's `start`.
        best: the epoch with the lowest validation loss; the last one without validation pairs.
        curve: all epochs, from the start.
        last: values after the last epoch, of that shape.
    """

    layer: int
    vector: NDArray[np.float32]
    best: Epoch
    curve: tuple[Epoch, ...]
    last: NDArray[np.float32]


def train_vector(
    trunk: Trunk,
    objective: Objective,
    schedule: Schedule,
    train: Sequence[int] | None = None,
    validation: Sequence[int] | None = None,
) -> Trained:
    """Train one vector.

    Args:
        trunk: pairs up to the layer.
        objective: what is minimised.
        schedule: how long and how fast.
        train: places of the training pairs; None: those of split `train`.
        validation: places of the pairs that the epoch is chosen on; None: those of split `validation`. Empty: the last
            epoch is kept.

    Raises:
        ConfigError: there is nothing to train on, or the warm-up does not end before the training.
        SteerworksError: the loss is not finite.
    """
    train = trunk.indices("train") if train is None else list(train)
    validation = trunk.indices("validation") if validation is None else list(validation)
    per_epoch = -(-len(train) // schedule.batch)
    if not train:
        raise ConfigError("no training pairs")
    if schedule.warmup >= per_epoch * schedule.epochs:
        raise ConfigError(
            f"{schedule.warmup} steps of warm-up, and the training has only {per_epoch * schedule.epochs} "
            f"({len(train)} pairs, batch {schedule.batch}, {schedule.epochs} epochs): lower `warmup` or train longer"
        )
    total = per_epoch * (schedule.horizon or schedule.epochs)
    rng, draw = np.random.default_rng(schedule.seed), objective.sampler(schedule.seed)
    start = torch.from_numpy(objective.start(trunk.width, schedule.seed))
    vector = start.to(trunk.reference.device).requires_grad_(True)
    optimizer = torch.optim.AdamW([vector], lr=schedule.learning_rate, weight_decay=schedule.weight_decay)
    with trunk.running():
        curve = [_measure(trunk, objective, vector, validation, 0, None)]
        values: list[NDArray[np.float32]] = [_values(vector)]
        step = 0
        for epoch in range(1, schedule.epochs + 1):
            losses = []
            order = rng.permutation(len(train))
            for first in range(0, len(train), schedule.batch):
                indices = [train[i] for i in order[first : first + schedule.batch]]
                loss = objective.terms(trunk, indices, vector, draw())[0].mean()
                (vector.grad,) = torch.autograd.grad(loss, vector)
                torch.nn.utils.clip_grad_norm_([vector], schedule.clip)
                rate = schedule.learning_rate * cosine_with_warmup(step, schedule.warmup, total)
                optimizer.param_groups[0]["lr"] = rate
                optimizer.step()
                losses.append(float(loss.detach()))
                step += 1
            if not np.isfinite(losses).all():
                raise SteerworksError(
                    f"the loss at layer {trunk.layer} is not finite in epoch {epoch}: lower `learning_rate` or beta, "
                    "or load the model in float32"
                )
            curve.append(_measure(trunk, objective, vector, validation, epoch, float(np.mean(losses))))
            values.append(_values(vector))
    best = min(curve[1:], key=lambda e: e.validation_loss) if validation else curve[-1]  # type: ignore[arg-type,return-value]
    if validation and best.validation_loss >= curve[0].validation_loss:  # type: ignore[operator]
        log.warning(
            "layer %d: no epoch is better than the start on the validation pairs (%.4f against %.4f)",
            trunk.layer,
            best.validation_loss,
            curve[0].validation_loss,
        )
    return Trained(trunk.layer, values[best.epoch], best, tuple(curve), values[-1])


def train_many(trunks: Mapping[int, Trunk], runs: Sequence[tuple[Objective, Schedule]]) -> dict[int, list[Trained]]:
    """Train several vectors on each trunk: betas, seeds, strengths share the pass that made it.

    Args:
        trunks: layer -> trunk, as `capture` gives them.
        runs: objective and schedule of each vector.

    Returns:
        Layer -> vectors, in the order of the runs.
    """
    return {layer: [train_vector(trunk, *run) for run in runs] for layer, trunk in trunks.items()}


def to_fit(trained: Trained, trunk: Trunk, objective: Any, schedule: Schedule) -> Fit:
    """The fit of a trained vector: its tensors, what is known of it, and the training curve as lineage."""
    best = trained.best
    scalars = {"best_epoch": float(best.epoch), "residual_norm": trunk.residual_norm}
    if best.validation_loss is not None:
        scalars["validation_loss"] = best.validation_loss
        scalars["validation_margin"] = float(np.mean(list(best.margins.values())))
        scalars["validation_accuracy"] = float(np.mean(list(best.accuracies.values())))
    lineage = {
        "objective": {"name": type(objective).__name__.lower(), **asdict(objective)},
        "schedule": asdict(schedule),
        "route": trunk.route,
        "n_train": len(trunk.indices("train")),
        "n_validation": len(trunk.indices("validation")),
        "curve": [asdict(e) for e in trained.curve],
    }
    operator, tensors = objective.fitted(trained.vector)
    return Fit(operator, tensors, scalars, lineage)


def _values(vector: Tensor) -> NDArray[np.float32]:
    copied: NDArray[np.float32] = vector.detach().cpu().numpy().copy()
    return copied


def _measure(
    trunk: Trunk, objective: Objective, vector: Tensor, validation: Sequence[int], epoch: int, train_loss: float | None
) -> Epoch:
    if not validation:
        return Epoch(epoch, train_loss, None)
    factors = objective.factors_measured
    size = max(1, VALIDATION_BATCH // len(factors))
    with torch.no_grad():
        terms = [
            objective.terms(trunk, validation[i : i + size], vector.detach(), factors)
            for i in range(0, len(validation), size)
        ]
        loss = float(torch.cat([losses for losses, _ in terms]).mean())
        margins = torch.cat([margins for _, margins in terms], dim=1)
    names = [f"{factor:+g}" for factor in factors]
    return Epoch(
        epoch,
        train_loss,
        loss,
        dict(zip(names, margins.mean(dim=1).tolist(), strict=True)),
        dict(zip(names, (margins > 0).float().mean(dim=1).tolist(), strict=True)),
    )
