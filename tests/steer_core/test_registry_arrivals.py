"""What turns up in a watched folder joins its bench once it is whole; what cannot be taken is said, and stops nobody."""

import json
import shutil

import pytest
import yaml
from safetensors.numpy import save_file

from steer_core.registry import load_registry, shipped_config
from steer_core.registry_arrivals import whole
from steer_core.tables.errors import ConfigError


@pytest.fixture
def place(tmp_path):
    """`place(**watch)`: the registry of a bench that watches, its configuration in a folder of its own."""
    config = tmp_path / "config"
    config.mkdir()

    def load(**watch):
        bench = yaml.safe_load((shipped_config() / "benches.yaml").read_text())["tales"]
        bench |= {"methods": ["copy", "direct"], "watch": watch, "behaviors": []}
        (config / "benches.yaml").write_text(yaml.safe_dump({"small": bench, "other": bench}))
        return load_registry([shipped_config(), config])

    return load


def adapter(folder, **settings):
    import numpy as np

    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **settings}))
    save_file({"a.weight": np.zeros((40, 8), dtype=np.float32)}, folder / "adapter_model.safetensors")
    return folder


def test_models_of_a_folder_stand_on_each_bench_that_watches_it(place, tiny_model, tmp_path):
    shutil.copytree(tiny_model(), tmp_path / "models" / "Tiny Llama v1")
    registry = place(models={"folder": "../models", "settings": {"max_context": 128}})
    for bench in ("small", "other"):
        assert registry.bench(bench).models == ("embedded", "tiny-llama-v1")
        assert registry.arrived[bench] == ("tiny-llama-v1",)
        assert registry.refused[bench] == ()
    model = registry.model("tiny-llama-v1")
    assert model.source == str(tmp_path / "models" / "Tiny Llama v1")
    assert model.max_context == 128
    # which cells there are changes no number of a cell
    assert registry.bench("small").spec_hash == place().bench("small").spec_hash


def test_a_model_that_is_still_being_copied_waits(place, tiny_model, tmp_path):
    source, target = tiny_model(), tmp_path / "models" / "tiny"
    target.mkdir(parents=True)
    said = []

    def look():
        registry = place(models={"folder": str(tmp_path / "models")})
        said.append(registry.refused["small"])
        return registry.bench("small").models

    assert look() == ("embedded",)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, target)
        assert look() == ("embedded",)
    weights = (source / "model.safetensors").read_bytes()
    for size in (0, 5, 200, len(weights) - 1):
        (target / "model.safetensors").write_bytes(weights[:size])
        assert look() == ("embedded",)
    (target / "model.safetensors").write_bytes(weights)
    assert look() == ("embedded", "tiny")
    ends = ("config.json (yet)", "", "safetensors (yet)", "safetensors (yet)", *["still being written"] * 4)
    for lines, end in zip(said[:-1], ends, strict=True):
        (line,) = lines
        assert line.startswith(str(target))
        assert line.endswith(end)
    assert "has no tokenizer (yet)" in said[1][0]


