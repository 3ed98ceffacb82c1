"""What was tried by hand becomes pairs of a behavior, or a method that the bench measures."""

import json

import polars as pl
import pytest
import yaml
from starlette.testclient import TestClient
from test_assets_vectors import CELL, CHEERFUL, GRID, PART, SHARED, vector_bench

from schemas import Tried
from schemas.specs import GoalSpec, MethodSpec
from steer_assets.explore import keeping
from steer_assets.explore.server import explorer
from steer_assets.explore.trying import Playground
from steer_assets.settings import registry
from steer_core.tables.errors import ConfigError

__all__ = ["vector_bench"]
PROMPT = "Write a text about the pilot and the bus."
TEXT = "The baker waits for the train. The clerk reads a letter near the station."
GOALS = {
    name: GoalSpec(name=name, scorer=name, unit="points", noun=name, more=f"more {name}", less=f"less {name}")
    for name in ("formality", "length")
}

PLAIN = MethodSpec.model_validate({"name": "plain", "parts": [{"kind": "prompt", "strategy": "direct"}]})


def tried(**changes):
    row = {
        "tried_id": "a", "at": 1.0, "cell": CELL, "kind": "targets", "text": "source", "targets": '{"formality": 0.8}',
        "concept": "", "strength": None, "response_id": "r", "answer": "rewrite", "failure": None,
        "z0": '{"formality": 0.5, "length": 0.5}', "z_hat": '{"formality": 0.7, "length": 0.4}', "error": 0.1,
        "completion_tokens": 3, "seconds": 1.0,
    }  # fmt: skip
    return {**row, **changes}


def frame(*rows):
    return pl.DataFrame([tried(**{"tried_id": str(n), **r}) for n, r in enumerate(rows)], schema=Tried.empty().schema)


def steered(strength, answer, **changes):
    return {"kind": "strength", "targets": "{}", "concept": "joy", "strength": strength, "answer": answer, "text": "p", **changes}  # fmt: skip


def test_pairs_are_answers_that_differ_in_what_they_are_pairs_of():
    rows = frame(
        steered(None, "plain"),
        steered(0.4, "glad"),
        steered(-0.4, "sad"),
        steered(0.2, "plain"),
        steered(0.3, "", failure="empty"),
        steered(0.5, "glad and long", failure="truncated"),
        steered(0.4, "alone", text="another prompt"),
        {},
        {"targets": '{"formality": 0.2}', "z_hat": '{"formality": 0.3, "length": 0.5}', "answer": "casual"},
        # the wrong way, too little, two goals, unknown
        {"z_hat": '{"formality": 0.4, "length": 0.5}', "answer": "no"},
        {"z_hat": '{"formality": 0.52, "length": 0.5}', "answer": "no"},
        {"targets": '{"formality": 0.8, "length": 0.8}', "answer": "no"},
        {"z_hat": '{"formality": null, "length": 0.5}', "answer": "no"},
    )
    found = keeping.pairs(rows, (), GOALS)
    by_words = {(r["positive"], r["negative"]): r for r in found}
    assert list(by_words) == [
        ("glad", "plain"), ("plain", "sad"), ("glad and long", "plain"), ("rewrite", "source"), ("source", "casual"),
    ]  # fmt: skip
    assert by_words["glad", "plain"] == {"prompt": "p", "positive": "glad", "negative": "plain", "concept": "joy"}
    assert by_words["rewrite", "source"]["prompt"].startswith("Please rewrite the following text so that it is more f")
    assert by_words["source", "casual"]["concept"] == "formality"
    # what was ticked, against unsteered answers that were not
    assert [r["positive"] for r in keeping.pairs(rows, ("1", "9"), GOALS)] == ["glad"]
    with pytest.raises(ConfigError, match="nothing was tried here that is called 'x'"):
        keeping.pairs(rows, ("x",), GOALS)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{}, steered(0.4, "glad")], "one answer under a vector, or of rewrites"),
        ([steered(0.4, "glad"), steered(0.2, "gay")], "one answer under a vector, or of rewrites"),
        ([steered(None, "plain")], "unsteered"),
        ([steered(0.4, "glad", cell="gone|embedded")], "method 'gone' is on this bench no more"),
        ([{"failure": "refused"}], r"is no answer \(refused\)"),
        ([{"targets": "{}"}], "asked for nothing"),
        ([{"answer": "source"}], "changed nothing"),
        ([{"text": " measured\r\nhere"}], "a text of the test probe"),
        ([{"targets": '{"height": 0.5}'}], "'height', which is no goal of this bench any more"),
        ([steered(0.4, "glad", cell="plain|embedded")], "method 'plain' has no vector any more"),
    ],
)
def test_what_no_method_can_be_made_of_is_said(rows, said):
    given = frame(*rows)
    with pytest.raises(ConfigError, match=said):
        keeping.method(given, given["tried_id"].to_list(), {"plain": PLAIN}, {"measured here"}, set(GOALS))
    with pytest.raises(ConfigError, match="tick those"):
        keeping.method(given, (), {}, set(), set(GOALS))


