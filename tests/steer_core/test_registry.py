"""The registry reads yaml, resolves probes and paths, and names every mistake with its file."""

from pathlib import Path

import pytest
import yaml

from steer_core.registry import load_registry
from steer_core.tables.errors import ConfigError

SHIPPED = Path(__file__).parents[2] / "config"
BENCH = {
    "corpus": {"sources": [{"kind": "grammar", "n_texts": 10}]},
    "goals": ["text_length"],
    "probes": [{"name": "main", "n_texts": 2, "n_goals_per_text": 2, "active": 1}],
    "models": ["embedded"],
    "methods": ["copy"],
}


def overlay(tmp_path, **files) -> list[Path]:
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return [SHIPPED, tmp_path]


def bench(**changes) -> dict:
    return {"own": {**BENCH, **changes}}


def test_the_shipped_configuration_loads_and_every_bench_has_its_controls():
    registry = load_registry([SHIPPED])
    for shipped in registry.benches.values():
        assert {"copy", "rewrite"} <= set(shipped.methods)
        assert len(registry.goals_of(shipped)) >= 4


def test_a_folder_adds_to_those_before_it(tmp_path):
    registry = load_registry(overlay(tmp_path, benches=bench()))
    assert {"own", "tales"} <= set(registry.benches)


def test_a_probe_is_used_by_name_with_changes(tmp_path):
    probes = ["steerbench", {"use": "steerbench", "name": "small", "n_texts": 3, "active": 1}]
    registry = load_registry(
        overlay(tmp_path, benches=bench(probes=probes, goals=["text_length", "formality", "sentiment"]))
    )
    one, two = registry.bench("own").probes
    assert (one.name, one.n_texts, one.n_goals_per_text, one.active) == ("steerbench", 64, 32, 3)
    assert (two.name, two.n_texts, two.n_goals_per_text, two.active) == ("small", 3, 32, 1)


def test_every_probe_of_the_catalogue_is_valid(tmp_path):
    catalogue = yaml.safe_load((SHIPPED / "probes.yaml").read_text())
    goals = ["reading_difficulty", "textual_diversity", "text_length", "formality"]
    registry = load_registry(overlay(tmp_path, benches=bench(probes=list(catalogue), goals=goals)))
    assert [p.name for p in registry.bench("own").probes] == list(catalogue)


