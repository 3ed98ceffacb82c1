"""Activations: what is read, that it is right, and that nothing else is computed or kept."""

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from fitting_world import FURTHER, Counter, all_points, further, lettered, one_by_one, pairs, rows, tiny, tokens_of
from hypothesis import given
from hypothesis import strategies as st

from schemas.specs import BehaviorSpec, CaaBehavior, Decoding, JudgeSpec, ModelSpec
from steer_core.corpus.contrasts import build_contrasts
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models.info import ModelInfo
from steer_core.models.loading import load_model
from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.activations import collect, letter_logits
from steer_core.vectors.encoding import common_prefix, encode_examples, fitting
from steer_core.vectors.evidence import Point

FAMILIES = ["llama", "mistral", "qwen2", "gpt2", "gpt_neox"]
READS = ["last_token", "last_prompt", "answer", "prompt", "all"]
SAMPLE_DATA = os.environ.get("STEERWORKS_SAMPLE_DATA")


def gathered(loaded, encoded, points, **options):
    """All batches put together: point -> [n, d]."""
    found = {p: np.full((len(encoded), loaded.model.config.hidden_size), np.nan) for p in points}
    for batch in collect(loaded, encoded, points, **options):
        for p in points:
            assert np.isnan(found[p][batch.indices]).all()  # every example comes once
            found[p][batch.indices] = batch.rows[p]
    return found


def distance(found, want):
    """Largest difference, relative to the largest activation of the point."""
    assert set(found) == set(want)
    return max(np.abs(found[p] - want[p]).max() / np.abs(want[p]).max() for p in want)


