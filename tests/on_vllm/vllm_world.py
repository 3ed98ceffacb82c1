"""A small random model, vectors and requests, and both engines on them."""

import json
import os
import random
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.servers.proof import spec_text, vector_body
from steer_core.generation.servers.room import WORKER, find_vllm, make_room
from steer_core.models.loading import load_model
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.vector import SteeringVector

#: Interpreter of the environment that `make .venv-vllm/.installed` builds.
PYTHON = Path(__file__).parents[2] / ".venv-vllm" / "bin" / "python"
LAYERS, WIDTH, VOCABULARY, CONTEXT = 4, 128, 400, 768


COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": None, "eos_token_id": 1}
WIDE = {
    **COMMON,
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    # vLLM's attention on a CPU has no heads of fewer than 32
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": False,
    "initializer_range": 0.15,
}


def config_of(family: str):
    """A random model of a family."""
    import transformers as t

    old = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": CONTEXT, "initializer_range": 0.15}
    neox = {k: v for k, v in WIDE.items() if k != "num_key_value_heads"}
    return {
        "llama": lambda: t.LlamaConfig(**WIDE),
        "mistral": lambda: t.MistralConfig(**WIDE, sliding_window=None),
        "qwen2": lambda: t.Qwen2Config(**WIDE),
        "qwen3": lambda: t.Qwen3Config(**WIDE, head_dim=32),
        "phi3": lambda: t.Phi3Config(**WIDE),
        "granite": lambda: t.GraniteConfig(
            **WIDE, residual_multiplier=0.22, embedding_multiplier=12.0, attention_multiplier=0.35
        ),
        "gpt2": lambda: t.GPT2Config(**COMMON, **old, tie_word_embeddings=False),
        "gpt_neox": lambda: t.GPTNeoXConfig(**neox),
    }[family]()


