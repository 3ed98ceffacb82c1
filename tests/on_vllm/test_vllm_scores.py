"""Given answers are scored under steering as the hooks score them, though vLLM is given them as a part of the prompt."""

from dataclasses import replace

import numpy as np
import pytest
from vllm_world import run_vllm

from schemas.specs import Decoding
from steer_core.generation.servers.proof import worker_receipt
from steer_core.steering.plan import Plan

pytestmark = pytest.mark.vllm


def test_scores_are_those_of_the_hooks(world, tmp_path):
    answer = (11, 12, 13, 14)
    asks = [replace(a, answer=answer) for a in world.asks[0]]
    backend = world.reference.backend
    plans = [
        Plan(backend.model_identity, Decoding(), tokens=a.tokens, interventions=a.interventions) for a in world.asks[0]
    ]
    want = backend.score(plans, [" ".join(f"w{t}" for t in answer)] * len(plans))
    found = run_vllm(tmp_path, world.model, world.vectors, [asks, asks])
    for p, done in enumerate(found["passes"]):
        apart = np.abs(np.array([a["scores"] for a in done["answers"]]) - np.array(want))
        steered = np.array([bool(a.interventions) for a in asks])
        # a strong intervention makes states large, and their rounding with them: the hooks' own scores of such a row,
        # alone and in a batch, are up to 7e-6 apart
        assert apart[~steered].max() <= 1e-5
        assert apart.mean() <= 5e-6
        assert (apart <= 5e-6 * np.abs(want)).all()
        for n in range(len(asks)):
            if asks[n].interventions:
                (receipt,) = done["receipts"][f"{p}-{n}"]
                worker_receipt(n, asks[n].interventions, len(asks[n].tokens), len(asks[n].tokens) + 3, receipt)
