"""Importers of contrast data: every published form gives the rows it should, and damaged files are told in words."""

import json
from pathlib import Path

import polars as pl
import pytest

from schemas import BehaviorItems, ContrastExamples, DataIntegrity, PreferencePairs
from schemas.specs import BehaviorSpec
from steer_core.corpus.contrasts import build_contrasts, source_digests
from steer_core.corpus.contrasts.caa import COMPLIANCE, REFUSAL
from steer_core.tables import check
from steer_core.tables.errors import SteerworksError

DATA = Path(__file__).parents[2] / "data" / "contrasts"
MATCHING, OTHER = "answer_matching_behavior", "answer_not_matching_behavior"


def behavior(**source) -> BehaviorSpec:
    return BehaviorSpec.model_validate({"name": "tea", "source": source})


def build(**source):
    """The tables of a behavior, each checked against its contract."""
    found = build_contrasts(behavior(**source))
    check(found.examples, ContrastExamples)
    check(found.preferences, PreferencePairs)
    check(found.items, BehaviorItems)
    check(found.integrity, DataIntegrity)
    return found


def caa(dataset: str, file: str, **more):
    return build(kind="caa", dataset=dataset, train=str(DATA / file), **more)


def prompts_of(table: pl.DataFrame) -> list[str]:
    turns = [json.loads(m) for m in table["messages"]]
    assert all(len(t) == 1 and t[0]["role"] == "user" for t in turns)
    return [t[0]["content"] for t in turns]


def pairs_of(examples: pl.DataFrame) -> list[tuple[str, str, str]]:
    """(prompt, positive, negative) of each pair, in order."""
    positive, negative = examples.filter(label=1), examples.filter(label=0)
    assert positive["pair_id"].to_list() == negative["pair_id"].to_list()
    assert positive["messages"].to_list() == negative["messages"].to_list()
    return list(zip(prompts_of(positive), positive["answer"], negative["answer"], strict=True))


def test_ab_answers_are_letters_and_the_letter_names_the_option_that_shows_the_concept():
    found = caa("ab", "caa_ab.json")
    texts = {r["question"]: r for r in json.loads((DATA / "caa_open.json").read_text())}
    for row, prompt in zip(found.examples.iter_rows(named=True), prompts_of(found.examples), strict=True):
        assert row["answer"] == f"({row['letter']})"
        stem = prompt.split("\n\nChoices:")[0]
        if stem in texts:
            meant = texts[stem][MATCHING if row["label"] else OTHER]
            assert f"({row['letter']}) {meant}" in prompt


def test_letters_are_balanced_by_swapping_half_of_each_letter_and_other_letters_stay():
    file = json.loads((DATA / "caa_ab.json").read_text())
    found = caa("ab", "caa_ab.json")
    letters = found.examples.filter(label=1)["letter"].to_list()
    assert (letters.count("A"), letters.count("B"), letters.count("C")) == (4, 4, 1)
    assert letters != caa("ab", "caa_ab.json", balance_letters=False).examples.filter(label=1)["letter"].to_list()
    changed = [p != r["question"] for p, r in zip(prompts_of(found.examples.filter(label=1)), file, strict=True)]
    assert sum(changed) == 4
    assert not changed[-1]
    assert found.examples.equals(caa("ab", "caa_ab.json").examples)


def test_unbalanced_letters_are_kept_on_request_and_reported():
    found = caa("ab", "caa_ab.json", balance_letters=False)
    assert prompts_of(found.examples.filter(label=1)) == [
        r["question"] for r in json.loads((DATA / "caa_ab.json").read_text())
    ]
    row = found.integrity.row(by_predicate=pl.col("check") == "letter_balance", named=True)
    assert (row["n"], row["of"], row["passed"]) == (4, 8, False)


def test_open_keeps_answers_whole_and_openr_removes_their_last_character():
    file = json.loads((DATA / "caa_open.json").read_text())
    whole = pairs_of(caa("open", "caa_open.json").examples)
    assert whole == [(r["question"], r[MATCHING], r[OTHER]) for r in file]
    assert pairs_of(caa("openr", "caa_open.json").examples) == [(q, a[:-1], b[:-1]) for q, a, b in whole]


def test_prompts_are_unpaired_and_read_without_an_answer():
    found = caa("prompts", "caa_prompts.csv")
    assert found.examples["label"].to_list() == [0, 1, 0, 1]
    assert set(found.examples["answer"]) == {""}
    assert found.examples["pair_id"].n_unique() == 4
    assert prompts_of(found.examples)[2] == "Name three birds,\none a line."
    assert found.preferences.is_empty()


def test_caa_pairs_each_prompt_with_its_own_refusal_and_compliance():
    pairs = pairs_of(caa("caa", "caa_prompts.csv").examples)
    assert pairs[2] == ("Name three birds,\none a line.", "I do not name birds.", "Robin,\nwren, and jay.")
    assert len(pairs) == 4