@pytest.mark.e2e
def test_methods_of_what_was_tried_are_measured_like_others(workplace, vector_bench):
    workplace.materialize(SHARED)
    for cell in ("rewrite|embedded", CELL):
        workplace.materialize(GRID, cell)
    played = Playground(registry().bench("small"), str(workplace.root))
    client = TestClient(explorer().app(), base_url="http://localhost", follow_redirects=False)
    try:
        under = played.steer(PROMPT, CELL, "cheerful", -0.3).row
        moved = played.rewrite(TEXT, {"formality": 0.3}, CELL).row
    finally:
        played.rest()
    # the card of an answer, and the list of all, lead there
    page = client.get("/small/play").text
    assert f'value="{under["tried_id"]}"' in page
    made = {}
    for row in (under, moved):
        answer = client.get("/small/tried/method.yaml", params={"tried": row["tried_id"]})
        assert answer.status_code == 200, answer.text
        made |= yaml.safe_load(answer.text)
    assert client.get("/small/tried/method.yaml").status_code == 400
    assert client.get("/small/tried/else.yaml").status_code == 404
    at, by_example = made
    assert at == "pushed-at-minus-0.3"
    assert made[at]["parts"] == [{**PART, "strengths": [-0.3], "doses": [-0.3], "on_probe": [-0.3]}]
    (example,) = made[by_example]["parts"][0]["options"]["examples"]
    assert (example["text"], example["rewrite"]) == (TEXT, moved["answer"])
    assert example["asked"] == {"formality": [pytest.approx(json.loads(moved["z0"])["formality"]), pytest.approx(json.loads(moved["targets"])["formality"])]}  # fmt: skip
    # as the bench measures them
    vector_bench()
    workplace.bench = {**workplace.bench, "methods": ["rewrite", "pushed", *made]}
    workplace.configure(methods={"pushed": {"parts": [PART]}, **made})
    (workplace.folder / "behaviors.yaml").write_text(yaml.safe_dump({"cheerful": CHEERFUL}))
    for name in made:
        status, _ = workplace.materialize(GRID, f"{name}|embedded")
        assert status["outcomes"] == "written"
        scores = pl.read_parquet(workplace.table("steerability", f"{name}|embedded"), hive_partitioning=False)
        assert scores.height > 0
    arms = pl.read_parquet(workplace.table("sweep_arms", f"{at}|embedded"), hive_partitioning=False)
    assert arms.filter(role="vector")["strength"].to_list() == [-0.3]
    answers = pl.read_parquet(workplace.table("outcomes", f"{at}|embedded"), hive_partitioning=False)
    assert answers["arm_id"].n_unique() == 2
    asked = pl.read_parquet(workplace.table("responses", f"{by_example}|embedded"), hive_partitioning=False)
    plan = json.loads(asked["plan"][0])
    roles = [m["role"] for m in plan["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert plan["messages"][1]["content"] == moved["answer"]
