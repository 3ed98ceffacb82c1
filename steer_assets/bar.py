"""The demo's bar: what is being made, how many, how fast, how long still; a line now and then where no terminal is."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self, TextIO

from tqdm import tqdm

#: Seconds between two lines where the output is no terminal.
LINE_EVERY = 30.0


class Bar:
    """Shows the progress of one run under a title; a `Listener`."""

    def __init__(self, title: str, out: TextIO | None = None) -> None:
        self.title, self.out = title, out or sys.stdout
        self.terminal = self.out.isatty()
        self._bar: Any = None
        self._what, self._first, self._begun, self._said = "", 0, 0.0, 0.0
        self._fresh = True

    def __enter__(self) -> Self:
        if self.terminal:
            self._bar = tqdm(desc=self.title, file=self.out, leave=False, bar_format="{desc} ... {elapsed}")
            self._bar.refresh()
        else:
            print(f"{self.title} ... ", end="", flush=True, file=self.out)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def ends(self, said: str) -> None:
        """The line that stays."""
        title = f"{self.title} ... " if self.terminal else "" if self._fresh else "    "
        print(f"{title}{said}", flush=True, file=self.out)

    def begins(self, what: str) -> None:
        """A table is being made."""
        if self.terminal:
            self._open(f"{self.title}  {what}", None, 0)

    def counts(self, what: str, done: int, total: int) -> None:
        """So many of so many."""
        now = time.monotonic()
        if what != self._what or done < self._first:
            self._what, self._first, self._begun, self._said = what, done, now, now
            if self.terminal:
                self._open(f"{self.title}  {what}", total, done)
        if self.terminal:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif now - self._said >= LINE_EVERY:
            self._said = now
            rate = (done - self._first) / (now - self._begun)
            left = f", {rate:.1f}/s, {(total - done) / rate:.0f} s left" if rate else ""
            self._line(f"{done} of {total} {what}{left}")

    def says(self, line: str) -> None:
        """Something that a person should read now."""
        if self.terminal:
            self._bar.write(f"    {line}", file=self.out)
        else:
            self._line(line)

    def _line(self, line: str) -> None:
        print(f"{chr(10) if self._fresh else ''}    {line}", flush=True, file=self.out)
        self._fresh = False

    def _open(self, title: str, total: int | None, done: int) -> None:
        self._bar.close()
        shown = {} if total else {"bar_format": "{desc} ... {elapsed}"}
        self._what = self._what if total else ""
        # what was found in the journal says nothing of the rate
        self._bar = tqdm(desc=title, total=total, initial=done, file=self.out, leave=False, unit=" ", **shown)
        self._bar.refresh()
