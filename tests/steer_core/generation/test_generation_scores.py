"""What is scored: tokens of continuations and where they begin, and whether each was the likeliest."""

from dataclasses import replace

import pytest
import torch
from test_generation_stream import act, vector_of

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Capabilities
from steer_core.generation.engines import describe_engine
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.forced import score_greedy_all
from steer_core.generation.prompt_tokens import begun, spelled
from steer_core.models import load_model
from steer_core.models.loading import load_tokenizer
from steer_core.steering import Message, Plan
from steer_core.tables.errors import SteerworksError
from tests.own_hooks import adding, enliven, greedy, log_probs

DECODING = Decoding(max_new_tokens=1)


@pytest.fixture(scope="module")
def model(tiny_model):
    found = load_model(ModelSpec(name="tiny", source=str(tiny_model("llama", True))))
    enliven(found.model)
    return found


def plan(backend, text, **more):
    return Plan(backend.model_identity, DECODING, text=text, **more)


def test_a_token_is_flagged_where_no_other_one_is_likelier(model):
    v = vector_of(model, layer=0)
    backend = TransformersBackend(model, [v])
    plans, texts = [], []
    for way in ((), (act(v, 1.5),)):
        asked = plan(backend, "so that it is longer", interventions=way)
        with adding(model.model, 0, (1.5 if way else 0.0) * torch.tensor(v.direction)):
            best = model.tokenizer.decode(greedy(model.model, backend.encode(asked), 3, set()))
        plans += [asked, asked, replace(asked, interventions=())]
        texts += [best, " text", best]
    found = backend.score_greedy(plans, texts)
    assert [list(f.log_probs) for f in found] == backend.score(plans, texts)
    for asked, text, scored in zip(plans, texts, found, strict=True):
        tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
        with adding(model.model, 0, (1.5 if asked.interventions else 0.0) * torch.tensor(v.direction)):
            logits = model.model(input_ids=torch.tensor([[*backend.encode(asked), *tokens]])).logits[0]
        likeliest = logits[-len(tokens) - 1 : -1].argmax(-1).tolist()
        assert scored.greedy == tuple(a == b for a, b in zip(tokens, likeliest, strict=True))
    assert [f.greedy[0] for f in found[:3]] == [True, False, True]
    assert score_greedy_all(plans, texts, backend, 2) == [
        replace(f, log_probs=pytest.approx(f.log_probs, abs=1e-5)) for f in found
    ]


def test_a_row_beyond_the_context_has_no_flags_either(model):
    backend = TransformersBackend(model)
    long, short = backend.score_greedy([plan(backend, "a b " * 200), plan(backend, "a")], [" text"] * 2)
    assert (long.log_probs, long.greedy) == ((), ())
    assert len(short.log_probs) == len(short.greedy) > 0


def test_an_empty_text_is_scored_after_the_token_that_begins_one(model):
    backend = TransformersBackend(model)
    assert model.tokenizer.bos_token_id is None
    assert model.tokenizer.eos_token_id == 1
    tokens = model.tokenizer("so that it", add_special_tokens=False)["input_ids"]
    want = log_probs(model.model, [1], tokens)
    # beside a longer row, whose padding it must not read
    empty, other = backend.score([plan(backend, ""), plan(backend, "Please rewrite")], ["so that it", "x"])
    assert empty == pytest.approx(want, abs=1e-5)
    assert len(empty) == len(tokens)
    assert other == pytest.approx(backend.score([plan(backend, "Please rewrite")], ["x"])[0], abs=1e-5)
    none = Plan(backend.model_identity, DECODING, tokens=())
    assert backend.score([none], ["so that it"])[0] == pytest.approx(want, abs=1e-5)


def test_the_beginning_is_bos_before_eos_and_refused_without_either(model):
    class Marks:
        bos_token_id, eos_token_id = 7, 8

    assert begun([], Marks) == [7]
    assert begun([3], Marks) == [3]
    Marks.bos_token_id = None
    assert begun([], Marks) == [8]
    Marks.eos_token_id = None
    assert begun([3], Marks) == [3]
    with pytest.raises(SteerworksError, match="an empty prompt cannot be scored after"):
        begun([], Marks())


