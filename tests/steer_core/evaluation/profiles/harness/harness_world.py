"""The embedded model as our engine and as the harness's own HFLM, and requests of the harness."""

from dataclasses import replace
from functools import cache

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from schemas.specs import ModelSpec
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.steering.vector import SteeringVector


@cache
def engine() -> TransformersBackend:
    return TransformersBackend(load_model(ModelSpec(name="embedded", source="embedded", device="cpu")))


@cache
def vector() -> SteeringVector:
    """A random direction of norm 4, which the engine knows."""
    loaded = engine().loaded
    direction = np.random.default_rng(0).normal(size=(1, loaded.model.config.hidden_size)).astype(np.float32)
    made = SteeringVector(
        concept="made up",
        operator="add",
        layer=1,
        tensors={"direction": 4.0 * direction / np.linalg.norm(direction)},
        scalars={},
        model=loaded.fingerprint,
    )
    engine().add_vectors([made])
    return made


def plain(model=None, max_length=511, batch_size=16) -> HFLM:
    """The harness's own wrapper of the same weights."""
    loaded = engine().loaded
    return HFLM(
        pretrained=loaded.model if model is None else model,
        tokenizer=loaded.tokenizer,
        batch_size=batch_size,
        device="cpu",
        max_length=max_length,
    )


def asked(kind: str, *arguments: tuple) -> list[Instance]:
    """Requests, as tasks of the harness make them."""
    return [Instance(kind, {}, a, 0, metadata=("made_up", k, 1)) for k, a in enumerate(arguments)]


def noted(lm):
    """The model, and a list that its token requests are written to."""
    seen = []
    own = lm._loglikelihood_tokens

    def note(requests, **options):
        seen.extend((tuple(context), tuple(continuation)) for _, context, continuation in requests)
        return own(requests, **options)

    lm._loglikelihood_tokens = note
    return lm, seen


class Without:
    """An engine that lacks something."""

    def __init__(self, backend, **lacking):
        self._backend = backend
        self.capabilities = replace(backend.capabilities, **lacking)

    def __getattr__(self, name):
        return getattr(self._backend, name)
