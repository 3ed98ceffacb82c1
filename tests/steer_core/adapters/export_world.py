"""The embedded model with random adapters that change its answers, prompts, and the greedy tokens of several ways."""

import json

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.models.embedded import weights_folder
from steer_core.models.embedded.grammar import write
from steer_core.models.loading import load_tokenizer
from steer_core.steering.plan import Plan

EMBEDDED = ModelSpec(name="embedded", source="embedded", device="cpu")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PROMPTS, WRITTEN = 64, 16


def write_adapter(folder, source=None, scale=0.05, **settings):
    """A random adapter with B not zero, as PEFT saves it; on every projection of the embedded model by default."""
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 8, "lora_alpha": 16, "target_modules": TARGETS, "task_type": "CAUSAL_LM", **settings})
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(source or weights_folder()), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, scale)
    model.save_pretrained(str(folder))
    return Adapter.of(folder)


def prompts(n=PROMPTS):
    """Token ids of texts of the model's grammar, cut in the middle."""
    tokenizer = load_tokenizer(EMBEDDED)
    found = [tokenizer(t.text)["input_ids"] for t in write(n, seed=5)]
    return [tuple(ids[: max(4, len(ids) // 2)]) for ids in found]


def of_engine(asked, adapter=None, spec=EMBEDDED):
    """Tokens that our engine writes, all prompts in shared passes."""
    backend = TransformersBackend(load_model(spec))
    if adapter is not None:
        backend.add_adapters([adapter])
    worn = None if adapter is None else adapter.digest
    plan = [Plan(backend.model_identity, Decoding(max_new_tokens=WRITTEN), tokens=t, adapter=worn) for t in asked]
    return [list(g.tokens) for g in answer_all(backend, [Call(p, 0, 0, log_probs=True) for p in plan])]


@torch.no_grad()
def of_generate(model, asked):
    """Tokens that `generate` of transformers writes, one prompt at a time."""
    found = []
    for tokens in asked:
        ids = torch.tensor([tokens])
        whole = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=WRITTEN, do_sample=False, pad_token_id=0
        )
        found.append(whole[0, len(tokens) :].tolist())
    return found


def settings(folder):
    """PEFT settings in a folder."""
    return json.loads((folder / "adapter_config.json").read_text())
