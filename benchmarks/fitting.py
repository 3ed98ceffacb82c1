"""Mean-difference vectors: ours against steering-vectors 0.12.2 and repeng, same model, same pairs, one thread.

A random Llama of 8 layers, width 256 and 1024 words; 256 pairs of about 160 tokens a side, read at the last token after
layer 4. Two sets of pairs: every side with a prompt of its own, and pairs that share a prompt of nine tenths of each
side, so that computing it once saves about 45 % of all tokens (A/B questions are like that). What is timed is what a
user calls: text in, vector out. Every figure is of a fresh process, after a small fit that warms it up. The first round
tries every batch size of the peers, the others their fastest one, twice in a process; rounds are interleaved, and the
best of each counts. The vectors are compared before the times.

    OMP_NUM_THREADS=1 python benchmarks/fitting.py --env FOLDER

makes a virtual environment with the peers in FOLDER where there is none; ours stays in the one that runs this.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

LAYER = 4
BATCH_SIZES = (1, 4, 8, 16, 32)
SETS = ("own", "shared")
PEERS = ["steering-vectors==0.12.2", "repeng"]
PEERS_NEED = ["torch==2.13.0", "transformers>=5.10,<5.18", "numpy<2", "scikit-learn", "tqdm", "gguf"]


def make_model(folder: Path) -> None:
    """A random Llama with a tokenizer of one token a word."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    words = {f"w{i}": i for i in range(1024)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="w0", eos_token="w1")
    fast.padding_side = "right"
    fast.save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=1024,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def make_pairs(n: int, shared: bool, seed: int) -> list[list[list[str]]]:
    """Pairs of (prompt, answer), positive first; the tokens of a side are 120 to 200 words."""
    rng = np.random.default_rng(seed)

    def text(n_words: int) -> str:
        return " ".join(f"w{i}" for i in rng.integers(2, 1024, n_words))

    pairs = []
    for _ in range(n):
        length = int(rng.integers(120, 201))
        prompt = text(int(0.9 * length))
        sides = []
        for _ in range(2):
            answer = text(max(1, length - int(0.9 * length) + int(rng.integers(-8, 9))))
            sides.append([prompt if shared else text(int(0.9 * length)), answer])
        pairs.append(sides)
    return pairs


