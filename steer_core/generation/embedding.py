"""Sentence embeddings: the mean of a model's last hidden states over a text, under whatever is done to the model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from steer_core.generation.branching import Passes
from steer_core.generation.prompt_tokens import pad_left
from steer_core.generation.regimes import Regime
from steer_core.models.loading import LoadedModel
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.vector import Floats
from steer_core.tables.errors import SteerworksError


@dataclass(frozen=True)
class Text:
    """A text that is read.

    Attributes:
        interventions: of the row; all of its tokens are prompt.
        adapter: that the row wears.
        tokens: token ids.
        first: the first position that is part of the mean.
    """

    interventions: tuple[Intervention, ...]
    adapter: str | None
    tokens: tuple[int, ...]
    first: int


def texts_of(plans: Sequence[Plan], prompts: Sequence[Sequence[int]], loaded: LoadedModel, special: bool) -> list[Text]:
    """The texts of plans.

    Args:
        plans: what is done to the model.
        prompts: token ids of each.
        loaded: the model.
        special: whether the special tokens that begin a text are part of the mean.

    Raises:
        SteerworksError: one has no tokens, or only special ones, or does not fit the model's context; says which.
    """
    marks, context = set(loaded.tokenizer.all_special_ids), loaded.info.max_context
    found = []
    for k, (plan, prompt) in enumerate(zip(plans, prompts, strict=True)):
        first = 0 if special else next((i for i, t in enumerate(prompt) if t not in marks), len(prompt))
        if first == len(prompt):
            held = "only special tokens: ask for them with `special`" if prompt else "no tokens"
            raise SteerworksError(f"plan {k} cannot be embedded: its text has {held}, or leave it out")
        if context is not None and len(prompt) > context:
            raise SteerworksError(
                f"plan {k} cannot be embedded: its text has {len(prompt)} tokens, and the model reads {context}"
            )
        found.append(Text(plan.interventions, plan.adapter, tuple(prompt), first))
    return found


def mean_states(passes: Passes, texts: Sequence[Text], regime: Regime, batch_size: int) -> list[Floats]:
    """Mean of the last hidden states (behind the final norm) over each text, float32 of shape [hidden size].

    Args:
        passes: how passes are made.
        texts: what is read; equal ones are read once.
        regime: which of them may share a pass.
        batch_size: most rows of a pass.

    Raises:
        ConfigError: the batch size is below 1.
        SteerworksError: a receipt does not add up, or hidden states are no numbers.
    """
    from steer_core.generation.forced import batches

    alike: dict[Hashable, list[Text]] = {}
    for text in dict.fromkeys(texts):
        alike.setdefault(regime(len(text.tokens), len(text.tokens)), []).append(text)
    found: dict[Text, Floats] = {}
    for some in alike.values():
        for batch in batches([len(text.tokens) for text in some], batch_size):
            found |= _pass(passes, [some[k] for k in batch])
    return [found[text] for text in texts]


def _pass(passes: Passes, texts: Sequence[Text]) -> dict[Text, Floats]:
    import torch

    loaded = passes.loaded
    lengths = [len(text.tokens) for text in texts]
    ids, mask = pad_left([text.tokens for text in texts], loaded.tokenizer.pad_token_id, loaded.device)
    options: dict[str, Any] = {"use_cache": False, "output_hidden_states": True}
    positions = mask.cumsum(dim=-1) - 1
    if "position_ids" in passes.accepted:
        options["position_ids"] = positions.clamp_min(0)
    if "logits_to_keep" in passes.accepted:
        options["logits_to_keep"] = 1  # the head is not asked
    with (
        torch.inference_mode(),
        passes.steered([text.interventions for text in texts], lengths) as applied,
        passes.worn([text.adapter for text in texts]),
    ):
        states = loaded.model(input_ids=ids, attention_mask=mask, **options).hidden_states[-1].float()
    if applied is not None:
        applied.receipts(lengths)
    firsts = torch.tensor([text.first for text in texts], device=ids.device)[:, None]
    inside = (positions >= firsts) & (mask != 0)
    # what stands at padding may be no number: it is left out, not multiplied by 0
    total = states.where(inside[..., None], 0.0).sum(dim=1)
    means = (total / inside.sum(dim=1)[:, None]).cpu().numpy()
    finite = torch.tensor(means).isfinite().all(dim=1).tolist()
    if not all(finite):
        bad = texts[finite.index(False)]
        under = " under its interventions: lower the strength" if bad.interventions else ""
        raise SteerworksError(
            f"the hidden states of a text of {len(bad.tokens)} tokens are not finite{under}: no embedding can be read"
        )
    return dict(zip(texts, means, strict=True))
