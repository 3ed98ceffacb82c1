"""A run: what travels together through everything that asks a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steer_core.generation.backend import BATCH_SIZE, Backend
from steer_core.tables.errors import SteerworksError
from steer_core.tables.journal import Journal

#: Called with (rows done, rows in all).
Progress = Callable[[int, int], None]
#: Texts to positions in goal space, one mapping goal -> z (None: undefined) a text.
Ruler = Callable[[Sequence[str]], list[dict[str, float | None]]]
#: Told the number of a call, counted from 0 over those asked here, and its text so far, as it is written. Below 0 there
#: is nothing to tell, and it may say by raising that nobody listens any more.
Drafts = Callable[[int, str], None]
#: Told the cleaned texts of answers as they come, so that they can be measured while others are being written.
Listener = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class Run:
    """Who answers, where answers are kept, what measures them, and how it is gone about.

    Attributes:
        journal: of `responses`; answers in it are not generated again.
        backend: what generates and scores; None only where no model is called.
        ruler: measures texts; needed by methods that measure, and by doses.
        seed: the bench's seed.
        batch_size: most rows under way at a time.
        progress: told whenever rows have been journalled or scored.
        listener: told the cleaned texts of answers as they come.
        drafts: told texts while they are written, by engines that stream; what it raises ends the run.
    """

    journal: Journal
    backend: Backend | None = None
    ruler: Ruler | None = None
    seed: int = 0
    batch_size: int = BATCH_SIZE
    progress: Progress | None = None
    listener: Listener | None = None
    drafts: Drafts | None = None

    @property
    def asking(self) -> Backend:
        """The backend.

        Raises:
            SteerworksError: there is none.
        """
        if self.backend is None:
            raise SteerworksError("this calls a model, and no backend was given")
        return self.backend

    @property
    def measuring(self) -> Ruler:
        """The ruler.

        Raises:
            SteerworksError: there is none.
        """
        if self.ruler is None:
            raise SteerworksError("this measures texts, and no ruler was given")
        return self.ruler
