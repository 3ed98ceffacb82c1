"""Models are quantised by transformers' own configs; what cannot be done is refused before weights are read."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import is_bitsandbytes_available

import steer_core as steer
from schemas.digest import digest_bytes
from schemas.specs import Decoding, ModelSpec
from steer_core.adapters.merging import write_merged
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines import describe_engine, lacks
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.models.loading import fingerprint_of
from steer_core.models.quantization import check_environment, check_quantization, is_quantized, packed_by
from steer_core.steering import Message, Plan
from steer_core.steering.folding import fold
from steer_core.steering.intervention import Intervention
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_core.models.quantizing import METHOD, RoundedLinear, rounding

NF4 = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}
#: What `embedded` was called by in every table before models could be quantised.
IDENTITY, SPEC_HASH = "336d9f9ecf956ec6fd8e92005baffc95", "65cb05724446e7c56bdfaf711354023a"


@pytest.fixture(autouse=True)
def devices():
    with rounding() as seen:
        yield seen


@pytest.fixture
def spec(tiny_model):
    """`spec(levels=127, **further)`: a tiny model that is rounded."""

    def make(source=None, settings=None, **further):
        said = {"quant_method": METHOD} if settings is None else settings
        return ModelSpec(name="tiny", source=str(source or tiny_model()), device="cpu", quantization=said, **further)

    return make


def plain(spec):
    return spec.model_copy(update={"quantization": {}})


def logits(model):
    ids = torch.arange(4, 20)[None]
    with torch.inference_mode():
        return model(input_ids=ids).logits


# identity


def test_a_model_that_is_not_quantised_keeps_the_identity_that_it_had():
    model = ModelSpec(name="embedded", source="embedded")
    assert (model.identity, model.spec_hash) == (IDENTITY, SPEC_HASH)
    assert "quantization" not in model.model_dump()


def test_quantisation_is_part_of_identity_and_fingerprint(spec):
    packed, coarse = spec(), spec(settings={"quant_method": METHOD, "levels": 7})
    assert len({m.identity for m in (packed, coarse, plain(packed))}) == 3
    assert len({fingerprint_of(m) for m in (packed, coarse, plain(packed))}) == 3
    assert ModelSpec.model_validate(packed.model_dump()) == packed


# loading


def test_weights_are_packed_where_they_are_wanted_and_never_moved(spec, devices):
    loaded = load_model(spec())
    assert is_quantized(loaded.model)
    assert not is_quantized(load_model(plain(spec())).model)
    assert isinstance(loaded.model.model.layers[0].mlp.down_proj, RoundedLinear)
    assert devices == [{"": "cpu"}] * 2  # once before weights are read, once by transformers
    with pytest.raises(ValueError, match="not supported"):
        loaded.model.to("cpu")


def test_settings_reach_the_method(spec):
    want = logits(load_model(plain(spec())).model)
    apart = [
        float((logits(load_model(spec(settings={"quant_method": METHOD, "levels": n})).model) - want).std())
        for n in (127, 7)
    ]
    assert 0 < apart[0] < 0.03 * float(want.std()) < apart[1]


def test_the_settings_of_nf4_reach_transformers_as_they_are_written(spec, monkeypatch):
    import transformers

    asked = {}

    def from_pretrained(where, **options):
        asked.update(options)
        raise RuntimeError("enough")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    # whether the library is there is another question
    monkeypatch.setattr("steer_core.models.loading.check_environment", lambda *_: None)
    with pytest.raises(ConfigError, match="enough"):
        load_model(spec(settings=NF4, dtype="float16"))
    config = asked["quantization_config"]
    assert type(config).__name__ == "BitsAndBytesConfig"
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert (config.bnb_4bit_compute_dtype, asked["dtype"]) == (torch.bfloat16, torch.float16)
    assert asked["device_map"] == {"": "cpu"}


def test_a_number_that_is_none_is_found_in_the_files_for_packing_hides_it(tiny_model, tmp_path, spec):
    folder = shutil.copytree(tiny_model(), tmp_path / "model")
    state = load_file(folder / "model.safetensors")
    name = next(k for k in sorted(state) if "down_proj" in k)
    state[name][0, 0] = torch.nan
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=f"1 numbers of weight '{name}' in .* are not finite as float32"):
        load_model(spec(folder))
    state[name][0, 0] = 1e6
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="not finite as float16"):
        load_model(spec(folder, dtype="float16"))


def test_a_quantised_model_that_is_handed_over_is_known_by_its_numbers_and_by_what_they_mean(spec):
    handed = [load_model(spec(settings={"quant_method": METHOD, "levels": n})) for n in (127, 7)]
    found = [steer.load(h.model, h.tokenizer) for h in handed]
    assert found[0].loaded.fingerprint != found[1].loaded.fingerprint
    known = found[0].loaded.fingerprint
    assert steer.load(handed[0].model, handed[0].tokenizer).loaded.fingerprint == known
    handed[0].model.config.quantization_config.levels = 126
    assert steer.load(handed[0].model, handed[0].tokenizer).loaded.fingerprint != known


@pytest.mark.skipif(not is_bitsandbytes_available(), reason="not run: bitsandbytes is not installed")
@pytest.mark.parametrize(
    ("settings", "kind", "largest"),
    [
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "Linear8bitLt", 0.1),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_threshold": 0.0}, "Linear8bitLt", 0.1),
        (NF4, "Linear4bit", 0.3),
    ],
)
def test_bitsandbytes_packs_and_answers_nearly_as_before(settings, kind, largest):
    model = ModelSpec(name="packed", source="embedded", device="cpu", quantization=settings)
    loaded = load_model(model)
    assert type(loaded.model.model.layers[1].mlp.down_proj).__name__ == kind
    want = logits(load_model(plain(model)).model)
    apart = float((logits(loaded.model) - want).square().mean().sqrt() / want.std())
    assert 0 < apart < largest
    backend = TransformersBackend(loaded)
    asked = [Plan(model.identity, Decoding(max_new_tokens=8), (Message("user", t),)) for t in ("Hi.", "How are you?")]
    together = [a.raw for a in answer_all(backend, [Call(p, 0, 0) for p in asked])]
    assert together == [answer_all(backend, [Call(p, 0, 0)])[0].raw for p in asked]


# steering


def test_steering_and_scores_work_on_packed_weights(spec):
    loaded = load_model(spec())
    direction = np.ones((1, loaded.model.config.hidden_size), dtype=np.float32)
    vector = SteeringVector("joy", "add", 0, {"direction": direction}, {}, loaded.fingerprint)
    backend = TransformersBackend(loaded, [vector])
    act = (Intervention("add", vector.id, 0, 3.0),)
    plans = [
        Plan(loaded.spec.identity, Decoding(max_new_tokens=6), (Message("user", text),), interventions=done)
        for text in ("a", "Please rewrite the following text.")
        for done in ((), act)
    ]
    together = answer_all(backend, [Call(p, 0, 0) for p in plans])
    assert [a.receipt is None for a in together] == [True, False, True, False]
    assert [a.raw for a in together] == [answer_all(backend, [Call(p, 0, 0)])[0].raw for p in plans]
    scores = backend.score(plans, ["so that it is longer"] * 4)
    assert np.isfinite(scores).all()
    assert not np.allclose(scores[0], scores[1])
    assert json.loads(backend.execution)["quantization"] == METHOD
    assert "quantization" not in json.loads(TransformersBackend(load_model(plain(spec()))).execution)


def test_rows_of_llm_int8_run_alone_for_outliers_are_looked_for_in_all_of_them(spec):
    from transformers import BitsAndBytesConfig

    loaded = load_model(spec())
    assert TransformersBackend(loaded).capabilities.batching == "refill"
    for threshold, batching in ((6.0, "plain"), (0.0, "refill")):
        # the config says how its library multiplies, whatever multiplies here
        other = load_model(spec())
        other.model.config.quantization_config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=threshold)
        able = TransformersBackend(other).capabilities
        assert able.batching == batching
        assert ("`llm_int8_threshold` above 0" in able.batching_reason) == (batching == "plain")


def test_a_vector_of_the_unquantised_model_is_refused(spec):
    other = load_model(plain(spec()))
    direction = np.ones((1, other.model.config.hidden_size), dtype=np.float32)
    vector = SteeringVector("joy", "add", 0, {"direction": direction}, {}, other.fingerprint)
    with pytest.raises(SteerworksError, match="was fitted on model"):
        TransformersBackend(load_model(spec()), [vector])


def test_nothing_is_folded_or_merged_into_packed_weights(spec, tmp_path):
    loaded = load_model(spec())
    direction = np.ones((1, loaded.model.config.hidden_size), dtype=np.float32)
    vector = SteeringVector("joy", "add", 0, {"direction": direction}, {}, loaded.fingerprint)
    act = Intervention("add", vector.id, 0, 3.0)
    with pytest.raises(SteerworksError, match="is quantised: .* folded"):
        fold(loaded, [act], {vector.id: vector}, tmp_path / "folded")
    # a model that was quantised elsewhere is known by its weights
    handed = replace(loaded, spec=plain(loaded.spec))
    with pytest.raises(SteerworksError, match="is quantised: .* folded"):
        fold(handed, [act], {vector.id: vector}, tmp_path / "folded")
    adapter = Adapter(digest_bytes(b""), tmp_path / "nowhere", None)
    with pytest.raises(SteerworksError, match="is quantised: .*Export it as `peft`"):
        write_merged(loaded.spec, adapter, tmp_path)


# refusals


@pytest.mark.parametrize(
    ("engine", "further", "said"),
    [
        ("vllm", {}, "more: .--quantization, bitsandbytes"),
        ("openai", {"endpoint": {"dialect": "openai"}}, "as its server has loaded"),
    ],
)
def test_other_engines_refuse_it_and_say_what_they_want(spec, engine, further, said):
    with pytest.raises(ValueError, match=f"it is for the engine `transformers`.*{said}"):
        ModelSpec(name="x", source="./x", engine=engine, quantization=NF4, **further)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"load_in_4bit": True}, "has no `quant_method`"),
        ({"quant_method": "nf4"}, "none that transformers knows; it knows: .*bitsandbytes.*quanto.*torchao"),
        ({"quant_method": "bitsandbytes_4bit"}, "none that transformers knows; it knows: .*bitsandbytes"),
        ({"quant_method": "awq", "bits": 4}, "packs no weights while they are loaded"),
        ({"quant_method": "gguf"}, "packs no weights while they are loaded"),
        ({"quant_method": "bitsandbytes"}, "needs one of .* it has neither"),
        ({**NF4, "load_in_8bit": True}, "it has load_in_4bit and load_in_8bit"),
        ({**NF4, "bnb_4bit_quant_typ": "nf4"}, "BitsAndBytesConfig .* no setting 'bnb_4bit_quant_typ'.*quant_type"),
        ({**NF4, "bnb_4bit_compute_dtype": "float99"}, "makes no BitsAndBytesConfig.*float99"),
        ({"quant_method": METHOD, "load_in_4bit": True}, "RoundingConfig .* no setting 'load_in_4bit'"),
        ({"quant_method": METHOD, "levels": 0}, "makes no RoundingConfig.*levels = 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_weights_are_read(spec, monkeypatch, settings, said):
    monkeypatch.setattr("steer_core.models.loading._weights", lambda *_: pytest.fail("weights were read"))
    with pytest.raises((ConfigError, ValueError), match=said):
        load_model(spec(settings=settings))
    with pytest.raises((ConfigError, ValueError), match=said):
        describe_engine(spec(settings=settings))


def test_what_is_quantised_already_is_not_quantised_again(tiny_model, tmp_path, spec, monkeypatch):
    monkeypatch.setattr("steer_core.models.loading._weights", lambda *_: pytest.fail("weights were read"))
    folder = shutil.copytree(tiny_model(), tmp_path / "model")
    body = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**body, "quantization_config": {"quant_method": "awq"}}))
    with pytest.raises(ConfigError, match="is quantised already .quant_method 'awq'., .*leave `quantization` out"):
        load_model(spec(folder))


def test_a_hub_model_that_is_quantised_already_is_refused_by_its_config(spec, monkeypatch):
    from transformers import AutoConfig, LlamaConfig

    config = LlamaConfig(quantization_config={"quant_method": "awq"})
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda *_, **__: config)
    monkeypatch.setattr("steer_core.models.loading._weights", lambda *_: pytest.fail("weights were read"))
    with pytest.raises(ConfigError, match="org/name is quantised already .quant_method 'awq'."):
        load_model(spec("org/name", revision="abc"))


def test_a_gguf_file_is_refused(tmp_path, spec):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match="is a GGUF file.*safetensors"):
        check_quantization(spec(tmp_path / "model.gguf"))


def test_a_missing_library_is_named_with_the_package_to_install(spec, monkeypatch):
    monkeypatch.setattr("transformers.quantizers.quantizer_quanto.is_optimum_quanto_available", lambda: False)
    monkeypatch.setattr("steer_core.models.loading._weights", lambda *_: pytest.fail("weights were read"))
    asked = spec(settings={"quant_method": "quanto", "weights": "int8"})
    with pytest.raises(ConfigError, match="'quanto' needs a package .*pip install optimum-quanto"):
        load_model(asked)
    # what a run lacks is said before it begins
    (said,) = lacks(asked)
    assert "pip install optimum-quanto" in said
    assert list(lacks(spec())) == [] == list(lacks(plain(spec())))
    assert packed_by(asked)["quantization"].startswith("quanto")


def test_a_device_that_the_method_cannot_use_is_refused(spec):
    with pytest.raises(ConfigError, match="cannot be used on device 'meta': weights on `meta` are not rounded"):
        check_environment(spec(), "meta")
