"""Trees, rated answers and preferences from local files: what is read, what counts once, and what is refused how."""

import gzip
import json

import polars as pl
import pytest

from schemas.steerlm import HELPSTEER, TWELVE, AttributeSet
from steer_core.adapters.steerlm.conversation import Codec, Markers, labelled_turns
from steer_core.adapters.steerlm.sources.files import held_out
from steer_core.adapters.steerlm.sources.helpsteer import load_preferences, load_rated, turns_of
from steer_core.adapters.steerlm.sources.oasst import load_trees, split_trees
from steer_core.tables.errors import SteerworksError


def message(name: str, role: str, text: str, *replies, labels=None) -> dict:
    rated = {k: {"value": v, "count": 3} for k, v in (labels or {}).items()}
    return {"message_id": name, "role": role, "text": text, "labels": rated, "replies": list(replies)}


def tree(name: str = "t1") -> dict:
    root = message(
        "q", "prompter", "Why?",
        message(
            "a", "assistant", "So.",
            message("q2", "prompter", "And?", message("a2", "assistant", "Thus.", labels={"quality": 0.5})),
            message("q3", "prompter", "But?", message("a3", "assistant", "No.", labels={"quality": 0.875})),
            labels={"quality": 1.0, "humor": 0.1, "spam": 0.0},
        ),
        message("b", "assistant", "Because.", labels={"humor": 0.375}),
        labels={"quality": 0.9},
    )  # fmt: skip
    return {"message_tree_id": name, "tree_state": "ready_for_export", "prompt": root}


def write(path, rows) -> None:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")


def test_every_path_is_a_conversation_and_users_have_no_labels(tmp_path):
    write(tmp_path / "trees.jsonl", [tree()])
    found = load_trees(tmp_path / "trees.jsonl", TWELVE).items
    assert [[t.turn_id for t in c.turns] for c in found] == [["q", "a", "q2", "a2"], ["q", "a", "q3", "a3"], ["q", "b"]]
    assert [t.speaker for t in found[0].turns] == ["User", "Assistant", "User", "Assistant"]
    assert found[0].turns[0].labels is None
    assert found[0].turns[1].labels == {"quality": 4, "humor": 0}
    assert {c.group for c in found} == {"t1"}


def test_shared_turns_are_learnt_and_rated_once(tmp_path):
    write(tmp_path / "trees.jsonl", [tree()])
    found = load_trees(tmp_path / "trees.jsonl", TWELVE).items
    counted = [c.turns[k].turn_id for c in found for k in labelled_turns(c)]
    assert sorted(counted) == ["a", "a2", "a3", "b"]
    codec = Codec(TWELVE, Markers("<S>", "<T>", "<L>"))
    learnt = ""
    for conversation in found:
        rendered = codec.render(conversation, "value_to_text")
        learnt += "".join(c for c, loss in zip(rendered.text, rendered.loss, strict=True) if loss)
    assert learnt == "So.\n<T>Thus.\n<T>No.\n<T>Because.\n<T>"


def test_halves_of_ratings_follow_the_rounding_asked_for(tmp_path):
    write(tmp_path / "trees.jsonl", [tree()])
    by = {
        rounding: load_trees(tmp_path / "trees.jsonl", TWELVE, rounding=rounding).items
        for rounding in ("half_up", "half_even")
    }
    assert (by["half_up"][1].turns[3].labels, by["half_even"][1].turns[3].labels) == ({"quality": 4}, {"quality": 4})
    assert (by["half_up"][2].turns[1].labels, by["half_even"][2].turns[1].labels) == ({"humor": 2}, {"humor": 2})
    odd = tree()
    odd["prompt"]["replies"][1]["labels"] = {"humor": {"value": 0.625, "count": 1}}
    write(tmp_path / "trees.jsonl", [odd])
    up, even = (load_trees(tmp_path / "trees.jsonl", TWELVE, rounding=r).items[2] for r in ("half_up", "half_even"))
    assert (up.turns[1].labels, even.turns[1].labels) == ({"humor": 3}, {"humor": 2})


def test_a_split_keeps_trees_whole_and_new_trees_move_no_other(tmp_path):
    rows = [tree(f"t{k}") for k in range(400)]
    write(tmp_path / "trees.jsonl", rows)
    found = load_trees(tmp_path / "trees.jsonl", TWELVE).items
    train, validation = split_trees(found)
    assert {c.group for c in train}.isdisjoint({c.group for c in validation})
    assert len(train) + len(validation) == len(found) == 1200
    assert 5 <= len({c.group for c in validation}) <= 40
    half = split_trees(found[:600])[1]
    assert {c.group for c in half} == {c.group for c in validation} & {c.group for c in found[:600]}


