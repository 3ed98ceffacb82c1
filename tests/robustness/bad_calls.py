"""Arguments that make no sense, given to what `import steer_core` offers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
from bad_world import Case, World, vector

import steer_core as steer
from schemas.specs import BehaviorSpec, MethodSpec
from schemas.vector_part import VectorPart

NAN, INF = math.nan, math.inf
PAIRS = [("Hi.", "Good day!", "Go away."), ("Ho.", "How nice!", "How bad.")] * 3
Call = Callable[[World], object]


def small(world: World, **changes: Any) -> dict[str, Any]:
    """A probe of two requests on a small bench."""
    return {"bench": "small", "texts": 2, "requests": 1, "config": [str(world.config)], **changes}


def fit(*args: Any, **kwargs: Any) -> Call:
    return lambda w: w.model.fit(*args, **kwargs)


def generate(*args: Any, steered: bool = False, **kwargs: Any) -> Call:
    return lambda w: w.model.generate(*args, *([w.vector] if steered else []), **{"max_new_tokens": 1, **kwargs})


def measure(*args: Any, **kwargs: Any) -> Call:
    return lambda w: steer.measure(*args, **{"model": w.model, **small(w), **kwargs})


def score(answers: Any, **kwargs: Any) -> Call:
    return lambda w: steer.score_answers(answers, **small(w, **kwargs))


def sweep(behavior: Any = "cheerfulness", strengths: Any = (0.1,), **kwargs: Any) -> Call:
    return lambda w: steer.sweep(w.model, w.vector, behavior, strengths, **kwargs)


CALLS: tuple[tuple[str, Call, str], ...] = (
    ("load: None", lambda w: steer.load(None), "a model is a name"),
    ("load: a number", lambda w: steer.load(7), "a model is a name"),
    ("load: an empty name", lambda w: steer.load(""), "model"),
    ("load: no such folder", lambda w: steer.load("./nowhere"), "nowhere"),
    ("load: a file", lambda w: steer.load(w.write("model.bin", b"x")), "model.bin"),
    ("load: no such id", lambda w: steer.load("no-org/no-model"), "revision"),
    ("load: a tokenizer for a name", lambda w: steer.load("embedded", w.model.loaded.tokenizer), "tokenizer"),
    ("load: a model without its tokenizer", lambda w: steer.load(w.model.transformers_model), "tokenizer"),
    ("load: a tokenizer that is none", lambda w: steer.load(w.model.transformers_model, "tokenizer"), "tokenizer"),
    ("load: one of ours", lambda w: steer.load(w.model), "a model is a name"),
    ("load: settings of a loaded one", lambda w: steer.load(w.model.transformers_model, w.model.loaded.tokenizer, device="cpu"), "device"),
    ("load: an unknown setting", lambda w: steer.load("embedded", quantised=True), "quantised"),
    ("load: an unknown type", lambda w: steer.load("embedded", dtype="float8"), "dtype"),
    ("load: a context that is true", lambda w: steer.load("embedded", max_context=True), "max_context"),
    ("load: a context below 0", lambda w: steer.load("embedded", max_context=-1), "max_context"),
    ("load: a name in the settings", lambda w: steer.load("embedded", name="x"), "name"),
    ("load: a source in the settings", lambda w: steer.load("embedded", source="x"), "source"),
    ("fit: no pairs", fit([]), "no pair"),
    ("fit: None", fit(None), "pairs are"),
    ("fit: a mapping", fit({"positive": "a", "negative": "b"}), "pairs are"),
    ("fit: a pair of four", fit([("a", "b", "c", "d")]), "pair 0"),
    ("fit: a text for a pair", fit(["ab"]), "pair 0"),
    ("fit: None for a text", fit([("a", None)]), "pair 0"),
    ("fit: a blank text", fit([("a", " ")]), "pair 0"),
    ("fit: bytes", fit([(b"a", b"b")]), "pair 0"),
    ("fit: a prompt that is a number", fit([(3, "a", "b")]), "pair 0"),
    ("fit: a prompt in some pairs", fit([("p", "a", "b"), ("a", "b")]), "pair 1"),
    ("fit: an unknown field", fit([{"prompt": "p", "pos": "a", "neg": "b"}]), "pair 0"),
    ("fit: a frame without columns", fit(pl.DataFrame({"a": ["x"]})), "pair 0"),
    ("fit: half a character", fit([("a \ud800", "b")] * 4), "pair 0"),
    ("fit: equal sides", fit([("a", "a")] * 4), "concept"),
    ("fit: one pair alone, of a kind that needs more", fit(PAIRS[:1], estimator="pca-difference", centered=True), "concept"),
    ("fit: no file", fit("nowhere.jsonl"), "nowhere.jsonl"),
    ("fit: a folder", lambda w: w.model.fit(w.folder), "in"),
    ("fit: a file of another kind", lambda w: w.model.fit(w.write("p.txt", "x")), "p.txt"),
    ("fit: a torn file", lambda w: w.model.fit(w.write("p.jsonl", '{"prompt": ')), "p.jsonl"),
    ("fit: an empty name", fit(PAIRS, ""), "name"),
    ("fit: a name that is none", fit(PAIRS, None), "name"),
    ("fit: an unknown estimator", fit(PAIRS, estimator="mean"), "'mean'"),
    ("fit: an estimator that is a number", fit(PAIRS, estimator=3), "estimator"),
    ("fit: an unknown option", fit(PAIRS, depth=2), "'depth'"),
    ("fit: an option of another type", fit(PAIRS, norm_preserving="very"), "norm_preserving"),
    ("fit: an option that is NaN", fit(PAIRS, estimator="logistic", C=NAN), "C"),
    ("fit: an option below its bounds", fit(PAIRS, estimator="logistic", C=-1.0), "C"),
    ("fit: steps of 0", fit(PAIRS, estimator="logistic", max_iter=0), "max_iter"),
    ("fit: an option of training in words", fit(PAIRS, estimator="bipo", epochs="two"), "epochs"),
    ("fit: an option of training below 1", fit(PAIRS, estimator="bipo", epochs=0), "epochs"),
    ("fit: a layer out of range", fit(PAIRS, layers=4), "layer 4"),
    ("fit: a layer below 0", fit(PAIRS, layers=-1), "layer -1"),
    ("fit: no layer", fit(PAIRS, layers=[]), "layers"),
    ("fit: a layer twice", fit(PAIRS, layers=[1, 1]), "layers"),
    ("fit: half a layer", fit(PAIRS, layers=[0.5]), "layers"),
    ("fit: layers in words", fit(PAIRS, layers="most"), "layers"),
    ("fit: layers that are true", fit(PAIRS, layers=True), "layers"),
    ("fit: None for layers", fit(PAIRS, layers=None), "layers"),
    ("fit: an unknown unit", fit(PAIRS, unit="percent"), "'percent'"),
    ("generate: None", generate(None), "prompts"),
    ("generate: a number", generate(3), "prompts"),
    ("generate: numbers", generate([3]), "prompts"),
    ("generate: half a character", generate("a \ud800"), "prompt"),
    ("generate: a strength and no vector", generate("a", strength=0.3), "no vector"),
    ("generate: no strength for a vector", generate("a", steered=True, strength=[]), "strength"),
    ("generate: a strength in words", generate("a", steered=True, strength="strong"), "strength"),
    ("generate: a strength that is true", generate("a", steered=True, strength=True), "strength"),
    ("generate: a strength that is none", generate("a", steered=True, strength=NAN), "strength"),
    ("generate: an infinite strength", generate("a", steered=True, strength=[0.1, INF]), "strength"),
    ("generate: no position", generate("a", steered=True, strength=0.1, positions="span:4:2"), "span:4:2"),
    ("generate: unknown positions", generate("a", steered=True, strength=0.1, positions="last"), "'last'"),
    ("generate: positions that are none", generate("a", steered=True, strength=0.1, positions=3), "positions"),
    ("generate: no token", generate("a", max_new_tokens=0), "max_new_tokens"),
    ("generate: tokens below 0", generate("a", max_new_tokens=-1), "max_new_tokens"),
    ("generate: half a token", generate("a", max_new_tokens=1.5), "max_new_tokens"),
    ("generate: a temperature below 0", generate("a", temperature=-1.0), "temperature"),
    ("generate: a temperature of NaN", generate("a", temperature=NAN), "temperature"),
    ("generate: a seed in words", generate("a", temperature=1.0, seed="x"), "seed"),
    ("generate: a seed below 0", generate("a", temperature=1.0, seed=-1), "seed"),
    ("generate: a vector that is none", lambda w: w.model.generate("a", [1.0], 0.1), "vector"),
    ("generate: a vector of another model", lambda w: w.model.generate("a", steer.Vector([vector(width=128)]), 0.1), "fitted on model"),
    ("generate: a vector of another width", lambda w: w.model.generate("a", steer.Vector([vector(model=w.model.loaded.fingerprint)]), 0.1), "width 8"),
    ("generate: a vector at a layer that is not there", lambda w: w.model.generate("a", steer.Vector([vector(9, 128, model=w.model.loaded.fingerprint)]), 0.1), "layer 9"),
    ("vector: no part", lambda w: steer.Vector([]), "at least one layer"),
    ("vector: a part that is none", lambda w: steer.Vector([3]), "vector"),
    ("vector: an unknown unit", lambda w: steer.Vector([vector()], "percent"), "percent"),
    ("vector: a unit that its operator does not know", lambda w: steer.Vector(w.vector.parts, "angle").interventions(10), "'angle'"),
    ("vector: a unit that it lacks the numbers for", lambda w: steer.Vector([vector(scalars={})], "residual_fraction").interventions(1), "residual_norm"),
    ("vector: a budget that was never measured", lambda w: steer.Vector(w.vector.parts, "kl").interventions(0.1), "kl"),
    ("apply: to nothing", lambda w: w.vector.apply(None, 0.1).__enter__(), "model"),
    ("apply: to a text", lambda w: w.vector.apply("embedded", 0.1).__enter__(), "model"),
    ("apply: a strength in words", lambda w: w.vector.apply(w.model, "x").__enter__(), "strength"),
    ("apply: of another width", lambda w: steer.Vector([vector()]).apply(w.model, 0.1).__enter__(), "width 8"),
    ("save: to a folder", lambda w: w.vector.save(w.out), "out"),
    ("save: below a file", lambda w: w.vector.save(w.out / "before" / "v"), "before"),
    ("save: a name beyond all bounds", lambda w: w.vector.save(w.out / ("v" * 300)), "vvv"),
    ("export_gguf: a strength that is none", lambda w: w.vector.export_gguf(w.out / "v.gguf", None), "strength"),
    ("export_gguf: an architecture that is none", lambda w: w.vector.export_gguf(w.out / "v.gguf", 0.1, None), "architecture"),
    ("fold: a strength that is none", lambda w: w.vector.fold(w.model, None, w.out / "folded"), "strength"),
    ("fold: an infinite strength", lambda w: w.vector.fold(w.model, INF, w.out / "folded"), "strength"),
    ("fold: onto a file", lambda w: w.vector.fold(w.model, 0.1, w.out / "before"), "before"),
    ("fold: into a model that is none", lambda w: w.vector.fold("embedded", 0.1, w.out / "folded"), "model"),
    ("read_vector: no file", lambda w: steer.read_vector(w.folder / "v.safetensors"), "v.safetensors"),
    ("read_vector: None", lambda w: steer.read_vector(None), "path"),
    ("read_vector: a model that is none", lambda w: (w.vector.save(w.folder / "v"), steer.read_vector(w.folder / "v", "embedded")), "model"),
    ("measure: an unknown method", measure("drect"), "'drect'"),
    ("measure: None", measure(None), "a method is"),
    ("measure: a prompt without its text", measure("Rewrite it."), "{text}"),
    ("measure: a method that is fitted first", measure("few-shot"), "fitted"),
    ("measure: a method of unknown parts", measure(MethodSpec.model_construct(name="x", parts=(VectorPart(estimator="mean"),), control=False, description="")), "'mean'"),
    ("measure: an unknown bench", measure("copy", bench="tails"), "'tails'"),
    ("measure: a bench that is none", measure("copy", bench=None), "bench"),
    ("measure: no text", measure("copy", texts=0), "texts"),
    ("measure: texts below 0", measure("copy", texts=-1), "texts"),
    ("measure: half a text", measure("copy", texts=1.5), "texts"),
    ("measure: more texts than there are", measure("copy", texts=10**6), "texts"),
    ("measure: no request", measure("copy", requests=0), "requests"),
    ("measure: a request that is true", measure("copy", requests=True), "requests"),
    ("measure: a model by name", measure("copy", model="embedded"), "model"),
    ("measure: a strength and no vector", measure("direct", strength=0.1), "vector"),
    ("measure: a vector and no strength", lambda w: steer.measure("direct", w.model, vector=w.vector, **small(w)), "strength"),
    ("measure: a vector and a strength of NaN", lambda w: steer.measure("direct", w.model, vector=w.vector, strength=NAN, **small(w)), "strength"),
    ("measure: a vector for a control that asks nothing", lambda w: steer.measure("copy", w.model, vector=w.vector, strength=0.1, **small(w)), "copy"),
    ("measure: a configuration that is not there", measure("copy", config=["nowhere"]), "nowhere"),
    ("measure: a configuration that is one text", measure("copy", config="nowhere"), "config"),
    ("measure: a seed below 0", measure("direct", seed=-1), "seed"),
    ("measure: a seed in words", measure("direct", seed="x"), "seed"),
    ("score_answers: none", score({}), "no answer"),
    ("score_answers: None", score(None), "answers"),
    ("score_answers: a text", score("answers"), "answers"),
    ("score_answers: strangers", score({"x": "y"}), "belong to no request"),
    ("score_answers: numbers", lambda w: steer.score_answers(dict.fromkeys(_asked(w), 3), **small(w)), "answer"),
    ("score_answers: None for an answer", lambda w: steer.score_answers(dict.fromkeys(_asked(w)), **small(w)), "answer"),
    ("score_answers: one twice", lambda w: steer.score_answers([(i, t) for i in _asked(w) for t in ("a", "b")], **small(w)), "twice"),
    ("score_answers: half of them", lambda w: steer.score_answers({_asked(w)[0]: "x"}, **small(w)), "1 of 2 requests have no answer"),
    ("score_answers: triples", lambda w: steer.score_answers([(i, "a", "b") for i in _asked(w)], **small(w)), "answers"),
    ("compare: names", lambda w: steer.compare("direct", "copy"), "must be what `measure`"),
    ("compare: other requests", lambda w: steer.compare(steer.measure("copy", w.model, **small(w)), steer.measure("copy", w.model, **small(w, texts=3))), "different requests"),
    ("page: onto a file", lambda w: steer.measure("copy", w.model, **small(w)).page(w.out / "before"), "before"),
    ("sweep: an unknown behavior", sweep("gladness"), "'gladness'"),
    ("sweep: a behavior that is none", sweep(3), "behavior"),
    ("sweep: a behavior without files", sweep(BehaviorSpec.model_validate({"name": "x", "source": {"kind": "pairs", "path": "nowhere.csv"}})), "nowhere.csv"),
    ("sweep: no strength", sweep(strengths=[]), "strengths"),
    ("sweep: a strength of NaN", sweep(strengths=[NAN]), "strengths"),
    ("sweep: strengths in words", sweep(strengths="strong"), "strengths"),
    ("sweep: one strength, not in a list", sweep(strengths=0.1), "strengths"),
    ("sweep: a strength twice", sweep(strengths=[0.1, 0.1]), "strengths"),
    ("sweep: controls below 0", sweep(random_directions=-1), "random_directions"),
    ("sweep: no token", sweep(max_new_tokens=0), "max_new_tokens"),
    ("sweep: a model by name", lambda w: steer.sweep("embedded", w.vector, "cheerfulness", [0.1]), "model"),
    ("sweep: a vector that is none", lambda w: steer.sweep(w.model, None, "cheerfulness", [0.1]), "vector"),
    ("sweep: a vector of another model", lambda w: steer.sweep(w.model, steer.Vector([vector(width=128)]), "cheerfulness", [0.1]), "fitted on model"),
)  # fmt: skip


def _asked(world: World) -> list[str]:
    """Ids of the requests that answers are scored for."""
    from steer_core.front.bench import open_bench

    return list(open_bench("small", 2, 1, (str(world.config),)).probe.requests["request_id"])


def of_calls() -> Iterator[Case]:
    for what, call, said in CALLS:
        yield Case(what, call, [said])
