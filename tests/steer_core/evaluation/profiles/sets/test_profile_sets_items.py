"""What holds for every set: one shape, ids of content, seeded draws, examples, borders, places that cannot be read."""

import json

import polars as pl
import pytest
from sets_world import lines, loaded, rows_of, table, whole

from schemas.profile_sets import (
    BbqSet,
    ChoicesSet,
    CrowsPairsSet,
    PromptsSet,
    SafetySet,
    SeatSet,
    StereoSetSet,
)
from steer_core.evaluation.profiles.sets import COLUMNS, SETS, load_set, read_set
from steer_core.evaluation.profiles.sets.items import Item, appended, build
from steer_core.tables import SteerworksError

SHIPPED = [
    BbqSet(),
    StereoSetSet(),
    CrowsPairsSet(),
    SeatSet(),
    ChoicesSet(),
    ChoicesSet(shipped="tales-facts"),
    PromptsSet(),
    PromptsSet(shipped="continuations"),
    PromptsSet(shipped="tales-prompts"),
    SafetySet(),
]


def named(spec):
    return f"{spec.kind}/{getattr(spec, 'shipped', '')}"


@pytest.mark.parametrize("spec", SHIPPED, ids=named)
def test_every_shipped_set_has_the_one_shape_and_no_item_twice(spec):
    found = read_set(spec)
    assert dict(found.items.schema) == COLUMNS
    assert found.dropped == 0
    assert found.items["item_id"].n_unique() == len(found.items)
    assert found.items["source"].unique().to_list() == ["shipped"]
    for row in found.items.to_dicts():
        assert (row["messages"] is None) != (row["text"] is None)
        assert isinstance(loaded(row, "facts"), dict)
        options = loaded(row, "options")
        assert row["gold"] is None or 0 <= row["gold"] < len(options)
        if row["messages"] is not None:
            assert loaded(row, "messages")[-1]["role"] == "user"
    assert found.items.equals(load_set(spec))
    options_class, load = SETS[spec.kind]
    assert isinstance(spec, options_class)
    assert load(spec).equals(found.items)


@pytest.mark.parametrize(
    "spec",
    [
        BbqSet(),
        BbqSet(shots=2, first=20),
        ChoicesSet(),
        ChoicesSet(shots=3, first=10),
        ChoicesSet(shipped="tales-facts", n=16),
        StereoSetSet(),
        CrowsPairsSet(),
    ],
)
def test_options_carry_exactly_one_space_at_the_border(spec):
    for row in rows_of(spec):
        for option in loaded(row, "options"):
            border = row["text"][-1:] + option[:2]
            assert option.strip() == option.lstrip()
            if row["text"] == "":
                assert option == option.strip()
            else:
                assert border[1] == " "
                assert not border[0].isspace()
                assert not border[2].isspace()


def test_a_prompt_that_ends_in_white_space_takes_no_second_space():
    assert appended("Q:\n", " yes ") == "yes"
    assert appended("Q: ", "yes") == "yes"
    assert appended("Q:", "yes") == " yes"
    assert appended("", " yes") == "yes"


def test_in_a_chat_an_option_begins_its_turn():
    for row in rows_of(BbqSet(chat=True)):
        assert row["text"] is None
        assert all(option == option.strip() for option in loaded(row, "options"))


def test_an_id_follows_what_is_asked_and_nothing_else(tmp_path):
    def ids(rows, name="a.jsonl", **more):
        return load_set(ChoicesSet(path=lines(tmp_path / name, rows), **more))["item_id"].to_list()

    row = {"question": "Up?", "options": ["yes", "no"], "answer": 0}
    (plain,) = ids([row])
    assert ids([row], "b.jsonl") == [plain]
    assert ids([{**row, "group": "x", "cluster": "y"}]) == [plain]
    others = [
        ids([{**row, "answer": 1}]),
        ids([{**row, "options": ["yes", "never"]}]),
        ids([{**row, "question": "Down?"}]),
        ids([row], chat=True),
        ids([row], template="{question}"),
    ]
    assert len({plain, *(i for (i,) in others)}) == 6


