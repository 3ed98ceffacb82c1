"""The engine `vllm` with its server and without, side by side: `benchmarks.vllm_throughput` runs it.

128 steered requests of up to 64 tokens, 64 at a time, through `VllmBackend` as a run would send them, receipts checked;
rounds swap the order. Answers of the two must be the same.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.vllm_throughput import Subject

MODES = ("server", "offline")
ROWS, REQUESTS, TOKENS = 64, 128, 64


def compare_modes(subject: Subject, source: str, python: Path, rounds: int) -> None:
    """Print tokens a second of both, and their ratio.

    Raises:
        AssertionError: they answer differently.
    """
    from schemas.specs import Decoding, ModelSpec
    from steer_core.generation.backend import Call, answer_all
    from steer_core.generation.engines import load_engine
    from steer_core.steering.intervention import Intervention
    from steer_core.steering.plan import Plan

    settings = {"python": str(python), "rows": ROWS}
    backends: dict[str, Any] = {}
    for mode in MODES:
        spec = {"name": mode, "source": source, "device": "cpu", "engine": "vllm", "vllm": {**settings, "mode": mode}}
        backends[mode] = load_engine(ModelSpec.model_validate(spec))
        backends[mode].add_vectors(subject.vectors)
    did: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    try:
        for k in range(rounds + 1):
            calls = []
            for n in range(REQUESTS):
                vector = subject.vectors[n % ROWS]
                steer = (Intervention("add", vector.id, subject.middle, subject.coefficient(n % ROWS, 1)),)
                prompt, decoding = tuple(subject.prompt(9000 + k, n)), Decoding(max_new_tokens=TOKENS)
                plan = Plan(subject.backend.model_identity, decoding, tokens=prompt, interventions=steer)
                calls.append(Call(plan, 0, 0))
            texts = {}
            for mode in MODES if k % 2 else MODES[::-1]:
                backend = backends[mode]
                before, start = _processor_time(backend), time.perf_counter()
                found = answer_all(backend, calls)
                seconds = time.perf_counter() - start
                texts[mode], written = [g.raw for g in found], sum(g.completion_tokens for g in found)
                # the first round starts them
                if k:
                    did[mode].append((written / seconds, written / (_processor_time(backend) - before)))
            assert texts["server"] == texts["offline"]
    finally:
        for backend in backends.values():
            backend.close()
    print(f"the engine `vllm`, {REQUESTS} steered requests, {ROWS} at a time, receipts checked, answers the same:")
    for k, what in enumerate(("by the clock", "by processor time")):
        ratios = [o[k] / s[k] for s, o in zip(did["server"], did["offline"], strict=True)]
        rates = " and ".join(f"{statistics.median(r[k] for r in did[m]):.0f}" for m in MODES)
        print(
            f"  {what}: {rates} tok/s with and without the server; {statistics.median(ratios):.3f} "
            f"({' '.join(f'{r:.3f}' for r in ratios)})"
        )


def _processor_time(backend: Any) -> float:
    """Seconds that this process and those of the engine have had of processors; before it runs, of this one."""
    import psutil

    mine = [psutil.Process()]
    process = getattr(backend._server, "_process", None)
    if process is not None:
        leader = psutil.Process(process.pid)
        mine += [leader, *leader.children(recursive=True)]
    return sum(p.cpu_times().user + p.cpu_times().system for p in mine)
