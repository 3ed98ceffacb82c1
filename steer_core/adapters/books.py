"""What is written down while a policy is trained: completions, rewards, drift, and the audit of groups.

Several processes score their own completions; audit and rows are of all of them, in the order of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.recipes import GrpoRecipe
from steer_core.adapters.keeping import extremes, pareto
from steer_core.adapters.rewards import Answer, Rewarder, Scored, joined
from steer_core.adapters.run import RunFolder
from steer_core.tables.errors import SteerworksError

Floats = NDArray[np.float64]
#: (request id, raw, finish reason) -> the cleaned text, and why it is no answer or None.
Failure = Callable[[str, str, str], tuple[str, str | None]]
#: Steps in a row without a difference in reward that end the run.
BARREN = 3


class Books:
    """What is written down of each step.

    Args:
        recipe: how is trained.
        rewarder: scores completions.
        failure: see `Failure`.
        run: where rows go.
        weights: request id -> its weight in the loss; requests that are left out have 1.

    Attributes:
        figures: of the step under way, for the log.
    """

    def __init__(
        self,
        recipe: GrpoRecipe,
        rewarder: Rewarder,
        failure: Failure,
        run: RunFolder,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.recipe, self.run, self._weights = recipe, run, weights or {}
        self._rewarder, self._failure = rewarder, failure
        self.figures: dict[str, float] = {}
        self._answers: list[Answer] = []
        self._scored: Scored | None = None
        self._barren = 0

    def written(self, found: dict[str, Any], requests: Sequence[str]) -> dict[str, Any]:
        """Note the completions of a step; passes them on."""
        self._answers, self._scored = [], None
        for request, raw, finish in zip(requests, found["raw"], found["finish_reason"], strict=True):
            text, failure = self._failure(request, raw, finish)
            self._answers.append(Answer(request, raw, text, finish, failure))
        return found

    def reward(self, name: str) -> Callable[..., list[float | None]]:
        """A reward function of trl; all of them are computed at once, for the first that is asked."""

        def function(prompts: list[str], **columns: Any) -> list[float | None]:
            if self._scored is None:
                self._scored = self._rewarder.score(self._answers)
            return [None if np.isnan(v) else float(v) for v in self._scored.rewards[name]]

        function.__name__ = name
        return function

    def keep(self, out: dict[str, Any], requests: Sequence[str], step: int) -> dict[str, Any]:
        """Choose what is trained on, weigh it, and write every completion down.

        Args:
            out: what this process is to train on.
            requests: what its completions answer.
            step: optimiser step.

        Returns:
            `out` with, for each completion that is trained on, `weight`, `total` (reward; NaN: none) and `group`.
        """
        import torch

        assert self._scored is not None  # rewards were asked for
        like, ranks = out["advantages"], self.run.ranks
        own = ranks.slice_of(len(requests))
        self._answers, self._scored = ranks.together(self._answers), joined(ranks.gathered(self._scored))
        total = self._rewarder.total(self._scored)
        groups = total.reshape(-1, self.recipe.drawn or self.recipe.completions)
        out["weight"] = torch.tensor(
            [self._weights.get(r, 1.0) for r in requests], dtype=like.dtype, device=like.device
        )
        out["total"] = torch.tensor(total[own], dtype=like.dtype, device=like.device)
        out["group"] = (torch.arange(len(total), device=like.device) // groups.shape[1])[own]
        out["advantages"] = like * out["weight"]
        advantages = ranks.together(out["advantages"].tolist())
        kept = self._kept(groups)
        self._audit(groups, total, step)
        self._note(total, advantages, set(kept), step)
        if len(kept) < len(total):
            index = torch.tensor([k - own.start for k in kept if own.start <= k < own.stop], device=like.device)
            for key, value in out.items():
                if torch.is_tensor(value) and value.dim() and value.shape[0] == len(requests):
                    out[key] = value[index]
            tokens = ranks.gathered(int(out["completion_mask"].sum()))
            out["num_items_in_batch"] = torch.tensor(sum(tokens), device=like.device)
        return out

    def _kept(self, groups: Floats) -> list[int]:
        drawn, n = groups.shape[1], self.recipe.completions
        if drawn == n:
            return list(range(groups.size))
        assert self._scored is not None
        found = []
        optimised = [name for name, weight in self.recipe.rewards.items() if weight]
        columns = np.stack([self._scored.rewards[name] for name in optimised], axis=1)
        for g, rewards in enumerate(groups):
            rows = slice(g * drawn, (g + 1) * drawn)
            chosen = extremes(rewards, n) if self.recipe.keep == "extremes" else pareto(columns[rows], n)
            found += [g * drawn + k for k in chosen]
        return found

    def _audit(self, groups: Floats, total: Floats, step: int) -> None:
        assert self._scored is not None
        scored = [g[~np.isnan(g)] for g in groups]
        flat = np.array([len(g) == 0 or bool((g == g[0]).all()) for g in scored])
        errors = {
            f"error:{goal}": _mean(np.abs(self._targets(goal) - self._scored.z[:, k]))
            for k, goal in enumerate(self._rewarder.goals)
        }
        self.figures |= {
            "zero_spread": float(flat.mean()),
            "unscorable": float(np.isnan(total).mean()),
            **{f"reward:{name}": _mean(values) for name, values in self._scored.rewards.items()},
            **{name: _mean(values) for name, values in self._scored.watched.items()},
            **errors,
        }
        self._barren = self._barren + 1 if flat.all() else 0
        if self._barren == BARREN:
            raise SteerworksError(
                f"step {step}: for {BARREN} steps all completions of every request had one reward, or none: nothing "
                "can be learnt. Raise `temperature` or `completions`, or look at the rewards in training_samples"
            )

    def _targets(self, goal: str) -> Floats:
        k = self._rewarder.goals.index(goal)
        targets = [self._rewarder.targets[a.request_id] for a in self._answers]
        return np.array([t.z0[k] if np.isnan(t.z_star[k]) else t.z_star[k] for t in targets])

    def _note(self, total: Any, advantages: list[float], kept: set[int], step: int) -> None:
        assert self._scored is not None
        samples, measures = [], []
        for k, (answer, reward) in enumerate(zip(self._answers, total, strict=True)):
            lost = bool(np.isnan(reward))
            samples.append(
                {
                    "step": step,
                    "sample": k,
                    "request_id": answer.request_id,
                    "raw": answer.raw,
                    "text": answer.text,
                    "finish_reason": answer.finish_reason,
                    "reward": float(reward),
                    "advantage": None if lost or k not in kept else advantages[k],
                    "copied": bool(self._scored.watched["copied"][k]),
                    "state": "unscorable" if lost else "kept" if k in kept else "dropped",
                }
            )
            measures += [
                {"step": step, "sample": k, "measure": f"reward:{name}", "value": float(values[k])}
                for name, values in self._scored.rewards.items()
            ]
            measures += [
                {"step": step, "sample": k, "measure": f"z:{goal}", "value": float(self._scored.z[k, g])}
                for g, goal in enumerate(self._rewarder.goals)
            ]
        self.run.append("samples", samples)
        self.run.append("measures", measures)

    def drift(self, mean: float, largest: float, tokens: int, step: int) -> None:
        """Hold the log-probabilities that were sampled with against the trained ones, in all processes.

        Args:
            mean: difference of the own tokens.
            largest: of them.
            tokens: how many there are.
            step: optimiser step.

        Raises:
            SteerworksError: they differ by more than the recipe allows.
        """
        found = self.run.ranks.gathered((mean, largest, tokens))
        if len(found) > 1:
            means, most, weights = (list(column) for column in zip(*found, strict=True))
            # one that is not finite makes both not finite
            mean, largest = float(np.average(means, weights=weights)), float(np.max(most))
        self.figures |= {"drift": mean, "drift_max": largest}
        if not mean <= self.recipe.most_drift:
            raise SteerworksError(
                f"step {step}: sampled and trained log-probabilities differ by {mean:.4f} nats a token in the mean "
                f"(at most {self.recipe.most_drift:g}): what is trained is not what wrote the completions. Look at the "
                "number type, at attention with padding, and at how the model counts positions"
            )


def _mean(values: Floats) -> float:
    """Mean of what is defined; NaN where nothing is."""
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