@pytest.mark.parametrize("share_prefix", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_batches_give_what_full_passes_of_single_examples_give(family, share_prefix, tiny_model):
    loaded = tiny(tiny_model(family))
    examples, points = pairs(6), all_points(loaded)
    encoded = encode_examples(loaded, examples, READS)
    for read in READS:
        found = gathered(loaded, encoded[read], points, share_prefix=share_prefix, tokens_per_batch=150)
        assert distance(found, one_by_one(loaded, examples, points, read)) < 1e-5, read


@pytest.mark.parametrize("family", FURTHER)
def test_every_family_gives_the_same_with_and_without_shared_prompts_or_is_refused(family, tiny_model):
    loaded = further(family, tiny(tiny_model("llama")))
    examples, points = pairs(4), all_points(loaded)
    encoded = encode_examples(loaded, examples, ["answer"])["answer"]
    want = one_by_one(loaded, examples, points, "answer")
    for share_prefix in (False, None):
        assert distance(gathered(loaded, encoded, points, share_prefix=share_prefix), want) < 1e-5
    # windows, ALiBi, and a mask of another layout
    if family in {"gemma2", "gemma3", "falcon-alibi", "deepseek"}:
        with pytest.raises(SteerworksError, match="'tiny' cannot share the prompts of a pair: "):
            gathered(loaded, encoded, points, share_prefix=True)
    else:
        assert distance(gathered(loaded, encoded, points, share_prefix=True), want) < 1e-5


def test_readings_of_several_kinds_come_from_one_pass(tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = pairs(5)
    encoded = encode_examples(loaded, examples, READS)
    everything = [one for read in READS for one in encoded[read]]
    with Counter(loaded.model) as alone:
        gathered(loaded, encoded["all"], [Point(1)], share_prefix=False)
    with Counter(loaded.model) as together:
        found = gathered(loaded, everything, [Point(1)], share_prefix=False)[Point(1)]
    assert together.tokens == alone.tokens > 0
    for k, read in enumerate(READS):
        want = one_by_one(loaded, examples, [Point(1)], read)[Point(1)]
        assert np.allclose(found[k * 10 : (k + 1) * 10], want, atol=1e-5)


@pytest.mark.parametrize("site", ["residual", "mlp", "attention"])
def test_layers_after_the_last_one_that_is_read_and_the_head_are_never_run(site, tiny_model):
    loaded = tiny(tiny_model("llama"))
    encoded = encode_examples(loaded, pairs(4), ["answer"])["answer"]
    with Counter(loaded.model) as counter:
        gathered(loaded, encoded, [Point(0, site)])
    assert "model.layers.0.self_attn" in counter.called
    assert not {"lm_head", "model.norm", "model.layers.1", "model.layers.1.self_attn"} & counter.called
    assert ("model.layers.0.mlp" in counter.called) == (site != "attention")


def test_in_the_last_layer_tokens_that_nobody_reads_get_no_mlp(tiny_model):
    loaded = tiny(tiny_model("llama"))
    encoded = encode_examples(loaded, pairs(4), ["last_token"])["last_token"]
    seen = {}
    layers = loaded.model.model.layers
    handles = [
        layer.mlp.down_proj.register_forward_hook(lambda _m, i, _o, k=k: seen.update({k: i[0].shape[:-1].numel()}))
        for k, layer in enumerate(layers)
    ]
    gathered(loaded, encoded, [Point(1)], share_prefix=False, tokens_per_batch=10_000)
    for handle in handles:
        handle.remove()
    assert seen[0] >= sum(len(e.tokens) for e in encoded)
    assert seen[1] == len(encoded)


def test_the_model_is_left_as_it_was(tiny_model):
    loaded = tiny(tiny_model("llama"))
    gathered(loaded, encode_examples(loaded, pairs(4), ["answer"])["answer"], all_points(loaded))
    gathered(loaded, encode_examples(loaded, pairs(4), ["last_token"])["last_token"], [Point(1)])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in loaded.model.modules())
    assert not any("forward" in m.__dict__ for m in loaded.model.modules())


def test_a_shared_prompt_is_computed_once(tiny_model):
    loaded = tiny(tiny_model("llama"))
    prompt = "Tell me of the old lamp and the quiet river in the garden, and of the boat."
    encoded = encode_examples(loaded, rows([(prompt, "yes", "no")]), ["last_token"])["last_token"]
    shared = common_prefix([e.tokens for e in encoded])
    assert shared >= encoded[0].prompt_tokens
    lengths = [len(e.tokens) for e in encoded]
    # the check that packing works on this model runs both ways once; it is what the first two passes are
    with Counter(loaded.model) as counter:
        list(collect(loaded, encoded, [Point(0)], share_prefix=True))
    packed = sum(lengths) - shared
    assert counter.tokens == 2 * max(lengths) + packed + packed


def test_answers_in_several_pairs_share_one_row(tiny_model):
    loaded = tiny(tiny_model("llama"))
    prompt = "Tell me of the old lamp and the quiet river."
    answers = ["yes, gladly", "no", "perhaps in winter"]
    # the first answer is in two pairs
    examples = rows([(prompt, answers[0], answers[1]), (prompt, answers[0], answers[2])])
    encoded = encode_examples(loaded, examples, ["answer"])["answer"]
    distinct = {e.tokens.tobytes(): e.tokens for e in encoded}
    assert len(distinct) == 3
    shared = common_prefix(list(distinct.values()))
    packed = sum(map(len, distinct.values())) - 2 * shared
    batches = list(collect(loaded, encoded, [Point(1)], share_prefix=True))
    assert [sorted(b.indices) for b in batches] == [[0, 1, 2, 3]]
    with Counter(loaded.model) as counter:
        found = gathered(loaded, encoded, [Point(1)], share_prefix=True)
    assert counter.tokens == 2 * packed + 3 * max(map(len, distinct.values()))  # the first half of it is the check
    assert distance(found, one_by_one(loaded, examples, [Point(1)], "answer")) < 1e-5


def test_packing_is_chosen_where_it_pays(tiny_model):
    loaded = tiny(tiny_model("llama"))
    long, short = "Tell me of the old lamp and the quiet river in the garden, and of the boat.", "Hm?"
    for prompt, answers, pays in ((long, ("yes", "no"), True), (short, (long, long.upper()), False)):
        encoded = encode_examples(loaded, rows([(prompt, *answers)]), ["last_token"])["last_token"]
        tokens = {}
        for share in (None, False):
            with Counter(loaded.model) as counter:
                last = list(collect(loaded, encoded, [Point(0)], share_prefix=share))
            tokens[share] = counter.passes
            assert sum(len(b.indices) for b in last) == 2
        assert (tokens[None] > tokens[False]) == pays


def test_equal_examples_are_computed_once(tiny_model):
    loaded = tiny(tiny_model("llama"))
    once = encode_examples(loaded, pairs(3), ["answer"])["answer"]
    again = [replace(e, example_id=f"again {e.example_id}", concept="other") for e in once]
    with Counter(loaded.model) as counter:
        list(collect(loaded, once, [Point(1)], share_prefix=False))
    with Counter(loaded.model) as twice:
        found = gathered(loaded, [*once, *again], [Point(1)], share_prefix=False)[Point(1)]
    assert twice.tokens == counter.tokens
    assert np.array_equal(found[:6], found[6:])


def test_a_sliding_window_is_noticed_and_prompts_are_not_shared(tmp_path, tiny_model, caplog):
    import transformers

    source = tiny_model("mistral")
    config = transformers.AutoConfig.from_pretrained(source)
    config.sliding_window = 8
    folder = tmp_path / "windowed"
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config)
    for p in model.parameters():
        if p.ndim > 1:
            torch.nn.init.normal_(p, 0.0, 0.2)  # random attention is flat, and a window would hardly show
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    loaded = tiny(folder, "windowed")
    # a long prompt with short answers, which would pay
    examples = rows([("Tell me of the lamp, the boat, the old green river and the song.", "yes", "no")] * 1)
    encoded = encode_examples(loaded, examples, ["last_token"])["last_token"]
    with pytest.raises(SteerworksError, match=r"'windowed' cannot share the prompts of a pair: activations of layer"):
        list(collect(loaded, encoded, [Point(1)], share_prefix=True))
    with caplog.at_level(logging.WARNING):
        found = gathered(loaded, encoded, [Point(1)])
    assert "model 'windowed': prompts of a pair are computed for each side" in caplog.text
    assert distance(found, one_by_one(loaded, examples, [Point(1)], "last_token")) < 1e-5


