"""Exported adapters: the PEFT folder, the merged checkpoint and our engine write the same tokens; faults leave nothing."""

import json
import shutil

import pytest
import torch
from export_world import EMBEDDED, PROMPTS, of_engine, of_generate, prompts, settings, write_adapter
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.specs import ModelSpec
from steer_core.adapters.export import CARD, export_adapter, vllm_rank
from steer_core.generation.adapters import Adapter
from steer_core.models.embedded import weights_folder
from steer_core.tables.errors import ConfigError, SteerworksError


def base_of(source, **more):
    return ModelSpec(name="tiny", source=str(source), device="cpu", **more)


def logits_of(model):
    tokens = torch.tensor([[5, 7, 11, 13, 17, 19]])
    with torch.no_grad():
        return model(tokens).logits


def test_peft_folder_merged_checkpoint_and_engine_write_the_same_greedy_tokens(tmp_path):
    adapter = write_adapter(tmp_path / "adapter")
    peft = export_adapter(adapter, EMBEDDED, tmp_path / "peft", card="card")
    merged = export_adapter(adapter, EMBEDDED, tmp_path / "merged", form="merged", card="card")
    asked = prompts()
    ours, bare = of_engine(asked, Adapter.of(peft.folder)), of_engine(asked)
    # the adapter does something: else equal tokens would say nothing
    assert sum(a != b for a, b in zip(ours, bare, strict=True)) > PROMPTS // 2
    base = AutoModelForCausalLM.from_pretrained(weights_folder())
    assert of_generate(PeftModel.from_pretrained(base, str(peft.folder)).eval(), asked) == ours
    alone = AutoModelForCausalLM.from_pretrained(merged.folder).eval()
    assert of_generate(alone, asked) == ours
    assert merged.difference < 1e-4
    assert {p.name for p in peft.folder.iterdir()} == {"adapter_config.json", "adapter_model.safetensors", CARD}
    assert (peft.folder / CARD).read_text() == "card"
    # nothing of PEFT is in it, embeddings are one matrix as before, and the tokenizer came along
    names = set(load_file(merged.folder / "model.safetensors"))
    assert not [n for n in names if "lora" in n or "base_layer" in n]
    assert alone.config.tie_word_embeddings
    assert "lm_head.weight" not in names
    assert alone.dtype == torch.float32
    said = "The old baker"
    assert AutoTokenizer.from_pretrained(merged.folder)(said) == AutoTokenizer.from_pretrained(weights_folder())(said)
    assert AutoTokenizer.from_pretrained(merged.folder).chat_template
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens"], ["embed_tokens", "q_proj"]])
def test_an_update_of_one_of_two_tied_embeddings_leaves_the_other_as_it_was(tmp_path, targets):
    adapter = write_adapter(tmp_path / "adapter", target_modules=targets)
    merged = export_adapter(adapter, EMBEDDED, tmp_path / "merged", form="merged", card="")
    model = AutoModelForCausalLM.from_pretrained(merged.folder).eval()
    assert not model.config.tie_word_embeddings
    before = load_file(weights_folder() / "model.safetensors")["model.embed_tokens.weight"]
    ends = {"embed_tokens": model.get_input_embeddings().weight, "lm_head": model.get_output_embeddings().weight}
    assert [n for n, w in ends.items() if not torch.equal(w, before)] == targets[:1]
    worn = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(weights_folder()), str(adapter.folder))
    torch.testing.assert_close(logits_of(model), logits_of(worn.eval()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("family", "targets"),
    [("gpt2", ["c_attn", "c_proj"]), ("gemma2", ["q_proj", "up_proj"]), ("gpt_neox", ["query_key_value"])],
)
def test_other_families_are_merged_too(tiny_model, tmp_path, family, targets):
    source = tiny_model(family, True)
    adapter = write_adapter(tmp_path / "adapter", source, 0.3, target_modules=targets)
    merged = export_adapter(adapter, base_of(source), tmp_path / "merged", form="merged", card="")
    worn = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(source), str(adapter.folder)).eval()
    found, want = logits_of(AutoModelForCausalLM.from_pretrained(merged.folder).eval()), logits_of(worn)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(want, logits_of(AutoModelForCausalLM.from_pretrained(source).eval()), atol=1e-2)


