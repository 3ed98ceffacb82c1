import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.reports.text import MOST_CHARACTERS, clip, visible, word_diff


def test_control_characters_are_spelled_out():
    assert visible("a\x00b\x1b\x7f\x85") == "a\u2400b\u241b\u2421⟨U+0085⟩"


def test_characters_that_reorder_or_hide_are_spelled_out():
    assert visible("\u202eabc\u2066\u200b\ufeff") == "⟨U+202E⟩abc⟨U+2066⟩⟨U+200B⟩⟨U+FEFF⟩"
    assert visible("\ud800") == "⟨U+D800⟩"


def test_line_breaks_tabs_and_joiners_stay():
    kept = "one\ntwo\tthree \u0915\u094d\u200d\u0937"
    assert visible(kept) == kept
    assert visible("a\r\nb") == "a\nb"


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
def test_visible_text_can_be_encoded_and_has_no_control_character(text):
    shown = visible(text)
    shown.encode("utf-8")
    left = {c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs")}
    assert left <= {"\n", "\t", "\u200c", "\u200d"}


def test_clip_says_how_much_is_missing():
    clipped = clip("x" * 100_000)
    assert len(clipped.text) == MOST_CHARACTERS
    assert clipped.left_out == 100_000 - MOST_CHARACTERS


def marked(pieces, kind):
    return [piece.text for piece in pieces if piece.kind == kind]


def test_a_changed_word_is_marked_on_both_sides():
    diff = word_diff("The old bridge closed.", "The new bridge closed.")
    assert marked(diff.source, "deleted") == ["old"]
    assert marked(diff.rewrite, "inserted") == ["new"]


def test_reflowed_text_is_not_a_changed_text():
    diff = word_diff("one two  three", "one\ntwo three")
    assert not marked(diff.source, "deleted")
    assert not marked(diff.rewrite, "inserted")


@given(st.text(max_size=120), st.text(max_size=120))
@settings(deadline=None, max_examples=50)
def test_the_pieces_of_a_diff_are_the_texts(source, rewrite):
    diff = word_diff(source, rewrite)
    # cut before it is made visible, so that only a CR LF pair torn apart by the cut may differ
    assert "".join(p.text for p in diff.source).replace("␍", "") == visible(source).replace("␍", "")
    assert "".join(p.text for p in diff.rewrite).replace("␍", "") == visible(rewrite).replace("␍", "")
    assert all(p.kind in ("same", "deleted") for p in diff.source)
    assert all(p.kind in ("same", "inserted") for p in diff.rewrite)


@pytest.mark.parametrize("endless", ["a " * 50_000, "ab ba " * 17_000, "!" * 100_000, " " * 100_000, "x" * 100_000])
def test_endless_outputs_are_compared_on_the_part_that_is_shown(endless):
    diff = word_diff("a b a b " * 300, endless)
    shown = sum(len(piece.text) for piece in diff.rewrite)
    assert shown <= MOST_CHARACTERS
    assert shown + diff.rewrite_left_out == len(endless)


def test_a_looping_answer_equals_itself():
    diff = word_diff("so it goes on and on. " * 200, "so it goes on and on. " * 200)
    assert marked(diff.source, "deleted") == marked(diff.rewrite, "inserted") == []


def test_an_empty_answer_has_no_pieces():
    diff = word_diff("one two", "")
    assert diff.rewrite == ()
    assert marked(diff.source, "deleted") == ["one two"]