def test_of_a_model_in_shards_all_must_be_there(place, tiny_model, tmp_path):
    target = tmp_path / "models" / "tiny"
    shutil.copytree(tiny_model(), target)
    (target / "model.safetensors").rename(target / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    registry = place(models={"folder": str(tmp_path / "models")})
    assert registry.bench("small").models == ("embedded",)
    assert registry.refused["small"][0].endswith("has no model-00002-of-00002.safetensors (yet)")
    shutil.copy(target / "model-00001-of-00002.safetensors", target / "model-00002-of-00002.safetensors")
    assert "tiny" in place(models={"folder": str(tmp_path / "models")}).bench("small").models


def test_ids_of_a_list_are_models(place, tmp_path):
    (tmp_path / "config" / "ids.txt").write_text(
        "# what we look at\norg/Some-Model@0123456789abcdef\n\norg/other  # unpinned\n"
    )
    registry = place(models={"listed": "ids.txt", "settings": {"dtype": "bfloat16"}})
    assert registry.bench("small").models == ("embedded", "some-model-01234567")
    model = registry.model("some-model-01234567")
    assert (model.source, model.revision, model.dtype) == ("org/Some-Model", "0123456789abcdef", "bfloat16")
    (line,) = registry.refused["small"]
    assert "ids.txt, line 4: 'org/other' is not `org/name@revision`" in line
    (line,) = place(models={"listed": "none.txt"}).refused["small"]
    assert "none.txt cannot be read" in line


def test_adapters_are_methods_beside_what_the_bench_says(place, tmp_path):
    adapter(tmp_path / "adapters" / "Cheer_2")
    (tmp_path / "adapters" / "empty").mkdir()
    (tmp_path / "adapters" / ".copying").mkdir()
    watch = {"folder": "../adapters", "beside": [{"kind": "prompt", "strategy": "direct"}]}
    registry = place(adapters=watch)
    assert registry.bench("other").methods == ("copy", "direct", "cheer_2")
    method = registry.method("cheer_2")
    assert method.labels() == ("prompt", "adapter")
    assert method.parts[1].folder == str(tmp_path / "adapters" / "Cheer_2")
    assert registry.refused["small"] == (f"{tmp_path / 'adapters' / 'empty'} has no adapter_config.json (yet)",)


def test_what_has_the_name_of_another_is_not_taken(place, tmp_path):
    adapter(tmp_path / "adapters" / "direct")
    adapter(tmp_path / "adapters" / "Cheer")
    adapter(tmp_path / "adapters" / "cheer")
    adapter(tmp_path / "adapters" / "007")
    registry = place(adapters={"folder": "../adapters"})
    assert registry.bench("small").methods == ("copy", "direct", "cheer")
    assert registry.method("cheer").parts[0].folder.endswith("Cheer")
    said = registry.refused["small"]
    assert len(said) == 3
    assert "007" in said[0]
    assert said[1].endswith("adapters/cheer: the name 'cheer' is taken: rename it")
    assert said[2].endswith("adapters/direct: the name 'direct' is taken: rename it")


def test_a_folder_that_is_away_is_said_and_stops_nobody(place):
    registry = place(models={"folder": "/nowhere"})
    assert registry.bench("small").models == ("embedded",)
    assert registry.refused["small"] == ("/nowhere cannot be read: No such file or directory",)


def test_mistakes_of_the_configuration_are_mistakes(place):
    with pytest.raises(ConfigError, match=r"watch.models: Value error, give a `folder`"):
        place(models={})
    with pytest.raises(ConfigError, match="`settings` has source"):
        place(models={"folder": "x", "settings": {"source": "y"}})
    with pytest.raises(ConfigError, match="watch.adapters.beside.*psychic"):
        place(adapters={"folder": "../adapters", "beside": [{"kind": "psychic"}]})


def test_files_that_are_no_safetensors_are_named(tmp_path):
    def header(text):
        return len(text).to_bytes(8, "little") + text

    odd = [header(b'{"a": {"data_offsets": []}}'), header(b'{"a": {"data_offsets": [0, null]}}')]
    for content in (*odd, b"\xff" * 64, b"\x05" + bytes(7) + b"hello", b"\x02" + bytes(7) + b"[]"):
        (tmp_path / "odd.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="odd.safetensors is no file of safetensors"):
            whole(tmp_path / "odd.safetensors")


def test_settings_that_are_half_written_wait(place, tiny_model, tmp_path):
    target = tmp_path / "models" / "tiny"
    shutil.copytree(tiny_model(), target)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        whole_file = (target / name).read_bytes()
        (target / name).write_bytes(whole_file[: len(whole_file) // 2])
        (line,) = place(models={"folder": "../models"}).refused["small"]
        assert line.endswith(f"has a {name} that is no JSON (yet)")
        (target / name).write_bytes(whole_file)
    assert place(models={"folder": "../models"}).refused["small"] == ()


def test_a_name_with_a_meaning_of_its_own_is_refused(place, tiny_model, tmp_path):
    shutil.copytree(tiny_model(), tmp_path / "models" / "all")
    adapter(tmp_path / "adapters" / "source")
    registry = place(models={"folder": "../models"}, adapters={"folder": "../adapters"})
    assert [line.split(": ")[1] for line in registry.refused["small"]] == [
        "the name 'all' has a meaning of its own", "the name 'source' has a meaning of its own",
    ]  # fmt: skip
