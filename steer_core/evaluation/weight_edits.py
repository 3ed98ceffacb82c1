"""What an edit of weights changed: refusals before and after, and how far the model has moved on harmless prompts.

1. Refusals are told by an answer's words (`evaluation.refusals`), greedy, each model its own answers. Shares have exact
   intervals; `p` exchanges the two models prompt by prompt, so that it holds however few refuse.
2. KL(before || after) of next tokens, in nats: over all tokens of the answers that the model before gave (`kl`), and at
   the first token alone (`kl_first_token`), as abliteration tools state it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from schemas.specs import Decoding
from steer_core.evaluation.refusals import is_refusal
from steer_core.generation.backend import Call, answer_all
from steer_core.statistics import clustered_mean, clustered_share, exchange_p
from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import SteerworksError

if TYPE_CHECKING:
    from steer_core.generation.engines.transformers import TransformersBackend

#: Columns of what `compare_weights` gives.
COLUMNS = {
    "measure": pl.String, "prompts": pl.String, "before": pl.Float64, "before_low": pl.Float64,
    "before_high": pl.Float64, "after": pl.Float64, "after_low": pl.Float64, "after_high": pl.Float64, "p": pl.Float64,
    "n": pl.Int64,
}  # fmt: skip


def compare_weights(
    before: TransformersBackend,
    after: TransformersBackend,
    harmless: Sequence[str],
    harmful: Sequence[str],
    *,
    max_new_tokens: int = 64,
    seed: int = 0,
) -> pl.DataFrame:
    """What an edited model does differently.

    Args:
        before: engine over the model that was edited.
        after: engine over the edited checkpoint, with the same tokenizer.
        harmless: prompts that should be answered, each once.
        harmful: prompts that the model was taught to decline; may be empty.
        max_new_tokens: of an answer.
        seed: of the exchanges behind `p`.

    Returns:
        Rows `refusals` (share of prompts, before and after, with 95 % intervals and p), of harmless and of harmful
        prompts, and rows `kl` and `kl_first_token` of harmless prompts (nats; `before` is 0 by definition).

    Raises:
        SteerworksError: there are no harmless prompts, a prompt stands twice, or the vocabularies differ.
    """
    for name, prompts in (("harmless", harmless), ("harmful", harmful)):
        if len(set(prompts)) < len(prompts):
            raise SteerworksError(f"a {name} prompt stands twice: it would count twice; give each once")
    if not harmless:
        raise SteerworksError("there are no harmless prompts: what an edit costs is measured on them")
    sizes = [b.loaded.model.get_input_embeddings().num_embeddings for b in (before, after)]
    if sizes[0] != sizes[1]:
        raise SteerworksError(f"the models have vocabularies of {sizes[0]} and {sizes[1]} tokens: neither is an edit")
    rows: list[tuple[Any, ...]] = []
    plans: list[Plan] = []
    answers: list[str] = []
    for name, prompts in (("harmless", harmless), ("harmful", harmful)):
        if not prompts:
            continue
        told = [_answers(engine, prompts, max_new_tokens) for engine in (before, after)]
        refused = [np.array([float(is_refusal(a)) for a in own[1]]) for own in told]
        rows.append(("refusals", name, *_share(refused[0]), *_share(refused[1]), _p(refused, seed), len(prompts)))
        if name == "harmless":
            plans, answers = told[0]
    moved = [kl for plan, answer in zip(plans, answers, strict=True) if len(kl := _kl(before, after, plan, answer))]
    for measure, values in (("kl", [float(k.mean()) for k in moved]), ("kl_first_token", [float(k[0]) for k in moved])):
        found = clustered_mean(np.array(values), np.arange(len(values)))
        rows.append((measure, "harmless", 0.0, None, None, found.value, found.low, found.high, None, found.n))
    return pl.DataFrame(rows, schema=COLUMNS, orient="row")


def _answers(backend: TransformersBackend, prompts: Sequence[str], max_new_tokens: int) -> tuple[list[Plan], list[str]]:
    greedy = Decoding(max_new_tokens=max_new_tokens, temperature=0.0, top_p=1.0, min_p=0.0)
    plans = [Plan(backend.loaded.spec.identity, greedy, (Message("user", p),)) for p in prompts]
    return plans, [a.raw for a in answer_all(backend, [Call(p, 0, 0) for p in plans])]


def _share(refused: Any) -> tuple[float | None, float | None, float | None]:
    found = clustered_share(refused, np.arange(len(refused)))
    return found.value, found.low, found.high


def _p(refused: Sequence[Any], seed: int) -> float:
    differences = (refused[1] - refused[0])[:, None]
    return float(exchange_p(differences, draws=10_000, rng=np.random.default_rng(seed))[0])


def _kl(before: TransformersBackend, after: TransformersBackend, plan: Plan, answer: str) -> Any:
    """KL(before || after) at each token of an answer, shape [tokens]; empty where there is none."""
    import torch

    prompt = before.encode(plan)
    written = before.loaded.tokenizer(answer, add_special_tokens=False)["input_ids"]
    if not written:
        return np.empty(0)
    log_probs = []
    for engine in (before, after):
        tokens = torch.tensor([[*prompt, *written]], device=engine.loaded.device)
        with torch.no_grad():
            logits = engine.loaded.model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0]
        log_probs.append(logits[len(prompt) - 1 : -1].float().log_softmax(-1).cpu())
    return (log_probs[0].exp() * (log_probs[0] - log_probs[1])).sum(-1).clamp_min(0.0).double().numpy()
