"""Preference pairs for tests: random tokens for tiny models, texts of the grammar for the embedded one."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl

from steer_core.models.embedded.grammar import draw_attributes, draw_scenario, tell
from steer_core.vectors.preference.pair_tokens import EncodedPair

OPEN = "Write a text about the {agent} and the {object}."


def random_model(family, layers=4, **changes):
    """A random model of four layers, as `capture` takes it."""
    import torch
    import transformers as t

    common = {"vocab_size": 120, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}
    wide = {
        **common,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "max_position_embeddings": 128,
        # large enough for the words to depend on what was read
        "initializer_range": 0.2,
    }
    config = {
        "llama": lambda: t.LlamaConfig(**{**wide, "num_key_value_heads": 2, **changes}),
        "qwen2": lambda: t.Qwen2Config(**{**wide, "num_key_value_heads": 2, **changes}),
        "mistral": lambda: t.MistralConfig(**{**wide, "num_key_value_heads": 2, **changes}),
        "gemma2": lambda: t.Gemma2Config(**{**wide, "num_key_value_heads": 2, "head_dim": 8, **changes}),
        "gpt2": lambda: t.GPT2Config(
            **{**common, "n_embd": 32, "n_layer": layers, "n_head": 4, "initializer_range": 0.2, **changes}
        ),
        "gpt_neox": lambda: t.GPTNeoXConfig(**{**wide, **changes}),
        "bloom": lambda: t.BloomConfig(**{**common, "hidden_size": 32, "n_layer": layers, "n_head": 4, **changes}),
    }[family]()
    torch.manual_seed(0)
    model = t.AutoModelForCausalLM.from_config(config).eval()
    return SimpleNamespace(model=model, spec=SimpleNamespace(name=f"tiny-{family}"))


def random_pairs(n, validation=0, seed=0):
    """Pairs of random tokens; the last `validation` of them are for validation."""
    rng = np.random.default_rng(seed)

    def tokens(low, high):
        return tuple(int(t) for t in rng.integers(2, 120, rng.integers(low, high)))

    return [
        EncodedPair(
            str(i),
            "train" if i < n - validation else "validation",
            tokens(8, 20),
            (*tokens(2, 9), 1),
            (*tokens(2, 9), 1),
        )
        for i in range(n)
    ]


def swapped(pairs):
    """The same pairs with the answers' roles exchanged."""
    return [replace(p, chosen=p.rejected, rejected=p.chosen) for p in pairs]


def grammar_pairs(attribute, n, validation, seed=0):
    """Open prompts answered with an attribute at +2 (chosen) and -2 (rejected), all else equal."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n + validation):
        scenario = draw_scenario(rng, "train")
        attributes = replace(draw_attributes(rng), sentences=1 + i % 2)
        chosen, rejected = (tell(scenario, replace(attributes, **{attribute: level}), rng).text for level in (2, -2))
        asked = OPEN.format(agent=scenario.agent, object=scenario.object)
        rows.append(
            {
                "pair_id": f"{attribute}{i}",
                "concept": attribute,
                "split": "train" if i < n else "validation",
                "messages": json.dumps([{"role": "user", "content": asked}]),
                "chosen": chosen,
                "rejected": rejected,
                "source": "grammar",
                "row": i,
            }
        )
    return pl.DataFrame(rows)
