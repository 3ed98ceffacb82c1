"""Group-relative policy optimisation on the goal space: trl's trainer, with our rollouts, rewards and books.

What trl does not do and this adds, by subclassing alone:

1. completions come from `Rollouts`, so that every token has the log-probability that it was drawn with; the trainer's
   own must agree at every step, or the run stops;
2. every completion becomes a row, with its position in goal space, whether it was trained on or not;
3. more completions may be drawn than are trained on (`keeping`);
4. groups without a difference in reward, and completions without a reward, are counted;
5. several processes draw the completions that one would draw, each its share, and take the same steps.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.recipes import GrpoRecipe
from schemas.specs import Decoding
from steer_core.adapters.books import Books
from steer_core.adapters.lora import lora_config, settle
from steer_core.adapters.margin import margin_loss
from steer_core.adapters.ranks import divisors, unequal
from steer_core.adapters.recipe import Training
from steer_core.adapters.rewards import Rewarder, Target
from steer_core.adapters.rollouts import Rollouts
from steer_core.adapters.run import kept_steps
from steer_core.adapters.tight import ROWS, in_chunks
from steer_core.adapters.training import (
    book_of,
    order,
    ours,
    quiet,
    shared_settings,
    train_on,
    with_room,
)
from steer_core.adapters.vllm_rollouts import VllmRollouts
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.marks import Writer
from steer_core.models.loading import LoadedModel
from steer_core.probes.weights import density_weights
from steer_core.tables.errors import ConfigError

#: Columns of the trainer's own log that become rows, and what they are called here.
LOGGED = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "reward": "reward",
    "reward_std": "reward_std",
    "kl": "kl",
    "entropy": "entropy",
    "completions/mean_length": "tokens",
    "completions/clipped_ratio": "clipped",
    "clip_ratio/region_mean": "ratio_clipped",
}


SPEC = GrpoRecipe
#: Raised when the same recipe and data give other weights.
VERSION = "2"


def not_shared(recipe: GrpoRecipe, processes: int) -> str | None:
    """Why so many processes cannot take the steps that one would take."""
    parts = int(recipe.trl.get("gradient_accumulation_steps", 1))
    drawn, kept = recipe.drawn or recipe.completions, recipe.completions
    of = f"prompts_per_step = {recipe.prompts_per_step} with"
    if recipe.loss == "bnpo":
        return "`loss: bnpo` averages over the tokens of each process by itself: take `dapo`, or one process"
    if recipe.margin:
        return "`margin` averages over the completions of each process by itself: leave it out, or take one process"
    if recipe.drawn and recipe.prompts_per_step % processes:
        able = ", ".join(map(str, divisors(recipe.prompts_per_step)))
        return (
            f"of `drawn` completions each request's best and worst are kept, so each process needs whole requests: "
            f"prompts_per_step = {recipe.prompts_per_step} can be shared by {able} processes, not by {processes}"
        )
    return unequal(f"{of} {drawn} completions", recipe.prompts_per_step * drawn, processes, parts) or unequal(
        f"{of} {kept} completions that are kept", recipe.prompts_per_step * kept, processes, parts
    )


def train(recipe: GrpoRecipe, training: Training) -> dict[int, Path]:
    """Train, or go on where a run of the same folder stopped; returns the folders of the states that are kept.

    Raises:
        ConfigError: too few requests fit the context, or an option that trl does not have.
        SteerworksError: sampled and trained log-probabilities drift apart, or nothing can be learnt from.
    """
    run = training.run
    kept = kept_steps(recipe.steps, recipe.checkpoints)
    step = run.begin()
    if step < recipe.steps:
        if step:
            training.say(f"training goes on after step {step} of {recipe.steps}")
        train_on(_trainer(recipe, training, kept), run.checkpoints().get(step))
    return {s: p for s, p in run.checkpoints().items() if s in kept}


def _prompts(recipe: GrpoRecipe, training: Training, backend: TransformersBackend) -> dict[str, list[int]]:
    """Token ids of the prompts that leave room for an answer.

    Raises:
        ConfigError: fewer than a step takes.
    """
    fit = with_room(training.plans, backend, recipe.max_new_tokens, training.say)
    if len(fit) < recipe.prompts_per_step:
        raise ConfigError(
            f"{len(fit)} requests can be trained on, and a step takes {recipe.prompts_per_step} "
            "(`prompts_per_step`): give the bench a train_probe with more texts, or lower it or `max_new_tokens`"
        )
    return fit


def _order(recipe: GrpoRecipe, requests: Sequence[str]) -> list[str]:
    """Requests in the order in which steps take them."""
    wanted = -(-recipe.steps // recipe.inner_steps) * recipe.prompts_per_step
    return [requests[i] for i in order(len(requests), wanted, recipe.seed)]


def weights_of(recipe: GrpoRecipe, targets: Mapping[str, Target]) -> dict[str, float]:
    """Request id -> its weight in the loss, 1 in the mean over texts; empty where all weigh the same."""
    if recipe.weights == "none":
        return {}
    places = {t.source: t.z0 for t in targets.values()}
    texts = sorted(places)
    found = density_weights(np.stack([places[t] for t in texts]), recipe.weights, np.random.default_rng(recipe.seed))
    of = dict(zip(texts, (found.weights * len(texts)).tolist(), strict=True))
    return {request: of[target.source] for request, target in targets.items()}


def _settings(recipe: GrpoRecipe, folder: Path, on_cpu: bool, processes: int = 1) -> dict[str, Any]:
    """Arguments of trl's `GRPOConfig`.

    Raises:
        ConfigError: settings that contradict each other, or the engine.
    """
    drawn = recipe.drawn or recipe.completions
    more = dict(recipe.trl)
    parts = int(more.pop("gradient_accumulation_steps", 1))
    rows = recipe.prompts_per_step * drawn
    if rows % parts or recipe.prompts_per_step * recipe.completions % parts:
        raise ConfigError(f"a step's completions cannot be cut into gradient_accumulation_steps = {parts} equal parts")
    if more.get("use_vllm"):
        _refuse_vllm(recipe, on_cpu)
    return {
        **shared_settings(recipe, folder, recipe.steps, rows, parts, on_cpu, processes),
        "beta": recipe.beta,
        "epsilon": recipe.epsilon,
        "epsilon_high": recipe.epsilon_high,
        "loss_type": recipe.loss,
        "scale_rewards": recipe.scale,
        "multi_objective_aggregation": recipe.aggregate,
        "num_iterations": recipe.inner_steps,
        "temperature": recipe.temperature,
        "min_p": recipe.min_p or None,
        "max_completion_length": recipe.max_new_tokens,
        "num_generations": drawn,
        "steps_per_generation": parts,
        "reward_weights": list(recipe.rewards.values()),
        # what is sampled and what is trained must be one distribution
        "disable_dropout": True,
        **more,
    }


def _refuse_vllm(recipe: GrpoRecipe, on_cpu: bool) -> None:
    """Look whether trl's vLLM could write the completions.

    Raises:
        ConfigError: it could not.
    """
    if on_cpu:
        raise ConfigError("trl's vLLM takes the weights from one GPU to another: leave `use_vllm` out on a CPU")
    if recipe.min_p:
        raise ConfigError(
            f"with `use_vllm` log-probabilities are those after `min_p` = {recipe.min_p:g}, and the trainer's are "
            "those before it: set `min_p: 0`"
        )


def _trainer(recipe: GrpoRecipe, training: Training, kept: Sequence[int]) -> Any:
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    loaded, run = training.load(), training.run
    settings = _settings(recipe, run.path, loaded.device == "cpu", run.ranks.size)
    try:
        args = GRPOConfig(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"recipe `grpo`: trl refuses its settings: {error}") from error
    rewarder = Rewarder(recipe, training.goals, training.targets, training.ruler)
    books = Books(recipe, rewarder, training.failure, run, weights_of(recipe, training.targets))

    class Trainer(ours(GRPOTrainer, lambda model: settle(model, recipe.lora))):  # type: ignore[misc]
        """trl's trainer with our books."""

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            out = super()._generate_and_score_completions(inputs)
            return books.keep(out, [row["prompt"] for row in inputs], self.state.global_step + 1)

        def _get_per_token_logps_and_entropies(
            self,
            model: Any,
            input_ids: Any,
            attention_mask: Any,
            logits_to_keep: int,
            batch_size: int | None = None,
            compute_entropy: bool = False,
            compute_aux_loss: bool = False,
            **more: Any,
        ) -> Any:
            """As the trainer's, in chunks of rows of about one length."""
            # pictures and their like would have to be cut into chunks as well
            assert all(given is None for given in more.values())
            theirs = super()._get_per_token_logps_and_entropies
            balance = []

            def passed(ids: Any, mask: Any, keep: int) -> tuple[Any, ...]:
                *found, loss = theirs(model, ids, mask, keep, None, compute_entropy, compute_aux_loss)
                balance.append(loss)
                return tuple(f for f in found if f is not None)

            found = in_chunks(passed, input_ids, attention_mask, logits_to_keep, min(batch_size or ROWS, ROWS))
            self._last_log_probs = found[0]
            mean = sum(balance) / len(balance) if compute_aux_loss else None
            return found[0], found[1] if compute_entropy else None, mean

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            loss = super()._compute_loss(model, inputs)
            # later inner steps train another policy than the one that was sampled from
            if self._step % (self.args.steps_per_generation * self.num_iterations) < self.args.steps_per_generation:
                mask = inputs["completion_mask"].bool()
                drift = (self._last_log_probs.detach() - inputs["sampling_per_token_logps"]).abs()[mask]
                books.drift(float(drift.mean()), float(drift.max()), len(drift), self.state.global_step + 1)
            if recipe.margin:
                ratio = (self._last_log_probs - inputs["ref_per_token_logps"]) * inputs["completion_mask"]
                asked = inputs["total"], inputs["group"], inputs["weight"]
                margin = margin_loss(ratio.sum(dim=1), *asked, recipe.margin_scale)
                books.figures["margin"] = float(margin.detach())
                loss = loss + recipe.margin * margin
            return loss

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        trainer.model.eval()
        everyone, own = run.ranks.together(prompts), run.ranks.slice_of(len(prompts))
        try:
            if trainer.use_vllm:
                return books.written(vllm_rollouts.for_trainer(prompts, trainer), prompts)
            return books.written(rollouts.for_trainer(everyone, trainer.state.global_step, own), prompts)
        finally:
            trainer.model.train()

    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        made: dict[str, Any] = {"prompt": []}
        bare = TransformersBackend(loaded)
        prompts = _prompts(recipe, training, bare)
        made["prompt"] = _order(recipe, sorted(prompts))
        trainer = Trainer(
            model=loaded.model,
            reward_funcs=[books.reward(name) for name in recipe.rewards],
            args=args,
            train_dataset=Dataset.from_dict(made),
            processing_class=loaded.tokenizer,
            peft_config=lora_config(recipe.lora, loaded.model),
            rollout_func=rollout,
            callbacks=[book_of(run, kept, training.observe, LOGGED, books.figures)],
        )
    policy = LoadedModel(
        loaded.spec,
        trainer.model.get_base_model(),
        loaded.tokenizer,
        loaded.info,
        loaded.fingerprint,
        loaded.device,
    )
    decoding = Decoding(
        max_new_tokens=recipe.max_new_tokens, temperature=recipe.temperature, top_p=1.0, min_p=recipe.min_p
    )
    group, backend = recipe.drawn or recipe.completions, TransformersBackend(policy)
    rows = recipe.prompts_per_step * group // run.ranks.size
    rollouts = Rollouts(backend, training.plans, prompts, decoding, recipe.seed, rows)
    vllm_rollouts = VllmRollouts(prompts, Writer(loaded.tokenizer), backend.end_ids(), group)
    return trainer
