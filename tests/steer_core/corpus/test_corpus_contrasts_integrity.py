"""What is wrong with contrast data is counted and told."""

from pathlib import Path

import polars as pl

from schemas.specs import BehaviorSpec
from steer_core.corpus.contrasts import build_contrasts
from steer_core.corpus.contrasts.files import source_labels
from steer_core.corpus.contrasts.integrity import check_pairs, ends_mid_word
from steer_core.corpus.contrasts.letters import balance, read_question, write_question
from steer_core.corpus.contrasts.records import Pair

DATA = Path(__file__).parents[2] / "data" / "contrasts"


def findings(pairs):
    return {f.check: f for f in check_pairs("file", pairs)}


def integrity(**source) -> dict[tuple[str, str], dict]:
    found = build_contrasts(BehaviorSpec.model_validate({"name": "tea", "source": source})).integrity
    return {(r["source"], r["check"]): r for r in found.iter_rows(named=True)}


def pair(prompt: str, positive: str, negative: str, row: int = 0) -> Pair:
    return Pair(prompt, positive, negative, "file", row)


def test_openr_is_flagged_for_the_letters_that_it_cuts():
    cut = integrity(kind="caa", dataset="openr", train=str(DATA / "caa_open.json"))[
        ("contrasts/caa_open.json", "cut_letters")
    ]
    # eight pairs lose a full stop, "Tea" and "Coffee" lose a letter
    assert (cut["n"], cut["of"], cut["passed"]) == (2, 18, False)
    whole = integrity(kind="caa", dataset="open", train=str(DATA / "caa_open.json"))[
        ("contrasts/caa_open.json", "cut_letters")
    ]
    assert (whole["n"], whole["passed"]) == (0, True)


def test_words_cut_in_a_file_are_found_without_knowing_the_whole_ones():
    texts = ["Do you agree or disagree with this?", "I agree, no doubt.", "We like it very much."]
    answers = ["I agree", "I agre", "Not at all.", "I disagre", "Xylophone", "We like it very muc"]
    assert ends_mid_word(answers, [*texts, *answers]) == [1, 3, 5]


def test_duplicates_equal_sides_and_empty_answers_are_counted_with_their_rows():
    rows = [("Q one?", "Yes", "No"), ("q  one?", "Yes", "No"), ("Q two?", "Same", "Same "), ("Q three?", " ", "No")]
    found = findings([pair(*r, row=i) for i, r in enumerate(rows)])
    assert {c: (found[c].n, found[c].passed) for c in ("duplicates", "equal_sides", "empty_answers")} == {
        "duplicates": (1, False),
        "equal_sides": (1, False),
        "empty_answers": (1, False),
    }
    assert "rows (0-based) 3" in found["empty_answers"].detail
    assert found["repeated_prompts"].n == 1


def test_test_questions_seen_in_training_are_found_whatever_their_options_case_and_spaces():
    found = integrity(
        kind="caa", dataset="ab", train=str(DATA / "caa_ab.json"), test_open=str(DATA / "caa_test_open.json")
    )
    row = found[("contrasts/caa_test_open.json", "train_test_overlap")]
    assert (row["n"], row["of"], row["passed"]) == (1, 2, False)
    assert row["detail"].endswith("rows (0-based) 1")


def test_a_first_word_that_tells_the_side_is_flagged():
    told = findings([pair(f"Is it {i}?", f"Yes, {i} it is.", f"No, not {i} at all.") for i in range(20)])
    assert (told["first_word_tells"].n, told["first_word_tells"].passed) == (40, False)
    mixed = findings([pair(f"Is it {i}?", "It is so.", "It is not.") for i in range(20)])
    assert mixed["first_word_tells"].n == 0


def test_repeated_answers_unfinished_sentences_and_length_are_reported():
    stock = [
        pair(f"Do {i}?", "I am afraid that this is not for me to", f"Step {i}: take it and go on.") for i in range(30)
    ]
    found = findings(stock)
    assert (found["few_distinct_answers"].n, found["few_distinct_answers"].passed) == (29, True)
    assert (found["unfinished_sentences"].n, found["unfinished_sentences"].passed) == (30, False)
    assert (found["length_leans"].n, found["length_leans"].passed) == (30, False)
    same = findings([pair(f"Do {i}?", "Yes.", "No.") for i in range(30)])
    assert (same["few_distinct_answers"].n, same["few_distinct_answers"].passed) == (58, False)


def test_items_with_other_letters_and_unreadable_options_are_reported():
    found = integrity(kind="caa", dataset="ab", train=str(DATA / "caa_ab.json"))
    assert found[("contrasts/caa_ab.json", "other_letters")]["n"] == 1
    assert found[("contrasts/caa_ab.json", "unread_options")]["n"] == 0
    balanced = found[("contrasts/caa_ab.json", "letter_balance")]
    assert (balanced["n"], balanced["of"], balanced["passed"]) == (0, 8, True)
    assert "in the file A 6 and B 2, the options of 4 items were exchanged" in balanced["detail"]


def test_any_count_of_letters_ends_up_even():
    for a in range(7):
        for b in range(7):
            pairs = [
                Pair(
                    write_question(f"{x}{i}?", "one", "two"),
                    f"({x})",
                    "(-)",
                    "f",
                    i,
                    letters=(x, "B" if x == "A" else "A"),
                )
                for x, n in (("A", a), ("B", b))
                for i in range(n)
            ]
            after, changed = balance(pairs, seed=3)
            letters = [p.letters[0] for p in after]
            assert abs(letters.count("A") - letters.count("B")) <= 1
            assert changed == sum(x != y for x, y in zip(pairs, after, strict=True)) == a // 2 + b // 2


def test_swapping_exchanges_option_texts_and_nothing_else():
    text = "Which?\n\nChoices:\n (A) The first,\nover two lines\n (B) The second\n"
    once = read_question(text).swapped()
    assert once == "Which?\n\nChoices:\n (A) The second\n (B) The first,\nover two lines\n"
    assert read_question(once).swapped() == text
    assert read_question("Which of (A) and (B)?").options == {}


def test_a_duplicate_is_reported_and_kept():
    source = {"kind": "bipo", "train": str(DATA / "bipo_train.csv")}
    built = build_contrasts(BehaviorSpec.model_validate({"name": "tea", "source": source}))
    assert built.preferences.height == 4
    assert built.integrity.filter(pl.col("check") == "duplicates")["n"].to_list() == [1]


def test_sources_are_called_the_same_on_every_machine():
    assert source_labels(["/home/me/data/train.csv", "/home/me/data/test.csv"]) == {
        "/home/me/data/train.csv": "data/train.csv",
        "/home/me/data/test.csv": "data/test.csv",
    }
    assert source_labels(["/a/x/t.csv", "/b/x/t.csv"]) == {"/a/x/t.csv": "/a/x/t.csv", "/b/x/t.csv": "/b/x/t.csv"}