def test_relative_paths_are_relative_to_their_file(tmp_path):
    source = {"kind": "file", "name": "own", "path": "texts.csv", "column": "text"}
    registry = load_registry(overlay(tmp_path, benches=bench(corpus={"sources": [source]})))
    assert registry.bench("own").corpus.sources[0].path == str(tmp_path / "texts.csv")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"goals": ["text_lenght"]}, r"benches.yaml, bench 'own': unknown goal 'text_lenght'.* Did you mean 'text_length'"),
        ({"methods": ["dirct"]}, r"unknown method 'dirct'.* Did you mean 'direct'"),
        ({"models": ["gpt-9"]}, r"unknown model 'gpt-9'; configured are: embedded"),
        ({"probes": ["steerbensh"]}, r"unknown probe 'steerbensh'; probes.yaml has: .*steerbench"),
        ({"train_probe": "pool"}, r"bench 'own' has no probe 'pool'; it has main"),
        ({"train_probe": "main"}, "must have split: train"),
        ({"probes": [{**BENCH["probes"][0], "goals": ["formality"]}]}, "asks for goal 'formality', which is not in the goal space"),
        ({"probes": [{**BENCH["probes"][0], "active": 2}]}, "wants 2 active goals of only 1"),
        ({"probes": [{**BENCH["probes"][0], "split": "train"}]}, "no probe on the test side"),
        (
            {
                "probes": [{**BENCH["probes"][0], "split": "all"}, {**BENCH["probes"][0], "name": "pool", "split": "train"}],
                "train_probe": "pool",
            },
            "'main' has split: all",
        ),
        ({"probes": BENCH["probes"] * 2}, "two probes share a name"),
        ({"probes": [{**BENCH["probes"][0], "actve": 1}]}, r"probes.0.actve: Extra inputs"),
        ({"bounds": {"fixed": {"text_length": [3, 3]}}}, "have no width"),
        ({"bounds": {"fixed": {"formality": [3, 4]}}}, "fixed bounds for 'formality'"),
        ({"colour": "red"}, "colour: Extra inputs"),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_their_file(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        load_registry(overlay(tmp_path, benches=bench(**changes)))


def test_files_that_are_no_configuration_are_named(tmp_path):
    with pytest.raises(ConfigError, match="models.yaml is not valid YAML"):
        load_registry(overlay(tmp_path, models="a: [1"))
    with pytest.raises(ConfigError, match="methods.yaml must map names to settings"):
        load_registry(overlay(tmp_path, models="", methods="- a\n- b"))
    with pytest.raises(ConfigError, match="does not exist"):
        load_registry([tmp_path / "nowhere"])


def test_an_entry_has_one_name(tmp_path):
    with pytest.raises(ConfigError, match="leave out `name`"):
        load_registry(overlay(tmp_path, models={"a": {"name": "other", "source": "embedded"}}))


def test_slugs_cannot_break_partition_keys(tmp_path):
    with pytest.raises(ConfigError, match="name"):
        load_registry(overlay(tmp_path, models={"a|b": {"source": "embedded"}}))


def test_hashes_follow_settings_and_not_prose(tmp_path):
    method = load_registry([SHIPPED]).method("direct")
    assert method.model_copy(update={"description": "other"}).spec_hash == method.spec_hash
    assert method.model_copy(update={"control": True}).spec_hash != method.spec_hash


@pytest.mark.parametrize(
    ("folder", "bench"), [("own_texts", "own-texts"), ("steerbench", "steerbench"), ("adapters", "inherited")]
)
def test_the_examples_are_valid_configurations(folder, bench):
    registry = load_registry([SHIPPED, SHIPPED.parent / "examples" / folder])
    assert bench in registry.benches
    assert {"copy", "rewrite"} <= set(registry.bench(bench).methods)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "methods",
            "a: {parts: [{kind: prompt, strategy: direct}]}\na: {parts: []}\n",
            "'a' stands twice, first in line 1",
        ),
        ("benches", "own:\n  seed: 1\n  seed: 2\n", "'seed' stands twice, first in line 2"),
        ("goals", "[a]: {}\n", "cannot be a key"),
        ("goals", "a: {b: [}\n", "is not valid YAML"),
        ("methods", "a: []\n", "must map names to settings"),
        ("benches", {"own": {**BENCH, "probes": None}}, "probes"),
        ("benches", {"own": {**BENCH, "probes": [3]}}, "probes.0"),
        ("benches", {"own": {**BENCH, "probes": [{"use": ["x"]}]}}, "unknown probe"),
        ("benches", {"own": {**BENCH, "corpus": "texts.csv"}}, "corpus"),
        ("benches", {"own": {**BENCH, "corpus": {"sources": [{"kind": "file", "name": "x"}]}}}, "path"),
        ("benches", {"own": {**BENCH, "seed": -1}}, "seed: .*greater than or equal to 0"),
        ("benches", {"own": {**BENCH, "sweep": {"strengths": []}}}, "sweep.strengths"),
        ("benches", {"own": {**BENCH, "sweep": {"strengths": [float("inf")]}}}, "sweep.strengths.0: .*finite"),
        ("benches", {"own": {**BENCH, "decoding": {"temperature": float("nan")}}}, "decoding.temperature: .*finite"),
        ("benches", {"a-b": BENCH, "a_b": BENCH}, "benches 'a-b' and 'a_b' come to the same name"),
    ],
)
def test_what_would_vanish_or_mean_something_else_is_refused(tmp_path, name, content, message):
    with pytest.raises(ConfigError, match=message):
        load_registry(overlay(tmp_path, **{name: content}))


@pytest.mark.parametrize("name", ["bench.yaml", "benches.yml", "method.yaml", "extension.yaml"])
def test_a_file_that_is_nearly_called_what_is_read_is_named(tmp_path, name):
    (tmp_path / name).write_text("a: {}\n")
    with pytest.raises(ConfigError, match=f"{name} is not read: rename it to"):
        load_registry([SHIPPED, tmp_path])
    (tmp_path / name).rename(tmp_path / "workspace.yaml")
    load_registry([SHIPPED, tmp_path])


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "goals.yaml").write_bytes("a: {unit: Stück}\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"goals.yaml is not UTF-8 \(byte 12\)"):
        load_registry([SHIPPED, tmp_path])


def test_every_mistake_is_said_at_once(tmp_path):
    goals = {"one": {"scorer": "text_length"}, "two": {"scorer": 3}}
    with pytest.raises(ConfigError) as caught:
        load_registry(overlay(tmp_path, goals=goals, models={"m": {"source": "org/name"}}))
    said = str(caught.value)
    assert all(part in said for part in ("entry 'one'", "entry 'two'", "entry 'm'", "needs a `revision`"))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("text:mtdl", "unknown metric 'text:mtdl'; metrics of texts are: .*mtld_published"),
        ("scorer:char-ngram:kindness", "has no 'kindness'; it scores toxicity, severe_toxicity"),
        ("scorer:perspective:toxicity", "unknown scorer of toxicity 'perspective'; there are: char-ngram"),
    ],
)
def test_what_a_recipe_chooses_by_is_looked_up_when_the_configuration_is_read(tmp_path, metric, said):
    recipe = {"kind": "inheritance", "objectives": [{"metric": metric, "direction": "max"}]}
    own = {"parts": [{"kind": "prompt", "strategy": "direct"}, {"kind": "adapter", "recipe": recipe}]}
    with pytest.raises(ConfigError, match=f"methods.yaml, method 'own', part 'adapter': .*{said}"):
        load_registry(overlay(tmp_path, methods={"own": own}))
