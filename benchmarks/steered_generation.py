"""What steering costs in generation: `python benchmarks/steered_generation.py [--pairs 24]`.

One thread, CPU time, a random Llama (8 layers, width 256, vocabulary 1024), 16 prompts of 48 tokens, 48 new tokens.

1. Steered against unsteered `generate`, in interleaved pairs that swap their order: the mean ratio with its 95 %
   interval. The steered runs add a vector of norm 0 at one layer, so that both write the same tokens.
2. Eight strengths in one batch against eight runs of one strength, after checking that the rows hold the same tokens;
   with 1, 4, 8 and 16 prompts a run, for what a batch saves depends on how full the runs are by themselves.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
import transformers

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models.info import ModelInfo
from steer_core.models.loading import LoadedModel
from steer_core.steering.compose import interventions
from steer_core.steering.plan import Plan
from steer_core.steering.strength import Strength
from steer_core.steering.vector import SteeringVector

ROWS, PROMPT, NEW, LAYER = 16, 48, 48, 4
STRENGTHS = (-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0)


class Tokens:
    """A tokenizer of numbers: what is timed is the model, not the text."""

    pad_token_id, eos_token_id, bos_token_id, chat_template = 0, None, None, None

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        """Token ids as text."""
        return " ".join(map(str, ids))


def load(layers: int = 8, width: int = 256, device: str = "cpu", dtype: str = "float32") -> LoadedModel:
    """A random Llama that never ends its answers."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=1024,
        hidden_size=width,
        intermediate_size=width * 5 // 2,
        num_hidden_layers=layers,
        num_attention_heads=max(4, width // 64),
        num_key_value_heads=max(4, width // 64),
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = transformers.AutoModelForCausalLM.from_config(config).to(device, getattr(torch, dtype)).eval()
    spec = ModelSpec(name="random", source="./random", dtype=dtype)  # type: ignore[arg-type]
    return LoadedModel(spec, model, Tokens(), ModelInfo(2048, False), "random", device)


def vector(loaded: LoadedModel, norm: float) -> SteeringVector:
    """A random direction of that norm."""
    width = loaded.model.config.hidden_size
    drawn = np.random.default_rng(1).standard_normal((1, width))
    direction = (norm * drawn / np.linalg.norm(drawn)).astype(np.float32)
    return SteeringVector("random", "add", LAYER, {"direction": direction}, {}, loaded.fingerprint)


def plans(loaded: LoadedModel, rows: int = ROWS) -> list[Plan]:
    """Prompts of random tokens."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, loaded.model.config.vocab_size, size=(rows, PROMPT)).tolist()
    decoding = Decoding(max_new_tokens=NEW)
    return [Plan(loaded.spec.identity, decoding, tokens=tuple(row)) for row in ids]


def run(backend: TransformersBackend, asked: list[Plan]) -> tuple[float, list[str]]:
    """CPU seconds, and what was written."""
    calls = [Call(p, 0, 0) for p in asked]
    start = time.process_time()
    answers = answer_all(backend, calls)
    return time.process_time() - start, [a.raw for a in answers]


def overhead(backend: TransformersBackend, pairs: int) -> None:
    """Steered against unsteered, interleaved."""
    idle = vector(backend.loaded, 0.0)
    backend.add_vectors([idle])
    plain = plans(backend.loaded)
    steered = [replace(p, interventions=interventions([idle], Strength(1.0))) for p in plain]
    assert run(backend, plain)[1] == run(backend, steered)[1], "a vector of zeros changed the tokens"
    ratios = []
    for k in range(pairs):
        if k % 2:
            b, a = run(backend, plain)[0], run(backend, steered)[0]
        else:
            a, b = run(backend, steered)[0], run(backend, plain)[0]
        ratios.append(a / b)
    mean, spread = statistics.mean(ratios), statistics.stdev(ratios) / len(ratios) ** 0.5
    from scipy.stats import t

    half = float(t.ppf(0.975, len(ratios) - 1)) * spread
    print(f"steered / unsteered generate: {mean:.4f} [{mean - half:.4f}, {mean + half:.4f}], {pairs} pairs")


def sweep(backend: TransformersBackend, prompts: int, repeats: int = 5) -> None:
    """Eight strengths at once against one after the other."""
    pushed = vector(backend.loaded, 2.0)
    backend.add_vectors([pushed])
    plain = plans(backend.loaded, prompts)
    arms = [[replace(p, interventions=interventions([pushed], Strength(s))) for p in plain] for s in STRENGTHS]
    one_by_one = [run(backend, arm)[1] for arm in arms]
    together = run(backend, [p for arm in arms for p in arm])[1]
    assert together == [text for arm in one_by_one for text in arm], "rows of the shared batch differ"
    assert len(set(together)) > len(plain), "the strengths write the same: nothing was steered"
    apart = min(sum(run(backend, arm)[0] for arm in arms) for _ in range(repeats))
    batch = min(run(backend, [p for arm in arms for p in arm])[0] for _ in range(repeats))
    times = f"{apart:.2f} s one after the other, {batch:.2f} s in one batch"
    print(f"8 strengths of {prompts:2} prompts: {times}: {apart / batch:.2f} x", flush=True)


def main() -> None:
    """Print both figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=24)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backend = TransformersBackend(load())
    overhead(backend, options.pairs)
    for prompts in (1, 4, 8, 16):
        sweep(backend, prompts)


if __name__ == "__main__":
    main()