def test_an_item_that_stands_twice_is_kept_once_and_counted(tmp_path):
    rows = [{"prompt": "One."}, {"prompt": "Two."}, {"prompt": "One."}]
    found = read_set(PromptsSet(path=lines(tmp_path / "p.jsonl", rows)))
    assert found.items["row"].to_list() == [0, 1]
    assert found.dropped == 1


def test_sampling_is_seeded_and_keeps_the_order():
    spec = {"sample": 12}
    one, again, other = (load_set(ChoicesSet(**spec, seed=seed)) for seed in (1, 1, 2))
    assert one.equals(again)
    assert set(one["item_id"]) != set(other["item_id"])
    assert one["row"].is_sorted()
    assert len(one) == 12
    whole_set = load_set(ChoicesSet())
    assert load_set(ChoicesSet(first=5)).equals(whole_set[:5])
    assert one.equals(whole_set.filter(pl.col("item_id").is_in(one["item_id"].to_list())))
    assert load_set(ChoicesSet(**spec, first=3, seed=1)).equals(one[:3])


def test_a_sample_larger_than_the_set_is_refused():
    with pytest.raises(SteerworksError, match="sample of 1000 was asked of 64"):
        load_set(ChoicesSet(sample=1000))


@pytest.mark.parametrize("chat", [False, True])
def test_examples_never_show_the_item_or_its_template(chat):
    bare = {row["row"]: row for row in rows_of(BbqSet(chat=chat))}
    asked = {n: (loaded(r, "messages")[-1]["content"] if chat else r["text"]) for n, r in bare.items()}
    by_text = {text: bare[n]["cluster"] for n, text in asked.items()}
    for row in rows_of(BbqSet(chat=chat, shots=3)):
        if chat:
            turns = loaded(row, "messages")
            shown = [turn["content"] for turn in turns[:-1] if turn["role"] == "user"]
            assert [turn["role"] for turn in turns] == ["user", "assistant"] * 3 + ["user"]
            assert turns[-1]["content"] == asked[row["row"]]
        else:
            *blocks, last = row["text"].split("\n\n")
            shown = [block[: block.index("\nAnswer:") + len("\nAnswer:")] for block in blocks]
            assert last == asked[row["row"]]
            assert all(not block.endswith("Answer:") for block in blocks)
        assert len(shown) == 3
        assert row["cluster"] not in {by_text[text] for text in shown}


def test_an_example_shows_the_right_answer(tmp_path):
    rows = [{"question": f"{i}?", "options": ["wrong", f"right {i}"], "answer": 1} for i in range(3)]
    (first, *_) = rows_of(ChoicesSet(path=lines(tmp_path / "a.jsonl", rows), shots=2, template="{question}"))
    assert sorted(first["text"].split("\n\n")) == ["0?", "1? right 1", "2? right 2"]
    assert first["text"].endswith("\n\n0?")


def test_examples_do_not_hang_on_what_else_was_sampled():
    all_of_them = load_set(ChoicesSet(shots=2, seed=4))
    some = load_set(ChoicesSet(shots=2, seed=4, sample=9))
    assert set(some["item_id"]) < set(all_of_them["item_id"])
    assert set(load_set(ChoicesSet(shots=2, seed=5))["item_id"]).isdisjoint(all_of_them["item_id"])


def test_too_few_items_for_the_examples_is_said(tmp_path):
    path = lines(tmp_path / "a.jsonl", [{"question": "Up?", "options": ["yes", "no"], "answer": 0}])
    with pytest.raises(SteerworksError, match=r"1 solved examples were asked for, and row 0.*has 0 items"):
        load_set(ChoicesSet(path=path, shots=1))


def test_an_item_without_a_known_answer_is_no_example(tmp_path):
    items = [Item(0, "a", ("x", "y"), 0), Item(1, "b", ("x", "y"), None), Item(2, "c", ("x", "y"), 1)]
    found = build("choices", items, "here", shots=1).items
    assert "b" not in found["text"][0]
    assert found["text"].to_list() == ["c y\n\na", found["text"][1], "a x\n\nc"]


