"""An engine as the harness calls a model: the same tokens and numbers as HFLM, in every arm, and refusals by name."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from harness_world import Without, asked, engine, noted, plain, vector
from lm_eval.api.model import CachingLM
from tokenizers.processors import TemplateProcessing

from schemas.specs import Decoding
from steer_core.evaluation.arms.items import Arm
from steer_core.evaluation.profiles.harness import OWN_TASKS, EngineLM
from steer_core.evaluation.profiles.harness.needs import HarnessRefusalError
from steer_core.evaluation.profiles.harness.requests import divided, fitted, writing_of
from steer_core.evaluation.profiles.harness.speech import Speech
from steer_core.generation.adapters import Adapter
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.forced import score_all
from steer_core.models.embedded import weights_folder
from steer_core.steering import Plan
from steer_core.steering.intervention import Intervention
from steer_core.tables.errors import SteerworksError

ITEMS = [json.loads(line) for line in (OWN_TASKS / "everyday_facts.jsonl").read_text().splitlines()]
OPTIONS = [(f"Question: {i['question']}\nAnswer:", f" {c}") for i in ITEMS[:25] for c in i["choices"]]
LONG = "The river runs past the mill. " * 12
GREEDY = {"until": ["."], "max_gen_toks": 12, "do_sample": False}


def steered(positions="all") -> Arm:
    return Arm("steered", "harness", interventions=(Intervention("add", vector().id, 1, 2.0, positions=positions),))


def numbers(found):
    return np.array([n for n, _ in found])


def both(requests, kind="loglikelihood", max_length=None):
    """What HFLM and what our engine answer, unsteered."""
    theirs = plain() if max_length is None else plain(max_length=max_length)
    ours = EngineLM(engine(), max_length=max_length)
    return getattr(theirs, kind)(requests, disable_tqdm=True), getattr(ours, kind)(requests), ours.counts


# the same as the harness's own model


def test_options_have_the_tokens_and_log_likelihoods_of_hflm():
    theirs, their_tokens = noted(plain())
    ours, our_tokens = noted(EngineLM(engine()))
    requests = asked("loglikelihood", *OPTIONS)
    expected = theirs.loglikelihood(requests, disable_tqdm=True)
    found = ours.loglikelihood(requests)
    assert len(our_tokens) == 100
    assert our_tokens == their_tokens
    # sums reach -95 nats, where HFLM's own batch sizes differ by 1.5e-5: a float32 has steps of 7.6e-6 there
    apart, lengths = np.abs(numbers(found) - numbers(expected)), [len(answer) for _, answer in our_tokens]
    assert (apart / lengths).max() <= 1e-5
    assert apart.max() <= 2e-5
    assert np.median(apart) <= 5e-6
    assert [f for _, f in found] == [f for _, f in expected]
    assert (ours.counts.scored, ours.counts.truncated, ours.counts.unaligned) == (100, 0, 0)


def test_greedy_flags_are_those_of_hflm():
    contexts = [c for c, _ in OPTIONS[::4]][:8]
    written = EngineLM(engine()).generate_until(asked("generate_until", *((c, {"max_gen_toks": 3}) for c in contexts)))
    requests = asked("loglikelihood", *zip(contexts, written, strict=True), *OPTIONS[:4])
    expected, found, _ = both(requests)
    assert [f for _, f in found] == [f for _, f in expected]
    assert {f for _, f in found} == {True, False}


@pytest.mark.parametrize(
    "pair",
    [("", " honey"), ("", "honey"), ("Bees make ", "honey"), ("Bees make  ", " honey"), ("<|bos|>Bees", " make")],
)
def test_odd_boundaries_are_divided_as_hflm_does(pair):
    theirs, their_tokens = noted(plain())
    ours, our_tokens = noted(EngineLM(engine()))
    requests = asked("loglikelihood", pair)
    assert numbers(ours.loglikelihood(requests)) == pytest.approx(numbers(theirs.loglikelihood(requests)), abs=1e-5)
    assert our_tokens == their_tokens


def test_tokens_across_the_boundary_are_counted():
    ours = EngineLM(engine())
    ours.loglikelihood(asked("loglikelihood", ("Which of thes", "e is a fruit?"), ("Which of these", " is a fruit?")))
    assert ours.counts.unaligned == 1


def test_long_contexts_lose_their_first_tokens_as_in_hflm_and_are_counted():
    requests = asked("loglikelihood", (LONG, " The end."), ("A short one.", " The end."))
    expected, found, counts = both(requests, max_length=40)
    assert numbers(found) == pytest.approx(numbers(expected), abs=1e-5)
    assert counts.truncated == 1
    with pytest.raises(HarnessRefusalError, match="does not fit a model that reads 40"):
        EngineLM(engine(), max_length=40).loglikelihood(asked("loglikelihood", ("a", LONG)))


@pytest.mark.parametrize("max_length", [None, 24])
def test_whole_texts_have_the_log_likelihoods_of_hflm(max_length):
    requests = asked("loglikelihood_rolling", *((t,) for t in (LONG, "a", "Which meal is eaten in the morning?")))
    expected, found, _ = both(requests, "loglikelihood_rolling", max_length)
    assert found == pytest.approx(expected, rel=1e-6)
    one_pass = EngineLM(engine()).loglikelihood(asked("loglikelihood", ("", LONG)))
    if max_length is None:
        assert found[0] == pytest.approx(one_pass[0][0], abs=1e-4)


def test_answers_are_those_of_hflm_cut_before_what_ends_them(monkeypatch):
    # HFLM sets `max_length`, which transformers ignores where the model's own settings have `max_new_tokens`
    monkeypatch.setattr(engine().loaded.model.generation_config, "max_new_tokens", None)
    requests = asked("generate_until", *((c, GREEDY) for c, _ in OPTIONS[::8]), (LONG, {"until": "the"}))
    expected, found, _ = both(requests, "generate_until", max_length=400)
    assert found == expected
    assert any(found)
    assert not any("." in text for text in found[:-1])
    assert "the" not in found[-1]


def test_a_text_gets_the_token_that_begins_texts_once_and_none_that_ends_them():
    tokenizer = copy.deepcopy(engine().loaded.tokenizer)
    marks = [("<|bos|>", 1), ("<|end|>", 2)]
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="<|bos|> $A <|end|>", special_tokens=marks)
    spelt = Speech(tokenizer, {}, "m").spell(["Bees", "<|bos|>Bees"], None)
    assert spelt["Bees"] == spelt["<|bos|>Bees"] == [1, *Speech(tokenizer, {}, "m").spell(["Bees"], False)["Bees"]]


# arms


def test_steered_options_are_exactly_what_our_own_scorer_says():
    for positions in ("all", "prompt", "completion"):
        lm, tokens = noted(EngineLM(engine(), steered(positions)))
        found = lm.loglikelihood(asked("loglikelihood", *OPTIONS))
        base = Plan(engine().model_identity, Decoding(), tokens=())
        plans = [steered(positions).applied(replace(base, tokens=context)) for context, _ in tokens]
        own = score_all(plans, [answer for _, answer in tokens], engine(), lm.batch_size)
        assert [n for n, _ in found] == [sum(row) for row in own]
        # the same from texts, as every other part of this package scores them
        spelt = [steered(positions).applied(replace(base, tokens=None, text=context)) for context, _ in OPTIONS]
        own = score_all(spelt, [answer for _, answer in OPTIONS], engine(), lm.batch_size)
        assert numbers(found) == pytest.approx([sum(row) for row in own], abs=1e-4)
        assert np.abs(numbers(found) - numbers(EngineLM(engine()).loglikelihood(asked("", *OPTIONS)))).max() > 0.01


def test_steered_answers_are_what_our_own_engine_writes():
    contexts = [c for c, _ in OPTIONS[::20]]
    arm = steered()
    found = EngineLM(engine(), arm).generate_until(
        asked("generate_until", *((c, {"max_gen_toks": 6}) for c in contexts))
    )
    base = Plan(engine().model_identity, Decoding(max_new_tokens=6), text="")
    own = answer_all(engine(), [Call(arm.applied(replace(base, text=c)), 0, 0) for c in contexts])
    assert found == [g.raw for g in own]
    assert found != EngineLM(engine()).generate_until(asked("", *((c, {"max_gen_toks": 6}) for c in contexts)))


def test_an_arm_wears_its_adapter_and_other_arms_of_the_engine_do_not(tmp_path):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(str(weights_folder()))
    worn = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in worn.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.1)
    worn.save_pretrained(str(tmp_path / "adapter"))
    adapter = Adapter.of(tmp_path / "adapter")
    engine().add_adapters([adapter])
    requests = asked("loglikelihood", *OPTIONS[:20])
    before = EngineLM(engine()).loglikelihood(requests)
    found = EngineLM(engine(), Arm("adapted", "harness", adapter=adapter.digest)).loglikelihood(requests)
    expected = plain(worn.merge_and_unload()).loglikelihood(requests, disable_tqdm=True)
    assert numbers(found) == pytest.approx(numbers(expected), abs=2e-4)
    assert np.abs(numbers(found) - numbers(before)).max() > 0.1
    assert EngineLM(engine()).loglikelihood(requests) == before


def test_an_arms_system_prompt_must_be_in_the_contexts():
    lm = EngineLM(engine(), Arm("told", "harness", system="Answer in one word."))
    with pytest.raises(SteerworksError, match="context 0 lacks the system prompt of arm 'told'"):
        lm.loglikelihood(asked("loglikelihood", OPTIONS[0]))
    told = asked("loglikelihood", (f"Answer in one word.\n\n{OPTIONS[0][0]}", OPTIONS[0][1]))
    assert lm.loglikelihood(told) == EngineLM(engine()).loglikelihood(told)
    with pytest.raises(HarnessRefusalError, match="no place for one"):
        lm.loglikelihood_rolling(asked("loglikelihood_rolling", ("a",)))


def test_a_steered_arm_shares_no_cache_of_answers_with_others(tmp_path):
    with pytest.raises(SteerworksError, match="knows nothing of arm 'steered'"):
        CachingLM(EngineLM(engine(), steered()), str(tmp_path / "cache.db"))


# chat templates


def test_chat_templates_are_those_of_hflm_and_an_open_turn_stays_open():
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What do bees make?"}]
    ours, theirs = EngineLM(engine()), plain()
    assert ours.apply_chat_template(turns) == theirs.apply_chat_template(turns)
    opened = [*turns, {"role": "assistant", "content": "Bees make"}]
    assert ours.apply_chat_template(opened, False) == theirs.apply_chat_template(opened, False)
    assert ours.apply_chat_template(opened, False).endswith("Bees make")
    assert engine().model_identity in ours.tokenizer_name


# refusals


def test_an_engine_without_greedy_flags_is_refused_by_name_unless_nobody_asks():
    served = Without(engine(), name="server", greedy_flags=False)
    with pytest.raises(HarnessRefusalError, match="server backend cannot say which tokens are the likeliest"):
        EngineLM(served).loglikelihood(asked("loglikelihood", *OPTIONS[:4]))
    found = EngineLM(served, flags=False).loglikelihood(asked("loglikelihood", *OPTIONS[:4]))
    expected = EngineLM(engine()).loglikelihood(asked("loglikelihood", *OPTIONS[:4]))
    assert list(numbers(found)) == list(numbers(expected))
    with pytest.raises(HarnessRefusalError, match="the task decides by it"):
        bool(found[0][1])


def test_what_an_engine_cannot_do_is_refused_by_name():
    requests = asked("loglikelihood", OPTIONS[0])
    with pytest.raises(HarnessRefusalError, match="far backend cannot score continuations"):
        EngineLM(Without(engine(), name="far", scores=False)).loglikelihood(requests)
    with pytest.raises(HarnessRefusalError, match="far backend cannot apply interventions"):
        EngineLM(Without(engine(), name="far", interventions=None), steered()).loglikelihood(requests)
    with pytest.raises(SteerworksError, match="context of the far backend is not known"):
        EngineLM(Without(engine(), name="far", max_context=None))
    with pytest.raises(SteerworksError, match="max_length = 512: the transformers backend reads 511"):
        EngineLM(engine(), max_length=512)
    bare = type("Bare", (), {"capabilities": replace(engine().capabilities, name="bare"), "model_identity": "m"})()
    with pytest.raises(SteerworksError, match="bare backend has no tokenizer"):
        EngineLM(bare)


def test_a_continuation_without_tokens_is_named():
    with pytest.raises(HarnessRefusalError, match=r"request 1 \(task 'made_up', document 1\): its continuation"):
        EngineLM(engine()).loglikelihood(asked("loglikelihood", OPTIONS[0], ("Bees", "")))


# settings of generations


def test_a_sample_is_drawn_again_with_its_seed_and_repeats_differ():
    request = asked("generate_until", (OPTIONS[0][0], {"do_sample": True, "temperature": 1.5, "max_gen_toks": 12}))
    first = EngineLM(engine(), seed=1).generate_until(request * 3)
    assert len(set(first)) > 1
    assert EngineLM(engine(), seed=1).generate_until(request * 3) == first
    assert EngineLM(engine(), seed=2).generate_until(request * 3) != first


def test_settings_are_read_as_the_harness_reads_them():
    assert writing_of({}, "<end>", 9).decoding == Decoding(max_new_tokens=9)
    assert writing_of({"until": "a"}, "<end>", 9).until == ("a", "<end>")
    assert writing_of({"temperature": 0.7, "do_sample": False}, "", 9).decoding.temperature == 0.0
    assert writing_of({"temperature": 0.7, "top_p": 0.9}, "", 9).decoding == Decoding(
        max_new_tokens=9, temperature=0.7, top_p=0.9
    )
    assert writing_of({"do_sample": True}, "", 9).decoding.temperature == 1.0
    assert writing_of({"max_new_tokens": 3, "max_tokens": 5, "num_beams": 1}, "", 9).decoding.max_new_tokens == 3
    assert writing_of({"until": ["\n\n", "."]}, "", 9).cut("One. Two\n\nThree") == "One"
    for wrong, said in (
        ({"num_beams": 4}, "num_beams = 4"),
        ({"top_k": 5, "penalty_alpha": 0.6}, "top_k = 5, penalty_alpha = 0.6"),
        ({"do_sample": True, "temperature": 0.0}, "say which is meant"),
        ({"max_gen_toks": 0}, "generation settings"),
    ):
        with pytest.raises(HarnessRefusalError, match=said):
            writing_of(wrong, "", 9)


def test_a_limit_that_leaves_no_room_is_refused():
    with pytest.raises(HarnessRefusalError, match="no room is left for the context"):
        EngineLM(engine(), max_length=20).generate_until(asked("generate_until", ("a", {"max_gen_toks": 20})))
    assert EngineLM(engine(), max_length=20).max_gen_toks == 10
    assert EngineLM(engine()).max_gen_toks == 255


def test_tokens_are_divided_by_number_and_fitted_from_the_left():
    assert divided([1, 2], [1, 2, 3]) == ([1, 2], [3], True)
    assert divided([1, 2], [1, 9, 3]) == ([1, 2], [3], False)
    assert fitted([1, 2, 3], [4, 5], 4) == ((1, 2, 3), 0)
    assert fitted([1, 2, 3], [4, 5], 3) == ((2, 3), 1)
    with pytest.raises(HarnessRefusalError, match="2 tokens does not fit a model that reads 1"):
        fitted([1, 2, 3], [4, 5], 1)
