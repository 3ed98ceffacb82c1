"""Vectors survive the way through files, and other people's files are read as their authors meant them."""

import hashlib
import os
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from steer_core.steering.exchange import (
    export_gguf,
    export_safetensors,
    import_gguf,
    import_safetensors,
    import_torch,
)
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

FOLDER = os.environ.get("STEERWORKS_SAMPLE_DATA")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def vector(layer=3, operator="add", seed=0, **fields) -> SteeringVector:
    fields = {"scalars": {"positive_share": 0.5, "residual_norm": 7.25}, "model": "abc", **fields}
    return SteeringVector("tea", operator, layer, {"direction": numbers(1, 16, seed=seed)}, **fields)


def full() -> SteeringVector:
    return SteeringVector(
        concept="tea",
        operator="affine",
        layer=2,
        tensors={n: numbers(k, 16, seed=k) for n, k in (("left", 2), ("right", 2), ("center", 1), ("direction", 1))},
        scalars={"positive_share": 0.4},
        model="abc",
        site="attention",
        estimator="leace",
        read="answer",
        template="xyz",
        n_positive=40,
        n_negative=60,
        reliability=0.93,
        control="shuffled:1",
        lineage={"examples": "d1", "options": {"rank": 2}},
        kl_curve=((1.0, 0.25), (2.0, 0.75)),
    )


def test_safetensors_lose_nothing(tmp_path):
    path = tmp_path / "v.safetensors"
    written = [full(), vector(), vector(layer=0, seed=1, reliability=None)]
    export_safetensors(written, path)
    for one, other in zip(written, import_safetensors(path, model="abc", width=16), strict=True):
        assert {n: a.tolist() for n, a in one.tensors.items()} == {n: a.tolist() for n, a in other.tensors.items()}
        plain = [{k: x for k, x in vars(v).items() if k != "tensors"} for v in (one, other)]
        assert plain[0] == plain[1]
        assert one.id == other.id


