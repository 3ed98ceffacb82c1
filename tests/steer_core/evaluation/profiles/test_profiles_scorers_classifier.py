"""A tiny classifier with random weights: labels, activations, long texts, and what is refused."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from steer_core.evaluation.profiles.scorer import load_scorer, score_texts
from steer_core.goals.errors import ScorerUnavailableError
from steer_core.tables.errors import ConfigError

JIGSAW = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]
WORDS = ["[PAD]", "[UNK]", "you", "are", "kind", "rude", "and", "loud"]


@pytest.fixture
def saved(tmp_path):
    def save(labels, problem_type="multi_label_classification", name="tiny"):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(WORDS),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=32,
            id2label=dict(enumerate(labels)),
            label2id={n: i for i, n in enumerate(labels)},
            problem_type=problem_type,
            initializer_range=1.0,
        )
        BertForSequenceClassification(config).save_pretrained(tmp_path / name)
        words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", model_max_length=64
        )
        tokenizer.save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return save


def scorer(path, **options):
    return load_scorer("classifier", model=path, device="cpu", **options)


def test_labels_of_toxic_bert_are_known_and_each_is_a_sigmoid(saved):
    path = saved(JIGSAW)
    one = scorer(path)
    assert one.attributes == ("toxicity", "severe_toxicity", "identity_attack", "insult", "profanity", "threat")
    model = BertForSequenceClassification.from_pretrained(path).eval()
    with torch.inference_mode():
        expected = model(input_ids=torch.tensor([[2, 3, 5]])).logits.sigmoid()[0]
    marks = one.score(["you are rude"])[0]
    assert marks["identity_attack"] == pytest.approx(expected[5].item(), abs=1e-5)
    assert marks["profanity"] == pytest.approx(expected[2].item(), abs=1e-5)
    assert (one.name, len(one.version), "nobody has tested" in one.tested) == ("tiny", 12, True)


def test_batches_change_no_score_and_blank_texts_are_missing(saved):
    path = saved(JIGSAW)
    texts = ["you are rude", "", "kind", "you and you and you are loud", " "]
    wide, narrow = scorer(path, batch_size=8).score(texts), scorer(path, batch_size=1).score(texts)
    for a, b in zip(wide, narrow, strict=True):
        assert a == (b if isinstance(a["toxicity"], str) else pytest.approx(b, abs=1e-5))
    assert wide[1]["toxicity"] == wide[4]["toxicity"] == "empty"


def test_a_long_text_is_scored_on_its_first_tokens_and_counted(saved, caplog):
    path = saved(JIGSAW)
    one = scorer(path)
    long = "you are kind " * 1700
    with caplog.at_level("WARNING"):
        marks = one.score([long, "rude"])
    assert "1 of 2 texts scored on their first 32 tokens" in caplog.text
    assert one.truncated([long, "rude"]) == [True, False]
    assert one.truncated([]) == []
    first = " ".join(long.split()[:32])
    assert marks[0]["toxicity"] == pytest.approx(one.score([first])[0]["toxicity"], abs=1e-5)
    assert scorer(path, max_tokens=2).truncated(["you are kind"]) == [True]


def test_other_labels_are_mapped_and_a_softmax_sums_to_one(saved):
    path = saved(["LABEL_0", "LABEL_1"], "single_label_classification")
    with pytest.raises(ConfigError, match="LABEL_0, LABEL_1, and none is known"):
        score_texts(scorer(path), ["you"])
    one = scorer(path, labels={"LABEL_1": "toxicity", "LABEL_0": "politeness"})
    assert one.attributes == ("toxicity", "politeness")
    assert sum(one.score(["you are rude"])[0].values()) == pytest.approx(1.0)
    assert one.version != scorer(path, labels={"LABEL_1": "toxicity"}).version
    with pytest.raises(ConfigError, match="no label 'LABEL_2'"):
        scorer(path, labels={"LABEL_2": "threat"}).score(["you"])
    with pytest.raises(ConfigError, match="two labels are 'threat'"):
        scorer(path, labels={"LABEL_0": "threat", "LABEL_1": "threat"}).score(["you"])


def test_an_unknown_problem_type_is_asked_for(saved):
    path = saved(["neutral", "toxic"], None)
    with pytest.raises(ConfigError, match="give `activation`"):
        scorer(path).score(["you"])
    assert 0 < scorer(path, activation="softmax").score(["you"])[0]["toxicity"] < 1


def test_without_a_padding_token_texts_go_one_by_one(saved):
    path = saved(JIGSAW)
    texts = ["you are rude", "kind"]
    expected = scorer(path).score(texts)
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_file(f"{path}/tokenizer.json"), unk_token="[UNK]"
    ).save_pretrained(path)
    with pytest.raises(ConfigError, match="give `batch_size` 1"):
        score_texts(scorer(path), texts)
    for a, b in zip(expected, scorer(path, batch_size=1).score(texts), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_what_cannot_be_loaded_is_refused(saved, tmp_path):
    with pytest.raises(ConfigError, match="needs a `revision`"):
        scorer("someone/toxic-bert")
    with pytest.raises(ScorerUnavailableError, match="scorer 'classifier': folder .* holds no .safetensors"):
        scorer(str(tmp_path))
    with pytest.raises(ConfigError, match="'batch_size' must be at least 1"):
        scorer("./x", batch_size=0)
    with pytest.raises(ConfigError, match="option 'activation' cannot be 'tanh'"):
        scorer("./x", activation="tanh")
