"""The steering of a request to vLLM: the same words as `steer_core.steering`, and nothing else is let through."""

import ast
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steer_core.generation.backend import Capabilities
from steer_core.generation.servers.proof import spec_text, vector_body, worker_interventions, worker_receipt
from steer_core.generation.servers.room import package_files
from steer_core.generation.vllm_worker import spec, support
from steer_core.generation.vllm_worker.catalogue import Catalogue, unfit
from steer_core.steering.batch import things_at
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.operators import available_operators
from steer_core.steering.positions import FORMS, parse_positions
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import SteerworksError

selectors = st.one_of(
    st.sampled_from(["all", "prompt", "completion", "last_prompt"]),
    st.integers(-40, 40).map(lambda n: f"index:{n}"),
    st.tuples(st.integers(0, 40), st.integers(1, 40)).map(lambda p: f"span:{p[0]}:{p[0] + p[1]}"),
)
interventions = st.builds(
    Intervention,
    operator=st.sampled_from(["add", "ablate", "rotate"]),
    vector=st.sampled_from("ab"),
    layer=st.integers(0, 2),
    coefficient=st.floats(-5, 5),
    site=st.sampled_from(["residual", "mlp"]),
    positions=selectors,
)


@given(selectors, st.integers(1, 60))
def test_selectors_mean_what_they_mean_to_the_hooks(selector, prompt):
    assert spec.interval(selector, prompt) == parse_positions(selector).interval(prompt)


@given(st.lists(interventions, max_size=6))
def test_additions_are_summed_as_the_hooks_sum_them(asked):
    found = spec.read_spec(spec_text(asked, "n"))
    assert found.nonce == "n"
    assert spec.things(found.edits) == things_at(asked)
    assert [vars(e) | {"gate": None} for e in found.edits] == [vars(i) for i in asked]


def test_a_given_answer_does_not_count_as_prompt_though_vllm_is_given_it_as_such():
    assert spec.read_spec(spec_text([], "", 10)).prompt_length(14) == 10
    assert spec.read_spec(spec_text([], "")).prompt_length(14) == 14