def test_every_continuation_without_tokens_is_named(model):
    backend = TransformersBackend(model)
    with pytest.raises(ValueError, match="continuations 1, 3 have no tokens"):
        backend.score([plan(backend, "a")] * 4, ["x", "", "y", ""])
    with pytest.raises(ValueError, match="continuation 0 has no tokens"):
        spelled([""], model.tokenizer)


def test_the_tokens_of_an_option_by_itself_are_those_behind_a_prompt(model):
    """Of byte-level BPE; a prompt that ends in a blank takes the blank that a word needs."""
    embedded = load_tokenizer(ModelSpec(name="embedded", source="embedded", device="cpu"))
    for tokenizer in (embedded, model.tokenizer):
        ids = lambda text, t=tokenizer: t(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        chat = tokenizer.apply_chat_template(
            [{"role": "user", "content": "The cat sat."}], tokenize=False, add_generation_prompt=True
        )
        for option in ("A", " A", "(A)", " a longer text", "\nA"):
            assert ids(chat + option) == ids(chat) + ids(option)
        for option in (" A", " a longer text"):
            assert ids("Answer:" + option) == ids("Answer:") + ids(option)
    assert ids("Answer: formal") == ids("Answer:") + ids(" formal")
    bare = lambda text: embedded(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    assert bare("Answer: A") != bare("Answer: ") + bare("A")


def test_sentence_pieces_by_themselves_take_a_blank_that_they_do_not_have_behind_a_prompt():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    special = ["<unk>", "[INST]", "[/INST]"]
    trainer = trainers.BpeTrainer(vocab_size=100, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["A cat sat on the mat. A or B"] * 4, trainer)
    pieces = lambda text: tokenizer.encode(text).tokens  # noqa: E731
    assert pieces("[INST] cat[/INST]A")[-1] == "A"
    assert pieces("A") == ["\u2581A"]
    # an option that begins with a blank is the same in both places
    assert pieces("[INST] cat[/INST] A") == pieces("[INST] cat[/INST]") + pieces(" A")


def test_prompts_are_encoded_once_and_only_so_many_are_remembered(model, monkeypatch):
    from steer_core.generation.engines import transformers as engine

    encoded = []
    plain = engine.encode_plan
    monkeypatch.setattr(engine, "encode_plan", lambda p, *rest: encoded.append(p.text) or plain(p, *rest))
    monkeypatch.setattr(engine, "REMEMBERED", 2)
    backend = TransformersBackend(model)
    first = backend.encode(plan(backend, "a"))
    first.append(0)
    assert backend.encode(plan(backend, "a")) == first[:-1]
    backend.score([plan(backend, "a"), plan(backend, "b")], ["x", "y"])
    assert encoded == ["a", "b"]
    backend.encode(plan(backend, "c"))
    backend.encode(plan(backend, "a"))
    assert encoded == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    "spec",
    [
        {"source": "embedded", "engine": "vllm"},
        {"source": "served:x", "engine": "openai", "endpoint": {"base_url": "http://127.0.0.1:8000/v1"}},
    ],
)
def test_other_engines_refuse_flags_and_embeddings_by_name(spec):
    able = describe_engine(ModelSpec.model_validate({"name": "x", **spec}))
    assert (able.greedy_flags, able.embeds) == (False, False)
    asked = Plan("m", DECODING, (Message("user", "a"),))
    with pytest.raises(
        SteerworksError, match=rf"{spec['engine']}.* backend cannot read hidden states of texts; use tran"
    ):
        able.refuse(asked, "embed")
    scoring = replace(able, scores=True)
    scoring.refuse(asked, "score")
    with pytest.raises(SteerworksError, match=rf"{spec['engine']}.* backend cannot say which tokens are the likeliest"):
        scoring.refuse(asked, "score", greedy_flags=True)
    Capabilities("transformers", None, scores=True, greedy_flags=True).refuse(asked, "score", greedy_flags=True)
