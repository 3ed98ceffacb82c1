"""Draws that nobody wants are taken back on a CPU: a prompt in chunks draws what it would draw in one piece."""

import types

import numpy as np
import torch

from steer_core.generation.vllm_worker.draws import take_back_draws


class Runner:
    """What vLLM's runner does about draws, on a CPU."""

    def __init__(self):
        self.generators = {0: torch.Generator().manual_seed(5), 2: torch.Generator().manual_seed(5)}
        self.input_batch = types.SimpleNamespace(num_reqs=3, generators=self.generators)
        self.discard_request_mask = types.SimpleNamespace(np=np.zeros(8, dtype=bool))
        self.unwanted = []

    def _prepare_inputs(self, unwanted):
        # row 1 has no seed of its own; beyond the batch the mask holds what it held
        self.discard_request_mask.np[:] = True
        self.discard_request_mask.np[:3] = [i in unwanted for i in range(3)]
        return "inputs"

    def _bookkeeping_sync(self, drawn):
        for i in np.nonzero(self.discard_request_mask.np[:3])[0]:
            if (generator := self.generators.get(int(i))) is not None:
                generator.set_offset(generator.get_offset() - 4)
        return drawn

    def step(self, unwanted):
        assert self._prepare_inputs(unwanted) == "inputs"
        return self._bookkeeping_sync({i: float(torch.rand((), generator=g)) for i, g in self.generators.items()})


def test_a_draw_that_is_taken_back_comes_again_and_others_go_on():
    runner = Runner()
    take_back_draws(runner)
    chunk, last, after = runner.step({0, 1}), runner.step(()), runner.step({2})
    assert chunk[0] == last[0] == chunk[2]
    assert last[2] == after[0] != chunk[2]
    # what was out of sight for a while is back
    assert set(runner.generators) == {0, 2}
    assert runner.step(())[2] == after[2]
