"""Adapters that a running server lists: taken by name, asked for as models, refused where they are of another base."""

import pytest
from served_world import LISTED, attached, serving

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.engines.vllm import VllmBackend
from steer_core.generation.servers.listed import adapter_listed, adapters_listed
from steer_core.models import load_model
from steer_core.steering import Message, Plan
from steer_core.tables.errors import SteerworksError


def plan(backend, adapter=None):
    asked = (Message("user", "Tell a story."),)
    return Call(Plan(backend.model_identity, Decoding(max_new_tokens=4), asked, adapter=adapter), 0, 0)


def test_an_adapter_is_known_by_its_name_where_it_came_from_and_its_base():
    found = adapter_listed(LISTED, "there", "formal")
    assert (found.served, str(found.folder), found.base) == ("formal", "/loras/formal", "there")
    assert found == adapter_listed(LISTED, "there", "formal")
    moved = [{**m, "root": "/loras/newer"} if m["id"] == "formal" else m for m in LISTED]
    assert (
        len(
            {
                a.digest
                for a in (found, adapter_listed(moved, "there", "formal"), adapter_listed(LISTED, "there", "brief"))
            }
        )
        == 3
    )


def test_a_parent_by_another_name_of_the_same_model_is_the_same_model():
    assert adapter_listed(LISTED, "there", "brief").served == "brief"
    assert adapter_listed(LISTED, "alias", "formal").served == "formal"


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        ("there", "foreign", "adapter 'foreign' is of model 'other', and what is asked here is 'there'"),
        ("there", "gone", "adapter 'gone' is not there: the server lists 'brief', 'foreign', 'formal' as adapters"),
        ("there", "alias", "adapter 'alias' is a model of its own, and no adapter"),
        ("mine", "formal", "lists no model 'mine', but 'alias', 'brief'"),
    ],
)
def test_what_is_not_listed_for_this_model_is_refused_by_name(model, name, message):
    with pytest.raises(SteerworksError, match=message):
        adapter_listed(LISTED, model, name)


def test_all_that_are_listed_are_found_by_name_and_one_of_another_base_is_not_left_out_in_silence():
    own = [m for m in LISTED if m["id"] != "foreign"]
    assert [a.served for a in adapters_listed(own, "there")] == ["brief", "formal"]
    assert adapters_listed(own, "there")[1] == adapter_listed(LISTED, "there", "formal")
    with pytest.raises(
        SteerworksError, match=r"not all .* can be worn: adapter 'foreign' is of model 'other'.*name those"
    ):
        adapters_listed(LISTED, "there")
    with pytest.raises(SteerworksError, match="lists no adapter"):
        adapters_listed([m for m in LISTED if m["parent"] is None], "there")


def test_rows_ask_for_the_adapter_as_their_model_and_nothing_is_loaded():
    with serving(LISTED) as (address, asked):
        backend = VllmBackend(attached(address))
        worn = backend.served_adapter("formal")
        backend.add_adapters([worn])
        found = answer_all(backend, [plan(backend), plan(backend, worn.digest)])
    assert sorted(body["model"] for path, body in asked if path == "/v1/completions") == ["formal", "there"]
    assert not [path for path, _ in asked if "lora" in path]
    assert len({g.raw for g in found}) == 2


def test_texts_are_scored_under_the_adapter_token_for_token_behind_their_prompt():
    with serving(LISTED) as (address, asked):
        backend = VllmBackend(attached(address))
        worn = backend.served_adapter("formal")
        backend.add_adapters([worn])
        plans = [plan(backend).plan, plan(backend, worn.digest).plan]
        found = backend.score(plans, ["A happy story.", "A happy story."])
    prompt = backend.encode(plans[0])
    answer = backend.tokenizer("A happy story.", add_special_tokens=False)["input_ids"]
    assert found == [[-float(k) for k in range(len(prompt) - 1, len(prompt) - 1 + len(answer))]] * 2
    bodies = [body for path, body in asked if path == "/v1/completions"]
    assert sorted(body["model"] for body in bodies) == ["formal", "there"]
    assert all(body["prompt"] == [*prompt, *answer] for body in bodies)


def test_a_server_that_has_another_adapter_of_that_name_by_now_is_not_asked():
    before = adapter_listed(LISTED, "there", "formal")
    with serving([{**m, "root": "/loras/newer"} if m["id"] == "formal" else m for m in LISTED]) as (address, asked):
        backend = VllmBackend(attached(address))
        backend.add_adapters([before])
        with pytest.raises(SteerworksError, match="has adapter 'formal' from elsewhere than when it was recorded"):
            answer_all(backend, [plan(backend, before.digest)])
    assert asked == []


def test_engines_without_such_a_server_say_so(tmp_path):
    class Running:
        pass

    backend = VllmBackend(ModelSpec(name="here", source="embedded", engine="vllm", device="cpu"), Running())
    with pytest.raises(SteerworksError, match="started here, which has no adapters of its own"):
        backend.served_adapter("formal")
    ours = TransformersBackend(load_model(ModelSpec(name="embedded", source="embedded", device="cpu")))
    with pytest.raises(SteerworksError, match="adapter 'formal' is on a server, and its weights are not here"):
        ours.add_adapters([Adapter("0" * 32, tmp_path, None, served="formal")])
