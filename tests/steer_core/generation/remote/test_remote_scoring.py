"""Log-probabilities of given texts from an endpoint: those of the model, of the tokens that were sent, paid for once."""

from __future__ import annotations

import numpy as np
import pytest
from far_models import model_at

from schemas.specs import Decoding, ModelSpec
from steer_core.evaluation.judges.asking import Option, ask_expected
from steer_core.generation.engines import describe_engine
from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.remote.faults import EndpointError
from steer_core.generation.remote.ledger import BudgetError, Ledger
from steer_core.models.loading import load_model
from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import ConfigError, SteerworksError

DECODING = Decoding(max_new_tokens=4)
WAYS = [("vllm", "prompt_logprobs"), ("vllm", "echo"), ("compatible", "echo"), ("compatible", "prompt_logprobs")]


class Computed:
    """What a server has: the model, and one forward pass a request."""

    def __init__(self, loaded, shift=0):
        self.loaded, self.shift = loaded, shift

    def seen(self, ids):
        return ids

    def log_probs(self, ids):
        import torch

        ids = torch.tensor([ids], device=self.loaded.device)
        with torch.no_grad():
            logits = self.loaded.model(input_ids=ids).logits[0].double()
        return torch.log_softmax(logits[:-1], -1).gather(1, ids[0, 1:, None])[:, 0].tolist()

    def spell(self, token):
        return self.loaded.tokenizer.decode([token + self.shift])


@pytest.fixture(scope="module")
def folder(tiny_model):
    return str(tiny_model("llama", chat=True))


@pytest.fixture(scope="module")
def local(folder):
    return TransformersBackend(load_model(ModelSpec(name="tiny", source=folder, device="cpu")))


@pytest.fixture
def far_at(folder, tmp_path):
    """A backend that asks for scores at an address, with the tokenizer of the tiny model."""

    def made(address, **endpoint):
        model = model_at(address, **{"tokenizer": folder, "scores": "echo", **endpoint})
        return OpenAiBackend(model, Ledger(tmp_path / "ledger.sqlite", model.endpoint.max_cost))

    return made


def asked(backend, *prompts):
    plans = [Plan(backend.model_identity, DECODING, (Message("user", p),)) for p in prompts]
    return [*plans, Plan(backend.model_identity, DECODING, text="a bare text, and")]


CONTINUATIONS = ["A", " the second is longer, with café", "yes"]


@pytest.mark.parametrize(("dialect", "way"), WAYS)
def test_scores_are_those_of_the_same_model_here(serve, far_at, local, dialect, way):
    _, address = serve(scorer=Computed(local.loaded), form=way)
    far = far_at(address, dialect=dialect, scores=way)
    want = local.score(asked(local, "which one?", "and why?"), CONTINUATIONS)
    got = far.score(asked(far, "which one?", "and why?"), CONTINUATIONS)
    assert [len(w) for w in want] == [len(g) for g in got]
    assert len(want[1]) > 1
    for mine, theirs in zip(want, got, strict=True):
        assert theirs == pytest.approx(mine, abs=1e-4)


def test_prompt_and_continuation_go_as_token_ids_with_the_boundary_where_it_is_here(serve, far_at, local):
    server, address = serve(scorer=Computed(local.loaded))
    far = far_at(address)
    plan, text = asked(far, "which one?")[0], " the second"
    (scores,) = far.score([plan], [text])
    (request,) = server.requests
    own = local.loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert request["line"].startswith("POST /v1/completions")
    assert request["body"]["prompt"] == [*local.encode(asked(local, "which one?")[0]), *own]
    assert len(scores) == len(own)


def test_what_was_scored_is_a_row_of_the_ledger_and_not_asked_again(serve, far_at, local):
    server, address = serve(scorer=Computed(local.loaded), faults={"429": 0.2, "500": 0.2, "reset": 0.1, "half": 0.1})
    far = far_at(address)
    plans = [Plan(far.model_identity, DECODING, (Message("user", f"question {i}"),)) for i in range(12)]
    pairs = [(p, c) for p in plans for c in ("A", "B")]
    first = far.score(*map(list, zip(*pairs, strict=True)))
    sent = len(server.requests)
    assert sent > 24  # some attempts failed
    rows = far.ledger.attempts()
    answered = rows.filter(outcome="answered")
    assert answered["response_id"].n_unique() == answered.height == 24
    assert rows.height == sent
    prompt = int(answered["prompt_tokens"].sum())
    assert answered["cost"].sum() == pytest.approx((prompt * 1.0 + 24 * 2.0) / 1e6)
    assert far.score(*map(list, zip(*pairs, strict=True))) == first
    assert len(server.requests) == sent