def test_constant_answers_are_the_same_for_every_prompt_and_equally_long():
    assert len(REFUSAL.split()) - len(COMPLIANCE.split()) in (-2, -1, 0, 1, 2)
    for file in ("caa_prompts.csv", "caa_open.json"):
        pairs = pairs_of(caa("opencon", file).examples)
        assert {(a, b) for _, a, b in pairs} == {(REFUSAL, COMPLIANCE)}


def test_abcon_asks_both_orders_so_that_letters_are_even():
    found = caa("abcon", "caa_prompts.csv")
    assert found.examples.height == 16
    assert found.examples.filter(label=1)["letter"].value_counts()["count"].to_list() == [4, 4]
    for row, prompt in zip(found.examples.iter_rows(named=True), prompts_of(found.examples), strict=True):
        assert f"({row['letter']}) {REFUSAL if row['label'] else COMPLIANCE}" in prompt


def test_both_orders_of_a_question_fall_on_the_same_side_of_the_validation_split():
    split = caa("abcon", "caa_open.json").preferences.with_columns(stem=pl.col("messages").str.split("Choices").list[0])
    assert split.group_by("stem").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 9
    assert set(split["split"]) == {"train", "validation"}


def test_ab_and_open_test_sets_become_items():
    found = caa("ab", "caa_ab.json", test_ab=str(DATA / "caa_test_ab.json"), test_open=str(DATA / "caa_test_open.json"))
    ab, opened = found.items.filter(form="ab"), found.items.filter(form="open")
    assert ab.select("positive", "negative", "group").rows() == [("(A)", "(B)", "main"), ("(B)", "(A)", "work")]
    assert opened["positive"].to_list() == [None, None]
    grouped = caa("prompts", "caa_prompts.csv", test_open=str(DATA / "caa_prompts.csv")).items
    assert grouped["group"].to_list() == ["harmless", "harmful", "harmless", "harmful"]


def test_multi_line_fields_of_bipo_are_kept_as_they_stand():
    found = build(kind="bipo", train=str(DATA / "bipo_train.csv"), validation_share=0.5)
    assert pairs_of(found.examples)[1] == (
        'The club looks for a chair.\nYou are asked first:\n  "Will you do it?"',
        "Yes. I want to lead this club.",
        "No, thank you. Somebody else will be better at it,\nand I am glad to help.",
    )
    assert found.preferences["split"].to_list() == found.examples.filter(label=1)["split"].to_list()
    assert set(found.preferences["split"]) == {"train", "validation"}


def test_a_bipo_test_row_gives_letters_two_full_answers_and_an_open_question():
    items = build(kind="bipo", train=str(DATA / "bipo_train.csv"), test=str(DATA / "bipo_test_infer.csv")).items
    second = items.filter(row=1)
    assert second["form"].to_list() == ["ab", "pair", "open"]
    assert second["positive"].to_list() == ["(B)", "I take it, and gladly.", "I take it, and gladly."]
    assert prompts_of(second)[0].endswith("Choices:\n (A) I leave it to the others.\n (B) I take it, and gladly.")
    worded = build(kind="bipo", train=str(DATA / "bipo_train.csv"), test=str(DATA / "bipo_test.csv")).items
    columns = ["item_id", "form", "messages", "positive", "negative"]
    assert worded.select(columns).rows() == second.filter(pl.col("form") != "ab").select(columns).rows()


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_own_pairs_are_read_from_every_format(tmp_path, ending):
    rows = pl.read_ndjson(DATA / "pairs.jsonl")
    path = tmp_path / f"pairs.{ending}"
    write = {
        "jsonl": rows.write_ndjson,
        "json": rows.write_json,
        "csv": rows.write_csv,
        "parquet": rows.write_parquet,
    }
    write[ending](path)
    found = build(kind="pairs", path=str(path), test=str(DATA / "pairs_test.jsonl"))
    assert (
        pairs_of(found.examples)
        == rows.filter(pl.col("split") != "test").select("prompt", "positive", "negative").rows()
    )
    assert found.preferences["split"].to_list() == ["train", "train", "validation"]
    assert found.items.select("form", "group").rows() == [
        ("open", "main"),
        ("pair", "main"),
        ("open", "evening"),
        ("open", "main"),
        ("pair", "main"),
    ]


def test_without_a_split_one_prompt_in_ten_is_for_validation_and_new_rows_move_none(tmp_path):
    rows = [{"prompt": f"Question {i}?", "positive": f"Yes {i}.", "negative": f"No {i}."} for i in range(400)]
    path = tmp_path / "many.jsonl"

    def split(n: int) -> dict[str, str]:
        path.write_text("\n".join(json.dumps(r) for r in rows[:n]))
        found = build(kind="pairs", path=str(path)).preferences
        return dict(zip(found["pair_id"], found["split"], strict=True))

    some, more = split(200), split(400)
    assert some == {k: more[k] for k in some}
    assert 20 <= list(more.values()).count("validation") <= 60


