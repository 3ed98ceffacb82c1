"""Given answers are scored under steering as the hooks score them, though vLLM is given them as a part of the prompt."""

from dataclasses import replace

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
        for n, (a, theirs) in enumerate(zip(done["answers"], want, strict=True)):
            assert a["scores"] == pytest.approx(theirs, abs=2e-5)
            if asks[n].interventions:
                (receipt,) = done["receipts"][f"{p}-{n}"]
                worker_receipt(n, asks[n].interventions, len(asks[n].tokens), len(asks[n].tokens) + 3, receipt)
