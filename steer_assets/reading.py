"""Models that read what a cell has written: sentence vectors, and how likely texts are."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence

from schemas.profile_spec import ProfileSpec
from steer_assets.asked_models import reading_models
from steer_assets.compute import backend_for, device_lease, device_of
from steer_assets.judging import apart
from steer_assets.measuring import judge_digest
from steer_assets.tables import Work
from steer_core.evaluation.meaning import embed_texts
from steer_core.evaluation.profiles.family import Resources
from steer_core.generation.backend import Backend
from steer_core.generation.forced import FORCED, score_all
from steer_core.models.loading import load_encoder
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError


@contextlib.contextmanager
def readers_of(work: Work, profile: ProfileSpec) -> Iterator[Resources]:
    """What a profile's models give, loaded; the device of the one that scores is held inside the context."""
    models = reading_models(work.here, profile)
    embed = None
    if "embed" in models:
        encoder, tokenizer = load_encoder(models["embed"])
        embed = functools.partial(embed_texts, model=encoder, tokenizer=tokenizer)
    if "log_probs" not in models:
        yield Resources(embed=embed)
        return
    model = models["log_probs"]
    with device_lease(device_of(model)):
        backend = backend_for(model, beside=apart(work.here.model, model))
        plan = Plan(model.identity, FORCED, text="")
        try:
            backend.capabilities.refuse(plan, "score")
        except SteerworksError as error:
            yield Resources(embed=embed, refused={"log_probs": str(error)})
            return
        yield Resources(embed=embed, log_probs=functools.partial(_log_probs, work, backend, plan))


def _log_probs(work: Work, backend: Backend, plan: Plan, texts: Sequence[str]) -> list[list[float]]:
    """Log-probabilities of each text with nothing before it; a text without a word has none."""
    said = [k for k, text in enumerate(texts) if text]
    scores = score_all(
        [plan] * len(said),
        [texts[k] for k in said],
        backend,
        work.bench.batch_size,
        work.progress("profiles: texts read"),
    )
    found: list[list[float]] = [[] for _ in texts]
    for k, own in zip(said, scores, strict=True):
        # rounding may put a certain token above 0
        found[k] = [min(p, 0.0) for p in own]
    return found


def digests(work: Work, profile: ProfileSpec) -> dict[str, str]:
    """What readings follow from besides their texts: the models."""
    return {name: judge_digest(model) for name, model in reading_models(work.here, profile).items()}