def test_safetensors_say_how_layers_are_counted_to_any_reader(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "v.safetensors"
    export_safetensors([vector()], path)
    with safe_open(path, framework="numpy") as opened:
        assert opened.metadata()["layer_convention"].startswith("0-based decoder layer")
        assert '"model":"abc"' in opened.metadata()["vectors"]
        assert opened.get_tensor("0.direction").shape == (1, 16)


def test_a_vector_of_another_model_width_or_hand_is_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = tmp_path / "v.safetensors"
    export_safetensors([vector()], path)
    with pytest.raises(SteerworksError, match=r"'tea' at layer 3 was fitted on model abc, not on other: .*transfer"):
        import_safetensors(path, model="other")
    with pytest.raises(SteerworksError, match="has width 16; the model's hidden size is 32"):
        import_safetensors(path, width=32)
    with safe_open(path, framework="numpy") as opened:
        metadata = opened.metadata()
    save_file({"0.direction": numbers(1, 16, seed=9)}, path, metadata)
    with pytest.raises(SteerworksError, match="vector 0: its numbers give id .*changed by hand"):
        import_safetensors(path)
    save_file({"weight": numbers(2, 2)}, path)
    with pytest.raises(SteerworksError, match=r"holds tensors \(weight ...\) but no description"):
        import_safetensors(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(SteerworksError, match="not readable as safetensors"):
        import_safetensors(path)
    with pytest.raises(SteerworksError, match="no file at"):
        import_safetensors(tmp_path / "nowhere")
    with pytest.raises(SteerworksError, match="no vector to write"):
        export_safetensors([], path)


def test_llama_cpp_reads_the_control_vector(tmp_path):
    path = tmp_path / "v.gguf"
    vectors = [vector(layer=5, seed=1), vector(layer=2, seed=2)]
    export_gguf(vectors, path, model_hint="llama", coefficient=1.5)
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "controlvector"
    assert reader.fields["controlvector.model_hint"].contents() == "llama"
    assert reader.fields["controlvector.layer_count"].contents() == 2
    assert [t.name for t in reader.tensors] == ["direction.2", "direction.5"]
    for tensor, v in zip(reader.tensors, (vectors[1], vectors[0]), strict=True):
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert tensor.shape.tolist() == [16]
        assert np.array_equal(tensor.data, (1.5 * v.direction).astype(np.float32))


def test_a_control_vector_written_by_the_reference_library_is_read(tmp_path):
    path = tmp_path / "v.gguf"
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "mistral")
    writer.add_uint32("controlvector.layer_count", 2)
    writer.add_array("own.list", ["a", "b"])
    writer.add_bool("own.flag", True)
    writer.add_tensor("direction.10", numbers(7, seed=1))
    writer.add_tensor("direction.9", numbers(7, seed=2).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = import_gguf(path, concept="tea", model="abc", width=7)
    assert [v.layer for v in found] == [9, 10]
    assert np.array_equal(found[1].direction, numbers(7, seed=1))
    assert np.allclose(found[0].direction, numbers(7, seed=2), atol=2e-3)
    assert found[0].lineage["model_hint"] == "mistral"
    with pytest.raises(SteerworksError, match="has width 7; the model's hidden size is 8"):
        import_gguf(path, concept="tea", model="abc", width=8)


def test_gguf_round_trip_keeps_layer_and_numbers(tmp_path):
    path = tmp_path / "v.gguf"
    export_gguf([vector(layer=4)], path, model_hint="llama")
    (found,) = import_gguf(path, concept="tea", model="abc")
    assert (found.layer, found.site, found.operator) == (4, "residual", "add")
    assert np.array_equal(found.direction, vector().direction)


@pytest.mark.parametrize(
    ("vectors", "said"),
    [
        ([vector(layer=0)], "layer 0 has no place in a GGUF control vector: llama.cpp steers from layer 1 on"),
        ([full()], "operator 'affine' at site 'attention'; .*Export it as safetensors"),
        ([vector(site="mlp")], "at site 'mlp'"),
        ([vector(), vector(seed=1)], "two vectors at layer 3.*add them up first"),
        ([], "there is no vector"),
    ],
)
def test_what_a_control_vector_cannot_say_is_refused(tmp_path, vectors, said):
    with pytest.raises(SteerworksError, match=said):
        export_gguf(vectors, tmp_path / "v.gguf", model_hint="llama")
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_foreign_gguf_files_are_told(tmp_path):
    path = tmp_path / "v.gguf"
    export_gguf([vector()], path, model_hint="llama")
    whole = path.read_bytes()
    for size in range(4, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(SteerworksError, match="v.gguf is a damaged GGUF file"):
            import_gguf(path, concept="tea", model="abc")
    path.write_bytes(b"PK" + whole)
    with pytest.raises(SteerworksError, match="is no GGUF file"):
        import_gguf(path, concept="tea", model="abc")
    writer = gguf.GGUFWriter(path, "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(SteerworksError, match="of 'llama', not of a control vector"):
        import_gguf(path, concept="tea", model="abc")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_torch_tensor_is_imported_at_its_layer(tmp_path, dtype):
    path = tmp_path / "vec_ep20_layer15.pt"
    tensor = torch.from_numpy(numbers(12)).to(dtype)
    torch.save(tensor, path)
    (found,) = import_torch(path, concept="tea", model="abc", layer=15, width=12)
    assert (found.layer, found.site, found.operator, found.model) == (15, "residual", "add", "abc")
    assert np.array_equal(found.direction, tensor.float().numpy())
    assert found.lineage == {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    torch.save(torch.nn.Parameter(tensor.float()[None]), path)
    assert import_torch(path, concept="tea", model="abc", layer=1)[0].width == 12


def test_a_mapping_of_layers_gives_a_vector_each(tmp_path):
    path = tmp_path / "all.pt"
    torch.save({"7": torch.ones(4), 3: torch.zeros(4) + 2}, path)
    found = import_torch(path, concept="tea", model="abc")
    assert [(v.layer, float(v.direction[0])) for v in found] == [(3, 2.0), (7, 1.0)]
    with pytest.raises(SteerworksError, match="names its layers .*leave out `layer`"):
        import_torch(path, concept="tea", model="abc", layer=3)


class Trap:
    """What a hostile pickle does: runs code when it is loaded."""

    def __reduce__(self):
        return (os.system, ("touch " + str(Path(os.environ["TRAP"])),))


def test_a_pickle_that_is_not_plain_tensors_is_refused_and_nothing_runs(tmp_path, monkeypatch):
    sprung = tmp_path / "sprung"
    monkeypatch.setenv("TRAP", str(sprung))
    path = tmp_path / "v.pt"
    torch.save({3: Trap()}, path)
    with pytest.raises(SteerworksError, match=r"not a torch file of plain tensors.*torch.save\(vector.cpu\(\), path\)"):
        import_torch(path, concept="tea", model="abc")
    assert not sprung.exists()
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(SteerworksError, match="not a torch file of plain tensors"):
        import_torch(path, concept="tea", model="abc", layer=1)


@pytest.mark.parametrize(
    ("body", "layer", "said"),
    [
        (torch.ones(4), None, "holds one tensor and no layer; say which"),
        (torch.ones(2, 4), 1, r"shape \(2, 4\) is neither \(width,\) nor \(1, width\)"),
        (torch.tensor(3.0), 1, r"shape \(\) is neither"),
        (torch.ones(4, dtype=torch.int64), 1, "torch.int64 is no tensor of floating point numbers"),
        (torch.tensor([1.0, float("nan")]), 1, "some numbers are not finite"),
        ([torch.ones(4)], 1, "list is no tensor"),
        ({"model.layers.3": torch.ones(4)}, None, "keys must be 0-based layers.*'model.layers.3'"),
        ({}, None, "keys must be 0-based layers"),
    ],
)
def test_tensors_that_are_no_direction_are_refused(tmp_path, body, layer, said):
    path = tmp_path / "v.pt"
    torch.save(body, path)
    with pytest.raises(SteerworksError, match=said):
        import_torch(path, concept="tea", model="abc", layer=layer)


@pytest.mark.skipif(FOLDER is None, reason="STEERWORKS_SAMPLE_DATA is not set: no folder with BiPO's published vectors")
def test_the_published_power_seeking_vector_has_its_known_numbers():
    path = Path(FOLDER or "") / "bipo" / "power-seeking" / "vec_ep20_layer15.pt"
    (found,) = import_torch(path, concept="power-seeking", model="llama-2-7b-chat", layer=15, width=4096)
    assert found.norm == pytest.approx(8.7030, abs=5e-5)
    assert int(np.abs(found.direction).argmax()) == 2064
    assert float(np.abs(found.direction).max()) == pytest.approx(0.4735, abs=5e-5)
    assert found.direction[:3] == pytest.approx([-0.0118, -0.02513, 0.16314], abs=5e-6)
    assert found.lineage["sha256"].startswith("657f0536")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tensors": {"direction": np.zeros((1, 0), np.float32)}}, "a tensor of it is empty"),
        ({"tensors": {"direction": np.zeros((0, 4), np.float32)}}, "a tensor of it is empty"),
        ({"layer": -3}, "layer -3; layers are counted from 0"),
        ({"tensors": {"direction": np.array([[1.0, np.nan]], np.float32)}}, "1 numbers of its tensor 'direction'"),
        ({"tensors": {"direction": np.array([[np.inf, -np.inf]], np.float32)}}, "2 numbers of its tensor 'direction'"),
        ({"scalars": {"residual_norm": float("nan")}}, "its scalar 'residual_norm' is nan"),
    ],
)
def test_numbers_that_are_none_make_no_vector_wherever_they_come_from(changes, message):
    fields = {"concept": "c", "operator": "add", "layer": 0, "tensors": {"direction": np.ones((1, 4), np.float32)}}
    with pytest.raises(SteerworksError, match=message):
        SteeringVector(**{**fields, "scalars": {}, "model": "m", **changes})
