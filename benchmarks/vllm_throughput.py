"""What steering costs inside vLLM: `python -m benchmarks.vllm_throughput --python .venv-vllm/bin/python`.

Two engines live side by side: stock vLLM without anything of ours, and vLLM with the worker. They answer the same
prompts in turn, rounds that swap their order, 64 requests of 64 tokens each at a time, greedy, on a random Llama of 12
layers. Steered requests add a vector at one layer or at all, with 1 to 256 different specs under way; the last has four
times the requests, 256 of them at a time. Ratios are medians over rounds of tokens a second: `stock` is steered by
stock vLLM, `idle` is steered by unsteered requests to the same engine, whose process is the same too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LAYERS, WIDTH, VOCABULARY, TOKENS, PROMPT = 12, 576, 2000, 64, 32
SPECS = (1, 16, 64, 256)
REQUESTS = 64


def engine(model: str, worker: str, rows: int) -> None:
    """An engine in vLLM's environment: JSON lines in, JSON lines out."""
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
                max_tokens=TOKENS,
                ignore_eos=True,
                extra_args={"steer": r["steer"]} if r["steer"] else None,
            )
            for r in asked["requests"]
        ]
        start = time.perf_counter()
        answers = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - start
        written = sum(len(a.outputs[0].token_ids) for a in answers)
        print(json.dumps({"rate": written / seconds, "first": answers[0].outputs[0].token_ids}), file=out, flush=True)


class Engine:
    """An engine in a process of its own."""

    def __init__(self, python: Path, folder: Path, model: Path, steered: bool, rows: int) -> None:
        from steer_core.generation.servers.room import WORKER, find_vllm, make_room

        room = make_room(folder, find_vllm(python), steered)
        self._process = subprocess.Popen(
            [str(python), __file__, "--engine", str(model), WORKER if steered else "", str(rows)],
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_NO_USAGE_STATS": "1", **room},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "log").open("w"),
            text=True,
        )
        self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the engine has ended"
        return json.loads(line)

    def ask(self, body: dict[str, Any]) -> Any:
        """What it answers to a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(body) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def save_model(folder: Path) -> Path:
    """A random Llama with a tokenizer that nobody needs."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=1536,
        num_hidden_layers=LAYERS,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1").save_pretrained(folder)
    return folder


def bodies(specs: int, layers: tuple[int, ...], requests: int, seed: int) -> list[dict[str, Any]]:
    """Requests with that many specs among them; 0: unsteered."""
    from steer_core.generation.vllm_worker.spec import write_spec

    draw = random.Random(seed)
    found = []
    for n in range(requests):
        edits = [
            {"operator": "add", "vector": f"v{n % specs}", "layer": layer, "coefficient": 0.5 + n % specs / 1000}
            for layer in (layers if specs else ())
        ]
        tokens = [draw.randrange(2, VOCABULARY) for _ in range(PROMPT)]
        found.append({"tokens": tokens, "steer": write_spec(edits, f"{seed}-{n}") if edits else ""})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=Path(".venv-vllm/bin/python"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--specs", type=int, nargs="*", default=list(SPECS))
    parser.add_argument("--engine", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.engine:
        engine(asked.engine[0], asked.engine[1], int(asked.engine[2]))
        return
    import numpy as np

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = save_model(folder / "model")
        most = max(asked.specs)
        engines = [
            Engine(asked.python.absolute(), folder / name, model, name == "steered", max(REQUESTS, most))
            for name in ("stock", "steered")
        ]
        stock, steered = engines
        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(most, WIDTH)).astype("<f4")
        steered.ask(
            {"vectors": [{"name": f"v{n}", "tensors": {"direction": [v.tolist()]}} for n, v in enumerate(vectors)]}
        )
        cases = [
            (name, n, layers)
            for name, layers in (("one layer", (6,)), ("all layers", tuple(range(LAYERS))))
            for n in asked.specs
        ]
        for e in engines:
            e.ask({"requests": bodies(0, (), REQUESTS, 999)})
        print(
            f"{'layers':10} {'specs':>5} {'requests':>8} {'stock tok/s':>11} {'stock':>6} {'idle':>6}  rounds of both"
        )
        for name, specs, layers in cases:
            requests = max(REQUESTS, specs)
            rounds = []
            for k in range(asked.rounds if requests == REQUESTS else max(2, asked.rounds // 2)):
                seed = 1000 * specs + k
                ways = [(stock, 0), (steered, 0), (steered, specs)]
                rates = {
                    way: way[0].ask({"requests": bodies(way[1], layers, requests, seed)})["rate"]
                    for way in (ways if k % 2 else ways[::-1])
                }
                plain, idle, full = (rates[w] for w in ways)
                rounds.append((plain, full / plain, full / idle))
            rate, by_stock, by_idle = (statistics.median(r) for r in zip(*rounds, strict=True))
            print(
                f"{name:10} {specs:5} {requests:8} {rate:11.0f} {by_stock:6.3f} {by_idle:6.3f}  "
                + " ".join(f"{s:.3f}/{i:.3f}" for _, s, i in rounds),
                flush=True,
            )
        for e in engines:
            e.stop()


if __name__ == "__main__":
    main()
