"""The recipe of the embedded model: `python -m steer_core.models.embedded.recipe --out DIR`.

The same settings give the same weights, bit for bit, on one machine and number of threads.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steer_core.models.embedded.examples import Example, draw_example, draw_last_stage
from steer_core.models.embedded.manifest import write_manifest
from steer_core.models.embedded.tokenizer import CONTEXT, END, prompt_text, train_tokenizer

#: Label of tokens without loss, as torch's cross entropy has it.
IGNORE = -100
#: Added to the seed for each further stage.
STAGE_SEED = 1000


@dataclass(frozen=True)
class Recipe:
    """All settings of the training.

    Attributes:
        seed: of data, order and initial weights.
        stages: conversations of each stage, each seen once. A stage warms the rates up again: what a stage has only
            begun to copy from the prompt, the next one learns faster than a longer stage would.
        last_stage: conversations of the last stage, with open answers that end and graded changes.
        n_tokenizer_examples: conversations that the tokenizer learns from.
        vocab_size: tokens of the vocabulary.
        layers, width, heads, inner: sizes of the Llama architecture.
        batch_tokens: tokens of a batch, padding included.
        matrix_rate: peak learning rate of the matrices (Muon, Jordan et al. 2024).
        vector_rate: peak learning rate of embeddings and norms (AdamW).
        warmup: share of a stage's steps with rising rate.
        max_steps: end every stage after this many steps; None for all.
    """

    seed: int = 0
    stages: tuple[int, ...] = (42_000, 50_000)
    last_stage: int = 30_000
    n_tokenizer_examples: int = 4_000
    vocab_size: int = 1408
    layers: int = 4
    width: int = 128
    heads: int = 4
    inner: int = 288
    batch_tokens: int = 4096
    matrix_rate: float = 4e-3
    vector_rate: float = 4e-3
    warmup: float = 0.04
    max_steps: int | None = None


@dataclass(frozen=True)
class Batch:
    """Padded sequences.

    Attributes:
        tokens: int64, shape [rows, length].
        labels: the same, `IGNORE` where no loss is taken.
    """

    tokens: np.ndarray[Any, np.dtype[np.int64]]
    labels: np.ndarray[Any, np.dtype[np.int64]]


def train(recipe: Recipe, report: Callable[[int, int, float], None] | None = None) -> tuple[Any, Any]:
    """Train tokenizer and model.

    Args:
        recipe: all settings.
        report: called with step, number of steps and loss after every step.

    Returns:
        A `LlamaForCausalLM` in eval mode and its tokenizer.
    """
    import torch

    model: Any = None
    tokenizer: Any = None
    for stage, n_examples in enumerate(recipe.stages):
        rng = np.random.default_rng(recipe.seed + STAGE_SEED * stage)
        examples = [draw_example(rng) for _ in range(n_examples)]
        if model is None:
            texts = [prompt_text(e.messages) + e.answer for e in examples[: recipe.n_tokenizer_examples]]
            tokenizer = train_tokenizer(texts, recipe.vocab_size)
            with torch.random.fork_rng():
                torch.manual_seed(recipe.seed)
                model = build_model(recipe, tokenizer)
        batches = list(make_batches(examples, tokenizer, recipe.batch_tokens, rng))[: recipe.max_steps]
        run_stage(model, batches, recipe, report)
    finish(model, tokenizer, recipe, report)
    return model.eval(), tokenizer


def finish(model: Any, tokenizer: Any, recipe: Recipe, report: Callable[[int, int, float], None] | None = None) -> None:
    """The last stage, on the weights that the stages before it have made.

    Args:
        model: changed in place.
        tokenizer: its tokenizer.
        recipe: all settings.
        report: called with step, number of steps and loss after every step.
    """
    rng = np.random.default_rng(recipe.seed + STAGE_SEED * len(recipe.stages))
    examples = draw_last_stage(rng, recipe.last_stage)
    batches = list(make_batches(examples, tokenizer, recipe.batch_tokens, rng))[: recipe.max_steps]
    run_stage(model, batches, recipe, report)


def run_stage(
    model: Any, batches: Sequence[Batch], recipe: Recipe, report: Callable[[int, int, float], None] | None = None
) -> None:
    """Train on batches in their order, with fresh optimizers and one rise and fall of the rates.

    Args:
        model: changed in place.
        batches: one step each.
        recipe: rates and warm-up.
        report: called with step, number of steps and loss after every step.
    """
    import torch

    optimizers = _optimizers(model, recipe)
    model.train()
    for step, batch in enumerate(batches):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _schedule(step, len(batches), recipe.warmup)
        loss = answer_loss(model, torch.from_numpy(batch.tokens), torch.from_numpy(batch.labels))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if report is not None:
            report(step, len(batches), float(loss.detach()))


def build_model(recipe: Recipe, tokenizer: Any) -> Any:
    """A fresh Llama model; its weights come from torch's global generator."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=recipe.inner,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def answer_loss(model: Any, tokens: Any, labels: Any) -> Any:
    """Mean cross entropy of the labelled tokens.

    Right padding needs no mask: attention is causal, and padding has no labels.

    Args:
        model: a `LlamaForCausalLM`.
        tokens: int64 tensor [rows, length].
        labels: int64 tensor [rows, length].
    """
    import torch

    hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
    targets = labels[:, 1:]
    scored = targets != IGNORE
    # the vocabulary is as wide as three layers: only answers pay for it
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[scored]), targets[scored])


