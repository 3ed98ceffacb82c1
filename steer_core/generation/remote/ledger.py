"""Every attempt of a model's endpoint, kept the moment it ends; and money, reserved before a request is sent.

One SQLite file a model, in the cache folder. Answers are keyed as rows of `responses` are, so what was paid for once is
never asked again, whichever bench asks, and whatever became of the tables. Several processes share the file:

1. An answer that came is found by its key and given without a request.
2. A key is under way once: a second process waits for the first one's answer.
3. Money of requests under way counts as spent until they end; of a process that was killed, for good.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import IO, Literal

import polars as pl

from schemas.responses import Attempts
from steer_core.generation.meter import paid
from steer_core.tables.errors import SteerworksError

#: What became of an attempt; `sent`: it is under way; `lost`: its process was killed.
Outcome = Literal[
    "sent", "answered", "truncated", "empty", "refused", "filtered", "overlong", "waiting", "failed", "cut", "timeout",
    "garbage", "rejected", "lost",
]  # fmt: skip
#: Outcomes that are an answer, one that failed included: the row is not asked again.
FINAL = ("answered", "truncated", "empty", "refused", "filtered", "overlong")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS attempts (
    attempt_id TEXT PRIMARY KEY, response_id TEXT NOT NULL, plan_id TEXT NOT NULL, number INTEGER NOT NULL,
    session TEXT NOT NULL, started REAL NOT NULL, seconds REAL NOT NULL, outcome TEXT NOT NULL, status INTEGER,
    detail TEXT NOT NULL, text TEXT NOT NULL, thinking TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, reasoning_tokens INTEGER NOT NULL,
    cost REAL, reserved REAL NOT NULL, request_id TEXT NOT NULL, batch_id TEXT NOT NULL, address TEXT
);
CREATE INDEX IF NOT EXISTS by_response ON attempts (response_id, outcome);
CREATE TABLE IF NOT EXISTS money (one INTEGER PRIMARY KEY CHECK (one = 1), spent REAL NOT NULL, open REAL NOT NULL);
INSERT OR IGNORE INTO money VALUES (1, 0.0, 0.0);
CREATE TABLE IF NOT EXISTS batches (
    batch_id TEXT PRIMARY KEY, submitted REAL NOT NULL, state TEXT NOT NULL, rows INTEGER NOT NULL,
    input_file TEXT NOT NULL, collected INTEGER NOT NULL
);
"""


@dataclass(frozen=True)
class Reply:
    """What an attempt came to.

    Attributes:
        outcome: in a word.
        text: the answer, without thinking.
        thinking: what was thought, where it is said apart.
        prompt_tokens: tokens read, cached ones included.
        cached_tokens: those of them that a cache had.
        completion_tokens: tokens written, those of thinking included.
        reasoning_tokens: those of thinking.
        cost: money; None where the price is not known.
        status: HTTP status; None without a reply.
        detail: an error in the endpoint's words.
        request_id: the endpoint's name for it.
        seconds: from sending to the reply.
    """

    outcome: Outcome
    text: str = ""
    thinking: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost: float | None = None
    status: int | None = None
    detail: str = ""
    request_id: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Claim:
    """A right to send a request, its money reserved.

    Attributes:
        attempt_id: of the attempt.
        response_id: what it is to answer.
        reserved: money.
    """

    attempt_id: str
    response_id: str
    reserved: float


class BudgetError(SteerworksError):
    """The next request may cost more than is left; with what is left to do."""


