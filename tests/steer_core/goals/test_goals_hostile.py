import time

import pytest

from steer_core.goals.analysis import Analyzer
from steer_core.goals.scorers import (
    emotion,
    formality,
    politeness,
    reading_difficulty,
    reading_difficulty_textstat,
    sentiment,
    text_length,
    textual_diversity,
)

N = 100_000
HOSTILE = {
    "one letter": "a" * N,
    "no spaces": "ab1-" * (N // 4),
    "apostrophes": "a'" * (N // 2),
    "periods": "." * N,
    "spaced periods": ". " * (N // 2),
    "quotes": '"' * N,
    "stops and quotes": '."' * (N // 2),
    "newlines": "\n" * N,
    "newline and blanks": ("\n" + " " * 99) * (N // 100),
    "laden words": "not good " * (N // 9),
    "exclamations": "wow! " * (N // 5),
    "markup": "<p class='x'>text</p>" * (N // 21),
    "open brackets": "<" * N,
    "addresses": "a@b." * (N // 4),
    "www": "www." + "a." * (N // 2),
    "please": "please, " * (N // 8),
    "right to left": "שלום עולם. " * (N // 11),
    "no script": "漢字" * (N // 2),
    "controls": "".join(map(chr, range(32))) * (N // 32),
    "surrogates": "\ud800 text \udfff" * (N // 8),
    "combining": "e\u0301\u200b\u202e" * (N // 4),
    "emoji": "👩‍👩‍👧‍👦 " * (N // 8),
    "capitals": "THE " * (N // 4),
    "nul": "\x00" * N,
    "empty": "",
}


@pytest.mark.parametrize("kind", sorted(HOSTILE))
def test_hostile_texts_are_scored_in_linear_time(kind: str) -> None:
    scorers = [
        emotion.build(emotion="joy"),
        formality.build(),
        politeness.build(),
        reading_difficulty.build(),
        reading_difficulty_textstat.build(),
        sentiment.build(),
        text_length.build(),
        textual_diversity.build(),
    ]
    analyzer = Analyzer()
    start = time.process_time()
    for scorer in scorers:
        (value,) = scorer.measure(analyzer.analyse_all([HOSTILE[kind]]))
        assert value is None or abs(value) < 1e6
    # a quadratic pass over 100 000 characters takes minutes
    assert time.process_time() - start < 10


def test_long_pieces_are_not_kept_in_mind() -> None:
    analyzer = Analyzer()
    assert analyzer.analyse("a" * N).n_words == 1
    assert not any(len(piece) > 100 for piece in analyzer)


def test_the_memo_is_bounded_and_changes_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"Word{i} and word{i} met again, didn't they, in room {i}." for i in range(60)]
    expected = [(a.n_syllables, a.tags, a.words) for a in Analyzer().analyse_all(texts)]
    monkeypatch.setattr("steer_core.goals.analysis._PIECES", 20)
    small = Analyzer()
    assert [(a.n_syllables, a.tags, a.words) for a in small.analyse_all(texts)] == expected
    assert len(small) < 40
