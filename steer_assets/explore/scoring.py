"""Submissions that the browser sent, scored and ranked: `steerworks run` in a process of its own, one at a time."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

from schemas.specs import BenchSpec
from steer_core.registry_arrivals import ELSEWHERE
from steer_core.tables.errors import ConfigError

#: Lines of what a failed run said that are shown.
SHOWN = 6
#: Of all benches one is scored at a time.
_TURN = threading.Lock()


class Scoring:
    """Runs cells of submissions of one bench.

    Args:
        bench: the bench.
    """

    def __init__(self, bench: BenchSpec) -> None:
        self._bench = bench
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}

    def start(self, method: str) -> None:
        """Score a submission that was admitted; returns at once.

        Raises:
            ConfigError: it is being scored.
        """
        with self._lock:
            if self.state(method) in ("waits to be scored", "is being scored"):
                raise ConfigError(f"{method} {self._states[method]}: look again in a moment")
            self._states[method] = "waits to be scored"
        threading.Thread(target=self._run, args=(method,), name=f"score {method}", daemon=True).start()

    def state(self, method: str) -> str:
        """How far it is, in words; empty where nobody has asked, or it is done."""
        return self._states.get(method, "")

    def _run(self, method: str) -> None:
        with _TURN:
            self._states[method] = "is being scored"
            # a process of its own reads the configuration anew, in which the submission is a method by now
            # `copy` of the same model is what it is held against; it is there after the first
            methods = [*(("copy",) if "copy" in self._bench.methods else ()), method]
            command = [sys.executable, "-m", "steer_assets", "run", *methods, "--bench", self._bench.name]
            command += ["--models", ELSEWHERE]
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
                )
                said = done.stdout.decode(errors="replace").strip().splitlines()
                failed = done.returncode != 0
            except Exception as error:
                said, failed = [f"{type(error).__name__}: {error}"], True
            if failed:
                logging.getLogger(__name__).error("%s was not scored:\n%s", method, "\n".join(said))
            self._states[method] = "was not scored: " + " / ".join(said[-SHOWN:]) if failed else ""
