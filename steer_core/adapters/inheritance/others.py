"""Answers of other models of the configuration, as candidates beside those of the model that is trained.

1. Each model is asked with the same prompts, on its own engine, before the model that is trained is loaded: one device
   holds one of them at a time. Answers are kept in the run as they come.
2. What it wrote is spelt by the own tokenizer, and the token that ends a turn is put behind it: that is trained on.
3. Its log-likelihood is that under the own model, at the temperature that answers are drawn at, so that it stands
   beside that of an own answer where rewards are equal.
4. An answer that cannot be trained on (too long for the own context, or with a text in it that the own tokenizer reads
   as a special token) is never chosen, and counted with those that failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.recipes import InheritanceRecipe
from schemas.specs import Decoding
from steer_core.adapters.inheritance.candidates import STEP, Drawn, seed_of
from steer_core.adapters.recipe import Training
from steer_core.adapters.sft import Row
from steer_core.adapters.steerlm.conversation import reserved_of
from steer_core.adapters.steerlm.distilling import log_likelihoods
from steer_core.generation.backend import BATCH_SIZE, Backend, Call
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.journalled import printable

#: Rows of the run: what others wrote, and how likely the own model finds it.
FILE, LIKELIHOODS = "candidates_of_others", "likelihoods_of_others"


@dataclass(frozen=True)
class Written:
    """An answer of another model, as it came."""

    model: str
    request_id: str
    sample: int
    raw: str
    finish_reason: str

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is kept under."""
        return self.model, self.request_id, self.sample


def ask_others(recipe: InheritanceRecipe, training: Training) -> None:
    """Have the recipe's other models write; what the run has already is not asked for again.

    Raises:
        SteerworksError: an engine cannot do what is asked, or does not answer; what came is kept.
    """
    for name in recipe.writers(training.name):
        if name == training.name:
            continue
        known = _kept(training)
        keys = [(r, k) for r in sorted(training.plans) for k in range(recipe.samples)]
        if missing := [(r, k) for r, k in keys if (name, r, k) not in known]:
            training.say(f"{len(missing)} of {len(keys)} answers are to be written by {name}")
            with training.others[name]() as backend:
                _ask(name, missing, recipe, training, backend)


def _ask(
    name: str, keys: Sequence[tuple[str, int]], recipe: InheritanceRecipe, training: Training, backend: Backend
) -> None:
    decoding = Decoding(
        max_new_tokens=recipe.max_new_tokens, temperature=recipe.temperature, top_p=1.0, min_p=recipe.min_p
    )

    def call(request: str, sample: int) -> Call:
        plan = replace(training.plans[request], model=backend.model_identity, decoding=decoding)
        return Call(plan, sample, seed_of(f"candidate:{name}", recipe.seed, request, sample))

    calls = [call(*key) for key in keys]
    for plan in {c.plan.id: c.plan for c in calls}.values():
        backend.capabilities.refuse(plan)
    rows: list[Mapping[str, object]] = []
    try:
        for finished in backend.generate(calls, BATCH_SIZE):
            (request, sample), answer = keys[finished.index], finished.generation
            said = {"raw": printable(answer.raw), "finish_reason": answer.finish_reason}
            rows.append({"step": STEP, "model": name, "request_id": request, "sample": sample, **said})
            if len(rows) == BATCH_SIZE:
                training.run.append(FILE, rows)
                rows = []
    finally:
        training.run.append(FILE, rows)


def spelt(
    recipe: InheritanceRecipe, training: Training, backend: TransformersBackend, prompts: Mapping[str, Sequence[int]]
) -> list[Drawn]:
    """What others wrote, in the tokens of the model that is trained; in order of models, requests and samples.

    Args:
        recipe: which models, and the temperature.
        training: the run that has their answers.
        backend: an engine over the model that is trained, without an adapter.
        prompts: request id -> token ids of its prompt, of those requests that may be trained on.
    """
    kept = _kept(training)
    wanted = [
        kept[name, r, k]
        for name in recipe.writers(training.name)
        if name != training.name
        for r in sorted(prompts)
        for k in range(recipe.samples)
    ]
    found = [_in_own_tokens(one, backend, prompts) for one in wanted]
    for name, n in Counter(d.model for d in found if d.unfit is not None).items():
        training.say(f"{n} answers of {name} cannot be trained on: too long, or with the text of a special token")
    likely = _likelihoods(found, recipe, training, backend, prompts)
    return [replace(d, log_likelihood=likely.get((d.model, d.request_id, d.sample), float("nan"))) for d in found]


def _in_own_tokens(one: Written, backend: TransformersBackend, prompts: Mapping[str, Sequence[int]]) -> Drawn:
    tokenizer, room = backend.loaded.tokenizer, backend.loaded.info.max_context
    unfit, tokens = None, list[int]()
    if any(marker in one.raw for marker in reserved_of(tokenizer)):
        # its letters would become the token itself
        unfit = "special token"
    else:
        tokens = list(tokenizer.encode(one.raw, add_special_tokens=False))
        tokens += [backend.end_of_turn] if tokens and one.finish_reason == "stop" else []
        if room is not None and len(prompts[one.request_id]) + len(tokens) > room:
            unfit = "too long"
    return Drawn(
        one.request_id, one.sample, one.raw, one.finish_reason, tuple(tokens), float("nan"), one.model, unfit
    )  # fmt: skip


def _likelihoods(
    drawn: Sequence[Drawn],
    recipe: InheritanceRecipe,
    training: Training,
    backend: TransformersBackend,
    prompts: Mapping[str, Sequence[int]],
) -> dict[tuple[str, str, int], float]:
    """Log-likelihood under the own model, in nats, of answers that may be trained on; computed once a run."""
    able = [d for d in drawn if d.tokens and d.unfit is None]
    known = training.run.rows(LIKELIHOODS)
    if len(known) != len(able):
        rows = [Row(tuple(prompts[d.request_id]), d.tokens) for d in able]
        loaded = backend.loaded
        values = log_likelihoods(loaded.model, rows, loaded.tokenizer.pad_token_id, recipe.temperature)
        known = [
            {"step": STEP, "model": d.model, "request_id": d.request_id, "sample": d.sample, "value": float(v)}
            for d, v in zip(able, values, strict=True)
        ]
        training.run.put(LIKELIHOODS, known)
    return {(r["model"], r["request_id"], r["sample"]): float(r["value"]) for r in known}


def _kept(training: Training) -> dict[tuple[str, str, int], Written]:
    rows = [
        Written(r["model"], r["request_id"], r["sample"], r["raw"], r["finish_reason"]) for r in training.run.rows(FILE)
    ]
    return {w.key: w for w in rows}