def ours(folder: Path, pairs: list[Any], estimator: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """(run, warm-up) of our fit."""
    import polars as pl

    from schemas.contrasts import ContrastExamples
    from schemas.specs import ModelSpec
    from schemas.vector_part import VectorPart
    from steer_core.models.loading import load_model
    from steer_core.vectors.fit import fit_vectors

    loaded = load_model(ModelSpec(name="bench", source=str(folder), device="cpu", chat=False))
    rows = [
        (f"{i}-{label}", "bench", "pairs", "train", str(i), label, _messages(prompt), answer, None, "bench", i)
        for i, sides in enumerate(pairs)
        for label, (prompt, answer) in zip((1, 0), sides, strict=True)
    ]
    examples = pl.DataFrame(rows, schema=ContrastExamples.empty().schema, orient="row")
    part = VectorPart(estimator=estimator, options=options, layers=(LAYER,), read="last_token")

    def run(frame: Any) -> Any:
        return fit_vectors(loaded, frame, part)[0].direction

    return lambda: run(examples), lambda: run(examples.head(16))


def _messages(prompt: str) -> str:
    return json.dumps([{"role": "user", "content": prompt}])


def peer(name: str, folder: Path, pairs: list[Any], batch: int) -> tuple[Any, Any]:
    """(run, warm-up) of a peer."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # without a chat template ours sets the answer two lines below the prompt; the words, so the tokens, are the same
    texts = [tuple(f"{prompt}\n\n{answer}" for prompt, answer in sides) for sides in pairs]
    if name == "steering-vectors":
        from steering_vectors import train_steering_vector

        def run(some: Any) -> Any:
            found = train_steering_vector(model, tokenizer, some, layers=[LAYER], batch_size=batch)
            return found.layer_activations[LAYER].numpy()

        return lambda: run(texts), lambda: run(texts[:8])
    from repeng import ControlVector, DatasetEntry

    entries = [DatasetEntry(positive=a, negative=b) for a, b in texts]

    def train(some: Any) -> Any:
        found = ControlVector.train(model, tokenizer, some, batch_size=batch, hidden_layers=[LAYER])
        return found.directions[LAYER]

    return lambda: train(entries), lambda: train(entries[:8])


def measure(args: argparse.Namespace) -> None:
    """One variant in this process: prints seconds of processor time and peak memory, and saves the vector."""
    import torch

    torch.set_num_threads(1)
    pairs = json.loads(Path(args.data).read_text(encoding="utf-8"))
    name, _, setting = args.variant.partition(":")
    if name == "ours":
        options = {"centered": True} if setting == "pca-difference" else {}
        run, warm_up = ours(Path(args.model), pairs, setting, options)
    else:
        run, warm_up = peer(name, Path(args.model), pairs, int(setting))
    warm_up()
    seconds = np.inf
    for _ in range(args.repeats):
        start = time.process_time()
        vector = run()
        seconds = min(seconds, time.process_time() - start)
    np.save(args.vector, np.asarray(vector, dtype=np.float32))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("RESULT " + json.dumps({"seconds": seconds, "peak_mb": peak}))


def spawn(python: str, variant: str, model: Path, data: Path, repeats: int = 1) -> tuple[dict[str, float], Any]:
    """`measure` in a process of its own."""
    vector = data.with_suffix(".npy")
    command = [python, __file__, "--variant", variant, "--model", model, "--data", data, "--vector", vector]
    command += ["--repeats", str(repeats)]
    threads = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [str(c) for c in command],
        env={**os.environ, **threads, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(root) if variant[:4] == "ours" else ""},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        raise SystemExit(f"{variant} failed:\n{done.stderr[-3000:]}")
    return json.loads(lines[0][7:]), np.load(vector)


def environment(folder: Path) -> str:
    """Python of the peers' environment; it is made where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *PEERS_NEED], check=True)
        # steering-vectors asks for transformers below 5, and works with it
        subprocess.run([*pip, "--no-deps", *PEERS], check=True)
    return str(python)


def compare(args: argparse.Namespace) -> None:
    """The whole benchmark."""
    python = environment(Path(args.env))
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model")
        make_model(model)
        data = {}
        for name in SETS:
            data[name] = Path(scratch, f"{name}.json")
            data[name].write_text(json.dumps(make_pairs(args.pairs, name == "shared", seed=1)), encoding="utf-8")
        variants = {"ours:mean-difference": sys.executable, "ours:pca-difference": sys.executable}
        variants |= {f"steering-vectors:{b}": python for b in BATCH_SIZES}
        variants |= {f"repeng:{b}": python for b in args.repeng}
        best: dict[tuple[str, str], float] = {}
        vectors: dict[tuple[str, str], Any] = {}
        for round_ in range(args.rounds):
            for name in SETS:
                for variant, runner in variants.items():
                    if round_ and variant not in _fastest(name, best):
                        continue
                    found, vectors[name, variant] = spawn(runner, variant, model, data[name], 1 + bool(round_))
                    key = (name, variant)
                    best[key] = min(best.get(key, np.inf), found["seconds"])
                    print(f"round {round_}, {name}, {variant}: {found['seconds']:.2f} s", flush=True)
        for name in SETS:
            report(name, best, vectors)
        peaks = []
        for n in (args.pairs, 10 * args.pairs):
            file = Path(scratch, f"memory-{n}.json")
            file.write_text(json.dumps(make_pairs(n, True, seed=2)), encoding="utf-8")
            peaks.append(spawn(sys.executable, "ours:mean-difference", model, file)[0]["peak_mb"])
            file.unlink()
        print(f"peak memory, {args.pairs} and {10 * args.pairs} pairs: {peaks[0]:.0f} and {peaks[1]:.0f} MB", end="")
        print(f", ratio {peaks[1] / peaks[0]:.3f} (bound 1.1)")


def _fastest(name: str, best: dict[tuple[str, str], float]) -> set[str]:
    """Ours, and each peer at the batch size that was its fastest so far."""
    found: dict[str, str] = {}
    for (of_set, variant), _seconds in sorted(best.items(), key=lambda item: item[1]):
        if of_set == name:
            found.setdefault(variant if variant.startswith("ours") else variant.split(":")[0], variant)
    return set(found.values())


def report(name: str, best: dict[tuple[str, str], float], vectors: dict[tuple[str, str], Any]) -> None:
    """Equality first, then the ratios."""
    mean = vectors[name, "ours:mean-difference"]
    for b in BATCH_SIZES:
        other = vectors[name, f"steering-vectors:{b}"]
        difference = float(np.abs(mean - other).max())
        print(f"{name}: largest difference from steering-vectors, batch {b}: {difference:.1e}")
        if difference > 1e-5:
            raise SystemExit("the vectors differ: times say nothing")
    pca = vectors[name, "ours:pca-difference"]
    for (_, variant), other in ((k, v) for k, v in vectors.items() if k[0] == name and k[1].startswith("repeng")):
        print(f"{name}: |cosine| of the principal components, {variant}: {abs(pca @ other) / np.linalg.norm(pca):.6f}")
    for own, peers in (("ours:mean-difference", "steering-vectors"), ("ours:pca-difference", "repeng")):
        times = {v: t for (s, v), t in best.items() if s == name and v.startswith(peers)}
        fastest = min(times, key=times.__getitem__)
        ratio = times[fastest] / best[name, own]
        print(f"{name}: {own} {best[name, own]:.2f} s, {fastest} {times[fastest]:.2f} s, ratio {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="build/fitting-peers", help="folder of the peers' virtual environment")
    parser.add_argument("--pairs", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeng", type=int, nargs="*", default=[8, 32], help="batch sizes of repeng")
    parser.add_argument("--repeats", type=int, default=1, help=argparse.SUPPRESS)
    for hidden in ("--variant", "--model", "--data", "--vector"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.variant:
        measure(args)
    else:
        compare(args)


if __name__ == "__main__":
    main()