def test_pairs_can_be_kept_in_one_batch(tiny_model):
    loaded = tiny(tiny_model("llama"))
    encoded = encode_examples(loaded, pairs(12), ["answer"])["answer"]
    for share in (False, True):
        batches = list(collect(loaded, encoded, [Point(0)], keep_pairs=True, tokens_per_batch=120, share_prefix=share))
        assert len(batches) > 2
        for batch in batches:
            found = [encoded[i].pair_id for i in batch.indices]
            assert all(found.count(p) == 2 for p in found)


def test_batches_stay_within_the_budget_of_tokens(tiny_model):
    loaded = tiny(tiny_model("llama"))
    encoded = encode_examples(loaded, pairs(12), ["answer"])["answer"]
    sizes = []
    handle = loaded.model.get_input_embeddings().register_forward_hook(lambda _m, i, _o: sizes.append(i[0].numel()))
    list(collect(loaded, encoded, [Point(0)], tokens_per_batch=150, share_prefix=False))
    handle.remove()
    assert len(sizes) > 3
    assert max(sizes) <= 150


def test_an_overflow_is_an_error_and_no_vector(tiny_model):
    loaded = tiny(tiny_model("llama"))
    with torch.no_grad():
        loaded.model.model.layers[0].mlp.down_proj.weight.fill_(float("inf"))
    with pytest.raises(SteerworksError, match=r"layer 1 \(residual\) are not finite at torch.float32"):
        list(collect(loaded, encode_examples(loaded, pairs(2), ["answer"])["answer"], [Point(1)]))


