"""Models are described from their files, and what is missing is said in words."""

import pytest

from schemas.specs import ModelSpec
from steer_core.models import describe_model, load_model
from steer_core.models.loading import digest_folder
from steer_core.tables.errors import ConfigError


@pytest.mark.parametrize(
    ("family", "chat"),
    [("llama", True), ("qwen2", False), ("gpt2", False), ("gpt_neox", True), ("mpt", False), ("gemma3_wrapper", True)],
)
def test_a_folder_is_described_without_its_weights_as_loading_finds_it(tiny_model, family, chat):
    spec = ModelSpec(name="tiny", source=str(tiny_model(family, chat)))
    assert describe_model(spec) == load_model(spec).info
    assert describe_model(spec).max_context == 256
    assert describe_model(spec).chat is chat


def test_a_hub_model_needs_a_revision():
    with pytest.raises(ValueError, match="needs a `revision`"):
        ModelSpec(name="x", source="org/name")
    assert ModelSpec(name="x", source="org/name", revision="abc").kind == "hub"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no config.json"):
        load_model(ModelSpec(name="x", source=str(tmp_path / "nowhere")))


def test_a_hub_model_out_of_reach_says_what_to_do():
    with pytest.raises(ConfigError, match="could not be loaded.*point `source` at a local folder"):
        load_model(ModelSpec(name="x", source="no-such-org/no-such-model", revision="abc"))


def test_chat_asked_of_a_model_without_template_is_refused(tiny_model):
    with pytest.raises(ConfigError, match="no chat template"):
        load_model(ModelSpec(name="x", source=str(tiny_model("gpt2", False)), chat=True))


def test_identity_leaves_out_name_and_device():
    one = ModelSpec(name="a", source="org/name", revision="r", device="cpu")
    assert one.identity == ModelSpec(name="b", source="org/name", revision="r", device="cuda").identity
    assert one.identity != ModelSpec(name="a", source="org/name", revision="s").identity


def test_the_digest_of_a_folder_follows_its_weights(tiny_model, tmp_path):
    import shutil

    copy = shutil.copytree(tiny_model(), tmp_path / "copy")
    assert digest_folder(copy) == digest_folder(tiny_model())
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert digest_folder(copy) != digest_folder(tiny_model())
