import random

import pytest
from textblob._text import find_tags
from textblob.en import lexicon

from steer_core.goals.analysis import Analyzer
from steer_core.goals.tagger import Tagger

SENTENCES = [
    "The candied apples were eaten by Mary , who runs a small shop in New York .",
    "I try to open the door because they may share it with us .",
    "She has walked home and can swim ; the run was long and 37.5 % faster than www.example.com said .",
    "He likes the old houses that stand near the sea , as quickly as Alice in Wonderland did n't .",
    "George Washington never met Walt Disney in Nazi Germany , nor did FC Barcelona .",
    "Zorgulating frumbles unhappied the 3-day blorptyle , said Mr. Engelken costs would flimmer .",
]


def expected_tags(tokens: list[str]) -> list[str]:
    tagged = find_tags(
        list(tokens),
        lexicon=lexicon,
        morphology=lexicon.morphology,
        context=lexicon.context,
        entities=lexicon.entities,
    )
    return [tag for _, tag in tagged]


def our_tags(tagger: Tagger, sentences: list[list[str]]) -> list[str]:
    tokens = [tagger.token(t) for s in sentences for t in s]
    ends = [sum(len(s) for s in sentences[: i + 1]) for i in range(len(sentences))]
    return [tagger.tag_name(c) for c in tagger.tag(tokens, ends)]


def test_tags_equal_textblobs_with_all_its_rules() -> None:
    tagger = Tagger()
    sentences = [s.split() for s in SENTENCES]
    assert our_tags(tagger, sentences) == [t for s in sentences for t in expected_tags(s)]


def test_tags_equal_textblobs_on_random_words_and_endings() -> None:
    rng, tagger = random.Random(0), Tagger()
    words = sorted(lexicon)
    function = " ".join(SENTENCES).split()
    for _ in range(400):
        sentence = [
            rng.choice(function) if rng.random() < 0.5 else rng.choice(words) + rng.choice(["", "s", "ing", "ed", "ly"])
            for _ in range(12)
        ]
        assert our_tags(tagger, [sentence]) == expected_tags(sentence), sentence


def test_a_sentence_is_tagged_the_same_whatever_stands_around_it() -> None:
    alone, tagger = [], Tagger()
    sentences = [s.split() for s in SENTENCES]
    for sentence in sentences:
        alone += our_tags(Tagger(), [sentence])
    assert our_tags(tagger, sentences) == alone
    assert our_tags(tagger, sentences) == alone, "a second time, from the memo"


@pytest.mark.parametrize(("text", "tag"), [("to open it.", "VB"), ("an open door.", "JJ")])
def test_context_decides_between_verb_and_adjective(text: str, tag: str) -> None:
    assert Analyzer().analyse(text).tags[1] == tag
