import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steer_core.evaluation.meaning import (
    chrf,
    chrf_pairs,
    content_f1,
    content_f1_pairs,
    embedding_cosine,
)


def naive_chrf(source, rewrite):
    """ChrF with dictionaries, straight from the definition."""
    one, other = "".join(source.split()), "".join(rewrite.split())
    precisions, recalls = [], []
    for n in range(1, 7):
        a = Counter(one[i : i + n] for i in range(len(one) - n + 1))
        b = Counter(other[i : i + n] for i in range(len(other) - n + 1))
        if not a or not b:
            break
        shared = (a & b).total()
        precisions.append(shared / b.total())
        recalls.append(shared / a.total())
    if not precisions:
        return 0.0
    p, r = np.mean(precisions), np.mean(recalls)
    return 5 * p * r / (4 * p + r) if p + r else 0.0


texts = st.text(alphabet=st.characters(codec="utf-16"), max_size=40) | st.text("ab c", max_size=40)


@given(texts, texts)
@settings(max_examples=300, deadline=None)
def test_chrf_equals_the_definition(source, rewrite):
    assert chrf(source, rewrite) == pytest.approx(naive_chrf(source, rewrite), abs=1e-12)


def test_chrf_by_hand():
    # 1-grams: source abc, rewrite abd share 2 of 3; 2-grams share ab of 2; 3-grams none
    p = r = (2 / 3 + 1 / 2 + 0) / 3
    assert chrf("abc", "ab d") == pytest.approx(5 * p * r / (4 * p + r))


def test_chrf_counts_large_alphabets_too():
    many = "".join(chr(0x4E00 + i) for i in range(3000))
    assert chrf(many, many[:1500]) == pytest.approx(naive_chrf(many, many[:1500]), abs=1e-12)


def test_chrf_weighs_what_was_lost_of_the_source_above_what_was_added():
    source = "the quick brown fox jumps over the lazy dog"
    assert chrf(source, source + " and then it went home again to sleep") > chrf(source, source[:20])


@pytest.mark.parametrize("measure", [chrf, content_f1])
@pytest.mark.parametrize(
    ("source", "rewrite", "expected"),
    [
        ("", "text", 0.0),
        ("text", "", 0.0),
        ("", "", 0.0),
        (" \n", " \n", 0.0),
        ("same words", "same words", 1.0),
        ("the of", "the of", 1.0),
        ("aaaa", "zzzz", 0.0),
        ("a\ud800b c", "a\ud800b c", 1.0),
    ],
)
def test_blank_is_zero_and_identical_is_one(measure, source, rewrite, expected):
    assert measure(source, rewrite) == expected


def test_content_words_are_compared_by_their_stems():
    assert content_f1("The dogs were running to the house.", "A dog runs; houses!") == 1.0
    # cat, sat, mat against cat, mat, slept: 2 of 3 each
    assert content_f1("The cat sat on the mat", "On the mat the cat slept") == pytest.approx(2 / 3)
    assert content_f1("It's not the teacher's book", "The teacher’s book") == 1.0


def test_content_words_are_counted_as_often_as_they_occur():
    # bags {tree: 3} and {tree: 1}: 2 * 1 / 4
    assert content_f1("tree tree tree", "tree") == pytest.approx(0.5)


def test_different_texts_of_function_words_share_no_content():
    assert content_f1("It is what it was", "They were where you are") == 0.0


@given(texts, texts)
@settings(max_examples=150, deadline=None)
def test_content_f1_is_symmetric_and_bounded(one, other):
    assert content_f1(one, other) == content_f1(other, one)
    assert 0.0 <= content_f1(one, other) <= 1.0


def test_pairs_equal_single_calls():
    sources = ["the red house", "the red house", "a green tree", ""]
    rewrites = ["red houses", "a blue boat", "", "x"]
    np.testing.assert_array_equal(
        content_f1_pairs(sources, rewrites), [content_f1(s, r) for s, r in zip(sources, rewrites, strict=True)]
    )
    np.testing.assert_array_equal(
        chrf_pairs(sources, rewrites), [chrf(s, r) for s, r in zip(sources, rewrites, strict=True)]
    )
    for measure in (content_f1_pairs, chrf_pairs):
        with pytest.raises(ValueError, match="one rewrite a source"):
            measure(["a"], [])


@pytest.mark.parametrize(
    "hostile",
    [
        "y" * 100_000,
        "yx" * 50_000,
        "a b " * 25_000,
        "".join(chr(33 + i % 90_000) for i in range(100_000)),
        "\n" * 100_000,
    ],
    ids=["one word", "period two", "short words", "every character", "line breaks"],
)
def test_hostile_output_is_scored_in_bounded_time(hostile):
    hostile = hostile.encode("utf-8", "replace").decode("utf-8")
    start = time.perf_counter()
    for measure in (chrf, content_f1):
        assert 0.0 <= measure("A short text about yellow boxes. " * 40, hostile) <= 1.0
    assert time.perf_counter() - start < 10.0


@pytest.fixture(scope="module")
def encoder():
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["red", "green", "house", "tree", "runs", "sleeps"]
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    return BertModel(config), tokenizer


def test_embedding_cosine_does_not_depend_on_the_batch(encoder):
    sources = ["red house", "green tree runs sleeps", "red", "", "tree"]
    rewrites = ["red house", "red house", "green tree sleeps", "red", "tree runs runs runs"]
    together = embedding_cosine(sources, rewrites, *encoder, batch_size=8)
    alone = [embedding_cosine([s], [r], *encoder, batch_size=1)[0] for s, r in zip(sources, rewrites, strict=True)]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert together[0] == 1.0
    assert together[3] == 0.0
    assert (np.abs(together) <= 1.0).all()


def test_embedding_cosine_is_that_of_the_mean_of_hidden_states(encoder):
    import torch

    model, tokenizer = encoder
    model.eval()
    with torch.no_grad():
        hidden = [model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0] for t in ("red house", "tree sleeps")]
    means = [states.mean(dim=0) for states in hidden]
    expected = torch.nn.functional.cosine_similarity(*means, dim=0).item()
    assert embedding_cosine(["red house"], ["tree sleeps"], model, tokenizer)[0] == pytest.approx(expected, abs=1e-6)


def test_embedding_cosine_leaves_the_model_in_the_mode_it_found_it(encoder):
    model, tokenizer = encoder
    model.train()
    embedding_cosine(["red"], ["tree"], model, tokenizer)
    assert model.training


def test_a_tokenizer_without_padding_is_refused(encoder):
    model, tokenizer = encoder
    pad, tokenizer.pad_token = tokenizer.pad_token, None
    try:
        with pytest.raises(ValueError, match="padding token"):
            embedding_cosine(["red"], ["tree"], model, tokenizer)
    finally:
        tokenizer.pad_token = pad
