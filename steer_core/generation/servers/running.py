"""What a running vLLM is asked for, whether it stands behind HTTP (`server`) or at the end of a pipe (`offline`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from steer_core.steering.vector import SteeringVector


class Running(Protocol):
    """A vLLM that runs, or sleeps. Whatever it refuses or cannot do is a `ServerError`."""

    def complete(self, body: dict[str, Any], told: Callable[[list[int]], None] | None = None) -> dict[str, Any]:
        """The answer to a request of `/v1/completions` (`servers.asked`): its first choice.

        Args:
            body: of the request.
            told: told its tokens so far as they come; what that raises ends the request.
        """
        ...

    def receipts(self, nonces: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """What the worker did, by nonce; one entry for each sample of a request. A receipt is given once."""
        ...

    def upload(self, vectors: Iterable[SteeringVector]) -> None:
        """Let requests refer to further vectors, by id."""
        ...

    def holds(self) -> int:
        """How many vectors its worker holds."""
        ...

    def load_adapter(self, name: str, folder: Path) -> None:
        """Let requests name a further LoRA adapter as their model."""
        ...

    def healthy(self) -> bool:
        """Whether it answers and its engine lives."""
        ...

    def sleep(self) -> None:
        """Let go of the device's memory, once requests under way have ended."""
        ...

    def wake(self) -> None:
        """Take the device's memory again."""
        ...

    def stop(self, grace: float = 20.0) -> None:
        """End what was started here; `grace`: seconds until it is killed."""
        ...
