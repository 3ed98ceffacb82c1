"""Score and diverge for any number of rows: in batches of like length, what occurs twice once.

Rows of one prompt stand in one batch, so that an engine that reads it once can do so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, TypeVar

from schemas.specs import Decoding
from steer_core.generation.backend import Backend, Continuation, Scored
from steer_core.generation.prefixes import agree
from steer_core.generation.run import Progress
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError

#: Decoding of plans of which nothing is written; part of their ids.
FORCED = Decoding(max_new_tokens=1, temperature=0.0, top_p=1.0, min_p=0.0)
Found = TypeVar("Found")
#: A verb of a backend: plans and continuations to what it says of each row.
Verb = Callable[[Sequence[Plan], Sequence[Continuation]], list[Found]]


def score_all(
    plans: Sequence[Plan],
    continuations: Sequence[Continuation],
    backend: Backend,
    batch_size: int,
    progress: Progress | None = None,
) -> list[list[float]]:
    """`backend.score` of any number of rows; a row that occurs twice is scored once.

    Raises:
        SteerworksError: the backend cannot score.
    """
    return _all("score", backend.score, plans, continuations, backend, batch_size, progress)


def score_greedy_all(
    plans: Sequence[Plan],
    continuations: Sequence[Continuation],
    backend: Backend,
    batch_size: int,
    progress: Progress | None = None,
) -> list[Scored]:
    """`backend.score_greedy` of any number of rows; a row that occurs twice is scored once.

    Raises:
        SteerworksError: the backend cannot score, or not say which tokens are the likeliest.
    """
    able = backend.capabilities
    for plan in plans:
        able.refuse(plan, "score", greedy_flags=True)
    return _all("score", backend.score_greedy, plans, continuations, backend, batch_size, progress)


def diverge_all(
    plans: Sequence[Plan],
    continuations: Sequence[Continuation],
    backend: Backend,
    batch_size: int,
    progress: Progress | None = None,
    against: Sequence[Plan] | None = None,
) -> list[list[float]]:
    """`backend.diverge` of any number of rows; a row that occurs twice is compared once.

    Args:
        plans: what is done.
        continuations: answers that are read under it.
        backend: who reads.
        batch_size: rows of a batch.
        progress: told rows done and wanted.
        against: the plain plan that each is held against, the same for the same plan; None: each by its own prompt.

    Raises:
        SteerworksError: the backend cannot hold steered against unsteered.
    """
    if against is None:
        return _all("diverge", backend.diverge, plans, continuations, backend, batch_size, progress)
    plain = {p.id: a for p, a in zip(plans, against, strict=True)}
    return _all(
        "diverge",
        lambda some, told: backend.diverge(some, told, [plain[p.id] for p in some]),
        plans, continuations, backend, batch_size, progress,
    )  # fmt: skip


def _all(
    name: Literal["score", "diverge"],
    verb: Verb[Found],
    plans: Sequence[Plan],
    continuations: Sequence[Continuation],
    backend: Backend,
    batch_size: int,
    progress: Progress | None,
) -> list[Found]:
    able = backend.capabilities
    for plan in plans:
        able.refuse(plan, name)
    keys = [(p.id, c) for p, c in zip(plans, continuations, strict=True)]
    first = {key: i for i, key in reversed(list(enumerate(keys)))}
    distinct = sorted(first.values())
    # rows of one prompt stand together, and in it those of one text: they share what is below their interventions
    groups: dict[object, dict[Continuation, list[int]]] = {}
    for i in distinct:
        prompt = (plans[i].messages, plans[i].text, plans[i].tokens)
        groups.setdefault(prompt, {}).setdefault(continuations[i], []).append(i)
    alike = [[i for rows in texts.values() for i in rows] for texts in groups.values()]
    kin = families([_beginning(plans[group[0]]) for group in alike], [len(group) for group in alike], batch_size)
    grouped = [[i for k in family for i in alike[k]] for family in kin]
    lengths = [max(backend.prompt_tokens(plans[i]) + _about(continuations[i]) for i in group) for group in grouped]
    found: dict[tuple[str, Continuation], Found] = {}
    for rows in group_batches(grouped, lengths, batch_size):
        numbers = verb([plans[i] for i in rows], [continuations[i] for i in rows])
        found |= {keys[i]: n for i, n in zip(rows, numbers, strict=True)}
        if progress is not None:
            progress(len(found), len(distinct))
    return [found[key] for key in keys]


def _beginning(plan: Plan) -> str | tuple[int, ...]:
    """A prompt as what can be compared from its beginning: token ids, or characters."""
    if plan.tokens is not None:
        return tuple(plan.tokens)
    return plan.text if plan.text is not None else "".join(f"{m.role}\n{m.content}\n" for m in plan.messages or ())


def families(prompts: Sequence[str | tuple[int, ...]], sizes: Sequence[int], most: int) -> list[list[int]]:
    """Numbers of prompts that begin alike, one list a family: two questions under one context, for example.

    What all prompts begin with, an instruction or examples, makes nobody kin: beyond that at least half of the shorter
    of two must be the same.

    Args:
        prompts: characters or token ids of each.
        sizes: rows of each.
        most: rows of a family.
    """
    order = sorted(range(len(prompts)), key=lambda k: (isinstance(prompts[k], str), prompts[k]))
    if not order:
        return []
    everywhere = agree(prompts[order[0]], prompts[order[-1]]) if len(order) > 1 else 0
    found, rows = [[order[0]]], sizes[order[0]]
    for before, k in pairwise(order):
        own = agree(prompts[before], prompts[k]) - everywhere
        shorter = min(len(prompts[before]), len(prompts[k])) - everywhere
        rows += sizes[k]
        if own > 0 and 2 * own >= shorter and rows <= most:
            found[-1].append(k)
        else:
            found.append([k])
            rows = sizes[k]
    return found


def _about(continuation: Continuation) -> int:
    """Tokens of a continuation, roughly where it is a text."""
    return len(continuation) // 3 if isinstance(continuation, str) else len(continuation)


def group_batches(groups: Sequence[Sequence[int]], lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Groups of rows in batches of like length, longest first; a group is cut only where it is larger than a batch.

    Args:
        groups: numbers of rows.
        lengths: of each group.
        batch_size: most rows of a batch.

    Raises:
        ConfigError: the batch size is below 1.
    """
    found: list[list[int]] = []
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one row")
    for number in sorted(range(len(groups)), key=lambda k: (-lengths[k], k)):
        group = groups[number]
        for first in range(0, len(group), batch_size):
            part = list(group[first : first + batch_size])
            if found and len(found[-1]) + len(part) <= batch_size:
                found[-1] += part
            else:
                found.append(part)
    return found


def batches(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Rows in batches of like length, longest first, so that little is padded and a lack of memory shows at once.

    Raises:
        ConfigError: the batch size is below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size}: a batch holds at least one row")
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
