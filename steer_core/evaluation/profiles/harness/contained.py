"""What task modules and the harness do to the whole process, undone once they have run."""

from __future__ import annotations

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np

#: Names that numpy 2 took away and that modules of tasks still use while they score.
_FORMER = ("NaN", "NAN")


@contextmanager
def contained(seed: int) -> Iterator[None]:
    """Loads and runs tasks within; numpy's names, the environment and random states are afterwards as they were.

    1. `np.NaN` and `np.NAN` exist within. One module of tasks sets the first for the whole process, eight others raise
       without it; which of the two a run met depended on what had been loaded before.
    2. Standard errors are bootstrapped in this process: the harness forks one worker a core for them, under threads of
       torch.
    3. Python's and numpy's random generators begin at the seed: some tasks draw from them.
    4. What the harness prints goes to the standard error; its bars, and its log below errors, nowhere: whoever runs a
       cell has a bar, and what a task lacks is a row.

    Args:
        seed: of the generators.
    """
    names, environment = dict(vars(np)), dict(os.environ)
    states = random.getstate(), np.random.get_state()
    for name in _FORMER:
        if name not in names:
            setattr(np, name, np.nan)
    os.environ["DISABLE_MULTIPROC"] = "1"
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        with redirect_stdout(sys.stderr), _without_bars():
            yield
    finally:
        logger.setLevel(level)
        random.setstate(states[0])
        np.random.set_state(states[1])
        for name in set(vars(np)) - set(names):
            # modules of numpy that were imported meanwhile stay: others hold them
            if name in _FORMER or not hasattr(vars(np)[name], "__spec__"):
                delattr(np, name)
        for name, value in names.items():
            if vars(np).get(name) is not value:
                setattr(np, name, value)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)


@contextmanager
def _without_bars() -> Iterator[None]:
    """The harness's own bars, which it cannot be told to leave out, are not drawn within."""
    from lm_eval.api import task

    drawn = task.tqdm
    task.tqdm = lambda items, **_: items
    try:
        yield
    finally:
        task.tqdm = drawn