def test_deep_trees_are_read(tmp_path):
    root = message("m0", "prompter", "0")
    last = root
    for k in range(1, 180):
        last["replies"].append(message(f"m{k}", "assistant" if k % 2 else "prompter", str(k)))
        last = last["replies"][0]
    write(tmp_path / "deep.jsonl", [{"message_tree_id": "t", "prompt": root}])
    assert len(load_trees(tmp_path / "deep.jsonl", TWELVE).items[0].turns) == 180


def test_compressed_files_are_read_and_cut_ones_refused(tmp_path):
    packed = gzip.compress(json.dumps(tree()).encode() + b"\n")
    (tmp_path / "trees.jsonl.gz").write_bytes(packed)
    assert len(load_trees(tmp_path / "trees.jsonl.gz", TWELVE).items) == 3
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-12])
    with pytest.raises(SteerworksError, match="cut.jsonl.gz cannot be read to its end"):
        load_trees(tmp_path / "cut.jsonl.gz", TWELVE)


def broken(**changes) -> dict:
    made = tree()
    made["prompt"]["replies"][0] |= changes
    return made


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (broken(role="system"), "message 'a': role 'system' is none of prompter, assistant"),
        (broken(text=None), "message 'a': no value in field 'text'"),
        (broken(message_id="q"), "message 'q' stands in it twice"),
        (broken(labels={"quality": {"value": 1.5}}), "message 'a': attribute 'quality' is rated 1.5"),
        (broken(labels={"quality": {"value": 10**400}}), "is rated 1000"),
        (broken(labels={"quality": 1}), "message 'a': label 'quality' is 1"),
        (broken(labels=[1]), "`labels` is no mapping"),
        (broken(replies="none"), "message 'a': `replies` is no list"),
        ({"message_tree_id": "t"}, "`prompt` is no message"),
        ("{broken", "no valid JSON"),
        ("[1]", "a list and no object"),
    ],
)
def test_bad_trees_are_named_with_file_line_and_message(tmp_path, bad, said):
    path = tmp_path / "trees.jsonl"
    write(path, [tree(), bad, tree("t3")])
    with pytest.raises(SteerworksError) as error:
        load_trees(path, TWELVE)
    assert f"{path}, line 2" in str(error.value)
    assert said in str(error.value)
    # a tree is left out as a whole
    found = load_trees(path, TWELVE, bad="drop")
    assert (len(found.items), len(found.problems)) == (6, 1)


def test_all_bad_rows_are_named_at_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, ["{", *[{"prompt": "p"}] * 30])
    with pytest.raises(SteerworksError) as error:
        load_rated(path)
    assert "31 bad rows" in str(error.value)
    assert "line 20" in str(error.value)
    assert "and 11 more" in str(error.value)
    with pytest.raises(SteerworksError, match="no row that can be used; 31 were left out"):
        load_rated(path, bad="drop")


RATED = {"prompt": "Why?", "response": "So.", **dict.fromkeys(HELPSTEER.names, 3)}


def test_rated_answers_have_their_labels_on_the_last_turn_in_both_formats(tmp_path):
    rows = [RATED, {**RATED, "response": "", "verbosity": None}]
    write(tmp_path / "rows.jsonl", rows)
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")
    for name in ("rows.jsonl", "rows.parquet"):
        one, two = load_rated(tmp_path / name).items
        assert [t.text for t in one.turns] == ["Why?", "So."]
        assert one.turns[1].labels == dict.fromkeys(HELPSTEER.names, 3)
        assert one.turns[0].labels is None
        assert "verbosity" not in two.turns[1].labels
        assert one.group == two.group


