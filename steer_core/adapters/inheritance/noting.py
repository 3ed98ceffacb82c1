"""What a run says and keeps of the candidates that were drawn and selected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from schemas.recipes import InheritanceRecipe
from steer_core.adapters.inheritance.candidates import Drawn
from steer_core.adapters.inheritance.selection import Candidate, Selection, correlations, pools, shares
from steer_core.adapters.recipe import Training
from steer_core.statistics import best_of_curve


def tell(candidates: Sequence[Candidate], selection: Selection, training: Training) -> None:
    """Say how many are trained on, and why others are not."""
    said = ", ".join(f"{name} {n}" for name, n in selection.counts.items())
    training.say(f"{len(selection.chosen)} answers are trained on ({said})")
    for reason, n in selection.reasons.items():
        training.say(f"{n} answers are not scored, for they have no {reason}")
    for source in sorted({c.source for c in candidates}):
        of = [c for c in candidates if c.source == source]
        if all(c.failure is not None for c in of):
            training.say(f"none of {len(of)} answers of {source} is one: {_failures(of)}")


def _failures(candidates: Sequence[Candidate]) -> str:
    return ", ".join(f"{n} {why}" for why, n in Counter(str(c.failure) for c in candidates).most_common())


def note(
    drawn: Sequence[Drawn],
    candidates: Sequence[Candidate],
    selection: Selection,
    training: Training,
    sides: Mapping[int, float] | None = None,
) -> None:
    """Keep samples and measures of a run, all of both or none.

    Args:
        drawn: the answers.
        candidates: the same, measured.
        selection: which of them are trained on.
        training: whose run keeps them.
        sides: place -> 1 for the better and -1 for the worse answer of a pair; None: one answer a prompt is trained on.
    """
    samples, measures = [], []
    for i, (one, candidate) in enumerate(zip(drawn, candidates, strict=True)):
        target = training.targets.get(one.request_id)
        samples.append(
            {
                "step": 1,
                "sample": i,
                "request_id": one.request_id,
                "raw": one.raw,
                "text": candidate.text,
                "finish_reason": one.finish_reason,
                "reward": float(selection.rewards[i]),
                "advantage": None if sides is None else sides.get(i),
                "copied": target is not None and candidate.text.split() == target.source.split(),
                "state": "kept" if sides is not None and i in sides else selection.state(i),
                "model": one.model or training.name,
            }
        )
        named = {f"z:{m[5:]}" if m.startswith("goal:") else f"metric:{m}": v for m, v in candidate.metrics.items()}
        named["metric:log_likelihood"] = one.log_likelihood  # of one that cannot be trained on it is not known
        measures += [{"step": 1, "sample": i, "measure": name, "value": v} for name, v in named.items()]
    training.run.append("measures", measures)
    # last: where there are samples, there are all of both
    training.run.append("samples", samples)


def figures(
    candidates: Sequence[Candidate], selection: Selection, recipe: InheritanceRecipe, training: Training
) -> dict[str, float]:
    """What is logged with the first step: counts, what selection moved, how metrics go together, the curve in k."""
    able = [i for own in selection.ranked.values() for i in own]
    chosen = list(selection.chosen.values())
    metrics = ["steering_error", "meaning", "length", *(f"goal:{g}" for g in training.goals)]
    metrics += [name for name in dict.fromkeys(n for _, n in recipe.named()) if name not in metrics]
    found = {f"selection:{name}": float(n) for name, n in selection.counts.items()}
    found |= {f"undefined:{reason}": float(n) for reason, n in selection.reasons.items()}
    for metric in metrics:
        found[f"pool:{metric}"] = _mean(candidates, able, metric)
        found[f"chosen:{metric}"] = _mean(candidates, chosen, metric)
    matrix = correlations(candidates, metrics)
    for a, one in enumerate(metrics):
        for b in range(a + 1, len(metrics)):
            found[f"correlation:{one}:{metrics[b]}"] = float(matrix[a, b])
    if recipe.models:
        for source, (drawn, kept) in shares(candidates, selection.chosen).items():
            model = training.name if source == training.base else source
            found |= {f"pool_share:{model}": drawn, f"share:{model}": kept}
    # a prompt that is no request shares no text with another
    sources = {r: training.targets[r].source if r in training.targets else r for r in selection.ranked}
    for aim in recipe.objectives:
        for k, estimate in enumerate(best_of_curve(pools(candidates, selection, aim.metric, sources)), start=1):
            for end in ("value", "low", "high"):
                value = getattr(estimate, end)
                name = f"best_of:{aim.metric}:{k}" + ("" if end == "value" else f":{end}")
                found[name] = float("nan") if value is None else value
    return found


def _mean(candidates: Sequence[Candidate], indices: Sequence[int], metric: str) -> float:
    values = [candidates[i].metrics[metric] for i in indices if candidates[i].has(metric)]
    return float(np.mean(values)) if values else float("nan")