def test_a_layer_that_the_model_lacks_is_refused(tiny_model):
    loaded = tiny(tiny_model("llama"))
    encoded = encode_examples(loaded, pairs(2), ["answer"])["answer"]
    with pytest.raises(SteerworksError, match="layer 7 is out of range"):
        list(collect(loaded, encoded, [Point(7)]))
    with pytest.raises(SteerworksError, match="no layer is asked for"):
        list(collect(loaded, encoded, []))


@pytest.mark.parametrize("chat", [True, False])
def test_prompts_are_encoded_as_generation_encodes_them(chat, tiny_model):
    loaded = tiny(tiny_model("llama", chat))
    examples = pairs(2)
    backend = TransformersBackend(loaded)
    for row, one in zip(
        examples.iter_rows(named=True), encode_examples(loaded, examples, ["answer"])["answer"], strict=True
    ):
        turns = tuple(Message(m["role"], m["content"]) for m in json.loads(row["messages"]))
        prompt = backend.encode(Plan(loaded.spec.identity, Decoding(), turns))
        assert one.tokens[: one.prompt_tokens].tolist() == prompt
        assert loaded.tokenizer.decode(one.tokens[one.start : one.stop]) == row["answer"]


def test_an_example_without_an_answer_is_read_at_its_prompt(tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = rows([("Tell me of the lamp.", "", "")])
    found = encode_examples(loaded, examples, ["last_token", "last_prompt", "all"])
    n = len(tokens_of(loaded, examples.row(0, named=True))[0])
    assert [(found[r][0].start, found[r][0].stop) for r in found] == [(n - 1, n), (n - 1, n), (0, n)]
    with pytest.raises(SteerworksError, match=r"row 0 of made\) has no answer.*last_prompt"):
        encode_examples(loaded, examples, ["answer"])


@pytest.mark.parametrize(
    ("answer", "letter", "char"),
    [("(A)", "A", 1), ("(B", "B", 1), ("B", "B", 0), (" (A) tea", "A", 2), ("A choice: (B)", "B", 11)],
)
def test_the_letter_is_found_by_its_place_in_the_answer(answer, letter, char, tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = rows([("Tea?", answer, "")]).head(1).with_columns(letter=pl.lit(letter))
    found = encode_examples(loaded, examples, ["letter", "before_letter"])
    one, before = found["letter"][0], found["before_letter"][0]
    text = loaded.tokenizer.decode(one.tokens[one.prompt_tokens : one.stop])
    assert text[char] == letter
    assert len(loaded.tokenizer.decode(one.tokens[one.prompt_tokens : one.start])) <= char
    assert one.letter_token == one.tokens[one.start] == before.letter_token
    # what predicts the letter has not read it
    assert before.tokens.tolist() == one.tokens[: one.start].tolist()
    assert (before.start, before.stop) == (one.start - 1, one.start)


def test_a_missing_letter_is_named_by_row(tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = lettered(2).with_columns(answer=pl.Series(["(A)", "(B)", "tea", "milk"]))
    with pytest.raises(SteerworksError, match=r"row 1 of made\): its letter '[AB]' is not in its answer 'tea'"):
        encode_examples(loaded, examples.with_columns(letter=pl.Series(["A", "B", "A", "B"])), ["letter"])
    with pytest.raises(SteerworksError, match=r"row 0 of made\) has no answer letter"):
        encode_examples(loaded, pairs(1), ["letter"])
    with pytest.raises(ConfigError, match="unknown reading 'middle'; there are: last_token"):
        encode_examples(loaded, pairs(1), ["middle"])


def test_an_example_longer_than_the_context_is_refused_and_never_cut(tiny_model):
    loaded = tiny(tiny_model("llama", True, 64))
    examples = rows([("Hm.", "yes", "no"), ("Tell me.", "yes " * 60, "no")], concept="long")
    with pytest.raises(SteerworksError) as refused:
        encode_examples(loaded, examples, ["answer"])
    prompt, answer = tokens_of(loaded, examples.row(2, named=True))
    assert f"('long', row 1 of made) has {len(prompt)} tokens of prompt and {len(answer)} of answer" in str(
        refused.value
    )
    assert "the context of model 'tiny' has 64" in str(refused.value)


def test_pairs_longer_than_the_context_are_left_out_whole_and_named(tiny_model):
    loaded, said = tiny(tiny_model("llama", True, 64)), []
    examples = rows([("Hm.", "yes", "no"), ("Tell me.", "yes " * 60, "no"), ("Go on.", "no", "yes")], concept="long")
    kept = fitting(loaded, examples, said.append)
    assert kept.equals(examples.filter(pl.col("row") != 1))
    (line,) = said
    assert line.startswith("1 pairs of 'long' do not fit the context of 64 tokens (the longest has ")
    assert line.endswith("are left out: row 1 of made")
    assert fitting(loaded, kept, said.append).equals(kept)
    assert len(said) == 1


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=4))
def test_the_common_prefix_is_the_longest(sequences):
    n = common_prefix([np.array(s, dtype=np.int32) for s in sequences])
    assert all(s[:n] == sequences[0][:n] for s in sequences)
    assert any(len(s) == n or s[: n + 1] != sequences[0][: n + 1] for s in sequences)


def test_logits_of_letters_are_those_that_scoring_gives(tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = lettered(5).filter(pl.col("label") == 1)
    encoded = encode_examples(loaded, examples, ["before_letter"])["before_letter"]
    wanted = np.array([[e.letter_token, 7] for e in encoded])
    rows_of = one_by_one_before_letter(loaded, encoded)
    seen = 0
    for batch in letter_logits(loaded, encoded, [Point(0), Point(1)], wanted, tokens_per_batch=200):
        for i, logits in zip(batch.indices, batch.logits, strict=True):
            with torch.no_grad():
                full = loaded.model(torch.tensor(encoded[i].tokens[None].astype(np.int64))).logits[0, -1]
            assert np.allclose(logits, full[wanted[i]].numpy(), atol=1e-5)
            seen += 1
        assert np.allclose(batch.rows[Point(1)], rows_of[batch.indices], atol=1e-5)
    assert seen == 5


def one_by_one_before_letter(loaded, encoded):
    found = []
    for one in encoded:
        seen = {}
        handle = loaded.model.model.layers[1].register_forward_hook(lambda _m, _i, out, seen=seen: seen.update(out=out))
        with torch.no_grad():
            loaded.model(torch.tensor(one.tokens[None].astype(np.int64)))
        handle.remove()
        hidden = seen["out"][0] if isinstance(seen["out"], tuple) else seen["out"]
        found.append(hidden.reshape(-1, hidden.shape[-1])[-1].numpy())
    return np.stack(found)


@pytest.mark.skipif(SAMPLE_DATA is None, reason="STEERWORKS_SAMPLE_DATA is not set: no published CAA files")
def test_every_letter_of_the_published_questions_is_found():
    files = sorted(Path(SAMPLE_DATA, "caa").rglob("generate_balanced_dataset.json"))
    assert files
    loaded = load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))
    loaded = replace(loaded, info=ModelInfo(None, loaded.info.chat))
    for file in files:
        behavior = BehaviorSpec(
            name=file.parent.name.lower(),
            source=CaaBehavior(dataset="ab", train=str(file)),
            judge=JudgeSpec(kind="llm", rubric="yes_no"),
        )
        examples = build_contrasts(behavior).examples
        assert examples.height > 500
        for one, row in zip(
            encode_examples(loaded, examples, ["letter"])["letter"], examples.iter_rows(named=True), strict=True
        ):
            assert row["letter"] in loaded.tokenizer.decode([one.letter_token])
