"""The engine for endpoints against what a user would write: a bare asyncio loop with the official client.

A fake server in a process of its own works a stated time on each request and has a stated rate limit. Answers are
checked to be the same before times are compared. Then rows are asked through a third of faults and three killed
processes, and the time is held against the least that the rate limit allows.

    OMP_NUM_THREADS=1 python -m benchmarks.endpoints
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call
from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.remote.ledger import Ledger
from steer_core.steering.plan import Message, Plan

TESTS = Path(__file__).parents[1] / "tests"
FAULTS = {"429": 0.1, "500": 0.08, "reset": 0.06, "cut": 0.03, "half": 0.02, "html": 0.02, "inside": 0.02}
CONCURRENCY = 32


@contextlib.contextmanager
def served(folder: Path, **script: Any) -> Iterator[tuple[str, Path]]:
    """A fake endpoint in a process of its own: its address, and its log of work done."""
    log = folder / "work.log"
    log.write_text("")
    server = subprocess.Popen(
        [sys.executable, str(TESTS / "fake_endpoint.py"), "0", str(log), json.dumps(script)], stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1", log
    finally:
        server.kill()
        server.wait()


def model_at(address: str) -> ModelSpec:
    """The model that is asked there."""
    prices = {"prompt": 1.0, "completion": 2.0, "as_of": "2025-01-01"}
    endpoint = {"base_url": address, "backoff": 0.005, "concurrency": CONCURRENCY, "prices": prices}
    return ModelSpec.model_validate({"name": "far", "source": "served:far-1", "engine": "openai", "endpoint": endpoint})


def ours(address: str, n: int, folder: Path) -> tuple[float, list[str]]:
    """Seconds, and the answers, of our engine."""
    model = model_at(address)
    backend = OpenAiBackend(model, Ledger(folder / f"{time.monotonic_ns()}.sqlite"))
    drawn = Decoding(max_new_tokens=16)
    calls = [Call(Plan(model.identity, drawn, (Message("user", f"question {i}"),)), 0, 0) for i in range(n)]
    began = time.perf_counter()
    found = {f.index: f.generation.raw for f in backend.generate(calls)}
    return time.perf_counter() - began, [found[i] for i in range(n)]


def bare(address: str, n: int) -> tuple[float, list[str]]:
    """Seconds, and the answers, of a loop over the client's own method, as its documentation has it."""
    import openai

    async def ask() -> list[str]:
        limit = asyncio.Semaphore(CONCURRENCY)
        async with openai.AsyncOpenAI(api_key="none", base_url=address) as client:

            async def one(i: int) -> str:
                async with limit:
                    reply = await client.chat.completions.create(
                        model="far-1",
                        messages=[{"role": "user", "content": f"question {i}"}],
                        max_tokens=16,
                        temperature=0,
                    )
                return str(reply.choices[0].message.content)

            return list(await asyncio.gather(*(one(i) for i in range(n))))

    began = time.perf_counter()
    found = asyncio.run(ask())
    return time.perf_counter() - began, found


def throughput(folder: Path) -> None:
    """Ours against the bare loop, interleaved."""
    for delay, n in ((0.2, 1000), (0.05, 1000), (0.0, 1000)):
        with served(folder, delay=delay) as (address, _):
            bare(address, 50), ours(address, 50, folder)
            rounds = []
            for _ in range(5):
                theirs, expected = bare(address, n)
                own, got = ours(address, n, folder)
                assert got == expected
                rounds.append((theirs, own))
        shares = [t / o for t, o in rounds]
        print(
            f"{n} requests of {delay * 1000:.0f} ms, {CONCURRENCY} in flight: bare loop "
            f"{n / statistics.median(t for t, _ in rounds):.0f}/s, ours "
            f"{n / statistics.median(o for _, o in rounds):.0f}/s: "
            f"{statistics.median(shares):.3f} of it ({min(shares):.3f} to {max(shares):.3f})",
            flush=True,
        )


def through_faults(folder: Path, kills: int, n: int = 2000, per_second: float = 150.0) -> None:
    """All rows through faults, with killed processes."""
    for old in folder.glob("ledger*"):
        old.unlink()
    script = {"faults": FAULTS, "delay": 0.02, "per_second": per_second}
    with served(folder, **script) as (address, log):
        asking = [sys.executable, str(TESTS / "steer_core/generation/remote/ask.py"), address, str(folder), str(n)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
        spent = 0.0
        for k in range(kills):
            child = subprocess.Popen(asking, env=env, stdout=subprocess.PIPE)
            assert child.stdout is not None
            child.stdout.readline()
            began = time.perf_counter()
            while len(log.read_text().splitlines()) < n * (k + 1) // (kills + 1):
                time.sleep(0.02)
            child.send_signal(signal.SIGKILL)
            spent += time.perf_counter() - began
            child.wait()
        child = subprocess.Popen(asking, env=env, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        began = time.perf_counter()
        said = json.loads(child.stdout.readline())
        spent += time.perf_counter() - began
        child.wait()
        work = Counter(json.loads(line) for line in log.read_text().splitlines())
    assert said["answers"] == said["right"] == len(work) == n
    # a request that is told to wait takes nothing of the limit; one that fails otherwise does
    taking = said["attempts"] - said["waiting"]
    ideal = taking / per_second
    print(
        f"{n} rows, {sum(FAULTS.values()):.0%} faults, {kills} kills: each answered once; {said['attempts']} attempts, "
        f"{sum(work.values()) - n} pieces of work done and lost on their way ({said['lost']} in flight at a kill); "
        f"{spent:.1f} s without restarts, {spent / ideal:.2f} times the least for {taking} requests at "
        f"{per_second:.0f}/s",
        flush=True,
    )


def main() -> None:
    """Print everything."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        throughput(folder)
        for kills in (0, 3):
            through_faults(folder, kills)


if __name__ == "__main__":
    main()
