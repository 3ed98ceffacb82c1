"""Options of multiple-choice items, scored with shared prefixes: `python -m benchmarks.option_scoring [--rounds 5]`.

Log-probabilities of all options of all items, one thread, on the embedded model (4 layers x 128) and on a random Llama
of 12 layers x 256 with the same tokenizer, in interleaved rounds that swap their order:

* one at a time: plain transformers, one forward pass without a cache for each prompt and option, as an evaluation
  harness has it at batch size 1;
* ours: `score_all` as it is.

Items: `bbq`, 3 options after a prompt of 120 tokens of its own; `bbq-set`, the items that ship, where as in the
published ones two questions stand under one context, and a context that tells continues one that does not; `shots`, 4
options after a question of 40 tokens behind the same 5 examples of 70; `sentences`, 3 sentences of 12 tokens with
nothing before them, as StereoSet has them. Unsteered, and ours once more with every item under 4 strengths of one
vector, beside one at a time under hooks. The log-probabilities of all options (sums over their tokens) are checked to
be equal to 1e-4 nats before they are timed; tokenising is in the times.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers

from schemas.profile_sets import BbqSet
from schemas.specs import Decoding, ModelSpec
from steer_core.evaluation.profiles.sets import load_set
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.forced import score_all
from steer_core.generation.prompt_tokens import begun
from steer_core.models import load_model
from steer_core.models.loading import LoadedModel
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.vector import SteeringVector

ROWS = 64
KINDS = ("bbq", "bbq-set", "shots", "sentences")
STRENGTHS = (-1.0, -0.5, 0.5, 1.0)
#: How the tokenizer writes a leading blank.
BLANK = "\u0120"


def words(tokenizer: Any, tokens: int, rng: np.random.Generator) -> str:
    """A text of about so many tokens: words that are one token each."""
    own = sorted(w[1:] for w in tokenizer.get_vocab() if w[:1] == BLANK and w[1:].isalpha() and w[1:].isascii())
    return "".join(" " + w for w in rng.choice(own, tokens))


def items_of(tokenizer: Any, kind: str, count: int) -> list[tuple[str, list[str]]]:
    """Prompts with their options."""
    if kind == "bbq-set":
        rows = load_set(BbqSet.model_validate({})).select("text", "options").head(count)
        return [(str(text), list(json.loads(options))) for text, options in rows.iter_rows()]
    rng = np.random.default_rng(0)
    shots = "".join(f"Question:{words(tokenizer, 62, rng)}\nAnswer:{words(tokenizer, 3, rng)}\n\n" for _ in range(5))
    found = []
    for _ in range(count):
        if kind == "sentences":
            found.append(("", [words(tokenizer, 12, rng) for _ in range(3)]))
            continue
        if kind == "bbq":
            prompt, options = words(tokenizer, 118, rng), 3
        else:
            prompt, options = f"{shots}Question:{words(tokenizer, 36, rng)}\nAnswer:", 4
        found.append((prompt, [words(tokenizer, int(rng.integers(1, 6)), rng) for _ in range(options)]))
    return found


def one_at_a_time(loaded: LoadedModel, rows: Sequence[tuple[Plan, str]], backend: TransformersBackend) -> list[float]:
    """Log-probability of each option, a forward pass each; steered rows under a hook set by hand."""
    found = []
    for plan, option in rows:
        prompt = begun(loaded.tokenizer(plan.text)["input_ids"], loaded.tokenizer)
        answer = loaded.tokenizer(option, add_special_tokens=False)["input_ids"]
        handle = None
        if plan.interventions:
            (act,) = plan.interventions
            vector = backend.steering.vectors[act.vector]
            amount = torch.tensor(act.coefficient * vector.direction)
            handle = loaded.model.model.layers[act.layer].register_forward_hook(
                lambda _m, _a, out, amount=amount: out + amount
            )
        with torch.inference_mode():
            logits = loaded.model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0]
        if handle is not None:
            handle.remove()
        picked = logits[len(prompt) - 1 : -1].float().log_softmax(-1).gather(1, torch.tensor(answer)[:, None])
        found.append(float(picked.sum()))
    return found


def timed(run: Callable[[], list[float]]) -> tuple[float, float, list[float]]:
    """Seconds by the clock, of the processor, and what was found."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = run()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def compare(name: str, loaded: LoadedModel, kind: str, count: int, rounds: int, steered: bool) -> None:
    """Print rates and ratios of one workload."""
    items = items_of(loaded.tokenizer, kind, count)
    layer = loaded.model.config.num_hidden_layers // 2
    direction = np.random.default_rng(1).normal(size=(1, loaded.model.config.hidden_size)).astype(np.float32)
    vector = SteeringVector("c", "add", layer, {"direction": 0.1 * direction}, {}, loaded.fingerprint)
    ours = TransformersBackend(loaded, [vector])
    arms = [(Intervention("add", vector.id, layer, c),) for c in STRENGTHS] if steered else [()]
    rows = [
        (Plan(ours.model_identity, Decoding(max_new_tokens=1), text=prompt, interventions=arm), option)
        for prompt, options in items
        for arm in arms
        for option in options
    ]
    plans, options = [p for p, _ in rows], [o for _, o in rows]
    ways: dict[str, Callable[[], list[float]]] = {
        "one at a time": lambda: one_at_a_time(loaded, rows, ours),
        "ours": lambda: [sum(s) for s in score_all(plans, options, ours, ROWS)],
    }
    found = {way: run() for way, run in ways.items()}
    apart = max(float(np.abs(np.subtract(f, found["one at a time"])).max()) for f in found.values())
    assert apart < 1e-4, apart
    walls: dict[str, list[float]] = {way: [] for way in ways}
    cpus: dict[str, list[float]] = {way: [] for way in ways}
    for k in range(rounds):
        for way in list(ways)[:: 1 if k % 2 == 0 else -1]:
            wall, cpu, _ = timed(ways[way])
            walls[way].append(wall)
            cpus[way].append(cpu)
    tokens = median(len(loaded.tokenizer(p)["input_ids"]) for p, _ in items)
    said = f"{kind}{', 4 strengths' if steered else ''}: {count} items of {tokens:.0f} tokens, {len(rows)} options"
    print(f"{name}; {said}; apart by {apart:.0e} nats at most", flush=True)
    base = "one at a time"
    for way in ways:
        ratios = [w / o for w, o in zip(walls[base], walls[way], strict=True)]
        print(
            f"  {way:14s} {count / median(walls[way]):8.1f} items/s   {median(walls[base]) / median(walls[way]):5.1f}x "
            f"by the clock (rounds {min(ratios):.1f} to {max(ratios):.1f})   "
            f"{median(cpus[base]) / median(cpus[way]):5.1f}x of processor time",
            flush=True,
        )


def main() -> None:
    """Print a block a workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--models", nargs="+", choices=("embedded", "random"), default=("embedded", "random"))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    embedded = load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))
    print(f"torch {torch.__version__}, 1 thread, {ROWS} rows a batch, {options.rounds} rounds, medians")
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=len(embedded.tokenizer), hidden_size=256, intermediate_size=688, num_hidden_layers=12,
            num_attention_heads=8, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )  # fmt: skip
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
        embedded.tokenizer.save_pretrained(folder)
        random = load_model(ModelSpec(name="random", source=str(Path(folder)), device="cpu"))
        models = {"embedded, 4 layers x 128": embedded, "random Llama, 12 layers x 256": random}
        for name, loaded in models.items():
            if name.split(",")[0].split()[0] not in options.models:
                continue
            for kind in options.kinds:
                for steered in (False, True):
                    count = options.items // 4 if steered else options.items
                    compare(name, loaded, kind, count, options.rounds, steered)


if __name__ == "__main__":
    main()
