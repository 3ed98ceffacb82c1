"""Processes that train one adapter together: which of them this is, and what they tell each other.

Each has the whole model and a slice of every step's rows; gradients are averaged between them. The first of them alone
writes the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The place of this process among those that train together.

    Attributes:
        rank: its place, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes for all."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all have come to this point."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def gathered(self, own: T) -> list[T]:
        """What each of them has, in their order; all must come to this point."""
        if self.size == 1:
            return [own]
        import torch.distributed as dist

        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, own)
        return found  # type: ignore[return-value]  # all are there now

    def together(self, own: Sequence[T]) -> list[T]:
        """The rows of all of them, in their order."""
        return [row for rows in self.gathered(own) for row in rows]

    def slice_of(self, rows: int) -> slice:
        """Where the own rows stand among those of all, where each has so many."""
        return slice(self.rank * rows, (self.rank + 1) * rows)


#: A process that trains by itself.
ALONE = Ranks()


def unequal(what: str, rows: int, processes: int, parts: int = 1) -> str | None:
    """Why rows of a step cannot be dealt to processes, in words that say which numbers would do; None where they can.

    Args:
        what: the rows, and the settings that they come from: `batch = 6`.
        rows: of a step.
        processes: that train together.
        parts: passes that a step is cut into.
    """
    if rows % (processes * parts) == 0:
        return None
    cut = f" in {parts} passes (`gradient_accumulation_steps`)" if parts > 1 else ""
    able = [n for n in divisors(rows) if rows % (n * parts) == 0]
    fit = f"{_listed(able)} can" if able else "no number can"
    multiple = processes * parts
    near = [m for m in (rows // multiple * multiple, (rows // multiple + 1) * multiple) if m]
    return (
        f"{what} makes {rows} rows of a step, which {processes} processes{cut} cannot share equally: {fit}; or take "
        f"{_listed(near, ' or ')} rows"
    )


def divisors(number: int) -> list[int]:
    """What divides a number, in order."""
    return [n for n in range(1, number + 1) if number % n == 0]


def _listed(numbers: Iterable[int], between: str = ", ") -> str:
    return between.join(map(str, numbers))