def test_the_worker_knows_operators_and_selectors_of_ours_only():
    assert set(support.OPERATORS) <= set(available_operators())
    assert set(support.POSITIONS) == set(FORMS)
    able = Capabilities("vllm", None, scores=False, interventions=worker_interventions("llama"))
    able.interventions.lacking(Intervention("add", "v", 0, 1.0, "mlp"))
    assert "gate" in able.interventions.lacking(Intervention("add", "v", 0, 1.0, gate=Gate("v", 0, 0.5)))
    assert "site 'mlp'" in worker_interventions("falcon").lacking(Intervention("add", "v", 0, 1.0, "mlp"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (3, "a JSON string; got int"),
        ("{", "is no JSON"),
        ("[]", "list of `interventions`"),
        ({"interventions": [], "layers": 1}, "no 'layers'"),
        ({"interventions": [], "nonce": 1}, "nonce"),
        ({"interventions": [], "prompt": -1}, "`prompt` of 'steer' is a number of tokens"),
        ({"interventions": [3]}, "intervention 0 is a JSON object"),
        ({"interventions": [{"operator": "add"}]}, "lacks 'vector'"),
        ({"strength": 1}, "knows no 'strength'"),
        ({"gate": {"vector": "v"}}, "cannot wait for a gate"),
        ({"operator": "explode"}, "operator 'explode'; it applies ablate, add"),
        ({"site": "heads"}, "site 'heads'; it steers residual"),
        ({"vector": 3}, "3 is no id"),
        ({"layer": -1}, "layer -1"),
        ({"layer": True}, "layer True"),
        ({"coefficient": "much"}, "'much' is no finite number"),
        ({"coefficient": float("inf")}, "inf is no finite number"),
        ({"positions": "span:4:4"}, "hold no token"),
        ({"positions": "verbs"}, "there are: all, prompt"),
        ({"positions": 3}, "no selector"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(body, words):
    if isinstance(body, dict) and "interventions" not in body:
        body = {"interventions": [{"operator": "add", "vector": "v", "layer": 0, "coefficient": 1.0} | body]}
    with pytest.raises(spec.SpecError, match=words):
        spec.read_spec(json.dumps(body) if isinstance(body, dict) else body)


def salt_of(prompt, **changes):
    return spec.salt(
        spec.Spec((spec.Edit(**{"operator": "add", "vector": "v", "layer": 1, "coefficient": 1.0} | changes),)), prompt
    )


def test_the_salt_tells_apart_whatever_is_steered_otherwise():
    base = salt_of(10)
    assert base == salt_of(12), "what is counted from the start is the same in the next turn"
    changes = ({"vector": "w"}, {"layer": 2}, {"coefficient": 1.5}, {"operator": "ablate"}, {"site": "mlp"})
    for change in (*changes, {"positions": "prompt"}):
        assert salt_of(10, **change) != base
    for positions in ("prompt", "completion", "last_prompt", "index:-3"):
        assert salt_of(10, positions=positions) != salt_of(12, positions=positions)
    for positions in ("span:0:4", "index:3"):
        assert salt_of(10, positions=positions) == salt_of(12, positions=positions)


def test_the_catalogue_refuses_what_the_worker_could_not_do(tmp_path):
    note = {"width": 8, "tensors": {"direction": 1}, "scalars": [], "digest": "d"}
    worker, front = Catalogue(tmp_path / "vectors"), Catalogue(tmp_path / "vectors")

    def check(**changes):
        edit = spec.Edit(**{"operator": "add", "vector": "v", "layer": 1, "coefficient": 1.0} | changes)
        front.check(spec.Spec((edit,)), 4, ("residual",))

    with pytest.raises(spec.SpecError, match="'v' is not loaded"):
        check()
    worker.add("v", note)
    check()
    worker.add("v", note)
    with pytest.raises(spec.SpecError, match="another vector is called 'v'"):
        worker.add("v", note | {"digest": "e"})
    with pytest.raises(spec.SpecError, match="layers 0 to 3"):
        check(layer=4)
    with pytest.raises(spec.SpecError, match="site 'mlp' is not known"):
        check(site="mlp")
    with pytest.raises(spec.SpecError, match="lacks left, right, center"):
        check(operator="affine")
    affine = {"width": 8, "tensors": {"left": 2, "right": 3, "center": 1, "direction": 1}, "scalars": []}
    assert "'right' has 3 rows, not 2" in unfit("affine", affine)
    assert unfit("rotate", {"width": 8, "tensors": {"plane": 2}, "scalars": ["adaptive"]}) is None


def found_of(touches, cached=0, reached=12, prompt=10):
    return {"prompt": prompt, "cached": cached, "reached": reached, "touches": touches}


def test_a_receipt_of_the_worker_counts_cached_tokens_and_leaves_late_ones():
    asked = (Intervention("add", "v", 1, 1.0), Intervention("add", "v", 2, 1.0, positions="completion"))
    # 4 tokens were in the cache, and one was fed after the answer had ended
    found = found_of([{"observed": 9}, {"observed": 3}], cached=4, reached=13)
    receipt = worker_receipt(0, asked, 10, 12, found)
    assert receipt.realisation == "worker"
    assert [(t.expected, t.observed) for t in receipt.touches] == [(12, 12), (2, 2)]
    for wrong in (None, found_of([{"observed": 12}]), found_of([{"observed": 11}, {"observed": 2}])):
        with pytest.raises(SteerworksError, match="row 0"):
            worker_receipt(0, asked, 10, 12, wrong)
    with pytest.raises(SteerworksError, match="a prompt of 9 tokens, not 10"):
        worker_receipt(0, asked, 10, 12, found_of([{"observed": 12}, {"observed": 2}], prompt=9))


def test_what_goes_into_the_other_environment_needs_nothing_of_ours():
    known = {"__future__", "torch", "vllm", "numpy", "safetensors"}
    standard = {"base64", "collections", "dataclasses", "functools", "hashlib", "importlib", "json", "math", "os"}
    standard |= {"pathlib", "queue", "re", "sys", "threading", "typing"}
    for name, text in package_files().items():
        tree = ast.parse(text)
        typing_only = {id(n) for i in ast.walk(tree) if _is_typing(i) for n in ast.walk(i)}
        for node in ast.walk(tree):
            if id(node) in typing_only:
                continue
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            else:
                continue
            assert {n.split(".")[0] for n in names} <= known | standard, name
    assert Path(support.__file__).name in package_files()


def _is_typing(node):
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_a_vector_is_handed_over_in_full():
    import numpy as np

    vector = SteeringVector("c", "rotate", 2, {"plane": np.eye(2, 8, dtype=np.float32)}, {"adaptive": 1.0}, "m")
    body = json.loads(json.dumps(vector_body(vector)))
    assert (body["name"], body["layer"], body["scalars"]) == (vector.id, 2, {"adaptive": 1.0})
    assert body["tensors"]["plane"]["shape"] == [2, 8]
