"""Score and diverge for any number of rows: in batches of like length, what occurs twice once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from steer_core.generation.backend import Backend
from steer_core.generation.run import Progress
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError

#: A verb of a backend: plans and continuations to numbers, one list a row.
Verb = Callable[[Sequence[Plan], Sequence[str]], list[list[float]]]


def score_all(
    plans: Sequence[Plan],
    continuations: Sequence[str],
    backend: Backend,
    batch_size: int,
    progress: Progress | None = None,
) -> list[list[float]]:
    """`backend.score` of any number of rows; a row that occurs twice is scored once.

    Raises:
        SteerworksError: the backend cannot score.
    """
    return _all("score", backend.score, plans, continuations, backend, batch_size, progress)


def diverge_all(
    plans: Sequence[Plan],
    continuations: Sequence[str],
    backend: Backend,
    batch_size: int,
    progress: Progress | None = None,
) -> list[list[float]]:
    """`backend.diverge` of any number of rows; a row that occurs twice is compared once.

    Raises:
        SteerworksError: the backend cannot hold steered against unsteered.
    """
    return _all("diverge", backend.diverge, plans, continuations, backend, batch_size, progress)


def _all(
    name: Literal["score", "diverge"],
    verb: Verb,
    plans: Sequence[Plan],
    continuations: Sequence[str],
    backend: Backend,
    batch_size: int,
    progress: Progress | None,
) -> list[list[float]]:
    for plan in plans:
        backend.capabilities.refuse(plan, name)
    keys = [(p.id, c) for p, c in zip(plans, continuations, strict=True)]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    distinct = sorted(first.values())
    # rows of one text stand together: they share what is below their interventions
    texts: dict[object, int] = {}
    read = {i: (plans[i].messages, plans[i].text, plans[i].tokens, continuations[i]) for i in distinct}
    for i in distinct:
        texts.setdefault(read[i], len(texts))
    distinct.sort(key=lambda i: texts[read[i]])
    lengths = [backend.prompt_tokens(plans[i]) + len(continuations[i]) // 3 for i in distinct]
    found: dict[tuple[str, str], list[float]] = {}
    for batch in batches(lengths, batch_size):
        rows = [distinct[j] for j in batch]
        numbers = verb([plans[i] for i in rows], [continuations[i] for i in rows])
        found |= {keys[i]: n for i, n in zip(rows, numbers, strict=True)}
        if progress is not None:
            progress(len(found), len(distinct))
    return [found[key] for key in keys]


def batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Rows in batches of like length, longest first, so that little is padded and a lack of memory shows at once.

    Raises:
        ConfigError: the batch size is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one row")
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
