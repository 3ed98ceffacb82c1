"""What the evidence on adapters trains on: the embedded model under the plain request, on the bench `tales`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.specs import ModelSpec
from steer_core.adapters.recipe import Training
from steer_core.adapters.rewards import Target
from steer_core.adapters.run import RunFolder
from steer_core.front.bench import Bench
from steer_core.methods.driver import failure_of, requests_from
from steer_core.methods.load import load_method
from steer_core.methods.protocol import Artifact
from steer_core.models import load_model

SPEC = ModelSpec(name="embedded", source="embedded")


def training_on(
    bench: Bench,
    folder: Path,
    texts: set[str] | None = None,
    method_name: str = "direct",
    also: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> Training:
    """What a recipe is given, on the requests of some texts, or of all, under a prompt: the plain request by default.

    Args:
        bench: goals and requests.
        folder: where the run lies.
        texts: sources; None: all.
        method_name: method that is its prompt alone.
        also: likewise, for prompts that the recipe wants besides.
        say: told what happens.
    """
    goals = tuple(bench.spec.goals)
    every = requests_from(bench.probe.requests, bench.probe.request_goals, goals)
    asked = [r for r in every if texts is None or r.text in texts]

    def under(name: str) -> dict[str, Any]:
        made = load_method(bench.registry.method(name), SPEC, bench.spec, bench.goals)
        return {r.request_id: made.step(r, Artifact(), ())[0] for r in asked}  # type: ignore[index]

    method = load_method(bench.registry.method(method_name), SPEC, bench.spec, bench.goals)
    sources = {r.request_id: r.text for r in asked}

    def failure(request: str, raw: str, finish: str) -> tuple[str, str | None]:
        text, parsed = method.clean(raw)
        return text, failure_of(text, finish, parsed, sources[request])

    ends = {r.request_id: [np.nan if g.z_star is None else g.z_star for g in r.goals] for r in asked}
    return Training(
        load=lambda: load_model(SPEC),
        plans=under(method_name),
        targets={
            r.request_id: Target(r.text, np.array([g.z0 for g in r.goals]), np.array(ends[r.request_id])) for r in asked
        },
        goals=goals,
        comparatives={name: (goal.less, goal.more) for name, goal in bench.goals.items()},
        ruler=bench.ruler,
        failure=failure,
        run=RunFolder(folder),
        base="embedded",
        also={name: under(name) for name in also},
        say=say,
    )
