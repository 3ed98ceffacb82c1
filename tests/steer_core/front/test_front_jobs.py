"""The jobs of docs/front-door.md run as they stand, and wrong arguments are answered in words."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch

import steer_core as steer
from steer_core.tables.errors import ConfigError, SteerworksError

DOC = Path(__file__).parents[3] / "docs" / "front-door.md"
BLOCKS = re.findall(r"```python\n(.*?)```", DOC.read_text(), flags=re.S)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The names that the page's blocks leave behind, run in order in an empty folder."""
    names: dict = {}
    with contextlib.chdir(tmp_path_factory.mktemp("notebook")):
        for block in BLOCKS:
            exec(compile(block, str(DOC), "exec"), names)
        names["here"] = Path.cwd()
    return names


def test_every_job_of_the_page_runs_in_at_most_three_calls(ran):
    jobs = [int(n) for n in re.findall(r"^## (\d+)\.", DOC.read_text(), flags=re.M)]
    assert jobs == list(range(1, 11))
    for block in BLOCKS:
        assert len(re.findall(r"\b(?:steer|model|vector|direct)\.[a-z_]+\(", block)) <= 3
    assert (ran["here"] / "direct-page" / "report.html").stat().st_size > 10_000


def test_a_repr_fits_on_a_line(ran):
    for name in ("model", "vector", "again", "swept", "direct", "pushed"):
        assert len(repr(ran[name])) < 160
        assert "\n" not in repr(ran[name])
    assert "cheerfulness" in repr(ran["vector"])


def test_what_was_saved_is_what_is_read(ran):
    assert [p.id for p in ran["again"].parts] == [p.id for p in ran["vector"].parts]


def test_strengths_give_an_answer_each_and_off_is_the_unsteered_text(ran):
    model, vector = ran["model"], ran["vector"]
    found = model.generate(["One.", "Two."], vector, strength=[None, 0.5], max_new_tokens=8)
    assert found["strength"].to_list() == [None, 0.5, None, 0.5]
    plain = model.generate(["One.", "Two."], max_new_tokens=8)
    assert found.filter(pl.col("strength").is_null())["text"].to_list() == plain["text"].to_list()


