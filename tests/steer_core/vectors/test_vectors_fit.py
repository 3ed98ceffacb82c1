"""Fitting: one pass serves many, moments are all that is kept, and the numbers are those of the plain definition."""

import json

import numpy as np
import polars as pl
import pytest
from fitting_world import Counter, lettered, one_by_one, pairs, rows, tiny

from schemas import PreferencePairs
from schemas.vector_part import VectorPart
from steer_core.steering.vector import from_tables, to_tables
from steer_core.tables.errors import ConfigError, SteerworksError, TableError
from steer_core.tables.validation import check
from steer_core.vectors.activations import collect
from steer_core.vectors.encoding import encode_examples, pairs_of
from steer_core.vectors.estimator import available_estimators, load_estimator
from steer_core.vectors.evidence import Point
from steer_core.vectors.fit import Job, fit_many, fit_vectors
from steer_core.vectors.gather import Sides, Tally, gather, shuffle_labels
from steer_core.vectors.layers import resolve_layers
from steer_core.vectors.store import ActivationStore, Subject


def part(estimator="mean-difference", **changes):
    return VectorPart(estimator=estimator, **{"layers": (0, 1), **changes})


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("site", ["residual", "attention", "mlp"])
@pytest.mark.parametrize("read", ["answer", "last_token", "all"])
def test_the_mean_difference_is_that_of_single_full_passes(read, site, tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = pairs(8)
    found = fit_vectors(loaded, examples, part(read=read, site=site))
    assert [(v.layer, v.site, v.read, v.n_positive, v.n_negative) for v in found] == [
        (layer, site, read, 8, 8) for layer in (0, 1)
    ]
    positive = (examples["label"] == 1).to_numpy()
    for v in found:
        x = one_by_one(loaded, examples, [Point(v.layer, site)], read)[Point(v.layer, site)]
        want = x[positive].mean(axis=0) - x[~positive].mean(axis=0)
        assert np.abs(v.direction - want).max() < 1e-5 * max(1.0, np.abs(want).max())
        assert v.scalars["positive_share"] == 0.5
        assert v.scalars["residual_norm"] == pytest.approx(np.linalg.norm(x, axis=1).mean(), rel=1e-5)
        assert v.scalars["difference_norm"] == pytest.approx(np.linalg.norm(want), rel=1e-4)


def test_one_pass_serves_estimators_layers_labellings_and_concepts(tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = pl.concat([pairs(6), pairs(6, "other", seed=1)])
    jobs = [
        Job(part()),
        Job(part(read="last_token", layers="all")),
        Job(part("leace")),
        Job(part("pca-difference"), layers=(1,), concepts=("joy",)),
        Job(part("logistic", layers=(1,))),
        Job(part(), shuffle=0),
    ]
    with Counter(loaded.model) as counter:
        together = fit_many(loaded, examples, jobs, halves=False)
    once = sum(len(e.tokens) for e in encode_examples(loaded, examples, ["answer"])["answer"])
    assert counter.tokens < 1.5 * once  # padding, and the check of packing; a second pass would double it
    assert [len(vectors) for vectors in together] == [4, 4, 4, 1, 2, 4]
    alone = [fit_many(loaded, examples, [job], halves=False)[0] for job in jobs]
    for a, b in zip((v for vs in together for v in vs), (v for vs in alone for v in vs), strict=True):
        assert (a.concept, a.layer, a.estimator, a.control) == (b.concept, b.layer, b.estimator, b.control)
        assert all(np.allclose(a.tensors[n], b.tensors[n], atol=2e-5) for n in b.tensors)


@pytest.mark.parametrize("needs", [set(), {"covariance"}, {"differences", "difference_covariance"}])
def test_memory_does_not_grow_with_the_number_of_pairs(needs, tiny_model):
    loaded = tiny(tiny_model("llama"))

    def kept(n):
        examples = pairs(n)
        tally = Tally("joy", "answer", Sides.of(examples), 32)
        tally.want(Point(0), frozenset(needs))
        most = 0

        class Watched:
            concept, read, points = "joy", "answer", [Point(0)]

            def add(self, point, places, rows_):
                nonlocal most
                tally.add(point, places, rows_)
                most = max(most, tally.waiting)

        gather(loaded, examples, [Watched()], keep_pairs=bool(needs), tokens_per_batch=256)
        moments = [*tally._classes.values(), *tally._differences.values()]
        assert not tally._rows
        assert sum(m.n for m in tally._classes.values()) == 2 * n
        numbers = sum(m.total.size + (0 if m.outer is None else m.outer.size) for m in moments)
        return numbers, most

    few, many = kept(6), kept(40)
    assert few[0] == many[0] > 0
    assert few[1] == many[1] == 0  # no side waits for the other


def test_paired_differences_do_not_depend_on_the_batches(tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = pairs(9)
    x = one_by_one(loaded, examples, [Point(1)], "answer")[Point(1)]
    positive = (examples["label"] == 1).to_numpy()
    differences = x[positive] - x[~positive]
    for keep_pairs in (False, True):
        tally = Tally("joy", "answer", Sides.of(examples), 32)
        tally.want(Point(1), frozenset({"differences", "difference_covariance", "rows"}))
        gather(loaded, examples, [tally], keep_pairs=keep_pairs, tokens_per_batch=64, share_prefix=False)
        evidence = tally.evidence(Point(1))
        assert evidence.difference.n == 9
        assert np.allclose(evidence.pairs.mean, differences.mean(axis=0), atol=1e-5)
        assert np.allclose(evidence.pairs.covariance(), np.cov(differences.T), atol=1e-4)
        # rows come in the order of the pairs
        assert np.allclose(evidence.positive_rows - evidence.negative_rows, differences, atol=1e-5)


def test_reliability_is_the_cosine_of_two_disjoint_halves(tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = pairs(10)
    halves = Sides.of(examples).halves
    assert sorted(np.bincount(halves)) == [10, 10]
    assert all(g["label"].n_unique() == 2 for _, g in examples.with_columns(half=halves).group_by("half"))
    v = fit_vectors(loaded, examples, part(layers=(1,)))[0]
    parts = [fit_vectors(loaded, examples.filter(halves == h), part(layers=(1,)), halves=False)[0] for h in (0, 1)]
    assert v.reliability == pytest.approx(cosine(parts[0].direction, parts[1].direction), abs=1e-5)
    assert parts[0].reliability is None
    drawn = fit_vectors(loaded, examples, part("random-direction", layers=(1,)))[0]
    assert drawn.reliability is None  # the same draw twice says nothing


def test_shuffled_labels_are_half_exchanged_and_named(tiny_model):
    examples = pairs(10)
    shuffled = shuffle_labels(examples, 3)
    changed = (shuffled["label"] != examples["label"]).to_numpy()
    assert changed.sum() == 10  # both sides of five pairs
    assert shuffled.group_by("pair_id").agg(pl.col("label").n_unique())["label"].to_list() == [2] * 10
    assert shuffle_labels(examples, 3).equals(shuffled)
    assert not shuffle_labels(examples, 4).equals(shuffled)
    loaded = tiny(tiny_model("llama"))
    real, control = fit_vectors(loaded, examples, part())[1], fit_vectors(loaded, examples, part(), shuffle_labels=3)[1]
    assert control.control == "shuffled:3"
    assert control.norm < real.norm
    with pytest.raises(SteerworksError, match="too few examples to shuffle"):
        shuffle_labels(pairs(1), 0)


def test_unpaired_examples_keep_their_shares_when_shuffled_and_halved():
    examples = rows([(f"Prompt {i}.", "", "") for i in range(12)], kind="prompts").filter(
        pl.col("label") == (pl.col("row") % 3 == 0).cast(int)
    )
    sides = Sides.of(examples)
    assert (sides.pairs == -1).all()
    assert [np.bincount(sides.labels[sides.halves == h]).tolist() for h in (0, 1)] == [[4, 2], [4, 2]]
    shuffled = shuffle_labels(examples, 0)
    assert shuffled["label"].sum() == examples["label"].sum() == 4
    assert not shuffled.equals(examples)


def test_a_store_is_read_back_without_the_model(tiny_model, tmp_path, monkeypatch):
    loaded = tiny(tiny_model("llama"))
    store = ActivationStore(tmp_path / "store")
    examples = pairs(7)
    plain = fit_vectors(loaded, examples, part())
    first = fit_vectors(loaded, examples, part(), store=store)

    def refuse(*_args, **_kwargs):
        raise AssertionError("the model was run")

    monkeypatch.setattr(loaded.model, "forward", refuse)
    again = fit_many(
        loaded, examples, [Job(part()), Job(part("leace")), Job(part("logistic", layers=(1,)))], store=store
    )
    for a, b, c in zip(plain, first, again[0], strict=True):
        assert b.id == c.id
        assert np.allclose(a.direction, b.direction, atol=1e-5)
    with pytest.raises(AssertionError, match="the model was run"):  # another reading is not in the store
        fit_vectors(loaded, examples, part(read="last_token"), store=store)
    with pytest.raises(AssertionError, match="the model was run"):  # nor are other examples
        fit_vectors(loaded, pairs(8), part(), store=store)
    assert not list(store.root.rglob("*.tmp"))


def test_a_store_publishes_nothing_half_written_and_notices_damage(tmp_path):
    store, subject = ActivationStore(tmp_path), Subject("m", "t", "answer", ("a", "b"))
    with (
        pytest.raises(TableError, match="1 of 2 activations of layer 1 were never written"),
        store.writing(subject, [Point(1)], 3) as arrays,
    ):
        arrays[Point(1)][0] = 1.0
    assert store.missing(subject, [Point(1)]) == [Point(1)]
    with store.writing(subject, [Point(1)], 3) as arrays:
        arrays[Point(1)][:] = [[1, 2, 3], [4, 5, 6]]
    assert store.read(subject, Point(1)).tolist() == [[1, 2, 3], [4, 5, 6]]
    about = json.loads((tmp_path / subject.key / "examples.json").read_text())
    assert about == {"model": "m", "template": "t", "read": "answer", "examples": ["a", "b"]}
    file = next(tmp_path.rglob("*.npy"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(TableError, match="remove it"):
        store.read(subject, Point(1))
    with pytest.raises(TableError, match="has no rows of layer 2"):
        store.read(subject, Point(2))


def test_names_and_options_are_checked_before_anything_runs(tiny_model, monkeypatch):
    loaded = tiny(tiny_model("llama"))
    monkeypatch.setattr(loaded.model, "forward", None)
    for wrong, said in [
        (
            part("mean-diference"),
            r"unknown estimator 'mean-diference'; there are: ablation,.*Did you mean 'mean-difference'",
        ),
        (part("leace", options={"shrink": True}), r"estimator 'leace': unknown option 'shrink'; it takes: shrinkage"),
        (part(layers=(5,)), "there is no layer 5: the model has layers 0 to 1"),
        (part(operator="push"), "unknown operator 'push'"),
    ]:
        with pytest.raises(SteerworksError, match=said):
            fit_vectors(loaded, pairs(3), wrong)
    with pytest.raises(SteerworksError, match="no training examples"):
        fit_vectors(loaded, pairs(3, split="test"), part())
    with pytest.raises(SteerworksError, match="no training examples of calm"):
        fit_many(loaded, pairs(3), [Job(part(), concepts=("calm",))])


def test_every_estimator_says_what_it_needs():
    assert {"mean-difference", "leace", "bipo"} <= set(available_estimators())
    for name in available_estimators():
        found = load_estimator(name)
        assert hasattr(found.module, "train" if found.trains else "fit")


def test_layers_are_resolved_by_name_or_number():
    assert resolve_layers("middle", 4) == (2,)
    assert resolve_layers("middle", 5) == (2,)
    assert resolve_layers("all", 3) == (0, 1, 2)
    assert resolve_layers((2, 0), 3) == (2, 0)
    for wrong in ((3,), (-1,), (1, 1), ()):
        with pytest.raises(ConfigError, match="layer"):
            resolve_layers(wrong, 3)


def test_test_examples_are_never_looked_at_and_lineage_follows_the_data(tiny_model):
    loaded = tiny(tiny_model("llama"))
    examples = pairs(6)
    one = fit_vectors(loaded, examples, part())[0]
    # longer than the context: reading it would be an error
    forbidden = rows([("Hm?", "yes " * 400, "no")], split="test")
    two = fit_vectors(loaded, pl.concat([examples[::-1], forbidden]), part())[0]
    assert one.lineage == two.lineage
    assert np.allclose(one.direction, two.direction, atol=1e-5)
    other = fit_vectors(loaded, pairs(7), part())[0]
    assert other.lineage["examples"] != one.lineage["examples"]
    assert other.lineage["part"] == one.lineage["part"] == part().spec_hash
    assert one.lineage["seed"] == 0
    read = from_tables(*to_tables([one, other]), model=loaded.fingerprint, width=32)
    assert [v.id for v in read] == [one.id, other.id]


def test_the_part_may_name_another_operator_that_fits(tiny_model):
    loaded = tiny(tiny_model("llama"))
    assert fit_vectors(loaded, pairs(3), part(operator="ablate"))[0].operator == "ablate"
    with pytest.raises(SteerworksError, match="operator 'transport' cannot apply"):
        fit_vectors(loaded, pairs(3), part(operator="transport"))


def test_logit_regression_reads_before_the_letter(tiny_model):
    import torch

    loaded = tiny(tiny_model("llama"))
    examples = lettered(12)
    v = fit_vectors(loaded, examples, part("logit-regression", layers=(1,)))[0]
    x, z = [], []
    for one in encode_examples(loaded, examples, ["before_letter"])["before_letter"]:
        if one.label == 0:
            continue
        other = next(
            e
            for e in encode_examples(loaded, examples, ["letter"])["letter"]
            if e.pair_id == one.pair_id and e.label == 0
        )
        with torch.no_grad():
            out = loaded.model(torch.tensor(one.tokens[None].astype(np.int64)), output_hidden_states=True)
        z.append(float(out.logits[0, -1, one.letter_token] - out.logits[0, -1, other.letter_token]))
        seen = {}
        handle = loaded.model.model.layers[1].register_forward_hook(lambda _m, _i, o, seen=seen: seen.update(o=o))
        with torch.no_grad():
            loaded.model(torch.tensor(one.tokens[None].astype(np.int64)))
        handle.remove()
        hidden = seen["o"][0] if isinstance(seen["o"], tuple) else seen["o"]
        x.append(hidden.reshape(-1, 32)[-1].double().numpy())
    x, z = np.stack(x), np.array(z)
    want = (x - x.mean(axis=0)).T @ (z - z.mean()) / (len(z) - 1) / z.std(ddof=1)
    assert np.abs(v.direction - want).max() < 1e-4 * np.abs(want).max()
    assert (v.read, v.n_positive, v.n_negative) == ("before_letter", 12, 0)
    assert "positive_share" not in v.scalars
    with pytest.raises(SteerworksError, match="has no answer letter"):
        fit_vectors(loaded, pairs(4), part("logit-regression"))


def test_trained_estimators_get_pairs_with_a_validation_split(tiny_model):
    loaded = tiny(tiny_model("llama"))
    options = {"epochs": 1, "batch": 4, "warmup": 1}
    real = fit_vectors(loaded, pairs(8), part("bipo", layers=(0,), options=options))
    control = fit_vectors(loaded, pairs(8), part("bipo", layers=(0,), options=options), shuffle_labels=1)
    assert [(v.operator, v.n_positive, v.reliability) for v in real] == [("add", 8, None)]
    assert real[0].lineage["n_train"] + real[0].lineage["n_validation"] == 8
    assert control[0].control == "shuffled:1"
    assert abs(cosine(real[0].direction, control[0].direction)) < 0.99
    again = fit_many(loaded, pairs(8), [Job(part("bipo", layers=(0,), options=options), seed=5)])[0][0]
    assert again.lineage["seed"] == 5


def test_whole_prompts_are_held_out_for_validation_only_where_there_are_none():
    examples = pl.concat([pairs(20), rows([("The same prompt.", f"yes {i}", f"no {i}") for i in range(20)], "other")])
    found = check(pairs_of(examples), PreferencePairs)
    joy = found.filter(pl.col("concept") == "joy")
    assert joy["split"].value_counts().sort("split").rows() == [("train", 18), ("validation", 2)]
    # of several prompts none is on both sides; the only one cannot be held out whole
    for concept, n_prompts in (("joy", 20), ("other", 1)):
        sides = found.filter(pl.col("concept") == concept).group_by("messages").agg(pl.col("split").n_unique())
        assert (sides.height, max(sides["split"])) == (n_prompts, 1 if n_prompts > 1 else 2)
    given_ = pairs_of(pl.concat([pairs(6), pairs(3, split="validation", seed=2)]))
    assert given_["split"].value_counts().sort("split").rows() == [("train", 6), ("validation", 3)]
    row = examples.filter(pl.col("pair_id") == joy["pair_id"][0])
    assert joy.row(0, named=True)["chosen"] == row.filter(pl.col("label") == 1)["answer"][0]
    assert pairs_of(examples.with_columns(answer=pl.lit(""))).is_empty()


def test_pairs_that_all_follow_one_prompt_are_held_out_one_by_one():
    examples = pairs(40).with_columns(messages=pl.lit(pairs(1)["messages"][0]))
    found = check(pairs_of(examples), PreferencePairs)
    assert found["messages"].n_unique() == 1
    held = found.filter(pl.col("split") == "validation").height
    assert 4 <= held < found.height / 2


def test_unit_batches_hold_every_reading_of_a_pair(tiny_model):
    loaded = tiny(tiny_model("llama"))
    encoded = encode_examples(loaded, pairs(3), ["answer", "prompt"])
    batches = list(collect(loaded, [*encoded["answer"], *encoded["prompt"]], [Point(0)], keep_pairs=True))
    assert sorted(i for b in batches for i in b.indices) == list(range(12))
