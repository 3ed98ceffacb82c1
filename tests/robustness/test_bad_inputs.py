"""Bad input is one clear error of ours that names what is wrong, and nothing is half-written; odd input that is right
is taken, with the numbers that it has."""

import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import bad_calls
import bad_configurations
import bad_files
import bad_models
import bad_plans
import bad_tables
import bad_vectors
import polars as pl
import pytest
import torch
from bad_world import SHIPPED, Case, World, start, state_of, vector

import steer_core as steer
from steer_assets import settings
from steer_assets.io import read_published
from steer_core.registry import load_registry
from steer_core.steering.exchange import export_safetensors, import_safetensors, import_torch
from steer_core.tables.errors import SteerworksError

KINDS = {
    "configuration": [
        bad_configurations.of_fields,
        bad_configurations.of_texts,
        bad_configurations.of_folders,
    ],
    "data": [bad_files.of_corpora, bad_files.of_behaviors],
    "model": [bad_models.of_models],
    "vector": [
        bad_vectors.of_safetensors,
        bad_vectors.of_gguf,
        bad_vectors.of_torch,
        bad_plans.of_numbers,
        bad_plans.of_plans,
        bad_plans.of_tables,
    ],
    "table": [bad_tables.of_published, bad_tables.of_journals],
    "call": [bad_calls.of_calls],
}
CASES = {kind: list(chain.from_iterable(make() for make in makers)) for kind, makers in KINDS.items()}
SMALL = """small:
  corpus: {sources: [{kind: grammar, n_texts: 60}], min_words: 5}
  goals: [text_length, formality]
  probes: [{name: main, n_texts: 4, n_goals_per_text: 2, active: 1}]
  models: [embedded]
  methods: [copy, direct]
"""


@pytest.fixture(scope="session")
def known(tmp_path_factory):
    """The embedded model, a vector of it, and a folder with a small bench."""
    folder = tmp_path_factory.mktemp("config")
    (folder / "benches.yaml").write_text(SMALL)
    model = steer.load("embedded")
    fitted = model.fit([("Hi.", "Good day!", "Go away."), ("Ho.", "How nice!", "How bad.")] * 3, "joy", layers=1)
    return model, fitted, folder


@pytest.fixture
def world(tmp_path, monkeypatch, known) -> Iterator[World]:
    model, fitted, config = known
    found = World(tmp_path / "in", tmp_path / "out", model, fitted, config)
    for folder in (found.folder, found.out):
        folder.mkdir()
    (found.out / "before").write_text("what stood here")
    monkeypatch.setenv("STEERWORKS_CONFIG", f"{SHIPPED}:{found.folder}")
    monkeypatch.setenv("STEERWORKS_ROOT", str(tmp_path / "root"))
    settings.registry.cache_clear()
    yield found
    settings.registry.cache_clear()


def refused(case: Case, world: World) -> None:
    """Raises an AssertionError where a case is taken, told in other words, or leaves something behind."""
    before = state_of(world.out)
    with pytest.raises(SteerworksError) as caught:
        case.call(world)
    said = str(caught.value)
    assert [words for words in case.says if words not in said] == [], said
    assert re.search(r"\S+ \S+ \S+", said), "a message is a sentence"
    assert state_of(world.out) == before
    assert not [p for p in world.folder.parent.rglob("*.tmp") if p.name.startswith(".")]


@pytest.mark.parametrize("case", CASES["configuration"], ids=lambda c: c.name)
def test_a_configuration_that_makes_no_sense_is_refused_before_anything_runs(case, world):
    refused(case, world)
    assert not (world.folder.parent / "root").exists()


@pytest.mark.parametrize("case", CASES["data"], ids=lambda c: c.name)
def test_a_data_file_that_is_not_what_it_should_be_is_refused(case, world):
    refused(case, world)


@pytest.mark.parametrize("case", CASES["model"], ids=lambda c: c.name)
def test_a_model_with_damage_is_refused_before_its_first_answer(case, world):
    refused(case, world)


@pytest.mark.parametrize("case", CASES["vector"], ids=lambda c: c.name)
def test_a_vector_or_plan_that_is_none_is_refused(case, world):
    refused(case, world)


@pytest.mark.parametrize("case", CASES["table"], ids=lambda c: c.name)
def test_a_table_that_is_not_what_was_published_is_refused(case, world):
    refused(case, world)


@pytest.mark.parametrize("case", CASES["call"], ids=lambda c: c.name)
def test_an_argument_that_makes_no_sense_is_refused(case, world):
    refused(case, world)


def test_there_are_more_than_three_hundred_cases_and_none_twice():
    names = [f"{kind}: {case.name}" for kind, cases in CASES.items() for case in cases]
    assert len(names) > 300
    assert len(set(names)) == len(names)


def test_mistakes_of_several_files_are_said_at_once(world):
    base = bad_configurations.BASE
    bench = {**base["benches"]["own"], "sweep": {"exclude": [{"lair": 1}]}, "methods": ["guided", "asked"]}
    asked = {"parts": [{"kind": "prompt", "strategy": "dirct"}]}
    bad_configurations.put(
        world,
        {
            **base,
            "benches": {"own": bench},
            "methods": {**base["methods"], "asked": asked},
            "goals": {"own-length": {**base["goals"]["own-length"], "scorer": "text_lenght"}},
        },
    )
    (world.folder / "texts.csv").unlink()
    with pytest.raises(SteerworksError) as caught:
        start(world)
    for said in ("'lair'", "'dirct'", "'text_lenght'", "texts.csv"):
        assert said in str(caught.value)