def test_the_context_steers_a_plain_model_as_the_engine_does_and_leaves_it_as_it_was(ran):
    model, vector = ran["model"], ran["vector"]
    prompt = "Tell me about the town."
    tokens = model.loaded.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )

    def written():
        out = model.transformers_model.generate(**tokens, max_new_tokens=12, do_sample=False)
        return model.loaded.tokenizer.decode(out[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True).strip()

    before = written()
    with vector.apply(model.transformers_model, 0.5):
        inside = written()
    assert written() == before
    steered = model.generate(prompt, vector, strength=[None, 0.5], max_new_tokens=12)["text"].to_list()
    assert [before, inside] == steered
    assert before != inside


def test_a_folded_model_writes_what_the_steered_one_writes(ran):
    model, vector = ran["model"], ran["vector"]
    folded = steer.load(ran["here"] / "folded")
    steered = model.generate("Tell me about the town.", vector, strength=0.3, max_new_tokens=12)["text"]
    assert folded.generate("Tell me about the town.", max_new_tokens=12)["text"].to_list() == steered.to_list()


def test_a_wrapped_model_is_the_same_model(ran):
    model = ran["model"]
    wrapped = steer.load(model.transformers_model, model.loaded.tokenizer)
    texts = [m.generate("One.", max_new_tokens=8)["text"][0] for m in (model, wrapped)]
    assert texts[0] == texts[1]
    vector = wrapped.fit([("A.", "good", "bad"), ("B.", "fine", "poor")] * 4, "c", layers=1)
    with torch.no_grad():
        model.transformers_model.get_input_embeddings().weight[0] += 1.0
    try:
        other = steer.load(model.transformers_model, model.loaded.tokenizer)
        with pytest.raises(SteerworksError, match="was fitted on model"):
            other.generate("One.", vector, strength=0.1)
    finally:
        with torch.no_grad():
            model.transformers_model.get_input_embeddings().weight[0] -= 1.0


def test_two_methods_are_compared_in_a_sentence(ran):
    assert re.match(
        r"direct (is better than|and|is worse than) rewrite\+cheerfulness@0.2",
        steer.compare(ran["direct"], ran["pushed"]),
    )
    assert "cannot be told apart" in steer.compare(ran["direct"], ran["direct"])
    with pytest.raises(SteerworksError, match="different requests"):
        steer.compare(ran["direct"], steer.measure("copy", texts=12, requests=2))


def test_the_sources_scored_as_answers_made_elsewhere_do_nothing(ran):
    requests = ran["direct"].tables["requests"]
    same = dict(requests.select("request_id", "text").iter_rows())
    scored = steer.score_answers(same, texts=12, requests=3)
    assert scored.tables["steerability"]["miscalibration"].to_list() == pytest.approx([1.0] * 36)
    with pytest.raises(SteerworksError, match="35 of 36 requests have no answer.*1 answers belong to no request"):
        steer.score_answers({requests["request_id"][0]: "x", "stranger": "y"}, texts=12, requests=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, v: m.fit([("only one",)]), "pair 0 is .* a pair is"),
        (lambda m, v: m.fit([("p", "a", 3)]), "pair 0: `negative` must be a text, and is 3"),
        (lambda m, v: m.fit([("p", "a", "b"), ("a", "b")]), "pair 1 has no prompt and others have one"),
        (lambda m, v: m.fit("nowhere.csv"), "there is no file nowhere.csv"),
        (lambda m, v: m.fit(7), "pairs are a file, a frame, or a list; got int"),
        (lambda m, v: m.fit([]), "no pair was given"),
        (lambda m, v: m.fit([("p", "a", "b")], estimator="mean"), "unknown estimator 'mean'"),
        (lambda m, v: m.fit([("p", "a", "b")], layers=99), "there is no layer 99"),
        (lambda m, v: m.generate(3), "int|not iterable|prompts are texts"),
        (lambda m, v: m.generate(["a", 3]), "prompts are texts; one is 3"),
        (lambda m, v: m.generate("a", strength=0.3), "no vector"),
        (lambda m, v: m.generate("a", v, strength="strong"), "a strength is a number in residual_fraction"),
        (lambda m, v: v.apply(m, None).__enter__() or v.apply(m, "x"), "a strength is a number"),
        (lambda m, v: steer.load("no-such-org/no-such-model"), "needs a `revision`"),
        (lambda m, v: steer.load("embedded", devce="cpu"), "devce"),
        (lambda m, v: steer.load(object()), "a model is a name, a folder, or a transformers model"),
        (lambda m, v: steer.load(m.transformers_model), "pass the model's tokenizer too"),
        (lambda m, v: steer.measure("drect"), "unknown method 'drect'.*Did you mean 'direct'"),
        (lambda m, v: steer.measure(7), "a method is a name or a prompt"),
        (lambda m, v: steer.measure("few-shot", texts=12, requests=3), "fitted on a training pool first"),
        (lambda m, v: steer.measure("direct", texts=12, requests=3, strength=0.1), "a vector comes with a strength"),
        (lambda m, v: steer.sweep(m, v, "gladness", [0.1]), "unknown behavior 'gladness'"),
    ],
)
def test_wrong_arguments_are_answered_in_words(ran, call, message):
    with pytest.raises((SteerworksError, ConfigError, TypeError), match=message):
        call(ran["model"], ran["vector"])


def test_importing_the_front_door_imports_nothing_heavy():
    code = (
        "import steer_core, sys; heavy = {'torch', 'transformers', 'scipy', 'polars'} & set(sys.modules); print(heavy)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "set()"
    assert set(steer.__all__) <= set(dir(steer))
    with pytest.raises(AttributeError, match="it has .*load"):
        steer.lod  # noqa: B018
