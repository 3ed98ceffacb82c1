"""Tiny random models whose answers are worth comparing, and helpers that steer them."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from steer_core.steering.hooks import Steering
from steer_core.steering.intervention import Intervention
from steer_core.steering.vector import SteeringVector
from tests.tiny_configs import tiny_config

WIDTH = 32
VOCABULARY = 61
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [20, 21, 22], list(range(30, 44)), [50]]


def tiny(family: str):
    """A random model of a family; weights large enough that its answers depend on everything."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(family, VOCABULARY), attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
    return model


#: A feature that speaks of most activations.
FEATURE = {"bias": 2.0, "threshold": 0.1}


def vector(operator: str = "add", layer: int = 0, seed: int = 0, norm: float = 4.0, **extra) -> SteeringVector:
    """A random vector with every tensor that an operator may want."""
    draw = np.random.default_rng(seed)
    direction = draw.normal(size=(1, WIDTH))
    direction *= norm / np.linalg.norm(direction)
    plane = np.linalg.qr(draw.normal(size=(WIDTH, 2)))[0].T
    maps = draw.normal(size=(2, WIDTH, WIDTH)) / WIDTH**0.5
    means = draw.normal(size=(3, 1, WIDTH))
    every = {
        "add": {"direction": direction},
        "add_norm_preserving": {"direction": direction},
        "ablate": {"direction": direction},
        "affine": {"left": plane, "right": plane, "center": means[0], "direction": direction},
        "transport": {
            "map_positive": maps[0],
            "map_negative": maps[1],
            "center": means[0],
            "mean_positive": means[1],
            "mean_negative": means[2],
        },
        "gated_transport": {
            "lda": direction,
            "map_to_positive": maps[0],
            "map_to_negative": maps[1],
            "mean_positive": means[1],
            "mean_negative": means[2],
        },
        "rotate": {"plane": plane},
        "low_rank": {"left": plane, "right": means[:2, 0] / WIDTH**0.5, "direction": direction},
        "feature_clamp": {"encoder": direction / norm**2, "decoder": direction},
        "feature_scale": {"encoder": direction / norm**2, "decoder": direction},
    }
    tensors = {n: t.astype(np.float32) for n, t in every[operator].items()}
    needed = {"gated_transport": {"lda_threshold": 0.0}, "feature_clamp": FEATURE, "feature_scale": FEATURE}
    scalars = needed.get(operator, {})
    return SteeringVector("concept", operator, layer, tensors, {**scalars, **extra}, model="tiny")


def act(v: SteeringVector, coefficient: float = 1.0, **place) -> Intervention:
    """The intervention of a vector at its own layer."""
    return Intervention(v.operator, v.id, **{"layer": v.layer, "coefficient": coefficient, **place})


def steering(model, *vectors: SteeringVector) -> Steering:
    return Steering(model, {v.id: v for v in vectors}, "tiny")


def batch(prompts, left: bool = True):
    """Padded ids and mask."""
    width = max(map(len, prompts))
    pads = [[0] * (width - len(p)) for p in prompts]
    real = [[1] * len(p) for p in prompts]
    ids, mask = ([f + r if left else r + f for f, r in zip(pads, rows, strict=True)] for rows in (prompts, real))
    return torch.tensor(ids), torch.tensor(mask)


def decode(model, steer, rows, prompts=PROMPTS, tokens=8, cache=True, stop=None):
    """Greedy tokens [rows, tokens], logits [steps, rows, vocabulary] and what was applied."""
    ids, mask = batch(prompts)
    config = GenerationConfig(
        max_new_tokens=tokens,
        do_sample=False,
        use_cache=cache,
        pad_token_id=0,
        eos_token_id=stop,
        output_logits=True,
        return_dict_in_generate=True,
    )
    model.generation_config = GenerationConfig()
    with torch.inference_mode(), steer.apply(rows, [len(p) for p in prompts]) as applied:
        out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
    return out.sequences[:, ids.shape[1] :], torch.stack(out.logits), applied


def hidden_after(model, layer: int, ids, steer=None, rows=None, lengths=None):
    """The stream after a layer, [rows, tokens, width], steered or not."""
    kept = []
    places = steering(model).sites
    with torch.inference_mode():
        if steer is None:
            handle = places.place(layer, "residual").module.register_forward_hook(
                lambda _m, _a, out: kept.append((out[0] if isinstance(out, tuple) else out).clone())
            )
            model(input_ids=ids, use_cache=False)
        else:
            with steer.apply(rows, lengths):
                handle = places.place(layer, "residual").module.register_forward_hook(
                    lambda _m, _a, out: kept.append((out[0] if isinstance(out, tuple) else out).clone())
                )
                model(input_ids=ids, use_cache=False)
        handle.remove()
    return kept[0]
