"""Do engines give the same answers? The same plans on each, tokens and log-probabilities held against the hooks.

The plans mix unsteered rows and directions at several layers, positions and strengths. On a model in single precision
engines that are right agree in every token but where two tokens are all but equally likely; what is then different is
seen in the log-probabilities, which are of the same given texts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Backend, Call, Generation, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models.loading import LoadedModel, load_model
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Message, Plan
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError

#: Columns of the report.
SCHEMA = {
    "engine": pl.String,
    "rows": pl.Int64,
    "steered": pl.Int64,
    "same answers": pl.Int64,
    "log-probs": pl.Int64,
    "largest difference": pl.Float64,
    "receipts": pl.String,
    "not run": pl.String,
}
#: Share of the stream's length that directions have.
SHARE = 0.3
#: Parameters up to which a model is also read in double precision.
DOUBLED = 2_000_000_000
#: Directions that are drawn.
DIRECTIONS = 4


def identity_report(
    reference: TransformersBackend,
    others: Mapping[str, Backend],
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 32,
    folded: bool = True,
    seed: int = 0,
) -> pl.DataFrame:
    """Hold engines against the hooks of transformers.

    Args:
        reference: the model with hooks.
        others: name -> engine that runs the same model.
        prompts: what is asked, each under several kinds of steering.
        max_new_tokens: of an answer.
        folded: whether a checkpoint with a direction in its weights is held against the hooks as well.
        seed: of the directions.

    Returns:
        A row an engine: rows asked, rows with the reference's answer, log-probabilities compared and their largest
        difference (nats), whether receipts are the hooks' own. What an engine cannot do is said in `not run`.

    Raises:
        ConfigError: no prompts, or an engine runs another model.
    """
    if not prompts:
        raise ConfigError("an identity report needs prompts: give one at least")
    for name, backend in others.items():
        if backend.model_identity != reference.model_identity:
            raise ConfigError(f"{name!r} runs another model than the reference: engines are compared on one model")
    vectors = _directions(reference.loaded, seed)
    reference.add_vectors(vectors)
    plans = _plans(reference, vectors, prompts, Decoding(max_new_tokens=max_new_tokens))
    expected = answer_all(reference, [Call(p, 0, 0) for p in plans])
    rows = [_row("transformers, row by row", reference, reference, plans, expected, batch_size=1)]
    if sum(p.numel() for p in reference.loaded.model.parameters()) <= DOUBLED:
        rows.append(_doubled(reference, plans, [e.raw for e in expected]))
    for name, backend in others.items():
        able, why = _able(backend, plans)
        if vectors and backend.capabilities.interventions is not None:
            backend.add_vectors(vectors)
        kept = [(p, e) for p, e, ok in zip(plans, expected, able, strict=True) if ok]
        rows.append(_row(name, backend, reference, [p for p, _ in kept], [e for _, e in kept], why=why))
    if folded:
        rows.append(_folded(reference, vectors, prompts, plans[0].decoding))
    return pl.DataFrame(rows, schema=SCHEMA)


def _directions(loaded: LoadedModel, seed: int) -> list[SteeringVector]:
    """Random directions of unit length; what they are scaled with is in the plans."""
    draw = np.random.default_rng(seed)
    width = int(loaded.model.config.get_text_config(decoder=True).hidden_size)
    rows = draw.normal(size=(DIRECTIONS, 1, width))
    rows /= np.linalg.norm(rows, axis=2, keepdims=True)
    return [
        SteeringVector(f"direction {k}", "add", 0, {"direction": row.astype(np.float32)}, {}, loaded.fingerprint)
        for k, row in enumerate(rows)
    ]


def _plans(
    reference: TransformersBackend, vectors: Sequence[SteeringVector], prompts: Sequence[str], decoding: Decoding
) -> list[Plan]:
    """Each prompt unsteered, and under four kinds of steering."""
    norms = _norms(reference, prompts[0])
    last = len(norms) - 1
    layers = sorted({last // 4, last // 2, (3 * last) // 4})

    def add(k: int, layer: int, share: float, positions: str) -> Intervention:
        return Intervention("add", vectors[k].id, layer, share * norms[layer], positions=positions)

    kinds: list[tuple[Intervention, ...]] = [
        (),
        (add(0, layers[len(layers) // 2], SHARE, "all"),),
        (add(1, layers[0], SHARE, "prompt"),),
        (add(2, layers[-1], -SHARE, "completion"),),
        (add(3, layers[0], SHARE / 2, "all"), add(0, layers[-1], SHARE / 2, "completion")),
    ]
    return [_ask(reference, p, decoding, kind) for p in prompts for kind in kinds]


def _ask(reference: TransformersBackend, prompt: str, decoding: Decoding, kind: tuple[Intervention, ...]) -> Plan:
    identity = reference.model_identity
    if reference.loaded.info.chat:
        return Plan(identity, decoding, messages=(Message("user", prompt),), interventions=kind)
    return Plan(identity, decoding, text=prompt, interventions=kind)


def _norms(reference: TransformersBackend, prompt: str) -> list[float]:
    """Mean length of the stream behind each layer, over the tokens of a prompt but the first."""
    import torch

    loaded = reference.loaded
    tokens = reference.encode(_ask(reference, prompt, Decoding(max_new_tokens=1), ()))
    with torch.inference_mode():
        out = loaded.model(torch.tensor([tokens], device=loaded.device), output_hidden_states=True, use_cache=False)
    # the first token's stream is often longer by orders of magnitude
    return [float(h[0, 1:].float().norm(dim=-1).mean()) for h in out.hidden_states[1:]]


def _able(backend: Backend, plans: Sequence[Plan]) -> tuple[list[bool], str]:
    """Which plans an engine can carry out, and why not the others."""
    able, why = [], ""
    for plan in plans:
        try:
            backend.capabilities.refuse(plan)
            able.append(True)
        except SteerworksError as error:
            able.append(False)
            why = str(error)
    return able, why


def _row(
    name: str,
    backend: Backend,
    reference: TransformersBackend,
    plans: Sequence[Plan],
    expected: Sequence[Generation],
    *,
    why: str = "",
    batch_size: int = 64,
) -> dict[str, object]:
    found = answer_all(backend, [Call(p, 0, 0) for p in plans], batch_size)
    steered = [k for k, p in enumerate(plans) if p.interventions]
    wrong = sum(not _same_receipt(found[k], expected[k]) for k in steered)
    scored, largest = 0, None
    texts = [e.raw for e in expected]
    some = [k for k, t in enumerate(texts) if t.strip()]
    if backend.capabilities.scores and some:
        want = reference.score([plans[k] for k in some], [texts[k] for k in some])
        got = backend.score([plans[k] for k in some], [texts[k] for k in some])
        apart = np.abs(np.concatenate([np.subtract(g, w) for g, w in zip(got, want, strict=True) if len(g) == len(w)]))
        scored, largest = len(apart), float(apart.max())
    elif some:
        why = "; ".join(filter(None, [why, "it gives no log-probabilities"]))
    return {
        "engine": name,
        "rows": len(plans),
        "steered": len(steered),
        "same answers": sum(f.raw == e.raw for f, e in zip(found, expected, strict=True)),
        "log-probs": scored,
        "largest difference": largest,
        "receipts": "" if not steered else "as the hooks'" if not wrong else f"{wrong} others",
        "not run": why,
    }


def _doubled(reference: TransformersBackend, plans: Sequence[Plan], texts: Sequence[str]) -> dict[str, object]:
    """How far the hooks' own log-probabilities are from those in double precision: nobody can be held to less."""
    import torch

    model, some = reference.loaded.model, [k for k, t in enumerate(texts) if t.strip()]
    asked, given = [plans[k] for k in some], [texts[k] for k in some]
    want = reference.score(asked, given)
    dtype = next(model.parameters()).dtype
    model.to(torch.float64)
    try:
        truth = reference.score(asked, given)
    finally:
        # every number of the narrower type is one of the wider
        model.to(dtype)
    apart = np.abs(np.concatenate([np.subtract(t, w) for t, w in zip(truth, want, strict=True)])) if some else None
    return {
        "engine": "transformers, in double precision",
        "rows": 0,
        "steered": 0,
        "same answers": 0,
        "log-probs": 0 if apart is None else len(apart),
        "largest difference": None if apart is None else float(apart.max()),
        "receipts": "",
        "not run": "answers; only given texts are read",
    }


