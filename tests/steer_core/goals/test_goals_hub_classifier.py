import pickle
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from steer_core.goals.analysis import Analyzer
from steer_core.goals.errors import ScorerUnavailableError
from steer_core.goals.scorers.hub_classifier import build
from steer_core.tables.errors import ConfigError

WORDS = ["the", "cat", "dog", "sat", "ran", "on", "mat", "happy", "sad", ".", "!"]


def save_model(folder: Path, seed: int = 0, problem: str = "single_label_classification") -> str:
    vocabulary = {w: i for i, w in enumerate(["[PAD]", "[UNK]", *WORDS])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        initializer_range=2.0,
        id2label={0: "joy", 1: "sadness", 2: "neutral"},
        label2id={"joy": 0, "sadness": 1, "neutral": 2},
        problem_type=problem,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def by_hand(folder: str, sentence: str, label: int, multi: bool = False) -> float:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(**tokenizer([sentence], return_tensors="pt")).logits[0]
    return float((logits.sigmoid() if multi else logits.softmax(-1))[label])


def test_the_value_is_the_mean_probability_over_sentences(tmp_path: Path) -> None:
    folder = save_model(tmp_path)
    scorer = build(model=folder, label="sadness", device="cpu")
    value, undefined = scorer.measure(Analyzer().analyse_all(["The cat sat. The dog ran on!", " "]))
    assert undefined is None
    expected = (by_hand(folder, "The cat sat.", 1) + by_hand(folder, "The dog ran on!", 1)) / 2
    assert value == pytest.approx(expected, abs=1e-6)


def test_labels_of_a_multi_label_model_are_independent(tmp_path: Path) -> None:
    folder = save_model(tmp_path, problem="multi_label_classification")
    (value,) = build(model=folder, label="joy", device="cpu").measure(Analyzer().analyse_all(["the cat"]))
    assert value == pytest.approx(by_hand(folder, "the cat", 0, multi=True), abs=1e-6)


def test_values_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    folder = save_model(tmp_path)
    analyses = Analyzer().analyse_all(["the cat sat on the mat . " * k for k in range(1, 6)] + ["sad !", "happy dog"])
    one = build(model=folder, label="joy", batch_size=1, device="cpu").measure(analyses)
    many = build(model=folder, label="joy", batch_size=5, device="cpu").measure(analyses)
    assert many == pytest.approx(one, abs=1e-5)


def test_a_sentence_beyond_the_window_is_read_to_its_end(tmp_path: Path) -> None:
    folder = save_model(tmp_path)
    words = ["the", "cat"] * 8 + ["sad", "dog"] * 8
    (value,) = build(model=folder, label="joy", device="cpu").measure(Analyzer().analyse_all([" ".join(words)]))
    expected = (by_hand(folder, " ".join(words[:16]), 0) + by_hand(folder, " ".join(words[16:]), 0)) / 2
    assert value == pytest.approx(expected, abs=1e-6)


def test_the_id_follows_the_weights_and_the_label_only(tmp_path: Path) -> None:
    one, two = save_model(tmp_path / "one"), save_model(tmp_path / "two", seed=1)
    same = save_model(tmp_path / "same")
    ids = [build(model=m, label="joy").scorer_id for m in (one, two, same)]
    assert ids[0] == ids[2] != ids[1]
    assert build(model=one, label="joy", batch_size=7, device="cpu").scorer_id == ids[0]
    assert build(model=one, label="sadness").scorer_id != ids[0]


def test_a_loaded_scorer_travels_without_its_model(tmp_path: Path) -> None:
    scorer = build(model=save_model(tmp_path), label="joy", device="cpu")
    analyses = Analyzer().analyse_all(["the cat"])
    before = scorer.measure(analyses)
    packed = pickle.dumps(scorer)
    assert len(packed) < 1000
    assert pickle.loads(packed).measure(analyses) == before


def test_a_wrong_label_or_folder_is_refused_by_name(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "m")
    with pytest.raises(ConfigError, match="has no label 'boredom'; it has: joy, sadness, neutral"):
        build(model=folder, label="boredom", device="cpu").measure(Analyzer().analyse_all(["the cat"]))
    with pytest.raises(ScorerUnavailableError, match=r"holds no \.safetensors weights"):
        build(model=str(tmp_path / "nowhere"), label="joy")
