import numpy as np
import pytest

from benchmarks.embedded_trial import MEASURES, measure
from steer_core.models.embedded.grammar import (
    LEVELS,
    MAX_SENTENCES,
    Attributes,
    Reading,
    draw_scenario,
    is_heldout,
    read,
    rewrite,
    tell,
    write,
)
from steer_core.models.embedded.lexicon import ADJECTIVES, ADVERBS, FEELINGS, NOUNS, TOPICS, VERBS
from steer_core.models.embedded.templates import LITERALS

NAMES = ("difficulty", "sentences", "formality", "sentiment")


def reading_of(attributes: Attributes) -> Reading:
    return Reading(attributes.sentiment, attributes.formality, attributes.difficulty, attributes.sentences)


@pytest.fixture(scope="module")
def corpus():
    return write(800, seed=1, split="heldout")


def test_every_text_reads_back_as_it_was_written(corpus):
    assert all(read(t.text) == reading_of(t.attributes) for t in corpus)


def test_every_combination_of_attributes_can_be_told():
    rng = np.random.default_rng(0)
    scenario = draw_scenario(rng, "train")
    for sentiment in LEVELS:
        for formality in LEVELS:
            for difficulty in LEVELS:
                for sentences in (1, MAX_SENTENCES):
                    attributes = Attributes(sentiment, formality, difficulty, sentences)
                    assert read(tell(scenario, attributes, rng).text) == reading_of(attributes)


def test_attributes_out_of_range_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="out of range"):
        tell(draw_scenario(rng, "train"), Attributes(0, 0, 0, 7), rng)
    with pytest.raises(ValueError, match="out of range"):
        tell(draw_scenario(rng, "train"), Attributes(3, 0, 0, 1), rng)


def test_a_rewrite_keeps_facts_and_gets_what_was_asked(corpus):
    rng = np.random.default_rng(0)
    for source in corpus[:50]:
        wanted = {"sentiment": 2, "sentences": 4}
        new = rewrite(source, wanted, rng)
        assert new.scenario == source.scenario
        found = read(new.text)
        assert (found.sentiment, found.sentences) == (2, 4)
        assert (found.formality, found.difficulty) == (source.attributes.formality, source.attributes.difficulty)


def test_a_paraphrase_has_other_words_and_the_same_attributes(corpus):
    rng = np.random.default_rng(0)
    new = [rewrite(t, {}, rng) for t in corpus[:50]]
    assert [n.attributes for n in new] == [t.attributes for t in corpus[:50]]
    assert sum(n.text == t.text for n, t in zip(new, corpus, strict=False)) <= 1


def test_attributes_are_drawn_independently():
    rows = np.array([[getattr(t.attributes, n) for n in NAMES] for t in write(3000, seed=2)])
    correlation = np.corrcoef(rows.T) - np.eye(len(NAMES))
    # four standard errors at n = 3000
    assert np.abs(correlation).max() < 4 / np.sqrt(3000)


def test_each_attribute_moves_its_own_measure_and_no_other(corpus):
    attributes = np.array([[getattr(t.attributes, n) for n in NAMES] for t in corpus])
    cross = np.corrcoef(measure([t.text for t in corpus]).T, attributes.T)[: len(MEASURES), len(MEASURES) :]
    assert np.diag(cross).min() > 0.9
    assert np.abs(cross - np.diag(np.diag(cross))).max() < 0.15


def test_corpus_values_fill_their_range(corpus):
    values = measure([t.text for t in corpus])
    lower, upper = np.percentile(values, [2.5, 97.5], axis=0)
    places = (values - lower) / (upper - lower)
    for column in places.T:
        shares = np.histogram(column, bins=5, range=(0, 1))[0] / len(column)
        assert shares.min() > 0.04
        assert shares.max() < 0.45


def test_the_same_seed_writes_the_same_texts():
    assert write(50, seed=4) == write(50, seed=4)
    assert write(50, seed=4) != write(50, seed=5)


def test_texts_are_distinct():
    assert len({t.text for t in write(2000, seed=6, split="heldout")}) == 2000


def test_heldout_scenarios_are_never_written_for_training():
    by_name = {t.name: t for t in TOPICS}

    def sides(split):
        return {
            is_heldout(by_name[t.scenario.topic], t.scenario.agent, t.scenario.object)
            for t in write(2000, seed=3, split=split)
        }

    assert sides("train") == {False}
    assert sides("heldout") == {True}


@pytest.mark.parametrize("text", ["", "  \n", "...", "12 34"])
def test_a_text_without_words_reads_as_nothing(text):
    assert read(text) == Reading(None, None, None, None)


def test_foreign_words_leave_attributes_unread():
    found = read("Quantum chromodynamics binds quarks. Gluons mediate!")
    assert found == Reading(None, None, None, 2)


def test_imperfect_text_is_read_by_the_words_it_has():
    found = read("the baker thus received the horrible bread and xyzzy we later shifted it the meeting")
    assert found.sentiment == -2
    assert found.difficulty == 1 or found.difficulty == 0
    assert found.sentences == 1


def test_a_word_belongs_to_one_tier_only():
    rows = [*NOUNS, *ADJECTIVES, *VERBS, *ADVERBS, *[words for tiers in FEELINGS.values() for words in tiers]]
    words = [w for row in rows for w in row]
    assert len(words) == len(set(words))
    assert not set(words) & set(LITERALS)


def test_only_words_of_feeling_have_a_valence_in_vader():
    from vaderSentiment.vaderSentiment import BOOSTER_DICT, NEGATE, SentimentIntensityAnalyzer

    lexicon = SentimentIntensityAnalyzer().lexicon
    neutral = {w for rows in (NOUNS, ADJECTIVES, VERBS, ADVERBS) for row in rows for w in row} | set(LITERALS)
    neutral |= {w for t in TOPICS for f in (t.agents, t.objects, t.places, t.helpers, t.tools, t.details) for w in f}
    assert not [w for w in neutral if w in lexicon or w in BOOSTER_DICT or w in NEGATE]
    for level, tiers in FEELINGS.items():
        strengths = [lexicon[w] / np.sign(level) for words in tiers for w in words]
        assert min(strengths) > (1.8 if abs(level) == 2 else 0.7)
