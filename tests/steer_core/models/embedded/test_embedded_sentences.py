"""The grammar knows its own sentences and topics, and nothing else."""

import numpy as np
import pytest

from steer_core.models.embedded.grammar import write
from steer_core.models.embedded.sentences import (
    contents_of,
    is_sentence,
    sentences_of,
    share_of_sentences,
    topics_of,
)

TEXTS = write(150, 3, "heldout")


def test_every_sentence_that_the_grammar_writes_is_one_and_tells_its_topic():
    assert [s for t in TEXTS for s in sentences_of(t.text) if not is_sentence(s)] == []
    assert all(topics_of(t.text) == {t.scenario.topic} for t in TEXTS)


def test_words_in_another_order_are_no_sentence():
    rng = np.random.default_rng(0)
    mixed = []
    for text in TEXTS:
        for sentence in sentences_of(text.text):
            words = sentence.split()
            mixed.append(" ".join(words[i] for i in rng.permutation(len(words))))
    assert not any(map(is_sentence, mixed))


@pytest.mark.parametrize(
    "sentence",
    [
        "It rains",
        # a verb where the pattern has a noun
        "The built was there, and it now held the team, hey",
        # cut off
        "The grand afternoon was there, and we now",
    ],
)
def test_what_only_looks_like_it_is_none(sentence):
    assert not is_sentence(sentence)


def test_a_repeated_sentence_counts_as_none_and_a_text_without_words_has_no_share():
    line = "The bush of the gardener was the great job of the team, and the role still found it"
    assert is_sentence(line)
    assert share_of_sentences(f"{line}. {line}.") == 0.5
    assert share_of_sentences("...") is None
    assert contents_of("A baker, some bread, and the moon.") == ["baker", "bread"]
    assert topics_of("The moon.") == frozenset()