def save_model(folder: Path, family: str = "llama", seed: int = 0) -> Path:
    """A random model whose words are tokens one to one, so that equal texts are equal tokens."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    # no special token but the end: whatever else is written is seen in the text
    words = {f"w{i}" if i != 1 else "<end>": i for i in range(VOCABULARY)}
    raw = Tokenizer(models.WordLevel(words, unk_token="w0"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<end>", eos_token="<end>")
    torch.manual_seed(seed)
    transformers.AutoModelForCausalLM.from_config(config_of(family)).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def vectors_of(model: str, layers: int = LAYERS, width: int = WIDTH, seed: int = 0) -> dict[str, SteeringVector]:
    """One random vector of each operator, and several directions."""
    rng = np.random.default_rng(seed)

    def rows(k, scale=1.0):
        return (scale * rng.normal(size=(k, width))).astype(np.float32)

    def near_identity():
        return (np.eye(width) + 0.3 * rng.normal(size=(width, width)) / np.sqrt(width)).astype(np.float32)

    plane = np.linalg.qr(rng.normal(size=(width, 2)))[0].T.astype(np.float32)
    made = {
        **{f"add{i}": ("add", {"direction": rows(1)}, {}) for i in range(8)},
        "ablate": ("ablate", {"direction": rows(1)}, {}),
        "keep": ("add_norm_preserving", {"direction": rows(1)}, {}),
        "affine": (
            "affine",
            {"left": rows(2, 0.1), "right": rows(2, 0.1), "center": rows(1), "direction": rows(1)},
            {},
        ),
        "low_rank": ("low_rank", {"left": plane, "right": rows(2, 0.1), "direction": rows(1)}, {}),
        "rotate": ("rotate", {"plane": plane}, {}),
        "rotate_some": ("rotate", {"plane": plane[::-1].copy()}, {"adaptive": 1.0}),
        "transport": (
            "transport",
            {
                "map_positive": near_identity(),
                "map_negative": near_identity(),
                "center": rows(1, 0.1),
                "mean_positive": rows(1, 0.5),
                "mean_negative": rows(1, 0.5),
            },
            {},
        ),
        "gated": (
            "gated_transport",
            {
                "lda": rows(1),
                "map_to_positive": near_identity(),
                "map_to_negative": near_identity(),
                "mean_positive": rows(1, 0.5),
                "mean_negative": rows(1, 0.5),
            },
            {"lda_threshold": 0.5},
        ),
    }
    return {n: SteeringVector(n, op, 0, tensors, scalars, model) for n, (op, tensors, scalars) in made.items()}


@dataclass(frozen=True)
class Ask:
    """One request, for either engine."""

    tokens: tuple[int, ...]
    interventions: tuple[Intervention, ...] = ()
    max_tokens: int = 24
    adapter: str | None = None
    nonce: str = ""
    #: where it is given, it is scored
    answer: tuple[int, ...] = ()

    def body(self) -> dict:
        """As `engine_side` takes it."""
        prompt = len(self.tokens) if self.answer else None
        return {
            "tokens": [*self.tokens, *self.answer],
            "max_tokens": 1 if self.answer else self.max_tokens,
            "steer": spec_text(self.interventions, self.nonce, prompt) if self.interventions else "",
            "adapter": self.adapter,
            "scored": len(self.answer),
        }


class Reference:
    """The hooks of transformers on the model of a folder."""

    def __init__(self, folder: Path) -> None:
        spec = ModelSpec(name="llama", source=str(folder), device="cpu", chat=False, max_context=CONTEXT)
        self.backend = TransformersBackend(load_model(spec))
        self.fingerprint = self.backend.loaded.fingerprint

    def answer(self, asks: list[Ask]) -> list[tuple[list[int], dict | None]]:
        """Tokens (the one that ends an answer is left out) and receipt of each."""
        plans = [
            Plan(
                self.backend.model_identity,
                Decoding(max_new_tokens=a.max_tokens),
                tokens=a.tokens,
                interventions=a.interventions,
                adapter=a.adapter,
            )
            for a in asks
        ]
        found = answer_all(self.backend, [Call(p, 0, 0) for p in plans])
        return [([int(n) for n in re.findall(r"w(\d+)", g.raw)], g.receipt and json.loads(g.receipt)) for g in found]


def run_vllm(
    folder: Path,
    model: Path,
    vectors: list[SteeringVector],
    passes: list[list[Ask]],
    *,
    adapters: dict[str, str] | None = None,
    environment: dict[str, str] | None = None,
    **engine,
) -> dict:
    """Answers of vLLM to passes of requests, one pass after the other on one engine."""
    folder.mkdir(parents=True, exist_ok=True)
    room = make_room(folder / "room", find_vllm(PYTHON))
    settings = {
        "model": str(model),
        "dtype": "float32",
        "max_model_len": CONTEXT,
        "enforce_eager": True,
        "worker_cls": WORKER,
        "seed": 0,
        "enable_prefix_caching": True,
        "disable_log_stats": False,
        **engine,
    }
    numbered = [[replace(a, nonce=f"{p}-{n}") for n, a in enumerate(asks)] for p, asks in enumerate(passes)]
    job = {
        "engine": settings,
        "vectors": [vector_body(v) for v in vectors],
        "passes": [[a.body() for a in asks] for asks in numbered],
        "adapters": adapters or {},
    }
    (folder / "job.json").write_text(json.dumps(job))
    with (folder / "log").open("w") as log:
        done = subprocess.run(
            [
                str(PYTHON),
                str(Path(__file__).parent / "engine_side.py"),
                str(folder / "job.json"),
                str(folder / "out.json"),
            ],
            env={
                **os.environ,
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_NO_USAGE_STATS": "1",
                "HF_HUB_OFFLINE": "1",
                **room,
                **(environment or {}),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=900,
            check=False,
        )
    assert done.returncode == 0, (folder / "log").read_text()[-6000:]
    return json.loads((folder / "out.json").read_text())


def specs_of(
    v: dict[str, SteeringVector], sites: tuple[str, ...] = ("residual", "attention", "mlp")
) -> list[tuple[Intervention, ...]]:
    """Unsteered, and 27 ways to steer: operators, layers, sites, positions, several at a place."""

    def i(name, layer, coefficient, positions="all", site="residual"):
        return Intervention(v[name].operator, v[name].id, layer, coefficient, site, positions)

    asked: list[tuple[Intervention, ...]] = [
        (),
        (i("add0", 0, 0.8),),
        (i("add1", 1, 0.6, "prompt"),),
        (i("add2", 2, 1.0, "completion"),),
        (i("add3", 3, 1.5),),
        (i("add4", 1, 0.5), i("add5", 2, -0.7)),
        (i("add6", 0, 0.7, "completion"), i("add7", 3, 0.9, "prompt")),
        tuple(i("add0", layer, 0.3) for layer in range(LAYERS)),
        tuple(i("add1", layer, -0.3, "completion") for layer in range(LAYERS)),
        (i("add2", 1, 3.0, "last_prompt"),),
        (i("add3", 0, 40.0, "index:7"),),
        (i("add4", 0, 40.0, "index:-2"),),
        (i("add5", 0, 2.0, "span:100:140"),),
        # one place, added up first, then again with other positions
        (i("add0", 2, 0.4), i("add1", 2, 0.4), i("add2", 2, 0.9, "completion")),
        (i("ablate", 1, 1.0),),
        (i("ablate", 2, 0.7, "completion"), i("add3", 2, 0.9)),
        (i("keep", 1, 1.2),),
        (i("keep", 3, -1.0, "prompt"), i("add6", 3, 0.8, "completion")),
        (i("affine", 1, 0.8),),
        (i("low_rank", 1, 0.7),),
        (i("low_rank", 2, -0.4, "prompt"),),
        (i("rotate", 2, 120.0),),
        (i("rotate_some", 1, 75.0, "completion"),),
        (i("transport", 1, 0.8),),
        (i("transport", 2, -1.5, "prompt"),),
        (i("gated", 2, 1.0),),
        (i("gated", 1, -0.6, "span:0:200"),),
        (i("add7", 1, 1.0, "all", "attention"),),
        (i("add0", 2, 1.0, "completion", "mlp"),),
        (i("ablate", 1, 1.0, "all", "mlp"), i("add1", 1, 0.5), i("add2", 3, 0.6, "prompt", "attention")),
    ]
    return [a for a in asked if all(i.site in sites for i in a)]


def first_turn(
    v: dict[str, SteeringVector],
    requests: int = 84,
    seed: int = 0,
    sites: tuple[str, ...] = ("residual", "attention", "mlp"),
) -> list[Ask]:
    """Requests whose prompts begin alike for longer than a block of the cache (128 tokens), each with one of the specs.

    Prompts of the second length grow into a further block while they are answered, which is what preempts requests where
    blocks are few.
    """
    draw = random.Random(seed)
    heads = [tuple(draw.randrange(2, VOCABULARY) for _ in range(n)) for n in (140, 245, 290)]
    specs = specs_of(v, sites)
    asks = []
    for n in range(requests):
        tail = tuple(draw.randrange(2, VOCABULARY) for _ in range(3 + n % 4))
        asks.append(Ask(heads[n // len(specs) % 3] + tail, specs[n % len(specs)], max_tokens=16 + n % 9))
    draw.shuffle(asks)
    return asks


def next_turn(asks: list[Ask], answers: list[list[int]], seed: int = 1) -> list[Ask]:
    """The same conversations, one turn on: what was completion is prompt."""
    draw = random.Random(seed)
    return [
        replace(a, tokens=(*a.tokens, *written, *(draw.randrange(2, VOCABULARY) for _ in range(5))))
        for a, written in zip(asks, answers, strict=True)
    ]
