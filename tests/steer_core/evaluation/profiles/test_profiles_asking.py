"""Items in all arms on the embedded model: what was paid for is not asked again, and what cannot be asked says why."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from schemas import OptionScores, ProfileArms, ProfileItems, ProfileRefusals, ProfileVectors, Responses, ScoredTexts
from schemas.profiles import PLAIN
from schemas.specs import ModelSpec
from steer_core.evaluation.profiles import asking, kind
from steer_core.evaluation.profiles.asking import (
    FORCED,
    OVERLONG,
    asked_of,
    encode_texts,
    items_table,
    refusals_of,
    score_options,
)
from steer_core.evaluation.profiles.kinds.choices import ChoicesProfile
from steer_core.evaluation.profiles.kinds.safety import SafetyProfile
from steer_core.evaluation.profiles.kinds.seat import SeatProfile
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.forced import score_all
from steer_core.generation.run import Run
from steer_core.models.loading import load_model
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.steering.vector import SteeringVector
from steer_core.tables import Journal, check
from steer_core.tables.errors import SteerworksError

FACTS = ChoicesProfile.model_validate({"name": "facts", "set": {"kind": "choices", "shipped": "tales-facts", "n": 4}})
CHAT = ChoicesProfile.model_validate({"name": "chat", "set": {"kind": "choices", "chat": True, "first": 2}})
SAFETY = SafetyProfile.model_validate({"name": "safety"})
SEAT = SeatProfile.model_validate({"name": "seat", "set": {"kind": "seat", "tests": ["flowers-insects"]}})


class Counting(TransformersBackend):
    """The backend, counting what it is asked; breaks off before the call `fails_at`."""

    calls, fails_at = 0, None

    def score(self, plans, continuations):
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        self.calls += 1
        return super().score(plans, continuations)


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))


@pytest.fixture(scope="module")
def passes(loaded):
    """Forward passes so far, whoever makes them."""
    made = []
    handle = loaded.model.register_forward_pre_hook(lambda *_: made.append(1))
    yield made
    handle.remove()


@pytest.fixture
def vector(loaded):
    direction = np.random.default_rng(0).standard_normal((1, loaded.model.config.hidden_size)).astype(np.float32)
    return SteeringVector("anything", "add", 1, {"direction": direction}, {}, loaded.fingerprint)


@pytest.fixture
def backend(loaded, vector):
    made = Counting(loaded)
    made.add_vectors([vector])
    return made


def run_of(backend, tmp_path):
    return Run(Journal(str(tmp_path / "responses"), Responses), backend, batch_size=8)


def kept(tmp_path):
    return Journal(str(tmp_path / "scored"), ScoredTexts)


def arms_table(**changed):
    """Rows of `profile_arms`: `plain`, and for each name what is done."""
    rows = []
    for name, done in {"plain": {}, **changed}.items():
        row = {
            "arm_id": name, "label": name, "role": "plain" if name == "plain" else "request", "asked": "{}", "axis": "",
            "position": None, "system": None, "interventions": "[]", "adapter": None, "extensions": "[]",
            "probe_arm": None,
        }  # fmt: skip
        rows.append(row | done)
    return check(pl.DataFrame(rows, schema=ProfileArms.dtypes()), ProfileArms)


def pushed(vector):
    return {"interventions": json.dumps([Intervention("add", vector.id, 1, 2.0).to_dict()])}


def test_a_second_call_makes_no_forward_pass(backend, vector, tmp_path, passes):
    asked = asked_of(arms_table(pushed=pushed(vector)), items_table([FACTS]), "scored")
    assert len(asked) == 8
    bare = frozenset(["facts"])
    first = check(score_options(asked, run_of(backend, tmp_path), kept(tmp_path), bare=bare), OptionScores)
    assert first.height == 2 * 4 * 4
    assert first["log_likelihood"].null_count() == first["unconditional"].null_count() == 0
    before = len(passes)
    again = score_options(asked, run_of(backend, tmp_path), kept(tmp_path), bare=bare)
    assert len(passes) == before > 0
    assert again.equals(first)


def test_scores_are_those_that_the_engine_gives_directly(backend, vector, tmp_path):
    items = items_table([FACTS])
    asked = asked_of(arms_table(pushed=pushed(vector), told={"system": "Be brief."}), items, "scored")
    found = score_options(asked, run_of(backend, tmp_path), kept(tmp_path), bare=frozenset(["facts"]))
    plans, texts, alone = [], [], []
    for one in asked:
        for option in one.item.continuations:
            plans.append(one.plan(backend.model_identity, FORCED))
            texts.append(option)
            alone.append(Plan(backend.model_identity, FORCED, text="", interventions=one.arm.interventions))
    direct = score_all(plans, texts, backend, 1)
    assert found["log_likelihood"].to_list() == pytest.approx([sum(s) for s in direct], abs=1e-4)
    assert found["tokens"].to_list() == [len(s) for s in direct]
    assert found["bytes"].to_list() == [len(t.encode()) for t in texts]
    # with nothing before them, not even what the arm says
    assert found["unconditional"].to_list() == pytest.approx(
        [sum(s) for s in score_all(alone, texts, backend, 1)], abs=1e-4
    )
    by_arm = {a: rows["log_likelihood"].to_numpy() for (a,), rows in found.partition_by("arm_id", as_dict=True).items()}
    assert np.abs(by_arm["plain"] - by_arm["pushed"]).min() > 1e-3
    assert np.abs(by_arm["plain"] - by_arm["told"]).min() > 1e-3


def test_options_are_not_scored_alone_where_nobody_wants_it(backend, tmp_path):
    asked = asked_of(arms_table(), items_table([FACTS]), "scored")
    found = score_options(asked, run_of(backend, tmp_path), kept(tmp_path))
    assert found["unconditional"].null_count() == found.height


def test_a_run_that_is_killed_between_blocks_loses_nothing(loaded, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "BLOCK", 4)
    asked = asked_of(arms_table(), items_table([FACTS]), "scored")
    killed = Counting(loaded)
    killed.fails_at = 2
    with pytest.raises(KeyboardInterrupt):
        score_options(asked, run_of(killed, tmp_path), kept(tmp_path))
    assert kept(tmp_path).read().height == 8
    told = []
    rest = Counting(loaded)
    run = Run(Journal(str(tmp_path / "responses"), Responses), rest, progress=lambda n, of: told.append((n, of)))
    found = score_options(asked, run, kept(tmp_path))
    assert rest.calls == 2
    assert told[-1] == (16, 16)
    assert min(n for n, _ in told) > 8
    assert found.equals(
        score_options(asked, run_of(Counting(loaded), tmp_path), Journal(str(tmp_path / "new"), ScoredTexts))
    )


def overlong(items):
    """The first item with a prompt that no context of 512 tokens holds."""
    text = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("The clerk sings a song. " * 400)).otherwise(pl.col("text"))
    return items.with_columns(text=text)


def test_an_item_beyond_the_context_is_rows_with_the_reason(backend, tmp_path):
    items = overlong(items_table([FACTS]))
    found = check(
        score_options(asked_of(arms_table(), items, "scored"), run_of(backend, tmp_path), kept(tmp_path)), OptionScores
    )
    first = found.filter(item_id=items["item_id"][0])
    assert first["missing"].to_list() == [OVERLONG] * 4
    assert first["tokens"].to_list() == [0] * 4
    assert found["log_likelihood"].null_count() == 4
    # that it does not fit is known from then on, too
    assert kept(tmp_path).read()["log_likelihood"].null_count() == 4


RULED = {"extensions": json.dumps([{"name": "guidance", "settings": {"scale": 2.0}, "tensors": {}}])}


def test_an_arm_whose_rule_chooses_tokens_is_rows_with_the_reason(backend, tmp_path):
    arms = arms_table(ruled=RULED)
    found = score_options(asked_of(arms, items_table([FACTS]), "scored"), run_of(backend, tmp_path), kept(tmp_path))
    ruled = check(found, OptionScores).filter(arm_id="ruled")
    assert ruled["log_likelihood"].null_count() == ruled.height == 16
    assert ruled["missing"].str.contains("under the decoding rule 'guidance'").all()
    assert found.filter(arm_id="plain")["missing"].null_count() == 16


def test_texts_lie_where_the_engine_says(backend, vector, tmp_path):
    items = items_table([SEAT])
    asked = asked_of(arms_table(pushed=pushed(vector), ruled=RULED), items, "encoded")
    found = check(encode_texts(asked, run_of(backend, tmp_path)), ProfileVectors)
    assert found.height == 3 * items.height
    for arm in ("plain", "pushed"):
        plans = [one.plan(backend.model_identity, FORCED) for one in asked if one.arm.arm_id == arm]
        ours = np.array(found.filter(arm_id=arm)["values"].to_list())
        assert np.allclose(ours, np.array(backend.embed(plans)), atol=1e-5)
    ruled = found.filter(arm_id="ruled")
    assert ruled["values"].null_count() == ruled.height
    assert ruled["missing"].str.contains("guidance").all()


def test_a_text_beyond_the_context_lies_nowhere_and_the_others_where_they_did(backend, tmp_path):
    items = items_table([SEAT])
    whole, cut = (
        encode_texts(asked_of(arms_table(), rows, "encoded"), run_of(backend, tmp_path))
        for rows in (items, overlong(items))
    )
    assert cut["missing"].to_list() == [OVERLONG] + [None] * (items.height - 1)
    assert cut["values"][0] is None
    assert np.allclose(np.array(cut["values"][1:].to_list()), np.array(whole["values"][1:].to_list()), atol=1e-5)


def test_what_an_arm_says_stands_above_turns_and_in_front_of_bare_text():
    told = asked_of(arms_table(told={"system": "Be brief."}), items_table([FACTS, CHAT]), "scored")
    plans = {(one.arm.arm_id, one.item.of): one.plan("m", FORCED) for one in told}
    assert [m.role for m in plans["told", "chat"].messages] == ["system", "user"]
    assert plans["told", "chat"].messages[0].content == "Be brief."
    bare = plans["plain", "facts"].text
    assert plans["told", "facts"].text == f"Be brief.\n\n{bare}"


def test_items_of_profiles_have_ids_of_their_own_and_their_form():
    other = FACTS.model_copy(update={"name": "again"})
    items = check(items_table([FACTS, other, SEAT]), ProfileItems)
    assert items["profile"].unique(maintain_order=True).to_list() == ["facts", "again", "seat"]
    assert dict(items.select("profile", "form").unique().iter_rows()) == {
        "facts": "scored", "again": "scored", "seat": "encoded",
    }  # fmt: skip
    assert items_table([]).height == 0


def test_a_profile_whose_data_cannot_be_read_is_named(tmp_path):
    broken = ChoicesProfile.model_validate(
        {"name": "own", "set": {"kind": "choices", "path": str(tmp_path / "nothing.csv")}}
    )
    with pytest.raises(SteerworksError, match="profile 'own'.*nothing.csv"):
        items_table([FACTS, broken])


def test_an_engine_that_scores_or_reads_nothing_leaves_rows_with_the_reason(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(Counting, "capabilities", replace(backend.capabilities, scores=False, embeds=False))
    asked = asked_of(arms_table(), items_table([FACTS, SEAT]), "scored")
    scores = score_options(asked, run_of(backend, tmp_path), kept(tmp_path))
    assert scores["log_likelihood"].null_count() == scores.height > 0
    assert set(scores["missing"]) == {scores["missing"][0]}
    assert "transformers backend cannot score continuations" in scores["missing"][0]
    places = encode_texts(asked_of(arms_table(), items_table([SEAT]), "encoded"), run_of(backend, tmp_path))
    assert places["values"].null_count() == places.height > 0
    assert "cannot read hidden states" in places["missing"][0]


def test_words_in_front_are_no_part_of_where_a_text_lies(backend, tmp_path):
    asked = asked_of(arms_table(told={"system": "Be brief."}), items_table([SEAT]), "encoded")
    places = encode_texts(asked, run_of(backend, tmp_path))
    told = places.filter(pl.col("arm_id") == "told")
    assert set(told["missing"]) == {"what is said in front would be part of the mean over the text"}
    assert places.filter(pl.col("arm_id") == PLAIN)["missing"].null_count() == told.height


def test_a_setting_that_an_engine_cannot_write_under_is_known_with_what_it_says(backend, vector, tmp_path, monkeypatch):
    monkeypatch.setattr(Counting, "capabilities", replace(backend.capabilities, interventions=None))
    asked = asked_of(arms_table(pushed=pushed(vector)), items_table([SAFETY]), "written")
    found = check(refusals_of("safety", asked, run_of(backend, tmp_path), FORCED), ProfileRefusals)
    assert found.rows() == [
        ("pushed", "safety", "transformers backend cannot apply interventions; use transformers or vllm")
    ]
    # how answers are drawn counts, too
    monkeypatch.setattr(Counting, "capabilities", replace(backend.capabilities, seeds=False, keeps=False))
    drawn = FORCED.model_copy(update={"temperature": 1.0})
    sampled = refusals_of("safety", asked, run_of(backend, tmp_path), drawn)
    assert sampled["arm_id"].to_list() == ["plain", "pushed"]
    assert "cannot sample by seed" in sampled["why"][0]


def test_values_of_a_refused_setting_are_missing_one_for_each_that_others_have():
    items = items_table([SAFETY])
    found = kind.Found.of("safety", items)
    rows = [("plain", items["item_id"][k], s, "m", 0.5, None) for k in (0, 1) for s in (0, 1)]
    refused = pl.DataFrame([("pushed", "safety", "cannot")], schema=ProfileRefusals.dtypes(), orient="row")
    got = kind.with_refused(kind.value_rows(rows), found, refused)
    added = got.filter(arm_id="pushed")
    assert added.select("item_id", "sample_index", "metric").rows() == [r[1:4] for r in rows]
    assert set(added["missing"]) == {"cannot"}
    assert added["value"].null_count() == 4
    # where nobody answered, each item is missing once
    nobody = kind.with_refused(kind.value_rows([]), found, refused)
    assert nobody["item_id"].to_list() == items["item_id"].to_list()
    assert set(nobody["metric"]) == {"answered"}
    assert kind.with_refused(kind.value_rows(rows), found, refused.clear()).height == 4