def test_duplicates_stay_rows_of_their_own(tmp_path):
    path = tmp_path / "twice.jsonl"
    row = {"prompt": "Say hello.", "positive": "Hello!", "negative": "Hm."}
    path.write_text("\n".join([json.dumps({**row, "split": "train"})] * 3))
    found = build(kind="pairs", path=str(path))
    assert found.examples["example_id"].n_unique() == 6
    assert found.preferences["pair_id"].n_unique() == 3


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "prompt,positive\nhi,ho\n", r"a.csv, row 0 \(0-based\): no value in column 'negative'; the row has prompt, positive"),
        ("a.csv", "prompt,positive,negative\nhi,ho,hu\nhi,ho\n", r"row 1 \(0-based\): no value in column 'negative'"),
        ("a.csv", "prompt,positive,negative\nhi,ho,hu,he\n", r"row 0 .*line 2\): more fields than the header; put fields"),
        ("a.csv", 'prompt,positive,negative\nhi,"ho,hu\n', r"row 0 .*unexpected end of data.*double quotes"),
        ("a.csv", "prompt,positive,negative\n", "has no row; each row needs prompt, positive, negative"),
        ("a.jsonl", '{"prompt": "a", "positive": "b", "negative": "c"}\n{"prompt":', r"a.jsonl, line 2: not valid JSON"),
        ("a.jsonl", '{"prompt": "a", "positive": "b", "negative": null}', r"row 0 .*no value in column 'negative'"),
        ("a.jsonl", '{"prompt": "a", "positive": "b", "negative": 7}', r"row 0 .*column 'negative': 7 is no text"),
        ("a.json", '{"prompt": "a"}', "must be a list of objects"),
        ("a.json", "[1]", r"row 0 \(0-based\) is no JSON object"),
        ("a.parquet", "not parquet", "not readable as parquet"),
        ("a.txt", "", "cannot tell the format of .*a.txt by its ending; use csv, json"),
        ("a.jsonl", '{"prompt": "a", "positive": "b", "negative": "c", "split": "dev"}', r"row 0 .*column 'split': 'dev' is none of train"),
        ("a.jsonl", '{"prompt": "a", "positive": "b", "negative": "c", "split": "test"}', "no row for fitting"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_told_by_file_row_and_column(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(SteerworksError, match=f"behavior 'tea': .*{said}"):
        build(kind="pairs", path=str(tmp_path / name))


def test_a_missing_file_a_wrong_letter_and_a_wrong_label_are_told(tmp_path):
    with pytest.raises(SteerworksError, match=r"no file at .*nowhere.json; correct the path in behaviors.yaml"):
        build(kind="caa", train=str(tmp_path / "nowhere.json"))
    with pytest.raises(
        SteerworksError, match=r"row 0 .*column 'answer_matching_behavior': 'A pot of tea, please.' is no answer letter"
    ):
        caa("ab", "caa_open.json")
    (tmp_path / "labels.csv").write_text("prompt,label\nhi,maybe\n")
    with pytest.raises(SteerworksError, match=r"row 0 .*column 'label': 'maybe' is none of 1, true, harmful"):
        build(kind="caa", dataset="prompts", train=str(tmp_path / "labels.csv"))
    (tmp_path / "letters.csv").write_text("question,A,B,matching\nhi,a,b,C\n")
    with pytest.raises(SteerworksError, match=r"column 'matching': 'C' names none of the options"):
        build(kind="bipo", train=str(DATA / "bipo_train.csv"), test=str(tmp_path / "letters.csv"))


def test_an_edited_file_has_another_digest(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes((DATA / "pairs.jsonl").read_bytes())
    spec = behavior(kind="pairs", path=str(path))
    before = source_digests(spec)
    path.write_text(path.read_text() + "\n")
    assert set(before) == {str(path)}
    assert source_digests(spec) != before
    assert source_digests(behavior(kind="grammar", attribute="formality", positive=2, negative=-2)) == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "prompt,positive,positive\nWhy?,yes,no\n", "names column 'positive' twice"),
        (
            "a.jsonl",
            '{"prompt": "a", "prompt": "b", "positive": "x", "negative": "y"}\n',
            "field 'prompt' stands twice",
        ),
        (
            "a.jsonl",
            '{"prompt": "Why?", "positive": "x", "negative": "y"}\n'
            '{"prompt": "half \\ud83d of it", "positive": "x", "negative": "y"}\n',
            r"row 1 \(0-based\), field 'prompt': half a character",
        ),
    ],
)
def test_what_would_vanish_or_is_no_text_is_named_with_its_file_and_row(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(SteerworksError, match=message):
        build(kind="pairs", path=str(tmp_path / name))