def test_a_budget_bounds_scoring_too(serve, far_at, local):
    server, address = serve(scorer=Computed(local.loaded))
    far = far_at(address, max_cost=1e-4)
    plans = [Plan(far.model_identity, DECODING, (Message("user", f"question {i}"),)) for i in range(40)]
    with pytest.raises(BudgetError, match="Raise `max_cost`"):
        far.score(plans, ["A"] * 40)
    assert 0 < len(server.requests) < 40
    assert far.ledger.money()[0] <= 1e-4


def test_a_row_that_does_not_fit_has_no_numbers_and_keeps_nobody_from_theirs(serve, folder, tmp_path, local):
    _, address = serve(scorer=Computed(local.loaded))
    model = model_at(address, tokenizer=folder, scores="echo").model_copy(update={"max_context": 40})
    far = OpenAiBackend(model, Ledger(tmp_path / "ledger.sqlite"))
    short, long = (Plan(far.model_identity, DECODING, text=t) for t in ("a few words", "many words " * 40))
    found = far.score([long, short], ["A", "A"])
    assert found[0] == []
    assert len(found[1]) == 1


@pytest.mark.parametrize(("dialect", "way"), WAYS)
def test_tokens_of_another_tokenizer_stop_the_run(serve, far_at, local, dialect, way):
    server, address = serve(scorer=Computed(local.loaded, shift=1), form=way)
    far = far_at(address, dialect=dialect, scores=way, concurrency=1)
    with pytest.raises(EndpointError, match=r"not those sent: token \d+ of .*is not the tokenizer of the model"):
        far.score(asked(far, "which one?"), ["A", "B"])
    # no retry can help, and what came is no score
    assert len(server.requests) == 1
    assert far.ledger.attempts()["outcome"].to_list() == ["garbage"]


@pytest.mark.parametrize("more", [-2, 1])
@pytest.mark.parametrize(("dialect", "way"), WAYS)
def test_another_number_of_tokens_than_were_sent_stops_the_run(serve, far_at, local, monkeypatch, dialect, way, more):
    scorer = Computed(local.loaded)
    # a server that cuts a prompt, or begins it with a token of its own
    monkeypatch.setattr(scorer, "seen", lambda ids: ids[:more] if more < 0 else [ids[0], *ids])
    _, address = serve(scorer=scorer, form=way)
    with pytest.raises(EndpointError, match=r"another id|came back, and|is .* there and"):
        far_at(address, dialect=dialect, scores=way).score(asked(far_at(address), "which one?"), ["A", "B"])


def test_an_endpoint_that_ignores_the_question_is_said_to(serve, far_at, local):
    server, address = serve(scorer=Computed(local.loaded), form="prompt_logprobs")
    with pytest.raises(EndpointError, match="no log-probabilities of prompts in this way"):
        far_at(address, concurrency=1).score(asked(far_at(address), "which one?"), ["A", "B"])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ({"scores": "echo", "tokenizer": None}, "nobody knows its tokens: name its own tokenizer"),
        ({"scores": "echo", "dialect": "openai"}, "dialect 'openai' has no `scores: echo`; it gives none"),
        ({"scores": "prompt_logprobs", "dialect": "llama.cpp"}, "dialect 'llama.cpp' has no `scores: prompt_logprobs`"),
    ],
)
def test_scores_that_cannot_be_had_are_refused_by_name_before_anything_is_sent(folder, endpoint, said):
    model = model_at("http://127.0.0.1:9/v1", **{"tokenizer": folder, **endpoint})
    with pytest.raises(ConfigError, match=said):
        describe_engine(model)


def test_without_the_setting_it_does_not_score_and_says_who_does(backend_at):
    far = backend_at("http://127.0.0.1:9/v1")
    assert not far.capabilities.scores
    with pytest.raises(SteerworksError, match="cannot score continuations; use transformers, vllm or an endpoint with"):
        far.score(asked(far, "which one?"), ["A", "B"])


def test_a_judge_reads_letters_by_their_probabilities(serve, far_at, local):
    _, address = serve(scorer=Computed(local.loaded))
    far, options = far_at(address), [Option("A", 1.0), Option("B", -1.0)]
    want, got = (
        ask_expected(asked(b, "which one?", "and why?"), options, b, batch_size=8, least_mass=0.0) for b in (local, far)
    )
    assert [v.method for v in got] == ["expected"] * 3
    assert np.allclose([v.value for v in got], [v.value for v in want], atol=1e-4)
