"""Engines of vLLM that are measured beside each other, each in a process of vLLM's own environment.

This file runs on both sides: `python vllm_engines.py MODEL WORKER ROWS` is an engine, JSON lines in, JSON lines out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def serve(model: str, worker: str, rows: int) -> None:
    """Answer until the input ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM writes to the standard output
    from vllm import LLM, SamplingParams

    more = {"worker_cls": worker} if worker else {}
    llm = LLM(model, dtype="float32", enforce_eager=True, max_num_seqs=rows, max_model_len=256, seed=0, **more)
    print(json.dumps("ready"), file=out, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if "vectors" in asked:
            for body in asked["vectors"]:
                said = llm.collective_rpc("steer_upload", args=(body,))[0]
                assert "error" not in said, said
            print(json.dumps(None), file=out, flush=True)
            continue
        prompts: Any = [{"prompt_token_ids": r["tokens"]} for r in asked["requests"]]
        params = [
            SamplingParams(
                temperature=0.0,
                max_tokens=asked["new_tokens"],
                ignore_eos=True,
                extra_args={"steer": r["steer"]} if r["steer"] else None,
            )
            for r in asked["requests"]
        ]
        start = time.perf_counter()
        answers = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - start
        tokens = [list(a.outputs[0].token_ids) for a in answers]
        print(json.dumps({"rate": sum(map(len, tokens)) / seconds, "tokens": tokens}), file=out, flush=True)


@dataclass(frozen=True)
class Answers:
    """What an engine did.

    Attributes:
        rate: tokens a second.
        by_processor: tokens a second of processor time, of all its processes: what other work on the machine moves
            little.
        tokens: of each answer.
    """

    rate: float
    by_processor: float
    tokens: list[list[int]]


class Engine:
    """An engine in a process of its own.

    Args:
        python: interpreter of the environment that has vLLM.
        folder: for its room and its log.
        model: folder of a checkpoint.
        steered: with the worker and the plugin; False: stock vLLM.
        rows: most requests in a pass.
    """

    def __init__(self, python: Path, folder: Path, model: Path, steered: bool, rows: int) -> None:
        from steer_core.generation.servers.room import WORKER, find_vllm, make_room

        room = make_room(folder, find_vllm(python), steered)
        self._log = folder / "log"
        self._process = subprocess.Popen(
            [str(python), __file__, str(model), WORKER if steered else "", str(rows)],
            # a block of 128 tokens a request, of 6 MB for 30 layers
            env={
                **os.environ,
                "VLLM_CPU_KVCACHE_SPACE": "2" if rows > 128 else "1",
                "VLLM_NO_USAGE_STATS": "1",
                **room,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("w"),
            text=True,
        )
        self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the engine has ended:\n{self._log.read_text()[-3000:]}"
        return json.loads(line)

    def _ask(self, body: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(body) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def upload(self, directions: Sequence[Sequence[float]]) -> None:
        """Hand in directions, as vectors `v0`, `v1` ..."""
        bodies = [{"name": f"v{n}", "tensors": {"direction": [list(v)]}} for n, v in enumerate(directions)]
        self._ask({"vectors": bodies})

    def answer(self, requests: Sequence[dict[str, Any]], new_tokens: int) -> Answers:
        """Answers to requests, all at a time."""
        before = self._processor_time()
        said = self._ask({"requests": list(requests), "new_tokens": new_tokens})
        used = self._processor_time() - before
        return Answers(said["rate"], sum(map(len, said["tokens"])) / used, said["tokens"])

    def _processor_time(self) -> float:
        """Seconds that all its processes have had of processors."""
        import psutil

        mine = psutil.Process(self._process.pid)
        return sum(p.cpu_times().user + p.cpu_times().system for p in [mine, *mine.children(recursive=True)])

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
