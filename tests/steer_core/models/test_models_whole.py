"""A model that is not whole, or not what it says, is refused when it is loaded, each fault in one clear error."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from schemas.specs import ModelSpec
from steer_core.models import load_model
from steer_core.tables.errors import ConfigError


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model("llama", True), tmp_path / "model")


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def change_weights(folder, change):
    file = folder / "model.safetensors"
    save_file({k: v.contiguous() for k, v in change(load_file(file)).items()}, file, metadata={"format": "pt"})


def with_number(state, number):
    name = next(k for k in sorted(state) if "down_proj" in k)
    state[name][0, 0] = number
    return state


def torn(file):
    file.write_bytes(file.read_bytes()[:-200])


FAULTS = {
    "a layer is missing": (
        lambda f: change_weights(f, lambda s: {k: v for k, v in s.items() if "layers.1." not in k}),
        r"its files lack 9 of its weights, and random ones would take their place \(first: model.layers.1",
    ),
    "names are prefixed": (
        lambda f: change_weights(f, lambda s: {f"wrapped.{k}": v for k, v in s.items()}),
        "its files lack",
    ),
    "fewer layers than weights": (
        lambda f: change_config(f, num_hidden_layers=1),
        "its files hold 9 weights that its config has no place for",
    ),
    "another width": (
        lambda f: change_config(f, intermediate_size=48),
        "weights have another shape than its config says",
    ),
    "not a number": (
        lambda f: change_weights(f, lambda s: with_number(s, torch.nan)),
        "1 numbers of .* are not finite",
    ),
    "infinite": (lambda f: change_weights(f, lambda s: with_number(s, -torch.inf)), "1 numbers of .* are not finite"),
    "torn weights": (lambda f: torn(f / "model.safetensors"), "could not be loaded"),
    "weights that are none": (lambda f: (f / "model.safetensors").write_text("<html>"), "could not be loaded"),
    "torn config": (lambda f: torn(f / "config.json"), "config.json"),
    "an architecture that nobody knows": (lambda f: change_config(f, model_type="martian"), "could not be loaded"),
    "torn tokenizer": (lambda f: torn(f / "tokenizer.json"), "no tokenizer can be read"),
    "a tokenizer that is none": (lambda f: (f / "tokenizer.json").write_text("[]"), "no tokenizer can be read"),
    "no tokenizer": (
        lambda f: [(f / n).unlink() for n in ("tokenizer.json", "tokenizer_config.json")],
        "no tokenizer can be read",
    ),
    "pickled weights": (
        lambda f: (
            torch.save(load_file(f / "model.safetensors"), f / "pytorch_model.bin"),
            (f / "model.safetensors").unlink(),
        ),
        "pickled weights are not read",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_folder_is_one_clear_error(folder, fault):
    spoil, message = FAULTS[fault]
    spoil(folder)
    with pytest.raises(ConfigError, match=message) as caught:
        load_model(ModelSpec(name="mine", source=str(folder)))
    assert "'mine'" in str(caught.value)


def test_code_that_a_model_brings_is_never_run(folder):
    (folder / "modeling_mine.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Mine: pass\n")
    change_config(folder, model_type="mine", auto_map={"AutoModelForCausalLM": "modeling_mine.Mine"})
    with pytest.raises(ConfigError, match="could not be loaded"):
        load_model(ModelSpec(name="mine", source=str(folder)))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("device", ["tpu", "gpu", "cuda:x"])
def test_a_device_that_is_none_is_named(folder, device):
    with pytest.raises(ConfigError, match=f"asks for device '{device}'"):
        load_model(ModelSpec(name="mine", source=str(folder), device=device))


def test_a_whole_model_loads_as_before(folder):
    assert load_model(ModelSpec(name="mine", source=str(folder))).info.max_context == 256