class Ledger:
    """The attempts of one model's endpoint.

    Args:
        path: the file; made where there is none.
        max_cost: money that may be spent in all; None: no limit.
        currency: of all money in it.

    Raises:
        SteerworksError: the file is no ledger, or cannot be written.
    """

    def __init__(self, path: Path, max_cost: float | None = None, currency: str = "USD") -> None:
        self.path, self.max_cost, self.currency = path, max_cost, currency
        self._session = uuid.uuid4().hex
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # a process that lives holds the lock of its session; the kernel lets go of it however it ends
            self._lock: IO[str] = (path.parent / f"{path.stem}.{self._session}.lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
            # with a log of writes, what was committed outlives a killed process without a wait for the disk
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_SCHEMA)
            self._add_addresses()
        except (sqlite3.Error, OSError) as error:
            raise SteerworksError(
                f"the ledger {path} cannot be used ({error}): it holds what the endpoint was paid for. Make its folder "
                "writable, or move a damaged file away (its answers would be asked for again)"
            ) from error
        self._settle_the_dead()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
        with contextlib.suppress(OSError):
            Path(self._lock.name).unlink()
        self._lock.close()

    def answered(self, response_ids: Iterable[str]) -> dict[str, Reply]:
        """Answers that have come, by key; those without one are left out."""
        names = ", ".join(f.name for f in fields(Reply))
        found: dict[str, Reply] = {}
        wanted = list(response_ids)
        for start in range(0, len(wanted), 500):
            some = wanted[start : start + 500]
            rows = self._db.execute(
                f"SELECT response_id, {names} FROM attempts WHERE response_id IN ({', '.join('?' * len(some))}) "
                f"AND outcome IN ({', '.join('?' * len(FINAL))}) ORDER BY started",
                (*some, *FINAL),
            )
            for key, *values in rows:
                found.setdefault(key, Reply(*values))
        return found

    def claim(
        self,
        response_id: str,
        plan_id: str,
        number: int,
        reserved: float,
        *,
        batch_id: str = "",
        address: str | None = None,
    ) -> Claim | Literal["answered", "theirs", "batched", "wait"]:
        """The right to send a request.

        Returns:
            The claim; `answered` where its answer is there; `theirs` where another process has it under way, `batched`
            where a batch has; `wait` where only the money of requests under way stands against it.

        Raises:
            BudgetError: it may cost more than is left.
        """
        with self._transaction():
            states = {
                o for (o,) in self._db.execute("SELECT outcome FROM attempts WHERE response_id = ?", (response_id,))
            }
            if states & set(FINAL):
                return "answered"
            if "sent" in states:
                batched = self._db.execute(
                    "SELECT 1 FROM attempts WHERE response_id = ? AND outcome = 'sent' AND batch_id != ''",
                    (response_id,),
                ).fetchone()
                return "batched" if batched else "theirs"
            spent, under_way = self.money()
            if self.max_cost is not None and spent + under_way + reserved > self.max_cost:
                if under_way and spent + reserved <= self.max_cost:
                    return "wait"
                raise BudgetError(
                    f"max_cost {self.max_cost:g} {self.currency}: {spent:.6g} spent so far, and the next request may "
                    f"cost {reserved:.6g}. Raise `max_cost` and run again: what has an answer is not asked for again"
                )
            claim = Claim(uuid.uuid4().hex, response_id, reserved)
            self._db.execute(
                "INSERT INTO attempts VALUES "
                "(?, ?, ?, ?, ?, ?, 0, 'sent', NULL, '', '', '', 0, 0, 0, 0, NULL, ?, '', ?, ?)",
                (
                    *(claim.attempt_id, response_id, plan_id, number, self._session, time.time()),
                    *(reserved, batch_id, address),
                ),
            )
            self._db.execute("UPDATE money SET open = open + ?", (reserved,))
            return claim

    def settle(self, claim: Claim, reply: Reply) -> None:
        """Keep what became of a request, and take its money: what it cost, or all that was reserved if nobody knows."""
        taken = claim.reserved if reply.cost is None else reply.cost
        names = ", ".join(f"{f.name} = ?" for f in fields(Reply))
        with self._transaction():
            self._db.execute(f"UPDATE attempts SET {names} WHERE attempt_id = ?", (*astuple(reply), claim.attempt_id))
            self._db.execute(
                "UPDATE money SET open = max(0.0, open - ?), spent = spent + ?",
                (claim.reserved, taken),
            )
        if taken:
            paid(taken, self.currency)

    def give_up(self, claim: Claim) -> None:
        """Forget a claim whose request was never sent."""
        with self._transaction():
            self._db.execute("DELETE FROM attempts WHERE attempt_id = ?", (claim.attempt_id,))
            self._db.execute("UPDATE money SET open = max(0.0, open - ?)", (claim.reserved,))

    def submitted(self, batch_id: str, input_file: str, claims: Sequence[Claim]) -> None:
        """Note that a batch holds those requests."""
        with self._transaction():
            self._db.executemany(
                "UPDATE attempts SET batch_id = ? WHERE attempt_id = ?", [(batch_id, c.attempt_id) for c in claims]
            )
            self._db.execute(
                "INSERT INTO batches VALUES (?, ?, 'submitted', ?, ?, 0)",
                (batch_id, time.time(), len(claims), input_file),
            )

    def open_batches(self) -> list[tuple[str, int]]:
        """Batches that were not collected yet, oldest first: id, and requests in it."""
        found = self._db.execute("SELECT batch_id, rows FROM batches WHERE collected = 0 ORDER BY submitted").fetchall()
        return [(str(b), int(n)) for b, n in found]

    def half_submitted(self, prefix: str) -> list[str]:
        """Names of batches that a process which lives no more was submitting."""
        found = self._db.execute(
            "SELECT DISTINCT batch_id, session FROM attempts WHERE outcome = 'sent' AND batch_id LIKE ?",
            (f"{prefix}%",),
        ).fetchall()
        return [str(b) for b, session in found if session != self._session and not self._lives(session)]

    def claims_of(self, batch_id: str) -> dict[str, Claim]:
        """Requests of a batch that were not settled yet, by their keys."""
        rows = self._db.execute(
            "SELECT attempt_id, response_id, reserved FROM attempts WHERE batch_id = ? AND outcome = 'sent'",
            (batch_id,),
        )
        return {key: Claim(attempt, key, reserved) for attempt, key, reserved in rows}

    def collected(self, batch_id: str, state: str) -> None:
        """Note that nothing more comes of a batch."""
        self._db.execute("UPDATE batches SET collected = 1, state = ? WHERE batch_id = ?", (state, batch_id))

    def money(self) -> tuple[float, float]:
        """Money spent, and reserved for what is under way."""
        spent, under_way = self._db.execute("SELECT spent, open FROM money").fetchone()
        return float(spent), float(under_way)

    def under_way(self, response_id: str) -> bool:
        """Whether a request for the key is under way, in a process that lives."""
        self._settle_the_dead()
        found = self._db.execute(
            "SELECT 1 FROM attempts WHERE response_id = ? AND outcome = 'sent'", (response_id,)
        ).fetchone()
        return found is not None

    def attempts(self, response_ids: Iterable[str] | None = None) -> pl.DataFrame:
        """Rows of `attempts`, oldest first.

        Args:
            response_ids: only those of these keys; None: all.
        """
        names = Attempts.names()
        rows = pl.DataFrame(
            self._db.execute(f"SELECT {', '.join(names)} FROM attempts ORDER BY started, attempt_id").fetchall(),
            schema=Attempts.dtypes(),
            orient="row",
        )
        return rows if response_ids is None else rows.filter(pl.col("response_id").is_in(list(response_ids)))

    def _add_addresses(self) -> None:
        """Files of version 0.1.0 did not say where a request went."""
        with self._transaction():
            if "address" not in {row[1] for row in self._db.execute("PRAGMA table_info(attempts)")}:
                self._db.execute("ALTER TABLE attempts ADD COLUMN address TEXT")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        # immediate: what is read in it is still so when it writes
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _settle_the_dead(self) -> None:
        """Requests of killed processes: they may have been answered and paid, so their money is gone."""
        sessions = self._db.execute(
            "SELECT DISTINCT session FROM attempts WHERE outcome = 'sent' AND session != ? AND batch_id = ''",
            (self._session,),
        ).fetchall()
        for (session,) in sessions:
            if self._lives(session):
                continue
            with self._transaction():
                (lost,) = self._db.execute(
                    "SELECT coalesce(sum(reserved), 0.0) FROM attempts WHERE outcome = 'sent' AND session = ? "
                    "AND batch_id = ''",
                    (session,),
                ).fetchone()
                self._db.execute(
                    "UPDATE attempts SET outcome = 'lost', cost = reserved, detail = 'its process was killed' "
                    "WHERE outcome = 'sent' AND session = ? AND batch_id = ''",
                    (session,),
                )
                self._db.execute("UPDATE money SET open = max(0.0, open - ?), spent = spent + ?", (lost, lost))

    def _lives(self, session: str) -> bool:
        file = self.path.parent / f"{self.path.stem}.{session}.lock"
        try:
            with file.open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        with contextlib.suppress(OSError):
            file.unlink()
        return False