HUBS = [
    BbqSet(dataset="some/bbq"),
    StereoSetSet(dataset="McGill-NLP/stereoset"),
    CrowsPairsSet(dataset="jannalu/crows_pairs_multilingual"),
    ChoicesSet(dataset="Rowan/hellaswag", layout="hellaswag"),
    PromptsSet(dataset="some/prompts", split="train"),
    SafetySet(dataset="some/requests", split="train"),
]


@pytest.mark.parametrize("spec", HUBS, ids=lambda s: s.kind)
def test_a_hub_out_of_reach_names_the_data_set_and_offers_a_path(spec, no_hub):
    with pytest.raises(SteerworksError, match=rf"{spec.dataset}.*Couldn't reach.*HF_HUB_OFFLINE.*`path`"):
        load_set(spec)


def test_the_real_client_without_a_network_says_the_same(monkeypatch):
    import datasets
    import huggingface_hub

    for module in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    with pytest.raises(SteerworksError, match=r"McGill-NLP/stereoset.*`path`"):
        load_set(StereoSetSet(dataset="McGill-NLP/stereoset", revision="0" * 40))


def test_a_hub_set_without_a_known_split_asks_for_one(no_hub):
    with pytest.raises(SteerworksError, match=r"some/prompts.*name it in `split`"):
        load_set(PromptsSet(dataset="some/prompts"))


def test_a_data_set_that_is_a_program_is_an_error_of_ours(monkeypatch):
    import datasets

    def load(*args, **more):
        raise RuntimeError("Dataset scripts are no longer supported, but found crows_pairs.py")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(SteerworksError, match=r"nyu-mll/crows_pairs.*no longer supported.*`path`"):
        load_set(CrowsPairsSet(dataset="nyu-mll/crows_pairs"))


def test_a_hub_source_has_its_revision(hub):
    calls = hub([{"prompt": "One."}])
    rows = [rows_of(PromptsSet(dataset="some/p", split="train", revision=r))[0] for r in ("abc", None)]
    assert [row["source"] for row in rows] == ["some/p@abc", "some/p@main"]
    assert calls == [("some/p", None, "train", "abc"), ("some/p", None, "train", None)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"prompt": "One."}\n{"prompt": \n', r"a\.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"prompt": \n', r"a\.jsonl, line 2: not valid JSON"),
        ("a.json", '[{"prompt": "One."}, 3]', r"a\.json, row 1 \(0-based\) is no object"),
        ("a.json", '"One."', r"a\.json holds a JSON str"),
        ("a.json", '{"prompt": "One.", "prompt": "Two."}', r"a\.json: field 'prompt' stands twice"),
        ("a.json", '[{"prompt": "\\ud800"}]', r"a\.json, row 0 .*half a character"),
        ("a.json", "[]", r"a\.json has no item"),
        ("a.csv", 'prompt,group\n"One.\n', r"a\.csv, row 0"),
        ("a.txt", "One.", r"format of .*a\.txt.*\.csv or \.parquet"),
    ],
)
def test_a_file_that_is_none_says_where(tmp_path, name, text, said):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(SteerworksError, match=said):
        load_set(PromptsSet(path=str(tmp_path / name)))


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(SteerworksError, match=r"no file at /none/x\.jsonl; correct the path in `path` of the set"):
        load_set(BbqSet(path="/none/x.jsonl"))


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "columns"])
def test_every_format_gives_the_same_items(tmp_path, ending):
    rows = [{"prompt": "One.", "group": "a"}, {"prompt": "Two.", "group": "b"}]
    if ending == "jsonl":
        path = lines(tmp_path / "p.jsonl", rows)
    elif ending == "json":
        path = whole(tmp_path / "p.json", rows)
    elif ending == "csv":
        path = table(tmp_path / "p.csv", rows)
    elif ending == "parquet":
        path = str(tmp_path / "p.parquet")
        pl.DataFrame(rows).write_parquet(path)
    else:
        path = whole(tmp_path / "p.jsonl", {c: {str(i): r[c] for i, r in enumerate(rows)} for c in rows[0]})
    found = rows_of(PromptsSet(path=path))
    assert [(json.loads(r["messages"])[0]["content"], r["group"], r["row"], r["source"]) for r in found] == [
        ("One.", "a", 0, path),
        ("Two.", "b", 1, path),
    ]
