"""Processes that train together, forked from this one: what they import is here already."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections.abc import Callable

import torch
import trl.trainer.grpo_trainer
import trl.trainer.sft_trainer  # noqa: F401  (before the fork)
from accelerate.state import AcceleratorState, PartialState

from steer_core.adapters.launching import ON_CPU
from steer_core.adapters.ranks import Ranks


def together(work: Callable[[Ranks], None], size: int = 2) -> list[int]:
    """Run `work` in so many processes over gloo; their exit statuses, negative where one was killed."""
    # a pool of threads does not survive a fork
    torch.set_num_threads(1)
    port = _free_port()
    children = [_forked(work, Ranks(rank, size), port) for rank in range(size)]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _forked(work: Callable[[Ranks], None], ranks: Ranks, port: int) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        named = {"RANK": ranks.rank, "LOCAL_RANK": ranks.rank, "WORLD_SIZE": ranks.size, "LOCAL_WORLD_SIZE": ranks.size}
        os.environ |= {k: str(v) for k, v in named.items()} | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            **ON_CPU,
        }
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState(cpu=True)
        work(ranks)
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(status)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
