"""Contrast examples of a few words, and their activations read one by one: shared by the tests of fitting."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import torch

from schemas import ContrastExamples
from schemas.digest import digest_json
from schemas.specs import Decoding, ModelSpec
from steer_core.generation.prompt_tokens import encode_plan
from steer_core.models.loading import load_model
from steer_core.steering.plan import Message, Plan
from steer_core.steering.sites import find_sites
from steer_core.vectors.evidence import Point

WORDS = [
    "rain",
    "garden",
    "lamp",
    "old",
    "green",
    "river",
    "stone",
    "bread",
    "window",
    "quiet",
    "letter",
    "boat",
    "winter",
    "song",
    "paper",
]
GLAD, SAD = "a joy, wonderful, bright and warm", "dreadful, grey, and I could weep"


#: Families beyond those of `tiny_model`: config class and what it needs apart from the common sizes.
FURTHER = {
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "gemma2": ("Gemma2Config", {"head_dim": 8, "sliding_window": 16}),
    "gemma3": ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 16}),
    "phi3": ("Phi3Config", {}),
    "olmo2": ("Olmo2Config", {}),
    "granite": ("GraniteConfig", {"residual_multiplier": 0.3}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4}),
    "falcon": ("FalconConfig", {"alibi": False}),
    "falcon-alibi": ("FalconConfig", {"alibi": True}),
    "deepseek": (
        "DeepseekV2Config",
        {
            "kv_lora_rank": 8,
            "q_lora_rank": None,
            "qk_rope_head_dim": 4,
            "qk_nope_head_dim": 4,
            "v_head_dim": 8,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
        },
    ),
}


def further(family, llama):
    """A random model of a further family, with the tokenizer of a tiny Llama that is loaded."""
    import transformers

    name, own = FURTHER[family]
    sizes = {
        "vocab_size": len(llama.tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 1,
    }
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**sizes, **own)).eval()
    for p in model.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, 0.0, 0.15)  # random attention is flat, and a wrong mask would hardly show
    return replace(llama, model=model)


def words(n, rng):
    return " ".join(rng.choice(WORDS, size=n))


def rows(triples, concept="joy", split="train", kind="pairs", letters=(None, None)):
    """Rows of contrast_examples from (prompt, positive, negative)."""
    found = []
    for i, (prompt, *answers) in enumerate(triples):
        pair = digest_json([concept, prompt, *answers])
        for label, answer, letter in zip((1, 0), answers, letters, strict=True):
            found.append(
                {
                    "example_id": digest_json([pair, label]),
                    "concept": concept,
                    "kind": kind,
                    "split": split,
                    "pair_id": pair,
                    "label": label,
                    "messages": json.dumps([{"role": "user", "content": prompt}]),
                    "answer": answer,
                    "letter": letter,
                    "source": "made",
                    "row": i,
                }
            )
    return pl.DataFrame(found, schema=ContrastExamples.empty().schema, orient="row")


def pairs(n, concept="joy", seed=0, split="train"):
    """Pairs of answers of different lengths, both after one prompt."""
    rng = np.random.default_rng([seed, n])
    triples = [
        (
            f"Tell me of the {words(int(rng.integers(2, 9)), rng)}.",
            f"The {words(int(rng.integers(1, 6)), rng)} is {GLAD}",
            f"The {words(int(rng.integers(1, 6)), rng)} is {SAD}",
        )
        for _ in range(n)
    ]
    return rows(triples, concept, split)


def lettered(n, seed=0):
    """A/B questions; the matching letter is A in every other one."""
    rng = np.random.default_rng(seed)
    triples = []
    for i in range(n):
        question = f"Which one, {words(3, rng)}?\n\nChoices:\n (A) {words(2, rng)}\n (B) {words(2, rng)}"
        triples.append((question, *(("(A)", "(B)") if i % 2 else ("(B)", "(A)"))))
    frame = rows(triples, "tea", kind="ab")
    return frame.with_columns(letter=pl.col("answer").str.slice(1, 1))


def tiny(folder, name="tiny", **changes):
    return load_model(ModelSpec(name=name, source=str(folder), device="cpu", **changes))


def tokens_of(loaded, row):
    """Prompt ids as generation sends them, and the answer's ids."""
    turns = tuple(Message(m["role"], m["content"]) for m in json.loads(row["messages"]))
    plan = Plan(loaded.spec.identity, Decoding(), messages=turns)
    prompt = encode_plan(plan, loaded.tokenizer, bool(loaded.info.chat), loaded.spec.template_options)
    return prompt, loaded.tokenizer(row["answer"], add_special_tokens=False)["input_ids"]


def span(read, n_prompt, n):
    return {
        "last_token": (n - 1, n),
        "last_prompt": (n_prompt - 1, n_prompt),
        "answer": (n_prompt, n),
        "prompt": (0, n_prompt),
        "all": (0, n),
    }[read]


def all_points(loaded):
    layers = range(len(find_sites(loaded.model).layers))
    return [Point(layer, site) for layer in layers for site in ("attention", "mlp", "residual")]


def one_by_one(loaded, examples, points, read):
    """Point -> activations [n, d]: a full forward pass for each example by itself."""
    places = {p: find_sites(loaded.model).place(p.layer, p.site) for p in points}
    found = {p: [] for p in points}
    for row in examples.iter_rows(named=True):
        prompt, answer = tokens_of(loaded, row)
        start, stop = span(read, len(prompt), len(prompt) + len(answer))
        seen = {}

        def keep(p, place, seen=seen):
            return lambda _module, _inputs, output: seen.update({p: place.read(output).clone()})

        handles = [place.module.register_forward_hook(keep(p, place)) for p, place in places.items()]
        with torch.no_grad():
            loaded.model(torch.tensor([[*prompt, *answer]]))
        for handle in handles:
            handle.remove()
        for p in points:
            found[p].append(seen[p][0, start:stop].double().mean(dim=0).numpy())
    return {p: np.stack(x) for p, x in found.items()}


class Counter:
    """Tokens that enter the embedding, and calls of the other modules, while it is open."""

    def __init__(self, model):
        self.model, self.tokens, self.passes, self.called = model, 0, 0, set()

    def __enter__(self):
        def embedded(_module, inputs, _output):
            self.tokens += inputs[0].numel()
            self.passes += 1

        self.handles = [self.model.get_input_embeddings().register_forward_hook(embedded)]
        for name, module in self.model.named_modules():
            self.handles.append(module.register_forward_pre_hook(lambda _m, _i, name=name: self.called.add(name)))
        return self

    def __exit__(self, *_):
        for handle in self.handles:
            handle.remove()
