"""BiPO's published training loop, re-created, against ours: same signs, same order, one thread, processor time.

The published loop holds two copies of the model. In every step both run all layers over prompt and answer of each side,
with the head on every position; the policy's copy gets the vector times the batch's sign after the middle layer.
Batches of 4 pairs, AdamW at 5e-4 under a cosine with 100 steps of warm-up, gradients clipped at 1, 20 epochs. Copying
the model counts on its side, the cached pass and its check on ours; neither evaluates during the training. Prompts and
answers are as long as in the power-seeking data under a chat template: three quarters of the tokens are prompt.

    OMP_NUM_THREADS=1 python benchmarks/bipo.py
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers

from steer_core.vectors.preference.capture import capture
from steer_core.vectors.preference.objectives import PUBLISHED_SEED, Bipo
from steer_core.vectors.preference.pair_tokens import EncodedPair
from steer_core.vectors.preference.training import Schedule, train_vector

BETA = 0.1


def make_model(seed: int) -> Any:
    """A random Llama: 8 layers, width 256, 1024 words."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=1024,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        # random weights of a size that makes the model's words depend on what it read
        initializer_range=0.05,
    )
    return transformers.LlamaForCausalLM(config).eval()


def make_pairs(n: int, seed: int) -> list[EncodedPair]:
    """Random pairs of about 80 tokens a side: 60 of prompt, 20 of answer."""
    rng = np.random.default_rng(seed)

    def tokens(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(t) for t in rng.integers(2, 1024, rng.integers(low, high + 1)))

    return [EncodedPair(str(i), "train", tokens(52, 68), (*tokens(15, 24), 1), (*tokens(15, 24), 1)) for i in range(n)]


class AddVector(torch.nn.Module):
    """A decoder layer that adds a vector times a sign to its output."""

    def __init__(self, layer: Any, width: int) -> None:
        super().__init__()
        self.layer, self.sign = layer, 1.0
        self.vector = torch.nn.Parameter(torch.zeros(width))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's output plus the signed vector, at all positions."""
        return self.layer(*args, **kwargs) + self.sign * self.vector


def side_log_probs(model: Any, ids: Any, mask: Any, answer: Any) -> Any:
    """Summed log-probability of each row's answer, [rows]: head and softmax on all positions."""
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].log_softmax(-1)
    picked = logits.gather(2, ids[:, 1:, None])[..., 0]
    return (picked * answer[:, 1:]).sum(-1)


def published(model: Any, pairs: Sequence[EncodedPair], layer: int, schedule: Schedule) -> np.ndarray:
    """The published loop; the order of the pairs is the schedule's."""
    reference, policy = model, copy.deepcopy(model)
    for p in [*reference.parameters(), *policy.parameters()]:
        p.requires_grad_(False)
    wrapper = AddVector(policy.model.layers[layer], policy.config.hidden_size)
    policy.model.layers[layer] = wrapper
    optimizer = torch.optim.AdamW([wrapper.vector], lr=schedule.learning_rate, weight_decay=0.0)
    steps = -(-len(pairs) // schedule.batch)
    rate = transformers.get_cosine_schedule_with_warmup(optimizer, schedule.warmup, steps * schedule.epochs)
    order, signs = np.random.default_rng(schedule.seed), random.Random(PUBLISHED_SEED)
    for _ in range(schedule.epochs):
        shuffled = order.permutation(len(pairs))
        for first in range(0, len(pairs), schedule.batch):
            batch = [pairs[i] for i in shuffled[first : first + schedule.batch]]
            rows = [p.prompt + p.chosen for p in batch] + [p.prompt + p.rejected for p in batch]
            width = max(map(len, rows))
            ids = torch.tensor([[*r, *[0] * (width - len(r))] for r in rows])
            mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
            answer = mask.clone()
            for row, pair in enumerate([*batch, *batch]):
                answer[row, : len(pair.prompt)] = 0
            wrapper.sign = float(signs.choice((-1, 1)))
            now = side_log_probs(policy, ids, mask, answer)
            with torch.no_grad():
                before = side_log_probs(reference, ids, mask, answer)
            chosen, rejected = (now - before).chunk(2)
            loss = -torch.nn.functional.logsigmoid(wrapper.sign * BETA * (chosen - rejected)).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([wrapper.vector], schedule.clip)
            optimizer.step()
            rate.step()
    return wrapper.vector.detach().numpy().copy()


def ours(
    model: Any, pairs: Sequence[EncodedPair], layer: int, schedule: Schedule, signs: Any, share: bool = True
) -> np.ndarray:
    """The library's training, its one pass below the layer included."""
    loaded: Any = SimpleNamespace(model=model, spec=SimpleNamespace(name="random-llama"))
    trunk = capture(loaded, pairs, [layer], share_prompts=share)[layer]
    return train_vector(trunk, Bipo(BETA, signs), schedule, validation=[]).last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, pairs = make_model(0), make_pairs(options.pairs, 0)
    layer, schedule = 3, Schedule(epochs=options.epochs)
    runs: dict[str, Any] = {
        "published loop": lambda: published(model, pairs, layer, schedule),
        "ours, same signs": lambda: ours(model, pairs, layer, schedule, "compat"),
        "ours, same signs, prompts not shared": lambda: ours(model, pairs, layer, schedule, "compat", share=False),
        "ours, both signs": lambda: ours(model, pairs, layer, schedule, "antithetic"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    vectors = {}
    for _ in range(options.repeats):
        for name, run in runs.items():
            start = time.process_time()
            vectors[name] = run()
            seconds[name].append(time.process_time() - start)
    one, other = vectors["published loop"], vectors["ours, same signs"]
    print(f"{len(pairs)} pairs, {options.epochs} epochs, layer {layer} of 8, one thread")
    difference = np.abs(one - other).max()
    print(
        f"norm of the vector {np.linalg.norm(one):.4f}; largest difference of an element, same signs: {difference:.2e}"
    )
    if difference > 1e-6:
        raise SystemExit("the vectors differ: speeds are not compared")
    for name, times in seconds.items():
        print(f"{name:36s} {np.median(times):7.1f} s of processor time ({', '.join(f'{t:.1f}' for t in times)})")
    for name in list(runs)[1:]:
        ratios = sorted(a / b for a, b in zip(seconds["published loop"], seconds[name], strict=True))
        print(f"published / {name}: {np.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