def test_a_prompt_of_several_turns_is_taken_apart():
    found = turns_of("Hi\n<extra_id_1>Assistant\nHello\nyou\n<extra_id_1>User\nBye")
    assert [(t.speaker, t.text) for t in found] == [("User", "Hi"), ("Assistant", "Hello\nyou"), ("User", "Bye")]
    with pytest.raises(SteerworksError, match="do not alternate"):
        turns_of("Hi\n<extra_id_1>Assistant\nHello")
    with pytest.raises(SteerworksError, match="begins no turn"):
        turns_of("what is <extra_id_1> for?")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"helpfulness": 7}, "'helpfulness' has the level 7"),
        ({"helpfulness": 2.5}, "'helpfulness' is 2.5, which is no whole number"),
        ({"helpfulness": "high"}, "'helpfulness' is 'high'"),
        ({"helpfulness": True}, "'helpfulness' is True"),
        ({"helpfulness": float("inf")}, "'helpfulness' is inf"),
        (dict.fromkeys(HELPSTEER.names), "none of helpfulness, correctness"),
        ({"prompt": "  "}, "field 'prompt' is blank"),
        ({"prompt": 4}, "'4', which is no text"),
        ({"response": None}, "no value in field 'response'"),
        ({"response": "\ud800"}, "half a character"),
    ],
)
def test_bad_ratings_are_named(tmp_path, change, said):
    path = tmp_path / "rows.jsonl"
    write(path, [RATED, {**RATED, **change}])
    with pytest.raises(SteerworksError) as error:
        load_rated(path)
    assert f"{path}, line 2: " in str(error.value)
    assert said in str(error.value)


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1nonsense")
    (tmp_path / "rows.jsonl").write_text("\n")
    (tmp_path / "rows.txt").write_text("a")
    for name, said in (
        ("rows.parquet", "not readable as Parquet"),
        ("rows.jsonl", "no row that can be used"),
        ("rows.txt", "by its ending"),
        ("gone.jsonl", "no file at"),
    ):
        with pytest.raises(SteerworksError, match=said):
            load_rated(tmp_path / name)


def test_preferences_have_their_better_answer_first_and_ties_are_counted(tmp_path):
    both = {"prompt": "Why?", "response_1": "one", "response_2": "two"}
    write(tmp_path / "p.jsonl", [{**both, "preference_strength": s} for s in (-3, 1, 0)])
    found = load_preferences(tmp_path / "p.jsonl")
    assert [(p.chosen, p.rejected, p.strength) for p in found.pairs] == [("one", "two", 3.0), ("two", "one", 1.0)]
    assert found.ties == 1
    better, worse = found.pairs[0].conversations()
    assert [t.text for t in better.turns] == ["Why?", "one"]
    assert [t.text for t in worse.turns] == ["Why?", "two"]


def test_plain_pairs_may_say_how_much_better(tmp_path):
    pair = {"prompt": "Why?", "chosen": "one", "rejected": "two"}
    write(tmp_path / "p.jsonl", [pair, {**pair, "strength": 2}, {**pair, "strength": 0}])
    found = load_preferences(tmp_path / "p.jsonl")
    assert [p.strength for p in found.pairs] == [None, 2.0]
    assert found.ties == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"preference_strength": 4}, "it lies in -3 to 3"),
        ({"preference_strength": None}, "which is no number"),
        ({"preference_strength": float("nan")}, "which is no number"),
        ({"preference_strength": 10**400}, "which is no number"),
        ({"preference_strength": 1, "response_2": "one"}, "the same text"),
    ],
)
def test_bad_preferences_are_named(tmp_path, change, said):
    path = tmp_path / "p.jsonl"
    good = {"prompt": "Why?", "response_1": "one", "response_2": "two", "preference_strength": 1}
    write(path, [good, {**good, **change}])
    with pytest.raises(SteerworksError) as error:
        load_preferences(path)
    assert f"{path}, line 2: " in str(error.value)
    assert said in str(error.value)


def test_a_file_of_ties_is_refused(tmp_path):
    write(
        tmp_path / "p.jsonl", [{"prompt": "Why?", "response_1": "one", "response_2": "two", "preference_strength": 0}]
    )
    with pytest.raises(SteerworksError, match="all 1 rows are ties"):
        load_preferences(tmp_path / "p.jsonl")


def test_attributes_of_your_own_are_read_by_their_names(tmp_path):
    own = AttributeSet.of("sentiment", low=-2, high=2)
    write(tmp_path / "rows.jsonl", [{"prompt": "p", "response": "r", "sentiment": -2}])
    assert load_rated(tmp_path / "rows.jsonl", own).items[0].turns[1].labels == {"sentiment": -2}


def test_shares_of_groups_are_as_asked():
    assert abs(sum(held_out(str(k), 0.2, 1) for k in range(5000)) / 5000 - 0.2) < 0.02
    assert not any(held_out(str(k), 0.0, 1) for k in range(50))
    with pytest.raises(ValueError, match="share"):
        held_out("a", 2.0, 1)
