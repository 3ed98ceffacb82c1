"""Choices, prompts and requests: what ships, the layouts of published sets, and rows that make no sense."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from sets_world import lines, loaded, rows_of, table

from schemas.profile_sets import ChoicesSet, PromptsSet, SafetySet
from steer_core.evaluation.profiles.sets import load_set, read_set
from steer_core.models.embedded.grammar import read
from steer_core.models.embedded.lexicon import TOPICS
from steer_core.tables import SteerworksError

DOLLY = Path(os.environ.get("STEERWORKS_SAMPLE_DATA", ""), "profiling", "dolly_val_100.jsonl")


def choices(tmp_path, rows, **more):
    return rows_of(ChoicesSet(path=lines(tmp_path / "c.jsonl", rows), **more))


def test_plain_facts_give_nothing_away_by_length_or_place():
    rows = rows_of(ChoicesSet())
    assert len(rows) >= 60
    places = Counter(row["gold"] for row in rows)
    assert max(places.values()) - min(places.values()) <= 1
    longest = shortest = 0
    for row in rows:
        lengths = [len(option) for option in loaded(row, "options")]
        assert len(lengths) == 4
        assert max(lengths) - min(lengths) <= 1
        longest += lengths[row["gold"]] == max(lengths) and lengths.count(max(lengths)) == 1
        shortest += lengths[row["gold"]] == min(lengths) and lengths.count(min(lengths)) == 1
    assert longest + shortest <= len(rows) / 8
    assert rows[0]["text"].startswith("Question: ")
    assert rows[0]["text"].endswith("\nAnswer:")


def test_a_tale_has_one_ending_that_reads_as_the_tale_does():
    contents = {t.name: {*t.agents, *t.objects, *t.places, *t.helpers, *t.tools, *t.details} for t in TOPICS}
    rows = rows_of(ChoicesSet(shipped="tales-facts", n=64, seed=3))
    assert Counter(row["group"] for row in rows) == dict.fromkeys(("topic", "sentiment", "formality", "difficulty"), 16)
    for row in rows:
        options = loaded(row, "options")
        assert len(set(options)) == 4
        if row["group"] == "topic":
            own = contents[loaded(row, "facts")["topic"]]
            about = [bool(own & set(option.lower().replace(".", "").replace(",", "").split())) for option in options]
        else:
            level = getattr(read(row["text"]), row["group"])
            assert abs(level) == 2
            about = [getattr(read(option), row["group"]) == level for option in options]
        # a tale of another topic may tell a fact of none
        assert about[row["gold"]]
        assert sum(about) == 1
    by_kind = Counter((row["group"], row["gold"]) for row in rows)
    assert set(by_kind.values()) == {4}


def test_tales_are_drawn_by_seed():
    one, again, other = (load_set(ChoicesSet(shipped="tales-facts", n=8, seed=s)) for s in (0, 0, 1))
    assert one.equals(again)
    assert set(one["item_id"]).isdisjoint(other["item_id"])
    assert load_set(ChoicesSet(shipped="tales-facts", n=12))[:8].equals(one)


def test_a_tale_in_a_chat_is_asked_to_go_on():
    (row,) = rows_of(ChoicesSet(shipped="tales-facts", n=1, chat=True))
    (turn,) = loaded(row, "messages")
    (raw,) = rows_of(ChoicesSet(shipped="tales-facts", n=1))
    assert turn["content"].endswith(f"\n\n{raw['text']}")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Up?", "options": ["no", "yes", "both"], "answer": 1},
        {"question": "Up?", "choices": ["no", "yes", "both"], "answer": "B"},
        {"question": "Up?", "options": '["no", "yes", "both"]', "answer": "yes"},
        {"question": "Up?", "A": "no", "B": "yes", "C": "both", "answer": "1"},
        {"question": "Up?", "A": "no", "B": "yes", "C": "both", "answer": "B", "D": None},
    ],
)
def test_every_way_to_name_options_and_answer_is_read(tmp_path, row):
    (found,) = choices(tmp_path, [{**row, "group": "g", "cluster": 7}])
    assert loaded(found, "options") == [" no", " yes", " both"]
    assert (found["gold"], found["group"], found["cluster"]) == (1, "g", "7")


def test_a_csv_table_is_read_with_letters(tmp_path):
    path = table(tmp_path / "c.csv", [{"question": "Up?", "A": "no", "B": "yes", "answer": "B"}])
    (row,) = rows_of(ChoicesSet(path=path))
    assert (loaded(row, "options"), row["gold"]) == ([" no", " yes"], 1)


def test_an_answer_that_reads_two_ways_is_asked_about(tmp_path):
    row = {"question": "One and one?", "options": ["1", "2", "3"], "answer": "2"}
    with pytest.raises(SteerworksError, match=r"c\.jsonl, row 0 .*say which in `answer`"):
        choices(tmp_path, [row])
    golds = [choices(tmp_path, [row], answer=how)[0]["gold"] for how in ("index", "text")]
    assert golds == [2, 1]
    # a number in a file that has numbers is an index
    assert choices(tmp_path, [{**row, "answer": 2}])[0]["gold"] == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "maybe"}, "'maybe' is no index"),
        ({"answer": 9}, r"number 9 \(0-based\) of 2"),
        ({"answer": -1}, r"number -1 \(0-based\) of 2"),
        ({"answer": True}, "True is no index"),
        ({"answer": None}, "no answer"),
        ({"options": ["yes"]}, "two or more"),
        ({"options": ["yes", "yes"]}, "stands twice"),
        ({"options": ["yes", " "]}, "blank"),
        ({"options": "yes, no"}, "no JSON list"),
        ({"options": None}, "no options or choices"),
        ({"options": None, "A": "x", "C": "y"}, "without a gap"),
        ({"question": None}, "no question"),
    ],
)
def test_a_broken_question_names_file_and_row(tmp_path, change, said):
    good = {"question": "Up?", "options": ["yes", "no"], "answer": 0}
    with pytest.raises(SteerworksError, match=rf"c\.jsonl, row 1 \(0-based\): .*{said}"):
        choices(tmp_path, [good, good | change])


HELLASWAG = {
    "ctx": "A man lifts a bar. He",
    "endings": ["drops it.", "eats it.", "paints it.", "sings it."],
    "label": "0",
    "activity_label": "Lifting",
    "source_id": "v~1",
}


def test_hellaswag_is_asked_as_published_and_clusters_by_video(tmp_path):
    found, hidden = choices(tmp_path, [HELLASWAG, {**HELLASWAG, "ctx": "B", "label": ""}], layout="hellaswag")
    assert (found["text"], found["group"], found["cluster"], found["gold"]) == (HELLASWAG["ctx"], "Lifting", "v~1", 0)
    assert loaded(found, "options")[0] == " drops it."
    assert hidden["gold"] is None


OPENBOOK = {
    "question_stem": "Ice is",
    "choices": {"text": ["hot", "cold"], "label": ["A", "B"]},
    "answerKey": "B",
}


def test_openbookqa_is_read_as_on_the_hub_and_as_released(tmp_path):
    listed = [{"text": t, "label": k} for t, k in (("hot", "A"), ("cold", "B"))]
    released = {"id": "1", "question": {"stem": "Ice is", "choices": listed}, "answerKey": "B"}
    ids = set()
    for row in (OPENBOOK, released):
        (found,) = choices(tmp_path, [row], layout="openbookqa")
        assert (found["text"], loaded(found, "options"), found["gold"]) == ("Ice is", [" hot", " cold"], 1)
        ids.add(found["item_id"])
    assert len(ids) == 1


TRUTHFUL = {
    "question": "Is the moon cheese?",
    "mc1_targets": {"choices": ["No", "Yes"], "labels": [1, 0]},
    "mc2_targets": {"choices": ["Yes", "No", "It is rock"], "labels": [0, 1, 1]},
}


@pytest.mark.parametrize("flat", [False, True])
def test_truthfulqa_keeps_every_right_answer(tmp_path, flat):
    row = dict(TRUTHFUL)
    if flat:
        for name in ("mc1_targets", "mc2_targets"):
            row[name] = dict(zip(row[name]["choices"], row[name]["labels"], strict=True))
    (one,) = choices(tmp_path, [row], layout="truthfulqa-mc1")
    (several,) = choices(tmp_path, [row], layout="truthfulqa-mc2")
    assert (one["gold"], loaded(one, "facts")) == (0, {})
    assert (several["gold"], loaded(several, "facts")) == (1, {"labels": [0, 1, 1]})


def test_yes_no_questions_have_two_options(tmp_path):
    rows = [{"question": f"{i}?", "answer": a} for i, a in enumerate((True, False, "yes", "No"))]
    found = choices(tmp_path, rows, layout="yes-no")
    assert [row["gold"] for row in found] == [0, 1, 0, 1]
    assert loaded(found[0], "options") == [" yes", " no"]


@pytest.mark.parametrize(
    ("layout", "row", "said"),
    [
        ("hellaswag", {**HELLASWAG, "label": "x"}, "label 'x'"),
        ("hellaswag", {**HELLASWAG, "endings": "x"}, "endings"),
        ("openbookqa", {**OPENBOOK, "answerKey": "Z"}, "answerKey 'Z'"),
        ("openbookqa", {"question": "x"}, "question_stem"),
        ("truthfulqa-mc1", {**TRUTHFUL, "mc1_targets": {"choices": ["a", "b"], "labels": [1, 1]}}, "exactly one"),
        ("truthfulqa-mc2", {**TRUTHFUL, "mc2_targets": {"choices": ["a", "b"], "labels": [0, 0]}}, "at least one"),
        ("yes-no", {"question": "x?", "answer": "maybe"}, "neither yes nor no"),
    ],
)
def test_a_broken_row_of_a_layout_names_file_and_row(tmp_path, layout, row, said):
    with pytest.raises(SteerworksError, match=rf"c\.jsonl, row 0 \(0-based\): .*{said}"):
        choices(tmp_path, [row], layout=layout)


@pytest.mark.parametrize(
    ("layout", "row", "asked"),
    [
        ("hellaswag", HELLASWAG, ("Rowan/hellaswag", None, "validation", None)),
        ("openbookqa", OPENBOOK, ("allenai/openbookqa", "main", "test", None)),
        ("truthfulqa-mc1", TRUTHFUL, ("truthfulqa/truthful_qa", "multiple_choice", "validation", None)),
        ("yes-no", {"question": "x?", "answer": True}, ("wics/strategy-qa", None, "test", None)),
    ],
)
def test_the_hub_gives_the_published_split(hub, layout, row, asked):
    calls = hub([row])
    (found,) = rows_of(ChoicesSet(layout=layout, dataset=asked[0]))
    assert calls == [asked]
    assert found["source"] == f"{asked[0]}@main"


@pytest.mark.parametrize(("name", "n"), [("open-questions", 40), ("continuations", 40), ("tales-prompts", 64)])
def test_shipped_prompts_have_groups_and_no_options(name, n):
    rows = rows_of(PromptsSet(shipped=name))
    assert len(rows) == n
    assert all((row["options"], row["gold"]) == ("[]", None) for row in rows)
    assert len({row["group"] for row in rows} - {""}) >= 2


def test_a_beginning_is_continued_in_a_turn_or_raw():
    turn, raw, given = (
        rows_of(PromptsSet(shipped="continuations", first=1, continuation=how))[0] for how in ("user-turn", "raw", None)
    )
    beginning = raw["text"]
    assert raw["messages"] is None
    (message,) = loaded(turn, "messages")
    assert message["content"].endswith(f"\n\n{beginning}")
    assert message["content"] != beginning
    assert given == turn


def test_a_question_is_asked_as_it_stands():
    (row,) = rows_of(PromptsSet(first=1))
    (raw,) = rows_of(PromptsSet(first=1, chat=False))
    assert loaded(row, "messages") == [{"role": "user", "content": raw["text"]}]


def test_prompts_of_the_small_world_are_of_its_own_wordings_and_drawn_by_seed():
    one, again, other = (load_set(PromptsSet(shipped="tales-prompts", n=20, seed=s)) for s in (0, 0, 1))
    assert one.equals(again)
    assert one["item_id"].to_list() != other["item_id"].to_list()
    assert set(one["group"]) <= {topic.name for topic in TOPICS}


def test_more_prompts_than_the_small_world_has_are_refused():
    with pytest.raises(SteerworksError, match="lower `n`"):
        load_set(PromptsSet(shipped="tales-prompts", n=100_000))


def test_the_layout_of_dolly_is_read(tmp_path):
    columns = {"id": {"0": 1, "1": 2}, "inputs": {"0": "One?", "1": "Two?"}, "targets": {"0": "1", "1": "2"}}
    path = tmp_path / "dolly.jsonl"
    path.write_text(json.dumps(columns))
    rows = rows_of(PromptsSet(path=str(path), keep=("targets",)))
    assert [(loaded(r, "messages")[0]["content"], loaded(r, "facts")) for r in rows] == [
        ("One?", {"targets": "1"}),
        ("Two?", {"targets": "2"}),
    ]


@pytest.mark.skipif(not DOLLY.exists(), reason="STEERWORKS_SAMPLE_DATA has no profiling/dolly_val_100.jsonl")
def test_prompts_of_dolly_load_whole():
    found = read_set(PromptsSet(path=str(DOLLY)))
    assert len(found.items) + found.dropped == 100


def test_toxicity_prompts_keep_their_numbers_nested_or_flat(tmp_path):
    nested = {"prompt": {"text": "You are", "toxicity": 0.9, "insult": None, "threat": float("nan")}, "begin": 3}
    flat = {"prompt": "He is", "prompt_toxicity": 0.8, "completion": "x", "max_toxicity": 0.95}
    # JSON lines under the ending of a JSON file, as released
    rows = rows_of(PromptsSet(path=lines(tmp_path / "rtp.json", [nested, flat]), continuation="raw"))
    assert [row["text"] for row in rows] == ["You are", "He is"]
    assert [loaded(row, "facts") for row in rows] == [
        {"prompt_threat": None, "prompt_toxicity": 0.9},
        {"prompt_toxicity": 0.8},
    ]


def test_other_columns_are_found_or_named(tmp_path):
    path = lines(tmp_path / "t.jsonl", [{"text": "They say", "target_group": "x", "other": "Else"}])
    (row,) = rows_of(PromptsSet(path=path, chat=False, group="target_group"))
    assert (row["text"], row["group"]) == ("They say", "x")
    assert rows_of(PromptsSet(path=path, chat=False, column="other"))[0]["text"] == "Else"


@pytest.mark.parametrize(
    ("row", "more", "said"),
    [
        ({"promt": "x"}, {}, "no prompt or inputs or question or text; the row has promt"),
        ({"prompt": ""}, {}, "not blank"),
        ({"prompt": {"words": "x"}}, {}, "must be text"),
        ({"prompt": "x"}, {"keep": ("y",)}, "no column 'y' to keep"),
        ({"prompt": "x", "group": ["a"]}, {}, "group is"),
    ],
)
def test_a_broken_prompt_names_file_and_row(tmp_path, row, more, said):
    path = lines(tmp_path / "p.jsonl", [{"prompt": "fine", "y": 1} if more else {"prompt": "fine"}, row])
    with pytest.raises(SteerworksError, match=rf"p\.jsonl, row 1 \(0-based\): .*{said}"):
        load_set(PromptsSet(path=path, **more))


def test_prompts_of_the_hub_take_the_split_that_is_published(hub):
    calls = hub([{"question": "Do hens swim?", "answer": False}])
    assert len(rows_of(PromptsSet(dataset="wics/strategy-qa"))) == 1
    assert calls == [("wics/strategy-qa", None, "test", None)]


def test_shipped_requests_are_paired_by_topic():
    frame = load_set(SafetySet())
    assert frame["group"].value_counts().sort("group").rows() == [("harmful", 30), ("harmless", 30)]
    sides = frame.group_by("cluster").agg(kinds="group")
    assert len(sides) == 30
    assert all(sorted(kinds) == ["harmful", "harmless"] for kinds in sides["kinds"])


@pytest.mark.parametrize("column", ["suffix", "adversarial"])
def test_an_attack_is_an_item_of_its_own_in_the_cluster_of_its_request(tmp_path, column):
    rows = [
        {"prompt": "Do harm.", "kind": "harmful", column: "!! say yes"},
        {"prompt": "Do good.", "kind": "Harmless", column: ""},
    ]
    found = read_set(SafetySet(path=table(tmp_path / "s.csv", rows), chat=False)).items.to_dicts()
    assert [row["text"] for row in found] == ["Do harm.", "Do harm. !! say yes", "Do good."]
    assert [loaded(row, "facts") for row in found] == [
        {"attack": "plain", "kind": "harmful"},
        {"attack": "suffix", "kind": "harmful"},
        {"attack": "plain", "kind": "harmless"},
    ]
    assert found[0]["cluster"] == found[1]["cluster"] != found[2]["cluster"]
    assert [row["row"] for row in found] == [0, 0, 1]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "x", "kind": "bad"}, "kind is 'bad'"),
        ({"prompt": "x"}, "no kind"),
        ({"kind": "harmful"}, "no prompt"),
    ],
)
def test_a_broken_request_names_file_and_row(tmp_path, row, said):
    path = lines(tmp_path / "s.jsonl", [{"prompt": "fine", "kind": "harmless"}, row])
    with pytest.raises(SteerworksError, match=rf"s\.jsonl, row 1 \(0-based\): .*{said}"):
        load_set(SafetySet(path=path))


def test_requests_of_the_hub_are_read(hub):
    hub([{"prompt": "x", "kind": "harmless"}])
    assert rows_of(SafetySet(dataset="some/requests", split="train"))[0]["source"] == "some/requests@main"


def test_the_two_sides_of_a_set_share_no_prompt_and_are_the_whole(tmp_path):
    for more in ({}, {"shipped": "continuations"}, {"shipped": "tales-prompts", "n": 80}):
        train, test = (set(load_set(PromptsSet(**more, side=s))["messages"]) for s in ("train", "test"))
        assert train
        assert test
        assert not train & test
        if more.get("shipped") != "tales-prompts":
            assert train | test == set(load_set(PromptsSet(**more))["messages"])
        else:
            # as many of that side as were asked for, whatever the seed
            assert len(train) == len(test) == 80
            other = set(load_set(PromptsSet(**more, side="test", seed=5))["messages"])
            assert not other & train
    # neither case nor white space moves a prompt to the other side
    written = [{"prompt": f"{word} about Number {n}."} for n in range(20) for word in ("Write", "WRITE ", " write\n")]
    path = lines(tmp_path / "p.jsonl", written)
    numbers = [
        {json.loads(m)[0]["content"].split()[-1] for m in load_set(PromptsSet(path=path, side=s))["messages"]}
        for s in ("train", "test")
    ]
    assert not numbers[0] & numbers[1]
    assert len(numbers[0] | numbers[1]) == 20
