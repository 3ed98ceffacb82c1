"""A GRPO step of ours against plain trl: the same model, prompts, rewards and settings, in turns, by processor time.

Ours writes completions with its own engine, holds their log-probabilities against the trainer's, measures them with the
ruler and writes every one down; plain trl calls `generate` of transformers, has one reward function over the same
ruler, and keeps nothing. First, trl's own trainer is given the very completions that ours trained on: the weights must
come out the same. Then: what the rewards of 512 completions cost beside a step of as many.

    OMP_NUM_THREADS=1 python -m benchmarks.grpo
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.adapter_world import training_on
from schemas.recipes import GrpoRecipe
from steer_core.adapters.lora import lora_config
from steer_core.adapters.recipe import Training, train
from steer_core.adapters.recipes import grpo
from steer_core.adapters.rewards import Answer, Rewarder
from steer_core.adapters.training import quiet, train_on
from steer_core.front.bench import Bench, open_bench

STEPS, ROUNDS = 6, 3


def recipe(**more: Any) -> GrpoRecipe:
    """The preset of the embedded model, for a few steps."""
    return GrpoRecipe.model_validate({"preset": "embedded", "steps": STEPS, "checkpoints": 1, **more})


def plain(training: Training, settings: GrpoRecipe, given: list[dict[str, Any]] | None = None) -> Any:
    """Trl's own trainer on the same data; `given` are completions, step by step, in place of its own."""
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    loaded = training.load()
    rewarder = Rewarder(settings, training.goals, training.targets, training.ruler)

    def reward(prompts: list[Any], completions: list[Any], request: list[str], **_: Any) -> list[float]:
        said = [c if isinstance(c, str) else c[0]["content"] for c in completions]
        answers = [Answer(r, s, *_cleaned(training, r, s)) for r, s in zip(request, said, strict=True)]
        return [float(v) for v in rewarder.score(answers).rewards["steering_error"]]

    def turns(request: str) -> list[dict[str, str]]:
        return [{"role": m.role, "content": m.content} for m in training.plans[request].messages or ()]

    arguments = grpo._settings(settings, training.run.path, True)
    order = grpo._order(settings, sorted(training.plans))
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        trainer = GRPOTrainer(
            model=loaded.model,
            reward_funcs=[reward],
            args=GRPOConfig(**arguments),
            train_dataset=Dataset.from_dict({"prompt": [turns(r) for r in order], "request": order}),
            processing_class=loaded.tokenizer,
            peft_config=lora_config(settings.lora, loaded.model),
            rollout_func=None if given is None else lambda prompts, t: given[t.state.global_step],
        )
        begun = time.process_time()
        train_on(trainer, None)
    return trainer, time.process_time() - begun


def _cleaned(training: Training, request: str, raw: str) -> tuple[str, str, str | None]:
    text, failure = training.failure(request, raw, "stop")
    return text, "stop", failure


def ours(training: Training, settings: GrpoRecipe) -> float:
    """Processor seconds of our training, loading aside."""
    trainer = grpo._trainer(settings, training, (STEPS,))
    begun = time.process_time()
    train_on(trainer, None)
    return time.process_time() - begun


def same_weights(bench: Bench, folder: Path) -> float:
    """Largest difference of weights: ours, and trl's own trainer on the completions that ours wrote."""
    from safetensors.torch import load_file

    settings, written = recipe(), []
    training = training_on(bench, folder / "ours")
    write = grpo.Rollouts.for_trainer

    def kept(self: Any, requests: Any, step: int, own: slice) -> dict[str, Any]:
        written.append(found := write(self, requests, step, own))
        return {**found}

    grpo.Rollouts.for_trainer = kept  # type: ignore[method-assign]
    try:
        states = train(settings, training)
    finally:
        grpo.Rollouts.for_trainer = write  # type: ignore[method-assign]
    given = [{k: w[k] for k in ("prompt_ids", "completion_ids", "logprobs")} for w in written]
    # rewards see what ours saw: why each completion ended
    finish = iter([f for w in written for f in w["finish_reason"]])
    asked = replace(
        training_on(bench, folder / "plain"),
        failure=lambda request, raw, _: training.failure(request, raw, next(finish)),
    )
    trainer, _ = plain(asked, settings, given)
    one = load_file(states[STEPS] / "adapter_model.safetensors")
    other = {k.replace(".default", ""): v for k, v in trainer.model.state_dict().items() if "lora_" in k}
    return max(float((one[k] - other[k]).abs().max()) for k in one)


def main() -> None:
    """Print the figures."""
    bench = open_bench("tales", 32, 4, ())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{STEPS} steps of 8 x 8 completions, embedded model, LoRA of rank 16, one thread; processor time")
        print(f"weights, ours and trl's on the same completions: differ by {same_weights(bench, folder):.1e} at most")
        found: dict[str, list[float]] = {"ours": [], "plain trl": []}
        for turn in range(ROUNDS):
            training = training_on(bench, folder / f"run-{turn}")
            for who in ("ours", "plain trl") if turn % 2 else ("plain trl", "ours"):
                seconds = ours(training, recipe()) if who == "ours" else plain(training, recipe())[1]
                found[who].append(seconds / STEPS)
        for who, seconds in found.items():
            print(f"{who:>10}: {statistics.median(seconds):6.2f} s a step ({min(seconds):.2f} to {max(seconds):.2f})")
        ratios = [a / b for a, b in zip(found["ours"], found["plain trl"], strict=True)]
        print(f"ours / plain trl: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        rewards_of(bench, folder, 8 * statistics.median(found["ours"]))


def rewards_of(bench: Bench, folder: Path, step: float) -> None:
    """What rewards of 512 fresh completions cost, beside a step of as many."""
    training = training_on(bench, folder / "rewards")
    settings = recipe(rewards={"steering_error": 1.0, "miscalibration": 0.0, "orthogonality": 0.0, "meaning": 0.0})
    rewarder = Rewarder(settings, training.goals, training.targets, training.ruler)
    requests = sorted(training.targets)
    rng = np.random.default_rng(0)
    words = " ".join(t.source for t in training.targets.values()).split()
    texts = [" ".join(rng.choice(words, 45)) + "." for _ in range(512)]
    answers = [Answer(requests[k % len(requests)], t, t, "stop", None) for k, t in enumerate(texts)]
    rewarder.score(answers[:8])
    begun = time.process_time()
    rewarder.score(answers)
    seconds = time.process_time() - begun
    print(f"rewards of 512 completions nobody measured before: {seconds:.2f} s, {seconds / step:.1%} of a step of 512")


if __name__ == "__main__":
    main()
