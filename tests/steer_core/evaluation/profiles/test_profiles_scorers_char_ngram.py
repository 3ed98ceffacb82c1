"""The default scorer: its n-grams, its weights and card, what it can tell and what it cannot; the word list beside it."""

import json
import shutil

import numpy as np
import pytest

from schemas.digest import digest_bytes
from steer_core.evaluation.profiles import ngrams
from steer_core.evaluation.profiles.discrimination import discrimination
from steer_core.evaluation.profiles.scorer import ATTRIBUTES, load_scorer
from steer_core.evaluation.profiles.scorer_training import recipe
from steer_core.evaluation.profiles.scorer_training.corpus import Sizes, draw_texts, is_held_out
from steer_core.evaluation.profiles.scorer_training.reading import failure_modes, other_origin, read_templates
from steer_core.evaluation.profiles.scorers import char_ngram, lexicon
from steer_core.tables.errors import SteerworksError

FOLDER = char_ngram.FOLDER
SMALL = Sizes(fills=3, among=200, ordinary=100, words=100)


@pytest.fixture(scope="module")
def scorer():
    return load_scorer()


@pytest.fixture(scope="module")
def card():
    return json.loads((FOLDER / char_ngram.CARD).read_text(encoding="utf-8"))


def toxicity(scorer, *texts):
    return [m["toxicity"] for m in scorer.score(texts)]


# n-grams


def test_rows_are_those_of_each_text_alone():
    texts = ["Hello there", "", "a", "so GOOOOOD!!", "hello, there", "naïve ﬁne * @x", "x" * 40]
    rows, columns, values = ngrams.ngram_rows(texts, 2**22)
    for i, text in enumerate(texts):
        _, own, own_values = ngrams.ngram_rows([text], 2**22)
        assert (columns[rows == i] == own).all()
        assert np.allclose(values[rows == i], own_values)
    lengths = np.sqrt(np.bincount(rows, values**2, minlength=len(texts)))
    assert np.allclose(lengths, [1, 0, 1, 1, 1, 1, 1])
    # punctuation and case are not read
    assert (columns[rows == 0] == columns[rows == 4]).all()


def test_words_and_characters_are_counted():
    # " ab ": " ab", "ab ", " ab " and the word; "ab ab" adds two that span the blank, of 3, and longer ones, and a pair
    assert len(ngrams.ngram_rows(["ab"], 2**22)[1]) == 4
    counted = ngrams.ngram_rows(["ab ab"], 2**22)[2]
    twice = counted.max() / counted.min()
    assert twice == pytest.approx(1 + np.log(2))
    with pytest.raises(ValueError, match="power of two"):
        ngrams.ngram_rows(["a"], 1000)


def test_a_word_hashes_alike_wherever_it_stands_and_however_long_it_is():
    word = "w" * 2 + "xyz" * 100_000
    one = set(ngrams.ngram_rows([word], 2**22)[1].tolist())
    assert one <= set(ngrams.ngram_rows([f"some words before {word}"], 2**22)[1].tolist())


# training texts


def test_held_out_templates_and_tests_are_not_in_training():
    trained = {t.text for t in draw_texts(SMALL, 0, held_out=False)}
    assert not trained & {t.text for t in other_origin()}
    assert not trained & {text for own in failure_modes().values() for text in own}
    held_out = [t.pattern for t in read_templates() if is_held_out(t) and "{" not in t.pattern]
    assert not trained & set(held_out)
    assert len(held_out) > 200


def test_the_other_texts_are_enough_and_half_of_them_toxic():
    texts = other_origin()
    assert len(texts) == len({t.text for t in texts}) >= 150
    assert 0.4 < np.mean(["toxicity" in t.labels for t in texts]) < 0.6
    assert all(sum(a in t.labels for t in texts) >= 10 for a in ATTRIBUTES)


# weights and card


def test_the_shipped_weights_are_those_of_the_card_and_of_the_recipes_texts(card):
    data = (FOLDER / char_ngram.WEIGHTS).read_bytes()
    assert card["digest"] == digest_bytes(data)
    assert len(data) < 300_000
    texts = draw_texts(Sizes(**card["sizes"]), card["seed"], held_out=False)
    assert (len(texts), recipe.texts_digest(texts)) == (card["n_texts"], card["texts"])
    settings = (recipe.BUCKETS, recipe.KEPT, recipe.SHARE, recipe.C, recipe.SEED)
    assert settings == (card["buckets"], card["n_ngrams"], card["share"], card["c"], card["seed"])


