import pytest

from steer_core.goals.analysis import Analyzer
from steer_core.goals.tokens import ends_sentence, split_contraction, split_piece


@pytest.mark.parametrize(
    ("piece", "tokens"),
    [
        ("world.", ("world", ".")),
        ('"Hello,', ('"', "Hello", ",")),
        ("singer-songwriter", ("singer-songwriter",)),
        ("$3,000.50", ("$", "3,000.50")),
        ("10:30", ("10:30",)),
        ("wait...", ("wait", "...")),
        ("yes--no", ("yes", "--", "no")),
        ("Mr.", ("Mr.",)),
        ("U.S.", ("U.S.",)),
        ("(e.g.,", ("(", "e.g.", ",")),
        ("I.", ("I", ".")),
        ("J.", ("J.",)),
        ("<b>bold</b>", ("<", "b", ">", "bold", "<", "/", "b", ">")),
    ],
)
def test_a_piece_splits_into_words_and_marks(piece: str, tokens: tuple[str, ...]) -> None:
    assert split_piece(piece) == tokens


@pytest.mark.parametrize(
    ("token", "parts"),
    [
        ("don't", ("do", "n't")),
        ("Don’t", ("Do", "n't")),
        ("dog's", ("dog", "'s")),
        ("they'll", ("they", "'ll")),
        ("cannot", ("can", "not")),
        ("rock'n'roll", ("rock'n'roll",)),
        ("cat", ("cat",)),
    ],
)
def test_a_contraction_is_two_words(token: str, parts: tuple[str, ...]) -> None:
    assert split_contraction(token) == parts


@pytest.mark.parametrize(
    ("piece", "ends"), [("end.", True), ('end."', True), ("end…)", True), ("Mr.", False), ("end,", False), (")", False)]
)
def test_a_sentence_ends_behind_its_mark_quotes_aside(piece: str, ends: bool) -> None:
    assert ends_sentence(split_piece(piece)) is ends


def test_sentences_are_cut_at_marks_and_empty_lines() -> None:
    analysis = Analyzer().analyse('He said: "Go!" Then he went.  A heading\n\nMore text')
    assert analysis.sentences == ['He said: "Go!"', "Then he went.", "A heading", "More text"]
