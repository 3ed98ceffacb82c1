"""Typography moves no goal: every form in which a text reads the same to a person has the same values."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.specs import GoalSpec
from steer_core.goals.analysis import Analyzer
from steer_core.goals.canonical import canonical
from steer_core.goals.scorer import load_scorer

OWN = ["reading_difficulty", "text_length", "formality", "textual_diversity", "sentiment", "politeness", "emotion"]
COMPLAINT = (
    "I don't like this hotel. The staff weren't helpful, and the room wasn't clean. It isn't worth it. "
    "We won't be happy to come back."
)
PRAISE = 'A "great" caf\u00e9 - na\u00efve r\u00e9sum\u00e9s, well-known soups... It\'s "lovely"!'


def scorer(name):
    options = {"emotion": {"emotion": "joy"}}.get(name, {})
    return load_scorer(GoalSpec(name="g", scorer=name, unit="-", noun="n", more="m", less="l", options=options))


def values(text):
    analyzer = Analyzer()
    return [scorer(name).measure([analyzer.analyse(text)])[0] for name in OWN]


def curly(text):
    return text.replace("'", "\u2019").replace(' "', " \u201c").replace('"', "\u201d")


FORMS = {
    "typographic quotes": curly,
    "German quotes": lambda t: t.replace(' "', " \u201e").replace('"', "\u201c"),
    "French quotes": lambda t: t.replace(' "', " \u00ab").replace('"', "\u00bb"),
    "decomposed": lambda t: unicodedata.normalize("NFD", t),
    "hyphens that do not break": lambda t: t.replace("-", "\u2011"),
    "en dashes": lambda t: t.replace(" - ", " \u2013 "),
    "an ellipsis of its own": lambda t: t.replace("...", "\u2026"),
    "spaces that do not break": lambda t: t.replace(" ", "\u00a0"),
    "line ends of Windows": lambda t: t.replace(". ", ".\r\n").replace("\r\n", "\r\n"),
    "soft hyphens": lambda t: t.replace("worth", "wor\u00adth").replace("soups", "so\u00adups"),
    "a byte-order mark and zero-width spaces": lambda t: "\ufeff" + t.replace(" ", " \u200b"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", [COMPLAINT, PRAISE])
def test_every_form_of_a_text_has_the_same_values(text, form):
    changed = FORMS[form](text)
    plain = text.replace(". ", ".\n") if form == "line ends of Windows" else text
    assert values(changed) == values(plain)


def test_the_reported_texts_have_the_right_values():
    analyzer = Analyzer()
    sentiment, length, grade = (scorer(n) for n in ("sentiment", "text_length", "reading_difficulty"))

    def measured(one, text):
        return one.measure([analyzer.analyse(text)])[0]

    assert measured(sentiment, curly(COMPLAINT)) == measured(sentiment, COMPLAINT) == pytest.approx(-0.365, abs=5e-3)
    assert measured(sentiment, "\u201cgreat\u201d") == measured(sentiment, '"great"') > 0.6
    composed = "Caf\u00e9 na\u00efve r\u00e9sum\u00e9."
    for text in (composed, unicodedata.normalize("NFD", composed)):
        assert measured(length, text) == 4
        assert measured(grade, text) == measured(grade, composed)
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
    assert measured(length, family) == measured(length, "\U0001f44d\U0001f3fd") == 1
    assert measured(length, "\U0001f1e9\U0001f1ea") == 1


def test_a_scorer_that_reproduces_a_tool_reads_the_text_as_it_stands():
    analyzer = Analyzer()
    exact = scorer("reading_difficulty_textstat")
    text = unicodedata.normalize("NFD", "Caf\u00e9s r\u00e9sum\u00e9s na\u00efves \u2014 toujours. Une phrase.")
    one = analyzer.analyse(text)
    assert one.verbatim.read == text != one.read
    assert exact.measure([one]) == exact.measure([one.verbatim])
    assert one.text == text


@given(st.text(max_size=60))
def test_the_form_is_reached_at_once_and_whatever_the_text_is(text):
    once = canonical(text)
    assert canonical(once) == once
    assert canonical(unicodedata.normalize("NFD", text)) == canonical(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize("text", ["", "plain text, `code` and 'quotes'", "\ud800 alone", "a\nb\n\nc"])
def test_plain_texts_stay_as_they_are(text):
    assert canonical(text) == text