def test_weights_keep_the_number_type_of_the_cell(tiny_model, tmp_path):
    source = tiny_model("llama", True)
    adapter = write_adapter(tmp_path / "adapter", source, 0.3)
    merged = export_adapter(adapter, base_of(source, dtype="bfloat16"), tmp_path / "merged", form="merged", card="")
    assert {t.dtype for t in load_file(merged.folder / "model.safetensors").values()} == {torch.bfloat16}
    assert AutoModelForCausalLM.from_pretrained(merged.folder).dtype == torch.bfloat16


def test_settings_name_the_base_where_it_has_a_name_and_no_path_of_this_machine(tiny_model, tmp_path):
    source = tiny_model("llama", True)
    adapter = write_adapter(tmp_path / "adapter", source)
    assert settings(adapter.folder)["base_model_name_or_path"] == str(source)
    local = export_adapter(adapter, base_of(source), tmp_path / "local", card="")
    assert settings(local.folder)["base_model_name_or_path"] is None
    assert str(source) not in (local.folder / "adapter_config.json").read_text()
    hub = ModelSpec(name="far", source="org/model", revision="abc")
    found = settings(export_adapter(adapter, hub, tmp_path / "hub", card="").folder)
    assert (found["base_model_name_or_path"], found["revision"]) == ("org/model", "abc")


@pytest.mark.parametrize("stable", [False, True])
def test_for_vllm_ranks_and_scales_of_single_layers_are_written_into_the_weights(tmp_path, stable):
    adapter = write_adapter(
        tmp_path / "adapter",
        rank_pattern={"q_proj": 3, "layers.1.mlp.up_proj": 12},
        alpha_pattern={"v_proj": 40, "layers.2.self_attn.o_proj": 1},
        use_rslora=stable,
    )
    assert vllm_rank(settings(adapter.folder)) == 16
    plain = export_adapter(adapter, EMBEDDED, tmp_path / "vllm", form="vllm", card="").folder
    said = settings(plain)
    assert (said["r"], said["rank_pattern"], said["alpha_pattern"]) == (12, {}, {})
    shapes = {t.shape[0] for n, t in load_file(plain / "adapter_model.safetensors").items() if "lora_A" in n}
    assert shapes == {12}
    # the same update, as PEFT reads either folder
    worn = [
        logits_of(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(weights_folder()), str(f)).eval())
        for f in (adapter.folder, plain)
    ]
    torch.testing.assert_close(worn[1], worn[0], rtol=1e-4, atol=1e-4)


def test_what_vllm_has_no_place_for_is_refused_and_can_still_be_merged(tmp_path):
    adapter = write_adapter(tmp_path / "adapter", target_modules=["embed_tokens"])
    with pytest.raises(ConfigError, match=r"vLLM has no place for \(.*embed_tokens.*export it as `merged`"):
        export_adapter(adapter, EMBEDDED, tmp_path / "vllm", form="vllm", card="")
    assert not (tmp_path / "vllm").exists()
    assert vllm_rank({"r": 513}) is None


def test_a_folder_in_use_a_strange_form_and_an_adapter_that_does_not_fit_leave_nothing(tiny_model, tmp_path):
    adapter = write_adapter(tmp_path / "adapter")
    used = tmp_path / "used"
    used.mkdir()
    export_adapter(adapter, EMBEDDED, used, card="")
    before = {p.name: p.read_bytes() for p in used.iterdir()}
    with pytest.raises(SteerworksError, match="used is in use; name a new folder for the adapter"):
        export_adapter(adapter, EMBEDDED, used, form="merged", card="")
    assert {p.name: p.read_bytes() for p in used.iterdir()} == before
    with pytest.raises(ConfigError, match="no form 'gguf' to export an adapter in; there are peft, merged, vllm"):
        export_adapter(adapter, EMBEDDED, tmp_path / "other", form="gguf", card="")
    with pytest.raises(SteerworksError, match="does not fit this model"):
        export_adapter(adapter, base_of(tiny_model("llama", True)), tmp_path / "other", form="merged", card="")
    lacking = tmp_path / "lacking"
    shutil.copytree(adapter.folder, lacking)
    file = lacking / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "target_modules": ["q_proj", "lm_head"]}))
    with pytest.raises(SteerworksError):
        export_adapter(Adapter.of(lacking), EMBEDDED, tmp_path / "other", form="merged", card="")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter", "lacking", "used"]