# --- odd and right


def test_the_configuration_that_the_cases_spoil_is_right(world):
    bad_configurations.configured(world, bad_configurations.BASE)


ODD = (
    "\ufeff# a mark, comments, anchors, line ends of two kinds\r\n"
    "'on':\r\n  parts:\n    - {<<: &rest {kind: vector, estimator: logistic}, options: {C: 1e-1, standardize: no},\r\n"
    "       strengths: [-5e-1, .5, 1], layers: [0x1]}\n"
    '"no": {parts: [{<<: *rest}]}\n'
)
PLAIN = """
'on':
  parts:
    - kind: vector
      estimator: logistic
      options: {C: 0.1, standardize: false}
      strengths: [-0.5, 0.5, 1.0]
      layers: [1]
"""


def test_odd_spellings_of_a_configuration_mean_what_the_plain_one_means(tmp_path):
    read = []
    for name, content in (("odd", ODD), ("plain", PLAIN)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "methods.yaml").write_bytes(content.encode())
        (folder / "goals.yaml").write_text("")
        (folder / "benches.yaml").write_text("# nothing yet\n")
        read.append(load_registry([SHIPPED, folder]).method("on"))
    assert read[0] == read[1]
    assert read[0].spec_hash == read[1].spec_hash


TEXTS = ['He said, "yes".', "Line one.\nLine two.", "A grin: 😀", "A zero: \0.", "a\u2028b c", "  spaces  ", "42"]


def test_odd_data_files_give_the_texts_that_they_hold(world):
    quoted = [t.replace('"', '""') for t in TEXTS]
    files = {
        "mark.csv": ("\ufefftext\n" + "".join(f'"{t}"\n' for t in quoted)).encode(),
        "ends.csv": ("n,text\r\n" + "".join(f'1,"{t}"\r\n' for t in quoted)).encode(),
        "lines.jsonl": b"\xef\xbb\xbf" + b"\n".join(pl.DataFrame({"text": [t]}).write_ndjson().encode() for t in TEXTS),
        "escaped.ndjson": "".join(f'{{"text": {json.dumps(t)}, "n": 1}}\r\n' for t in TEXTS).encode(),
        "whole.parquet": bad_files.parquet({"text": TEXTS}),
    }
    read = [bad_files.corpus_of(world, name, data, {}) for name, data in files.items()]
    for one in read:
        assert one["text"].to_list() == [t.strip() for t in TEXTS]
        assert one["text_id"].equals(read[0]["text_id"])


def test_odd_contrast_files_give_the_pairs_that_they_hold(world):
    plain = bad_files.contrasts_of(world, "pairs", "p.jsonl", bad_files.ROW * 2, {})
    odd = "\ufeff" + bad_files.ROW.replace("\n", "\r\n") + "\n  \n" + bad_files.ROW.strip()
    other = bad_files.contrasts_of(world, "pairs", "p.jsonl", odd, {})
    assert plain.examples.equals(other.examples)
    table = bad_files.parquet({"prompt": ["Hi"] * 2, "positive": ["Good."] * 2, "negative": ["Bad."] * 2})
    again = bad_files.contrasts_of(world, "pairs", "p.parquet", table, {})
    assert again.examples["answer"].equals(plain.examples["answer"])


def test_a_copy_of_a_model_under_an_odd_name_answers_as_the_model_does(world):
    folder = bad_models.whole(world).rename(world.folder / "Ein Modell – ü")
    (folder / "notes").mkdir()
    copy = steer.load(folder)
    assert copy.loaded.fingerprint == world.model.loaded.fingerprint
    asked = {"prompts": ["Tell me about the town.", ""], "max_new_tokens": 4}
    assert copy.generate(**asked).equals(world.model.generate(**asked))
    steered = [m.generate("Tell me.", world.vector, [0, None], max_new_tokens=4) for m in (copy, world.model)]
    assert steered[0].equals(steered[1])


def test_odd_vectors_keep_their_numbers(world):
    export_safetensors([vector(0), vector(3, scalars={})], world.folder / "v.bin")
    assert [v.id for v in import_safetensors(world.folder / "v.bin")] == [vector(0).id, vector(3, scalars={}).id]
    torch.save({3: torch.arange(1, 9).half()[None], "1": torch.arange(1, 9).double()}, world.folder / "v.pt")
    found = import_torch(world.folder / "v.pt", concept="tea", model="abc")
    assert [v.direction.tolist() for v in found] == [vector().direction.tolist()] * 2


def test_a_table_that_another_tool_wrote_again_is_the_same_table(world):
    file = bad_tables.published(world)
    bad_tables.rewritten(file, lambda rows: rows)
    assert read_published(str(file), bad_tables.GoalValues).equals(bad_tables.values())


def test_nothing_to_ask_is_no_answer(world):
    assert world.model.generate([]).height == 0
    asked = bad_calls._asked(world)
    size = bad_calls.small(world)
    odd = steer.score_answers(((i, "") for i in asked), **size)
    assert odd.tables["outcomes"]["failure"].to_list() == ["empty"] * len(asked)
    assert Path(world.out / "before").read_text() == "what stood here"
