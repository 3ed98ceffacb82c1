"""Candidates of other models: asked on their own engines, learnt in the own tokens, and each kept with who wrote it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from schemas import TrainingSamples
from schemas.recipes import InheritanceRecipe
from schemas.specs import ModelSpec
from steer_core.adapters.inheritance.candidates import draw, measured
from steer_core.adapters.inheritance.others import FILE, ask_others, spelt
from steer_core.adapters.recipe import train
from steer_core.generation.backend import Capabilities, Finished, Generation
from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.generation.prompt_tokens import end_of_turn
from steer_core.generation.remote.faults import EndpointError
from steer_core.generation.remote.ledger import Ledger
from steer_core.models import load_model
from steer_core.tables.errors import SteerworksError
from tests.steer_core.adapters.grpo_world import SPEC, training
from tests.steer_core.adapters.inheritance_world import recipe

sys.path.insert(0, str(Path(__file__).parents[2]))
from fake_endpoint import Servers


@pytest.fixture(scope="module")
def servers():
    started = Servers()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def own():
    return TransformersBackend(load_model(SPEC))


@pytest.fixture
def far(servers, tmp_path):
    """The server of a model behind an endpoint, and what opens an engine over it."""
    server, address = servers.serve(answers={"dog": "empty", "sister": "refuse", "Rewrite": "say:" + "many words " * 9})
    spec = ModelSpec(
        name="far",
        source="served:far-1",
        engine="openai",
        endpoint={"base_url": address, "backoff": 0.005, "patience": 0.3, "attempts": 2},
    )

    @contextmanager
    def opened():
        backend = OpenAiBackend(spec, Ledger(tmp_path / "far.sqlite"))
        yield backend
        backend.ledger.close()

    return server, opened


def asked(folder, others, **more):
    """A run whose model is called `embedded`, and other models."""
    found = training(folder, name="embedded", others=others, **more)
    found.run.begin()
    return found


def kept(training):
    return {(r["model"], r["request_id"], r["sample"]): r for r in training.run.rows(FILE)}


def test_the_best_of_several_models_is_trained_on_and_every_candidate_says_who_wrote_it(far, tmp_path, own):
    server, opened = far
    said = []
    aim = recipe(models=("embedded", "far"), samples=2, epochs=1, batch=4, checkpoints=1, duplicates=None)
    # of an answer that failed the reason is the engine's
    failure = lambda r, raw, why: (raw.strip(), why if why == "refused" else None if raw.strip() else "empty")  # noqa: E731
    run = asked(tmp_path / "run", {"far": opened}, say=said.append, failure=failure)
    states = train(aim, run)
    assert said[:2] == ["8 of 8 answers are to be written by far", "8 of 8 answers are to be drawn"]
    samples = run.run.rows("samples")
    assert [s["model"] for s in samples] == ["embedded"] * 8 + ["far"] * 8
    z = {m["sample"]: m["value"] for m in run.run.rows("measures") if m["measure"] == "z:length"}
    for request in ("r0", "r1", "r2", "r3"):
        of = [s for s in samples if s["request_id"] == request]
        (best,) = [s for s in of if s["state"] == "kept"]
        assert best["reward"] == max(s["reward"] for s in of if s["reward"] is not None) == z[best["sample"]]
    # two texts were answered with nothing, or with a refusal: never chosen, and counted
    none = [s for s in samples if s["model"] == "far" and s["state"] == "unscorable"]
    assert {(s["request_id"], s["finish_reason"]) for s in none} == {("r1", "stop"), ("r2", "refused")}
    assert {s["request_id"] for s in samples if s["state"] == "kept" and s["model"] == "far"} == {"r0", "r3"}
    log = {r["measure"]: r["value"] for r in run.run.rows("log") if r["step"] == 1}
    assert (log["share:far"], log["share:embedded"], log["pool_share:far"]) == (0.5, 0.5, 0.5)
    assert log["selection:failed"] == 4
    # and nothing is asked or drawn again: of the whole run, nor of one whose training was lost
    sent = len(server.requests)
    assert train(aim, run) == states
    for file in ("plan", "samples", "measures", "log"):
        (run.run.path / f"{file}.jsonl").unlink()
    for checkpoint in states.values():
        (checkpoint / "whole").unlink()
    unasked = replace(run, others={"far": lambda: pytest.fail("all answers are there")})
    train(aim, unasked)
    assert run.run.rows("samples") == samples
    assert len(server.requests) == sent


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_another_models_answer_has_the_tokens_and_the_likelihood_that_it_would_have_as_an_own_one(
    tmp_path, own, temperature
):
    aim = recipe(models=("embedded", "twin"), samples=3, temperature=temperature, max_new_tokens=24)
    run = asked(tmp_path / "run", {})
    prompts = {r: tuple(own.encode(p)) for r, p in run.plans.items()}
    drawn = {(d.request_id, d.sample): d for d in draw(aim, run, sorted(run.plans), own)}
    same = ("request_id", "sample", "raw", "finish_reason")
    run.run.append(FILE, [{"step": 0, "model": "twin", **{n: getattr(d, n) for n in same}} for d in drawn.values()])
    found = {(d.request_id, d.sample): d for d in spelt(aim, run, own, prompts)}
    # a text that was cut off, or drawn hot, may be spelt in other tokens than it was written in
    alike = [key for key, one in drawn.items() if found[key].tokens == one.tokens]
    assert len(alike) >= 6
    for key in alike:
        assert found[key].log_likelihood == pytest.approx(drawn[key].log_likelihood, abs=1e-3)
        assert found[key].model == "twin"
    # a second look computes nothing
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "steer_core.adapters.inheritance.others.log_likelihoods", lambda *_: pytest.fail("they are there")
        )
        assert spelt(aim, run, own, prompts) == list(found.values())


def test_what_the_own_model_cannot_be_trained_on_is_never_chosen(tmp_path, own):
    aim, said = recipe(models=("embedded", "far"), samples=1), []
    run = asked(tmp_path / "run", {}, say=said.append)
    prompts = {r: own.encode(run.plans[r]) for r in sorted(run.plans)}
    end = own.loaded.tokenizer.eos_token
    raws = {"r0": "fine", "r1": f"a {end} b", "r2": "long " * 2000, "r3": "cut off"}
    rows = [
        {"step": 0, "model": "far", "request_id": r, "sample": 0, "raw": raw,
         "finish_reason": "length" if r == "r3" else "stop"}
        for r, raw in raws.items()
    ]  # fmt: skip
    run.run.append(FILE, rows)
    found = {d.request_id: d for d in spelt(aim, run, own, prompts)}
    assert {r: d.unfit for r, d in found.items()} == {"r0": None, "r1": "special token", "r2": "too long", "r3": None}
    assert found["r0"].tokens[-1] == own.loaded.tokenizer.eos_token_id
    # it was not at its end
    assert found["r3"].tokens[-1] != own.loaded.tokenizer.eos_token_id
    candidates = {c.request_id: c for c in measured(list(found.values()), run)}
    assert {r: c.failure for r, c in candidates.items()} == {
        "r0": None, "r1": "special token", "r2": "too long", "r3": None,
    }  # fmt: skip
    assert candidates["r1"].log_likelihood is None
    assert candidates["r0"].log_likelihood < 0
    assert said == ["2 answers of far cannot be trained on: too long, or with the text of a special token"]


def test_an_endpoint_that_stops_leaves_what_came_and_is_asked_for_the_rest(far, tmp_path):
    server, opened = far
    server.script.answers = {"clerk": "odd"}
    run = asked(tmp_path / "run", {"far": opened})
    aim = recipe(models=("far",), samples=2)
    with pytest.raises(EndpointError, match="2 of 8 rows have no answer"):
        ask_others(aim, run)
    assert len(kept(run)) == 6
    server.script.answers = {}
    sent = len(server.requests)
    ask_others(aim, run)
    assert len(kept(run)) == 8
    assert len(server.requests) == sent + 2


def test_an_engine_that_cannot_is_refused_before_anything_is_sent(far, tmp_path):
    server, opened = far
    with pytest.raises(SteerworksError, match="takes no `min_p`"):
        ask_others(recipe(models=("far",), min_p=0.1), asked(tmp_path / "run", {"far": opened}))
    assert not server.requests

    class Mute:
        model_identity, capabilities = "m", Capabilities("mute", None, scores=False, seeds=False)

    @contextmanager
    def mute():
        yield Mute()

    with pytest.raises(SteerworksError, match="cannot sample by seed"):
        ask_others(recipe(models=("far",)), asked(tmp_path / "mute", {"far": mute}))


def test_models_that_answer_nothing_are_named(tmp_path, own):
    class Empty:
        model_identity = "m"
        capabilities = own.capabilities

        def generate(self, calls, batch_size):
            return (Finished(i, Generation("", "stop", 1, 0, 0.0)) for i in range(len(calls)))

    @contextmanager
    def empty():
        yield Empty()

    said = []
    run = asked(tmp_path / "run", {"far": empty}, say=said.append)
    train(recipe(models=("embedded", "far"), samples=2, epochs=1, checkpoints=1), run)
    assert "none of 8 answers of far is one: 8 empty" in said
    alone = asked(tmp_path / "alone", {"far": empty})
    with pytest.raises(SteerworksError, match="none of 16 candidates can be scored: 16 failed"):
        train(recipe(models=("far",)), alone)
    assert not alone.run.rows("candidates")


def test_a_turn_ends_in_what_the_template_writes_behind_an_answer(own):
    class Llama:
        """Ends texts with one token, and turns with another."""

        chat_template, eos_token_id = "two ends", 1

        def apply_chat_template(self, turns, tokenize, **told):
            return "".join(f"<{t['role']}>{t['content']}</turn>" for t in turns) + "<assistant>"

        def __call__(self, text, add_special_tokens):
            return {"input_ids": [2 if part == "/turn>" else 5 for part in text.split("<") if part]}

    assert end_of_turn(Llama(), None, {}, {1, 2}) == 2
    assert end_of_turn(Llama(), False, {}, {1, 2}) == 1
    assert own.end_of_turn == own.loaded.tokenizer.eos_token_id


def test_completions_of_version_1_were_the_models_own():
    older = TrainingSamples.empty().drop("model")
    assert TrainingSamples.migrate(older, 1).equals(TrainingSamples.empty())


def test_wrong_models_of_a_recipe_are_refused():
    with pytest.raises(ValueError, match="`models` names a twice"):
        InheritanceRecipe.model_validate({"models": ["a", "a"]})
    with pytest.raises(ValueError, match="samples = 1 leaves nothing to choose from"):
        InheritanceRecipe.model_validate({"models": ["a"], "samples": 1})
    assert InheritanceRecipe.model_validate({"models": ["a", "b"], "samples": 1}).writers("c") == ("a", "b")
    assert InheritanceRecipe().writers("c") == ("c",)
