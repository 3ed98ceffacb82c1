"""Configurations that make no sense, each refused before a model is called, by file, entry and field."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from bad_world import Case, World, changed, start

from steer_core import extensions

INF, NAN = math.inf, math.nan
GONE = ...

VECTOR = {"kind": "vector", "estimator": "mean-difference", "layers": [1], "unit": "residual_fraction"}
#: Entries that are right: one for each kind of file.
BASE: dict[str, dict[str, Any]] = {
    "goals": {"own-length": {"scorer": "text_length", "unit": "words", "noun": "length", "more": "longer", "less": "shorter"}},
    "models": {"mine": {"source": "embedded"}},
    "methods": {
        "vec": {"parts": [{"kind": "prompt", "strategy": "direct"}, VECTOR]},
        "asked": {"parts": [{"kind": "prompt", "strategy": "best-of-n", "options": {"n": 2}}]},
        "guided": {"parts": [{"kind": "prompt", "strategy": "direct"}, {"kind": "guidance", "scale": 1.5}]},
    },
    "behaviors": {
        "glad": {"source": {"kind": "grammar", "attribute": "sentiment", "positive": 2, "negative": -2}},
        "kind": {"source": {"kind": "pairs", "path": "pairs.jsonl"}, "judge": {"kind": "llm", "rubric": "zero-to-ten"}},
    },
    "probes": {"small": {"n_texts": 2, "n_goals_per_text": 2, "active": 1}},
    "benches": {
        "own": {
            "corpus": {
                "sources": [
                    {"kind": "grammar", "n_texts": 20},
                    {"kind": "file", "name": "mine", "path": "texts.csv", "column": "text"},
                ]
            },
            "goals": ["own-length", "formality"],
            "probes": ["small", {"name": "pool", "split": "train", "n_texts": 2, "n_goals_per_text": 2, "active": 1}],
            "train_probe": "pool",
            "models": ["mine"],
            "methods": ["copy", "vec", "asked", "guided"],
            "behaviors": ["glad", "kind"],
            "sweep": {"strengths": [0.5]},
            "decoding": {"max_new_tokens": 8},
            "bounds": {},
        }
    },
}  # fmt: skip

#: kind of file, entry, field, values that it cannot have.
FIELDS: tuple[tuple[str, str, str, list[Any]], ...] = (
    ("benches", "own", "corpus", [GONE, [], "texts.csv", {}]),
    ("benches", "own", "corpus.sources", [[], "grammar", [3]]),
    ("benches", "own", "corpus.sources.0.kind", ["grammer", GONE, None]),
    ("benches", "own", "corpus.sources.0.n_texts", [0, -5, 2.5, "many", None, True, INF]),
    ("benches", "own", "corpus.sources.0.name", ["mine", "a b", 7]),
    ("benches", "own", "corpus.sources.1.path", ["nowhere.csv", "", 3, ".", GONE]),
    ("benches", "own", "corpus.sources.1.column", ["", GONE, ["text"]]),
    ("benches", "own", "corpus.sources.1.format", ["xlsx", "CSV"]),
    ("benches", "own", "corpus.sources.1.sample", [0, -1, 0.5]),
    ("benches", "own", "corpus.sources.1.blank", ["ignore", False]),
    ("benches", "own", "corpus.sources.1.filters", ["x", [1], {"n": [1, 2]}, {"n": {"is": 1}}, {"n": None}, {"n": NAN}]),
    ("benches", "own", "corpus.min_words", [0, -3, "ten", 5000]),
    ("benches", "own", "corpus.test_share", [0, 1, 1.5, NAN, -0.1, "half"]),
    ("benches", "own", "corpus.seed", [-1, 0.5, INF, "now", True]),
    ("benches", "own", "goals", [[], "formality", ["formality", "formality"], ["formallity"], [3], None, GONE]),
    ("benches", "own", "bounds.lower_percentile", [-1, 100, NAN, 98.0]),
    ("benches", "own", "bounds.upper_percentile", [0, 101, 2.5, 1.0, INF]),
    ("benches", "own", "bounds.fixed", [{"formality": [1, NAN]}, {"formality": [2, 1]}, {"formality": [1]}, {"x": [0, 1]}]),
    ("benches", "own", "probes", [[], "small", ["smal"], [None], ["small", "small"], GONE]),
    ("benches", "own", "probes.1.n_texts", [0, -2, 1.5, True]),
    ("benches", "own", "probes.1.active", [-1, 3, "one"]),
    ("benches", "own", "probes.1.dead_zone", [1.0, -0.1, 0.7, NAN]),
    ("benches", "own", "probes.1.delta_min", [0.1, -1.5]),
    ("benches", "own", "probes.1.weighting", ["cubic", True]),
    ("benches", "own", "probes.1.goals", [[], ["sentiment"], "formality", ["formality", "formality"]]),
    ("benches", "own", "probes.1.matched", ["pool", "elsewhere", "small"]),
    ("benches", "own", "probes.1.subset", ["correlated", "uncorrelated"]),
    ("benches", "own", "train_probe", ["small", "pond", 3]),
    ("benches", "own", "models", [[], "mine", ["yours"], ["mine", "mine"], GONE]),
    ("benches", "own", "methods", [[], ["vecs"], ["vec", "vec"], [None]]),
    ("benches", "own", "behaviors", [["sad"], ["glad", "glad"], "glad"]),
    ("benches", "own", "decoding.max_new_tokens", [0, -1, 1.5, "all", True]),
    ("benches", "own", "decoding.temperature", [-0.1, INF, "hot", True]),
    ("benches", "own", "decoding.top_p", [0, 1.1, -INF]),
    ("benches", "own", "decoding.min_p", [1.0, -0.1]),
    ("benches", "own", "decoding.top_k", [5]),
    ("benches", "own", "meaning_model", ["minilm", 3]),
    ("benches", "own", "sweep.strengths", [[], [NAN], ["strong"], [0.5, 0.5], 0.5, [True]]),
    ("benches", "own", "sweep.layers", [[99], [-1], [0.5], [1, 1], [True]]),
    ("benches", "own", "sweep.positions", [["last"], ["span:5:2"], ["span:3:3"], "all", ["index:x"]]),
    ("benches", "own", "sweep.seeds", [[-1], [1.5], [2, 2]]),
    ("benches", "own", "sweep.exclude", [[{}], [{"lair": 1}], ["random"], [{"role": "randon"}]]),
    ("benches", "own", "sweep.samples", [0, -1]),
    ("benches", "own", "sweep.midpoints", [-1, 0.5]),
    ("benches", "own", "batch_size", [0, -64, "big"]),
    ("benches", "own", "bootstrap", [0, -1]),
    ("benches", "own", "permutations", [0, 1e400]),
    ("benches", "own", "sead", [1]),
    ("models", "mine", "source", ["", GONE, 3, "./nowhere", "org/name", None]),
    ("models", "mine", "dtype", ["float8", "fp16", 16]),
    ("models", "mine", "device", ["gpu", "cuda:x", 0, ""]),
    ("models", "mine", "max_context", [0, -1, 1.5, "long"]),
    ("models", "mine", "chat", ["maybe", 2]),
    ("models", "mine", "template_options", [["thinking"], "off", {"depth": NAN}]),
    ("models", "mine", "engine", ["vllm-9", "", None]),
    ("models", "mine", "quantised", [True]),
    ("goals", "own-length", "scorer", ["text_lenght", GONE, 3, "text length"]),
    ("goals", "own-length", "options", [{"depth": 2}, {"min_words": 5}, [1], "none"]),
    ("goals", "own-length", "unit", [GONE, None, 3]),
    ("goals", "own-length", "more", [GONE, ["longer"]]),
    ("behaviors", "glad", "source", [GONE, "grammar", []]),
    ("behaviors", "glad", "source.kind", ["gramar", GONE]),
    ("behaviors", "glad", "source.attribute", ["mood", GONE]),
    ("behaviors", "glad", "source.positive", ["high", 1.5, -2, 99, None]),
    ("behaviors", "glad", "source.n_pairs", [1, 0, -4]),
    ("behaviors", "glad", "judge", [{"kind": "human"}, {"rubric": "vibes"}, {"kind": "llm", "rubric": "attribute"}]),
    ("behaviors", "glad", "judge", [{"options": {"depth": 1}}, {"model": "judge-9"}, {"repeats": 0}, "llm"]),
    ("behaviors", "glad", "scale", [[10, 0], [0], [0, INF], [5, 5], "0-10"]),
    ("behaviors", "kind", "scale", [[0, 5], [10, 0]]),
    ("behaviors", "kind", "source.path", ["nothing.jsonl", GONE, 7, "."]),
    ("behaviors", "kind", "source.test", ["nothing.jsonl"]),
    ("behaviors", "kind", "judge.kind", ["ground_truth"]),
    ("behaviors", "kind", "judge.options", [{"traits": "x"}, {"trait": 3}]),
    ("methods", "vec", "parts", [[], GONE, "direct", [3], [{"strategy": "direct"}], [{"kind": "vektor"}]]),
    ("methods", "vec", "parts", [[{"kind": "prompt", "strategy": "direct"}] * 2, [{"kind": "prompt", "strategy": "copy"}, VECTOR]]),
    ("methods", "vec", "parts.0.strategy", ["dirct", GONE, 3]),
    ("methods", "vec", "parts.0.options", [{"negativ": True}, {"negative": "very"}, [1]]),
    ("methods", "vec", "parts.1.estimator", ["mean", GONE, "logit-regression", 5]),
    ("methods", "vec", "parts.1.options", [{"depth": 2}, {"alpha": NAN}]),
    ("methods", "vec", "parts.1.layers", [[99], [-1], [], "most", [1, 1], [0.5], 3]),
    ("methods", "vec", "parts.1.operator", ["subtract", "", 3]),
    ("methods", "vec", "parts.1.site", ["logits", None]),
    ("methods", "vec", "parts.1.read", ["first"]),
    ("methods", "vec", "parts.1.positions", ["last", "span:9:2", "index:", "span:-1:2"]),
    ("methods", "vec", "parts.1.unit", ["percent", "kl2", 3]),
    ("methods", "vec", "parts.1.strengths", [[], [INF], "0.5", [0.5, 0.5], [True]]),
    ("methods", "vec", "parts.1.doses", [[], [NAN], [0.5, 0.5]]),
    ("methods", "vec", "parts.1.on_probe", [[NAN], ["x"]]),
    ("methods", "vec", "parts.1.gate", [{"condition": "sad"}, {}, {"condition": "glad", "layer": 99}, {"condition": "glad", "layer": -1}]),
    ("methods", "vec", "parts.1.gate", [{"condition": "glad", "layer": 1, "threshold": 2.0}, {"condition": "glad", "above": "no way"}]),
    ("methods", "vec", "parts.1.seed", [-1, 0.5]),
    ("methods", "asked", "parts.0.options", [{"n": 0}, {"n": 1}, {"n": "two"}, {"n": 2.5}, {"n": True}, {"select": "best"}]),
    ("methods", "asked", "parts.0.options", [{"temperature": 0}, {"temperature": NAN}, {"temperature": "hot"}, {"base": "copy"}, {"base": "x"}]),
    ("methods", "asked", "parts.0", [{"kind": "prompt", "strategy": "closed-loop", "options": o} for o in ({"rounds": 1}, {"rounds": "two"}, {"tolerance": -1}, {"tolerance": NAN})]),
    ("methods", "asked", "parts.0", [{"kind": "prompt", "strategy": "few-shot", "options": o} for o in ({"n_examples": 0}, {"n_examples": -2}, {"pool": 0}, {"n_examples": "3"})]),
    ("methods", "asked", "parts.0", [{"kind": "prompt", "strategy": "instruction", "options": o} for o in ({"n_ideas": -1}, {"n_ideas": 1.5})]),
    ("methods", "asked", "parts.0", [{"kind": "prompt", "strategy": "imported", "options": o} for o in ({}, {"path": "nowhere.csv"}, {"path": 3})]),
    ("methods", "guided", "parts.1.scale", [-1, NAN, INF, "strong"]),
    ("methods", "guided", "parts.1.against", ["direct", "best-of-n", "few-shot", "x", None]),
    ("methods", "guided", "control", ["perhaps", 2]),
)  # fmt: skip

PAIRS = '{"prompt": "Hi", "positive": "Good.", "negative": "Bad."}\n'


def put(world: World, files: dict[str, Any]) -> None:
    """Write a configuration with the data that its paths name."""
    world.write("texts.csv", "text\n" + "one two three four five\n")
    world.write("pairs.jsonl", PAIRS)
    for kind, content in files.items():
        if content is not GONE:
            world.write(kind if "." in kind else f"{kind}.yaml", content)


def configured(world: World, files: dict[str, Any]) -> None:
    put(world, files)
    start(world)


def _shown(value: Any) -> str:
    return "gone" if value is GONE else repr(value)


def of_fields() -> Iterator[Case]:
    for kind, entry, path, values in FIELDS:
        for value in values:
            body = changed(BASE[kind][entry], path, value)
            files = {**BASE, kind: {**BASE[kind], entry: body}}
            says = [f"{kind}.yaml", repr(entry)]
            yield Case(f"{kind} {entry}, {path}: {_shown(value)}", lambda w, f=files: configured(w, f), says)


#: What is wrong, the file, its whole content (`...`: a folder in its place), and what is said beside the file.
TEXTS: tuple[tuple[str, str, Any, str], ...] = (
    ("not UTF-8", "goals", "a: {unit: Stück}\n".encode("latin-1"), "UTF-8"),
    ("UTF-16", "goals", "a: {unit: words}\n".encode("utf-16"), "UTF-8"),
    ("a NUL byte", "methods", "a: {parts: []}\n\0", "not valid YAML"),
    ("binary", "models", bytes(range(128, 256)), "UTF-8"),
    ("a tab", "benches", "own:\n\tseed: 1\n", "not valid YAML"),
    ("torn", "benches", "own: {goals: [formality, ", "not valid YAML"),
    ("a list", "benches", "- own\n- other\n", "must map names to settings"),
    ("an empty list", "benches", "[]\n", "must map names to settings"),
    ("a word", "models", "embedded\n", "must map names to settings"),
    ("an empty text", "models", "''\n", "must map names to settings"),
    ("a number", "models", "0\n", "must map names to settings"),
    ("no", "methods", "no\n", "must map names to settings"),
    ("an entry without settings", "methods", "a:\n", "must map names to settings"),
    ("an entry that is a list", "goals", "a: [text_length]\n", "must map names to settings"),
    ("two documents", "goals", "a: {}\n---\nb: {}\n", "not valid YAML"),
    ("an unknown tag", "models", "a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ("an unknown anchor", "models", "a: *b\n", "not valid YAML"),
    ("an entry twice", "models", "a: {source: embedded}\na: {source: embedded}\n", "stands twice"),
    ("a setting twice", "models", "a: {source: embedded, dtype: float32, dtype: float16}\n", "stands twice"),
    ("a number as a name", "models", "1: {source: embedded}\n", "in quotes"),
    ("a number and its text as names", "models", "1: {source: embedded}\n'1': {source: ./x}\n", "in quotes"),
    ("a number in quotes as a name", "models", "'007': {source: embedded}\n", "add a letter"),
    ("a version as a name", "models", "1.10: {source: embedded}\n", "in quotes"),
    ("no as a name", "methods", "no: {parts: []}\n", "in quotes"),
    ("null as a name", "methods", "null: {parts: []}\n", "in quotes"),
    ("a date as a name", "methods", "2024-01-01: {parts: []}\n", "in quotes"),
    ("a list as a name", "methods", "? [a]\n: {parts: []}\n", "cannot be a key"),
    ("an octal number", "benches", "own: {seed: 010}\n", "010 would be read as 8"),
    ("a number in sixties", "benches", "own: {seed: 1:30}\n", "1:30 would be read as 90"),
    ("a fraction in sixties", "benches", "own: {sweep: {strengths: [1:30.5]}}\n", "1:30.5 would be read as 90.5"),
    ("a name with a bar", "models", "a|b: {source: embedded}\n", "'a|b'"),
    ("a name with a slash", "models", "a/b: {source: embedded}\n", "'a/b'"),
    ("a name of dots", "models", "..: {source: embedded}\n", "'..'"),
    ("an empty name", "models", "'': {source: embedded}\n", "''"),
    ("a name in capitals", "models", "Mine: {source: embedded}\n", "'Mine'"),
    ("a name of 81 letters", "models", f"{'a' * 81}: {{source: embedded}}\n", "'aaa"),
    ("a name with a line break", "models", '"a\\n": {source: embedded}\n', "'a\\n'"),
    ("a name inside its entry", "models", "a: {name: b, source: embedded}\n", "leave out `name`"),
    ("a method called all", "methods", "all: {parts: [{kind: prompt, strategy: direct}]}\n", "choose another"),
    ("a model called all", "models", "all: {source: embedded}\n", "choose another"),
    ("a goal called overall", "goals", "overall: {scorer: text_length, unit: w, noun: l, more: m, less: s}\n", "choose another"),
    ("settings that hold themselves", "models", "a: &a {source: embedded, template_options: {x: *a}}\n", "'a'"),
    ("a folder in its place", "models", ..., "cannot be read"),
    ("nested without end", "models", "a: " + "[" * 3000, "models.yaml"),
    ("extensions that are a list", "extensions", "[here]\n", "folders: [...]"),
    ("extensions that are empty", "extensions", "", "folders: [...]"),
    ("extensions that are no", "extensions", "no\n", "folders: [...]"),
    ("extensions with another key", "extensions", "folder: [here]\n", "folders: [...]"),
    ("extensions that are no list", "extensions", "folders: here\n", "folders: [...]"),
    ("extensions nowhere", "extensions", "folders: [nowhere]\n", "does not exist"),
    ("extensions in no folder", "extensions", "folders: [texts.csv]\n", "does not exist"),
)  # fmt: skip


def of_texts() -> Iterator[Case]:
    for what, kind, content, said in TEXTS:

        def call(world: World, kind: str = kind, content: Any = content) -> None:
            put(world, {**BASE, kind: GONE})
            if content is ...:
                (world.folder / f"{kind}.yaml").mkdir()
            else:
                world.write(f"{kind}.yaml", content)
            start(world)

        yield Case(f"{kind}.yaml: {what}", call, [f"{kind}.yaml", said])


#: Benches that name each other's place, links that lead nowhere, extensions that cannot be used.
def of_folders() -> Iterator[Case]:
    yield Case(
        "benches: two that come to one folder",
        lambda w: configured(
            w,
            {
                **BASE,
                "benches": {
                    "own": BASE["benches"]["own"],
                    "o_n": BASE["benches"]["own"],
                    "o-n": BASE["benches"]["own"],
                },
            },
        ),
        ["'o_n'", "'o-n'"],
    )
    yield Case(
        "behaviors: the name of a goal",
        lambda w: configured(
            w,
            {
                **BASE,
                "behaviors": {**BASE["behaviors"], "formality": BASE["behaviors"]["glad"]},
                "benches": {"own": changed(BASE["benches"]["own"], "behaviors", ["formality"])},
            },
        ),
        ["benches.yaml", "'formality'"],
    )
    yield Case(
        "a file that is nearly called benches.yaml",
        lambda w: configured(w, {**BASE, "bench.yaml": "a: {}\n"}),
        ["bench.yaml", "benches.yaml"],
    )

    def dangling(world: World) -> None:
        put(world, {**BASE, "benches": GONE})
        (world.folder / "benches.yaml").symlink_to(world.folder / "gone.yaml")
        start(world)

    yield Case("benches: a link that leads nowhere", dangling, ["benches.yaml", "cannot be read"])
    for what, files, said in (
        ("of no group", {"more/estimator/mine.py": "NEEDS = frozenset()"}, ["estimator", "no group"]),
        (
            "that cannot be imported",
            {"more/parts/mine.py": "import nothing_of_that_name"},
            ["mine.py", "nothing_of_that_name"],
        ),
        ("with a syntax error", {"more/parts/mine.py": "def build(:\n"}, ["mine.py"]),
        ("with the name of one of ours", {"more/estimators/leace.py": "NEEDS = frozenset()"}, ["'leace'", "leace.py"]),
    ):
        yield Case(f"an extension {what}", lambda w, f=files: _extended(w, f), said)


def _extended(world: World, files: dict[str, str]) -> None:
    for name, content in files.items():
        world.write(name, content)
    kept = list(extensions._FOLDERS)
    try:
        configured(
            world,
            {
                **BASE,
                "extensions": {"folders": ["more"]},
                "methods": changed(BASE["methods"], "vec.parts.1.estimator", "leace"),
            },
        )
    finally:
        extensions._FOLDERS[:] = kept
        extensions.available.cache_clear()
