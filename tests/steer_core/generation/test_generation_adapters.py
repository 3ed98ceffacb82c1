"""LoRA adapters row by row: in one batch with other rows, with vectors, scored and compared; the base stays as it is."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from asking import answers, of
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Call
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.steering import Message, Plan
from steer_core.steering.intervention import Intervention
from steer_core.steering.sites import find_sites
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_core.steering.steering_worlds import vector as tensors_of

#: Families whose linear layers PEFT wraps in different ways, and the modules that an adapter is put on.
TARGETS = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj"],
    "gemma2": ["q_proj", "o_proj", "up_proj"],
    "gpt_neox": ["query_key_value", "dense_4h_to_h"],
}
TEXTS = ["a", "Please rewrite the following text.", "so that it is longer", "x " * 20]


def write_adapter(folder, source, family="llama", seed=0, targets=None):
    """A random LoRA adapter, B not zero, as PEFT saves it."""
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets or TARGETS[family], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(source), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.3)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture
def made(tiny_model, tmp_path):
    """`made(family)`: the model as it is loaded, and two adapters for it."""

    def make(family="llama"):
        source = str(tiny_model(family, True))
        folders = [write_adapter(tmp_path / f"{family}-{k}", source, family, seed=k) for k in range(2)]
        return load_model(ModelSpec(name="tiny", source=source)), folders, source

    return make


def plans(adapters, interventions=()):
    """A plan a text and adapter; lengths differ, so that rows come and go."""
    found = []
    for k, text in enumerate(TEXTS):
        drawn = Decoding(max_new_tokens=4 + 3 * k)
        found += [Plan("m", drawn, (Message("user", text),), adapter=a, interventions=interventions) for a in adapters]
    return found


def calls(asked):
    return [Call(p, 0, 0) for p in asked]


def raws(backend, asked, batch_size=64):
    return [a.raw for a in answers(backend, calls(asked), batch_size)]


@pytest.mark.parametrize("family", TARGETS)
@pytest.mark.parametrize("batching", ["refill", "plain"])
def test_rows_of_one_batch_wear_their_own_adapters_and_write_what_peft_writes(made, family, batching):
    model, folders, source = made(family)
    worn = [Adapter.of(f) for f in folders]
    before = raws(TransformersBackend(model, batching=batching), plans([None]))
    backend = TransformersBackend(model, batching=batching)
    backend.add_adapters(worn)
    asked = plans([None, worn[0].digest, worn[1].digest])
    mixed = raws(backend, asked, batch_size=5)
    # without an adapter nothing has changed, whatever its neighbours wear
    assert mixed[0::3] == before
    assert mixed[1::3] != before
    for k, folder in enumerate(folders):
        alone = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(source), str(folder)).merge_and_unload()
        merged = TransformersBackend(replace(model, model=alone.eval()), batching="plain")
        assert mixed[k + 1 :: 3] == raws(merged, plans([None]))


def test_adapters_and_vectors_go_together_in_one_batch_and_receipts_hold(made):
    model, folders, _ = made()
    worn = Adapter.of(folders[0])
    steer = replace(tensors_of("add", 0, 0), model=model.fingerprint)
    act = (Intervention("add", steer.id, 0, 2.0),)
    backend = TransformersBackend(model, [steer])
    backend.add_adapters([worn])
    asked = [
        p
        for pair in zip(plans([worn.digest]), plans([worn.digest], act), plans([None], act), strict=True)
        for p in pair
    ]
    together = answers(backend, calls(asked), 4)
    assert [a.raw for a in together] == [answers(backend, calls([p]))[0].raw for p in asked]
    assert [a.receipt is None for a in together] == [True, False, False] * len(TEXTS)
    assert len({a.raw for a in together[:3]}) > 1


def test_scores_and_divergence_are_those_of_the_worn_model(made):
    model, folders, source = made()
    worn = Adapter.of(folders[0])
    backend = TransformersBackend(model)
    backend.add_adapters([worn])
    asked = of(backend, plans([None, worn.digest])[:4])
    scores = backend.score(asked, ["so it is"] * 4)
    alone = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(source), str(folders[0])).merge_and_unload()
    merged = TransformersBackend(replace(model, model=alone.eval()))
    expected = merged.score(of(merged, [replace(p, adapter=None) for p in asked]), ["so it is"] * 4)
    np.testing.assert_allclose(scores[1], expected[1], rtol=1e-4, atol=1e-5)
    assert not np.allclose(scores[0], scores[1])
    far = backend.diverge(asked, ["so it is"] * 4)
    assert far[0] == [0.0] * len(far[0])
    assert min(far[1]) > 0.0


def test_sites_are_the_same_layers_whether_or_not_peft_has_wrapped_the_model(made):
    model, folders, source = made()
    wrapped = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(source), str(folders[0]))
    assert len(find_sites(wrapped).layers) == len(find_sites(model.model).layers)
    assert find_sites(wrapped).place(0, "mlp").module is wrapped.get_base_model().model.layers[0].mlp


def test_an_adapter_that_is_not_known_is_refused_before_anything_runs(made):
    model, folders, _ = made()
    with pytest.raises(SteerworksError, match="is not known to this engine: hand it over with `add_adapters`"):
        raws(TransformersBackend(model), plans([Adapter.of(folders[0]).digest]))


def test_a_model_that_wears_an_adapter_of_its_own_takes_no_others(made):
    model, folders, source = made()
    own = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(source), str(folders[0])).get_base_model()
    with pytest.raises(SteerworksError, match="the model wears an adapter of its own"):
        TransformersBackend(replace(model, model=own)).add_adapters([Adapter.of(folders[1])])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "is of type IA3"),
        ({"use_dora": True}, "has use_dora: True"),
        ({"bias": "all"}, "has bias: 'all'"),
        ({"modules_to_save": ["lm_head"]}, r"replaces whole modules \(lm_head\)"),
        ({"init_lora_weights": "pissa"}, "has init_lora_weights: 'pissa'"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "has layer_replication"),
        ({"trainable_token_indices": [3]}, "has trainable_token_indices"),
        ({"alora_invocation_tokens": [3]}, "has alora_invocation_tokens"),
        ({"target_parameters": ["mlp.weight"]}, "has target_parameters"),
        ({"a_setting_of_tomorrow": 1}, "has a_setting_of_tomorrow"),
    ],
)
def test_adapters_that_single_rows_cannot_wear_are_refused_by_name(made, change, message):
    _, (folder, _), _ = made()
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ConfigError, match=message):
        Adapter.of(folder)


def damage(kind, state):
    """An adapter's weights, spoiled in one way."""
    first = next(iter(state))
    return {
        "shapes": {k: torch.zeros(3, 3) for k in state},
        "strangers": {**state, first.replace("layers.0", "layers.9"): state[first].clone()},
        "a layer is missing": {k: v for k, v in state.items() if "layers.0" not in k},
        "empty": {},
        "no numbers": {**state, first: torch.full_like(state[first], torch.inf)},
        "another base": {**state, "base_model.model.model.embed_tokens.weight": torch.zeros(5, 5)},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("shapes", "does not fit this model"),
        ("strangers", "has weights for layers that this model lacks"),
        ("a layer is missing", "lacks .* of the weights that its settings name"),
        ("empty", "lacks .* of the weights that its settings name"),
        ("no numbers", "has weights that are no finite numbers"),
        ("another base", "comes with base weights that are not this model's"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_nothing_behind(made, kind, message):
    model, (good, bad), _ = made()
    before = raws(TransformersBackend(model), plans([None]))
    file = bad / "adapter_model.safetensors"
    save_file({k: v.contiguous() for k, v in damage(kind, load_file(file)).items()}, file)
    backend, worn = TransformersBackend(model), Adapter.of(good)
    for _ in range(2):
        with pytest.raises(SteerworksError, match=message):
            backend.add_adapters([Adapter.of(bad)])
        assert raws(backend, plans([None])) == before
    # what fits is still taken, and the refused one stays unknown
    backend.add_adapters([worn])
    mixed = raws(backend, plans([None, worn.digest]))
    assert mixed[0::2] == before != mixed[1::2]
    with pytest.raises(SteerworksError, match="is not known to this engine"):
        raws(backend, plans([Adapter.of(bad).digest]))


def test_files_that_are_none_are_refused_in_words(made, tmp_path):
    model, (folder, other), _ = made()
    with pytest.raises(ConfigError, match="is no adapter: it has no adapter_config.json"):
        Adapter.of(tmp_path / "nowhere")
    (other / "adapter_model.safetensors").write_bytes(b"torn")
    with pytest.raises(SteerworksError, match="adapter_model.safetensors cannot be read"):
        TransformersBackend(model).add_adapters([Adapter.of(other)])
    (other / "adapter_config.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be read as JSON settings"):
        Adapter.of(other)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ConfigError, match="pickled weights are not read"):
        Adapter.of(folder)


def test_base_weights_that_were_saved_with_an_adapter_must_be_the_models_own(made, tmp_path):
    model, _, source = made()
    folder = write_adapter(tmp_path / "embedded", source, targets=["embed_tokens", "q_proj"])
    assert any("base_layer" in k or "lora_" not in k for k in load_file(folder / "adapter_model.safetensors"))
    worn = Adapter.of(folder)
    backend = TransformersBackend(model)
    backend.add_adapters([worn])
    mixed = raws(backend, plans([None, worn.digest]))
    assert mixed[0::2] == raws(TransformersBackend(load_model(model.spec)), plans([None])) != mixed[1::2]
    # the same file is no adapter of a model with other embeddings
    other = load_model(model.spec)
    with torch.no_grad():
        other.model.get_input_embeddings().weight.add_(0.5)
    with pytest.raises(SteerworksError, match="base weights that are not this model's"):
        TransformersBackend(other).add_adapters([worn])


def test_whoever_else_uses_the_model_finds_it_as_it_was(made):
    model, folders, _ = made()
    tokens = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        before = model.model(tokens).logits
        TransformersBackend(model).add_adapters([Adapter.of(folders[0])])
        assert torch.equal(model.model(tokens).logits, before)
    # another backend of the same model shares what it wears
    again = TransformersBackend(model)
    again.add_adapters([Adapter.of(f) for f in folders])
    assert len({*raws(again, plans([Adapter.of(f).digest for f in folders])[:2])}) == 2


def test_layers_that_see_tokens_of_several_rows_in_one_are_named(tiny_model, tmp_path):
    source = str(tiny_model("mixtral", True))
    model = load_model(ModelSpec(name="tiny", source=source))
    names = {n.rsplit(".", 1)[-1] for n, m in model.model.named_modules() if isinstance(m, torch.nn.Linear)}
    flat = sorted(names & {"gate", "w1", "gate_proj", "router"})
    if not flat:  # the experts of this version are no linear layers, so nothing can sit on them
        assert names <= {"q_proj", "k_proj", "v_proj", "o_proj", "lm_head"}
        return
    folder = write_adapter(tmp_path / "moe", source, targets=flat)
    with pytest.raises(SteerworksError, match="does not see the rows of a batch one by one"):
        TransformersBackend(model).add_adapters([Adapter.of(folder)])


def test_an_adapters_digest_is_that_of_its_files(made):
    _, folders, _ = made()
    assert Adapter.of(folders[0]).digest == Adapter.of(folders[0]).digest != Adapter.of(folders[1]).digest