def _same_receipt(one: Generation, other: Generation) -> bool:
    import json

    if one.receipt is None or other.receipt is None:
        return False
    # who carried it out differs; what was done must not
    return bool(json.loads(one.receipt)["touches"] == json.loads(other.receipt)["touches"])


def _folded(
    reference: TransformersBackend, vectors: Sequence[SteeringVector], prompts: Sequence[str], decoding: Decoding
) -> dict[str, object]:
    """A checkpoint with a direction in its weights against the hooks with that direction."""
    from steer_core.steering.folding import fold

    norms = _norms(reference, prompts[0])
    layer = len(norms) // 2
    done = (Intervention("add", vectors[0].id, layer, SHARE * norms[layer]),)
    empty = dict.fromkeys(SCHEMA) | {"engine": "folded", "rows": 0, "steered": 0, "same answers": 0, "log-probs": 0}
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = fold(reference.loaded, done, {v.id: v for v in vectors}, Path(folder) / "folded")
        except SteerworksError as error:
            return empty | {"receipts": "", "not run": str(error)}
        spec = reference.loaded.spec
        own = ModelSpec(
            name="folded",
            source=str(found.folder),
            dtype=spec.dtype,
            device=spec.device,
            chat=reference.loaded.info.chat,
            max_context=spec.max_context,
            template_options=spec.template_options,
        )
        backend = TransformersBackend(load_model(own))
        hooked = [_ask(reference, p, decoding, done) for p in prompts]
        expected = answer_all(reference, [Call(p, 0, 0) for p in hooked])
        plain = [replace(p, model=backend.model_identity, interventions=()) for p in hooked]
        got = answer_all(backend, [Call(p, 0, 0) for p in plain])
        texts = [e.raw for e in expected]
        some = [k for k, t in enumerate(texts) if t.strip()]
        want = reference.score([hooked[k] for k in some], [texts[k] for k in some])
        scores = backend.score([plain[k] for k in some], [texts[k] for k in some])
    apart = np.abs(np.concatenate([np.subtract(g, w) for g, w in zip(scores, want, strict=True)])) if some else None
    return {
        "engine": "folded",
        "rows": len(hooked),
        "steered": len(hooked),
        "same answers": sum(g.raw == e.raw for g, e in zip(got, expected, strict=True)),
        "log-probs": 0 if apart is None else len(apart),
        "largest difference": None if apart is None else float(apart.max()),
        "receipts": "none: it is in the weights",
        "not run": "",
    }