def make_batches(
    examples: list[Example], tokenizer: Any, batch_tokens: int, rng: np.random.Generator
) -> Iterator[Batch]:
    """Batches of sequences of about one length, in random order with short ones somewhat earlier.

    Sequences beyond the context of the model are left out.

    Args:
        examples: conversations.
        tokenizer: the model's.
        batch_tokens: tokens of a batch, padding included.
        rng: order of the batches.
    """
    prompts = tokenizer([prompt_text(e.messages) for e in examples], add_special_tokens=False)["input_ids"]
    answers = tokenizer([e.answer + END for e in examples], add_special_tokens=False)["input_ids"]
    rows = [(p, a) for p, a in zip(prompts, answers, strict=True) if len(p) + len(a) <= CONTEXT]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]) + len(rows[i][1]))
    groups: list[list[int]] = [[]]
    for i in order:
        length = len(rows[i][0]) + len(rows[i][1])
        if groups[-1] and length * (len(groups[-1]) + 1) > batch_tokens:
            groups.append([])
        groups[-1].append(i)
    longest = np.array([len(rows[g[-1]][0]) + len(rows[g[-1]][1]) for g in groups])
    # a soft curriculum: copying and obeying are learned soonest on short sequences
    for g in np.argsort(rng.random(len(groups)) + longest / CONTEXT):
        yield _pad([rows[i] for i in groups[g]], tokenizer.pad_token_id)


def _pad(rows: list[tuple[list[int], list[int]]], pad: int) -> Batch:
    length = max(len(p) + len(a) for p, a in rows)
    tokens = np.full((len(rows), length), pad, dtype=np.int64)
    labels = np.full((len(rows), length), IGNORE, dtype=np.int64)
    for i, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        tokens[i, :end] = prompt + answer
        labels[i, len(prompt) : end] = answer
    return Batch(tokens, labels)


def _optimizers(model: Any, recipe: Recipe) -> list[Any]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    import torch

    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(
        [{"params": matrices, "peak": recipe.matrix_rate}], weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    adam = torch.optim.AdamW(
        [{"params": others, "peak": recipe.vector_rate}], betas=(0.9, 0.95), weight_decay=0.01, eps=1e-10
    )
    return [muon, adam]


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Linear rise, then a cosine down to a twentieth."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights, config, generation config, tokenizer and chat template as plain transformers files."""
    from transformers import GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        max_new_tokens=192,
        do_sample=False,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Train and write a folder."""
    import torch

    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--stages", type=int, nargs="+", default=Recipe.stages, help="conversations of each stage")
    parser.add_argument("--last-stage", type=int, default=Recipe.last_stage, help="conversations of the last stage")
    parser.add_argument("--after", type=Path, help="folder of a model whose other stages are done: the last one alone")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    recipe = Recipe(seed=options.seed, stages=tuple(options.stages), last_stage=options.last_stage)
    started = time.monotonic()

    def report(step: int, steps: int, loss: float) -> None:
        if step % 25 == 0 or step == steps - 1:
            print(
                json.dumps({"step": step, "of": steps, "loss": round(loss, 4), "s": round(time.monotonic() - started)}),
                flush=True,
            )

    if options.after is None:
        model, tokenizer = train(recipe, report)
    else:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(options.after)
        model = AutoModelForCausalLM.from_pretrained(options.after)
        finish(model, tokenizer, recipe, report)
    save(model, tokenizer, options.out)
    write_manifest(
        options.out,
        recipe=asdict(recipe),
        training={"seconds": round(time.monotonic() - started), "threads": options.threads},
        parameters=sum(p.numel() for p in model.parameters()),
    )


if __name__ == "__main__":
    main()