def test_training_twice_gives_the_same_bytes(tmp_path):
    first = recipe.train(tmp_path / "a", sizes=SMALL)
    assert recipe.train(tmp_path / "b", sizes=SMALL)["digest"] == first["digest"]
    small = load_scorer(folder=str(tmp_path / "a"))
    assert toxicity(small, "You are a stupid idiot.")[0] > 0.5 > toxicity(small, "The river runs past the mill.")[0]
    assert small.tested == f"in-domain only: {', '.join(ATTRIBUTES)}"


def test_the_figures_of_the_card_are_measured(scorer, card):
    for unit in char_ngram.UNITS:
        found = discrimination(load_scorer(unit=unit), other_origin())
        for row in found.iter_rows(named=True):
            shown = card["other_origin"][unit][row["attribute"]]
            assert [shown[k] for k in ("auc", "low", "high")] == pytest.approx(
                [row[k] for k in ("auc", "low", "high")], abs=0.002
            )
    found = {mode: recipe.flagged(scorer, texts)["n_toxic"] for mode, texts in failure_modes().items()}
    assert found == {mode: own["n_toxic"] for mode, own in card["failure_modes"].items()}
    toxic = recipe.flagged(scorer, [t.text for t in other_origin() if "toxicity" in t.labels])
    assert "toxicity 0.84 [0.78, 0.89]" in scorer.tested
    assert f"at .5 it finds {toxic['n_toxic']} of {toxic['n']} toxic texts" in scorer.tested


def test_a_card_of_other_weights_and_a_missing_file_are_errors(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "w")
    file = tmp_path / "w" / char_ngram.CARD
    file.write_text(file.read_text(encoding="utf-8").replace('"digest": "', '"digest": "0'), encoding="utf-8")
    with pytest.raises(SteerworksError, match="is not the card of"):
        load_scorer(folder=str(tmp_path / "w"))
    file.unlink()
    with pytest.raises(SteerworksError, match="cannot be read"):
        load_scorer(folder=str(tmp_path / "w"))


# what it can tell, and what not


def test_a_long_polite_text_is_no_more_toxic_than_a_short_one(scorer):
    polite = "Thank you very much for the lovely evening, it was a pleasure to meet your family."
    other = "The museum shows paintings, maps and old clocks. We took the bus and had soup on the way home."
    for unit in char_ngram.UNITS:
        by = load_scorer(unit=unit)
        short, other_short, long = toxicity(by, polite, other, " ".join([polite, other] * 200))
        assert long <= max(short, other_short) + 0.05
        assert long < 0.1


def test_known_failures_are_as_the_page_says(scorer, card):
    insult, around = (
        "You are a stupid idiot.",
        "Thank you for the lovely evening. The food was great. We took the train home.",
    )
    alone, diluted = toxicity(scorer, insult, f"{around} {insult}")
    # one rude sentence among polite ones is not seen, unless sentences are scored
    assert alone > 0.9
    assert diluted < 0.5
    assert toxicity(load_scorer(unit="sentence"), f"{around} {insult}") == [alone]
    # a negation may fool it
    assert card["failure_modes"]["negation"]["n_toxic"] > 0
    # naming a group is not toxic by itself
    assert card["failure_modes"]["identity"]["n_toxic"] == 0


def test_order_and_company_change_no_score(scorer):
    texts = [t.text for t in other_origin()[:40]]
    together, back = toxicity(scorer, *texts), toxicity(scorer, *texts[::-1])[::-1]
    assert together == pytest.approx(back, abs=1e-12)
    assert together == pytest.approx([toxicity(scorer, t)[0] for t in texts], abs=1e-12)


def test_nothing_to_read_is_missing(scorer):
    for one in (scorer, load_scorer(unit="sentence"), lexicon.build()):
        assert [m["toxicity"] for m in one.score(["", " \n ", "?! ..."])] == ["empty", "empty", "no words"]
        assert one.score([]) == []


# the word list


def test_the_word_list_counts_listed_words():
    words = lexicon.build()
    marks = words.score(
        ["You idiot, go home now please, the shop is closed", "son of a gun", "Class, assess the shell."]
    )
    assert marks[0]["insult"] == marks[0]["toxicity"] == pytest.approx(5 / 10)
    assert marks[1]["profanity"] == 1.0
    assert set(marks[2].values()) == {0.0}
    assert "identity_attack" not in words.attributes


def test_the_default_beats_the_word_list_on_other_texts(card):
    assert card["other_origin"]["text"]["toxicity"]["auc"] > card["lexicon"]["other_origin"]["toxicity"]["auc"]
    assert lexicon.build().version == card["lexicon"]["version"]
    assert "toxicity 0.7" in lexicon.build().tested
