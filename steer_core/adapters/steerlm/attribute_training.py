"""Training of an attribute model: a ridge regression on frozen hidden states, then steps on the loss of its form.

The head of a regression starts where the ridge regression ends, so that the body learns from sensible gradients at once
(linear probing, then fine-tuning; Kumar et al. 2022). With a frozen body that is all. Steps are AdamW with a linear
warm-up and a cosine down to a tenth. A run can be killed at any time: it goes on from its last whole checkpoint, with
the batch that it would have had, and ends in the same weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch  # noqa: TID253  (this module exists for torch code)
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253

from schemas.digest import digest_json
from schemas.steerlm import AttributeModelSpec, AttributeSet
from steer_core.adapters.run import RunFolder, kept_steps
from steer_core.adapters.steerlm.attribute_model import WEIGHTS, AttributeModel, attribute_model
from steer_core.adapters.steerlm.generative import GenerativeModel
from steer_core.adapters.steerlm.token_rows import TokenRows, batches, usable
from steer_core.adapters.training import RESUMABLE, Observe
from steer_core.tables.errors import ConfigError, SteerworksError

Floats = NDArray[np.float64]

OPTIMIZER, RUN = "optimizer.safetensors", "run.json"


def train_attribute_model(
    load: Callable[[], Any],
    rows: TokenRows,
    attributes: AttributeSet,
    spec: AttributeModelSpec,
    run: RunFolder,
    *,
    base: str,
    tokenizer: Any = None,
    say: Callable[[str], None] = lambda line: None,
    observe: Observe = lambda step, figures: None,
) -> AttributeModel | GenerativeModel:
    """Train, or go on where a run of the same folder stopped.

    Args:
        load: loads the causal language model afresh: training changes it.
        rows: texts with levels.
        attributes: columns of the targets.
        spec: how.
        run: where checkpoints and the log lie; the loss of a regression in half ranges, squared, of a generative
            model in nats.
        base: what the language model is known by.
        tokenizer: of the language model; a regression needs none.
        say: told what is left out, and where a run goes on.
        observe: given step and figures.

    Returns:
        The model in eval mode.

    Raises:
        ConfigError: the folder holds a run of other data, model or settings.
        SteerworksError: nothing can be learnt from, or the loss is no number.
    """
    if rows.targets.shape[1] != len(attributes):
        raise ConfigError(f"targets of shape {rows.targets.shape} for {len(attributes)} attributes")
    found = usable(rows, spec.max_tokens)
    if found.too_long or found.unlabelled:
        say(f"{found.too_long} rows are left out since they are too long, {found.unlabelled} without a label")
    step = run.begin()
    # rows that are streamed and a run that is another one are told apart by this alone
    _own(run.path / RUN, digest_json([base, spec.spec_hash, attributes.spec_hash, found.rows.digest]))
    model = attribute_model(load(), attributes, spec, tokenizer)
    if isinstance(model, AttributeModel) and (spec.body == "frozen" or not step):
        ridge_head(model, found.rows, spec.ridge)
    if spec.body == "frozen":
        return model.eval()
    steps = _Steps(model, spec)
    if step:
        say(f"training goes on after step {step} of {spec.steps}")
        steps.read(run.checkpoints()[step])
    kept = kept_steps(spec.steps, spec.checkpoints)
    order = batches([len(r) for r in found.rows.ids], spec.rows_per_step, spec.seed, step)
    # no layer drops out: eval mode is what is used later, too
    model.eval()
    for number in range(step + 1, spec.steps + 1):
        part = next(order)
        loss = model.loss([found.rows.ids[k] for k in part], found.rows.targets[part])
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SteerworksError(f"step {number}: the loss is {value}: lower `learning_rate`, or look at the data")
        steps.take(loss, number)
        figures = {"loss": value, "learning_rate": spec.learning_rate * _rate(number, spec)}
        run.append("log", [{"step": number, "measure": name, "value": v} for name, v in figures.items()])
        observe(number, figures)
        if number in kept or number % max(1, spec.steps // RESUMABLE) == 0:
            steps.write(run.path / f"checkpoint-{number}")
            run.whole(number, kept)
    return model


def ridge_head(model: AttributeModel, rows: TokenRows, penalty: float) -> None:
    """Set the head to the ridge regression of known targets on hidden states, attribute by attribute.

    Hidden states are centred and divided by their standard deviations; the mean is not penalised.

    Args:
        model: its head is changed.
        rows: with levels.
        penalty: a row, above 0.
    """
    with torch.no_grad():
        x = model.frozen_features(rows.ids).double()
        y = model.scaled(rows.targets).double()
        mean, spread = x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
        x = (x - mean) / spread
        for k in range(y.shape[1]):
            known = ~y[:, k].isnan()
            own, goal = x[known], y[known, k]
            centre, level = own.mean(0), goal.mean()
            own = own - centre
            gram = own.T @ own + penalty * len(goal) * torch.eye(own.shape[1], dtype=own.dtype, device=own.device)
            weight = torch.linalg.solve(gram, own.T @ (goal - level))
            model.head.weight[k] = (weight / spread).float()
            model.head.bias[k] = (level - (weight * (centre + mean / spread)).sum()).float()


class _Steps:
    """The optimizer, written and read without pickles."""

    def __init__(self, model: AttributeModel | GenerativeModel, spec: AttributeModelSpec) -> None:
        self._model, self._spec = model, spec
        learned = model.learned()
        head = [p for n, p in learned.items() if n.startswith("head.")]
        body = [p for n, p in learned.items() if not n.startswith("head.")]
        groups = [{"params": head, "peak": spec.head_rate}, {"params": body, "peak": spec.learning_rate}]
        self._optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]],
            lr=0.0,
            betas=spec.betas,
            weight_decay=spec.weight_decay,
        )

    def take(self, loss: Tensor, number: int) -> None:
        """One step, numbered from 1."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * _rate(number, self._spec)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(list(self._model.learned().values()), self._spec.grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def write(self, folder: Path) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        learned = self._model.learned()
        save_file({n: p.detach().cpu().contiguous() for n, p in learned.items()}, folder / WEIGHTS)
        states = {f"{n}|{key}": v for n, p in learned.items() for key, v in self._optimizer.state[p].items()}
        save_file({n: v.detach().cpu().contiguous() for n, v in states.items()}, folder / OPTIMIZER)

    def read(self, folder: Path) -> None:
        from safetensors.torch import load_file

        self._model.take(load_file(folder / WEIGHTS))
        states: dict[str, dict[str, Tensor]] = {}
        for name, value in load_file(folder / OPTIMIZER).items():
            owner, key = name.rsplit("|", 1)
            states.setdefault(owner, {})[key] = value
        learned: Mapping[str, Tensor] = self._model.learned()
        if set(states) != set(learned):
            raise ConfigError(f"{folder} holds the optimizer of another model: remove the run to train again")
        for name, parameter in learned.items():
            # the count of steps stays where torch keeps it, on the CPU
            moved = {k: v if k == "step" else v.to(parameter.device) for k, v in states[name].items()}
            self._optimizer.state[parameter] = moved


def _rate(number: int, spec: AttributeModelSpec) -> float:
    """Share of the peak at a step, from 1: a linear rise, then a cosine down to a tenth."""
    rise = max(1, round(spec.warmup * spec.steps))
    if number <= rise:
        return number / rise
    done = (number - rise) / max(1, spec.steps - rise)
    return 0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done))


def _own(file: Path, digest: str) -> None:
    """Claim a folder for one run.

    Raises:
        ConfigError: it belongs to another one.
    """
    if not file.exists():
        file.write_text(json.dumps({"run": digest}) + "\n", encoding="utf-8")
        return
    try:
        known = json.loads(file.read_text(encoding="utf-8")).get("run")
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{file} is damaged: remove the folder to train again") from error
    if known != digest:
        raise ConfigError(f"{file.parent} holds a run of other data, model or settings: take another folder")
