import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from steer_core.goals.analysis import Analyzer, stretches
from steer_core.goals.scorers import emotion, politeness, sentiment, text_length
from steer_core.tables.errors import ConfigError


def one(scorer: object, text: str) -> float:
    (value,) = scorer.measure(Analyzer().analyse_all([text]))  # type: ignore[attr-defined]
    assert value is not None
    return float(value)


def test_length_counts_words_parts_of_contractions_and_marks() -> None:
    assert one(text_length.build(), "I don't know, Mr. Smith -- it's 5 o'clock.") == 13


def test_sentiment_is_the_mean_vader_compound_of_the_sentences() -> None:
    sentences = ["I love this wonderful place!", "The food was not good.", "It stands on a hill."]
    vader = SentimentIntensityAnalyzer()
    expected = sum(vader.polarity_scores(s)["compound"] for s in sentences) / 3
    assert one(sentiment.build(), " ".join(sentences)) == pytest.approx(expected, abs=1e-12)


def test_over_long_sentences_are_scored_in_stretches() -> None:
    assert stretches("a b c d e", 2) == ["a b", "c d", "e"]
    assert one(sentiment.build(), "good " * 150) == pytest.approx(
        (sentiment.compound("good " * 100) + sentiment.compound("good " * 50)) / 2
    )


def test_emotion_is_the_percentage_of_its_words() -> None:
    text = "The happy child laughed at the angry man."
    assert one(emotion.build(emotion="joy"), text) == pytest.approx(100 * 2 / 8)
    assert one(emotion.build(emotion="anger"), text) == pytest.approx(100 * 1 / 8)
    assert one(emotion.build(emotion="fear"), text) == 0


def test_a_negated_emotion_does_not_count() -> None:
    assert one(emotion.build(emotion="joy"), "I am not happy at all today") == 0
    assert one(emotion.build(emotion="joy"), "I wasn't there but now here they are happy") > 0


@pytest.mark.parametrize("name", emotion.EMOTIONS)
def test_every_emotion_has_words_of_its_own(name: str) -> None:
    entries = emotion.load_lexicon()[name]
    assert len(entries["words"] | entries["stems"]) >= 40
    assert emotion.speaks_of(name, name)


def test_an_unknown_emotion_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="unknown emotion 'boredom'; there are: joy, sadness"):
        emotion.build(emotion="boredom")


@pytest.mark.parametrize(
    ("sentence", "used"),
    [
        ("Could you please look at it?", {"please", "hedges", "second person", "subjunctive"}),
        ("Please look at it.", {"please start"}),
        ("Why are they late?", {"direct question"}),
        ("So they went.", {"direct start"}),
        ("Hello, thanks for coming by the way.", {"greeting", "gratitude", "by the way"}),
        ("You said sorry.", {"second person start", "apology"}),
        ("Great work!", {"deference", "positive words"}),
    ],
)
def test_politeness_strategies_are_found(sentence: str, used: set[str]) -> None:
    assert set(politeness.strategies(sentence)) == used


def test_politeness_is_the_mean_of_the_summed_weights() -> None:
    # please .49 + hedge .14 + second person .05 + subjunctive .47; then please at the start -.30
    assert one(politeness.build(), "Could you please look at it? Please look at it.") == pytest.approx(
        (1.15 - 0.30) / 2
    )


@pytest.mark.parametrize("text", ["", " \n", "...!"])
def test_without_words_nothing_is_defined(text: str) -> None:
    for scorer in (sentiment.build(), politeness.build(), emotion.build(emotion="joy")):
        assert scorer.measure(Analyzer().analyse_all([text])) == [None]


def test_a_text_of_marks_has_a_length_and_an_empty_one_has_none() -> None:
    assert text_length.build().measure(Analyzer().analyse_all(["", " \n", "...!"])) == [None, None, 2.0]
