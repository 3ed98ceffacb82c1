"""Scrubbing through depth: every edit is fitted under the edits above it, and together they do what each promises."""

from functools import partial

import numpy as np
import polars as pl
import pytest
import torch

from schemas import ContrastExamples
from schemas.specs import ModelSpec
from steer_core.models.loading import load_model
from steer_core.steering.hooks import Steering
from steer_core.steering.intervention import Intervention
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.vectors.estimators import ace, leace, orthogonal
from steer_core.vectors.estimators import scrub as scrub_estimator
from steer_core.vectors.evidence import Point
from steer_core.vectors.scrubbing import Reading, scrub


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_model(ModelSpec(name="tiny", source=str(tiny_model("llama"))))


@pytest.fixture(scope="module")
def readings():
    """Texts of two vocabularies and many lengths; unbalanced, so that a wrong denominator shows."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(48):
        positive = i % 3 == 0
        low, high = (10, 150) if positive else (100, 250)
        tokens = tuple(int(t) for t in rng.integers(low, high, size=rng.integers(3, 12)))
        made.append(Reading(tokens, len(tokens) - 1, len(tokens), positive))
    return made


def writes(loaded, readings, edits, upto, coefficient):
    """The write of sublayer number `upto` at each text's last token, text by text, under the first `upto` edits."""
    points = list(edits)
    vectors, chain = {}, []
    for point, fit in points[:upto]:
        vector = SteeringVector(
            "c", fit.operator, point.layer, fit.tensors, fit.scalars, loaded.fingerprint, site=point.site
        )
        vectors[vector.id] = vector
        chain.append(Intervention(fit.operator, vector.id, point.layer, coefficient, site=point.site))
    point = points[min(upto, len(points) - 1)][0]
    layer = loaded.model.model.layers[point.layer]
    module = layer.self_attn if point.site == "attention" else layer.mlp
    steering = Steering(loaded.model, vectors, loaded.fingerprint)
    rows = []
    for reading in readings:
        with steering.apply([tuple(chain)], [len(reading.tokens)]), torch.no_grad():
            handle = module.register_forward_hook(
                lambda _m, _a, out: rows.append((out[0] if isinstance(out, tuple) else out)[0, -1].double().numpy())
            )
            loaded.model(
                input_ids=torch.tensor([reading.tokens]), attention_mask=torch.ones(1, len(reading.tokens)).long()
            )
            handle.remove()
    labels = np.array([r.positive for r in readings])
    rows = np.stack(rows)
    return rows[labels], rows[~labels]


def test_there_is_one_edit_for_each_sublayer_in_the_order_of_depth(loaded, readings):
    found = scrub(loaded, readings, "c", [1, 0], leace.fit)
    assert [(p.layer, p.site) for p, _ in found] == [(0, "attention"), (0, "mlp"), (1, "attention"), (1, "mlp")]
    assert [p.layer for p, _ in scrub(loaded, readings, "c", [1], leace.fit)] == [1, 1]


@pytest.mark.parametrize("multiplier", [0.0, 0.7])
def test_each_direction_is_the_full_mean_difference_of_what_is_read_under_the_edits_above(loaded, readings, multiplier):
    """Ratio 1 to the mean difference, also with a third of the examples positive: not half, not the base rate."""
    found = scrub(loaded, readings, "c", [0, 1], leace.fit, multiplier=multiplier)
    for k, (_, fit) in enumerate(found):
        positive, negative = writes(loaded, readings, found, k, multiplier)
        difference = positive.mean(0) - negative.mean(0)
        np.testing.assert_allclose(fit.tensors["direction"][0], difference, atol=1e-5)
        ratio = fit.tensors["direction"][0] @ difference / (difference @ difference)
        assert ratio == pytest.approx(1.0, abs=1e-3)


def test_the_edits_above_are_seen_by_those_below(loaded, readings):
    alone = scrub(loaded, readings, "c", [1], leace.fit)
    under = scrub(loaded, readings, "c", [0, 1], leace.fit)[2:]
    pushed = scrub(loaded, readings, "c", [0, 1], leace.fit, multiplier=1.5)
    for one, other in ((alone, under), (under, pushed[2:])):
        assert not np.allclose(one[0][1].tensors["center"], other[0][1].tensors["center"], atol=1e-4)
    # nothing stands above the first
    first = scrub(loaded, readings, "c", [0], leace.fit)[0][1]
    np.testing.assert_array_equal(pushed[0][1].tensors["center"], first.tensors["center"])


@pytest.mark.parametrize(
    ("fit", "multiplier"),
    [
        (leace.fit, 0.0),
        (leace.fit, 0.7),
        (partial(leace.fit, shrinkage=False), 0.0),
        (orthogonal.fit, 0.7),
        (ace.fit, 1.0),
    ],
)
def test_under_all_edits_the_class_means_are_equal_at_every_sublayer(loaded, readings, fit, multiplier):
    found = scrub(loaded, readings, "c", [0, 1], fit, multiplier=multiplier)
    for k, (_, edit) in enumerate(found):
        positive, negative = writes(loaded, readings, found, k, multiplier)
        left, right, center, direction = (
            edit.tensors[n].astype(float) for n in ("left", "right", "center", "direction")
        )

        def edited(rows, left=left, right=right, center=center, direction=direction):
            return rows - (rows - center) @ right.T @ left + multiplier * direction

        gap = edited(positive).mean(0) - edited(negative).mean(0)
        assert np.linalg.norm(gap) < 1e-3 * np.linalg.norm(direction)


def test_batches_and_padding_change_nothing(loaded, readings):
    wide = scrub(loaded, readings, "c", [0, 1], leace.fit, multiplier=0.5)
    narrow = scrub(loaded, readings, "c", [0, 1], leace.fit, multiplier=0.5, tokens_per_batch=1)
    for (_, one), (_, other) in zip(wide, narrow, strict=True):
        for name in one.tensors:
            np.testing.assert_allclose(one.tensors[name], other.tensors[name], rtol=1e-3, atol=1e-4)


def test_a_pass_stops_at_the_sublayer_that_is_read(loaded, readings):
    calls = []
    handles = [
        module.register_forward_hook(lambda _m, _a, _o, name=name: calls.append(name))
        for name, module in (("layer1", loaded.model.model.layers[1]), ("head", loaded.model.lm_head))
    ]
    scrub(loaded, readings, "c", [0, 1], leace.fit)
    for handle in handles:
        handle.remove()
    assert calls == []  # the last sublayer is inside layer 1, which therefore never returns


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "qwen2"])
def test_other_families_are_scrubbed_by_the_same_code(tiny_model, readings, family):
    other = load_model(ModelSpec(name="tiny", source=str(tiny_model(family))))
    found = scrub(other, readings, "c", [0, 1], leace.fit)
    assert len(found) == 4
    assert all(np.isfinite(t).all() for _, fit in found for t in fit.tensors.values())


def test_the_model_is_left_without_hooks(loaded, readings):
    scrub(loaded, readings, "c", [0], leace.fit)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in loaded.model.modules())


def test_classes_that_do_not_differ_are_refused(loaded, readings):
    same = [Reading(r.tokens, r.start, r.stop, positive) for r in readings for positive in (True, False)]
    with pytest.raises(SteerworksError, match="nothing to scrub"):
        scrub(loaded, same, "c", [0], leace.fit)
    with pytest.raises(SteerworksError, match="0 negative examples"):
        scrub(loaded, [r for r in readings if r.positive], "c", [0], leace.fit)
    with pytest.raises(SteerworksError, match="layer 2 is out of range"):
        scrub(loaded, readings, "c", [2], leace.fit)


def examples(n=24):
    """Contrast examples of a concept, one of another concept and one of the test split."""
    rows = [
        {
            "example_id": f"e{i}",
            "concept": "warm" if i < n else "other",
            "kind": "open",
            "split": "test" if i == n - 1 else "train",
            "pair_id": f"p{i // 2}",
            "label": i % 2,
            "messages": '[{"role": "user", "content": "Please rewrite the text ' + "so " * (i % 5) + '."}]',
            "answer": ("more formal" if i % 2 else "longer text so") + " that" * (i % 3),
            "letter": None,
            "source": "made",
            "row": i,
        }
        for i in range(n + 1)
    ]
    return pl.DataFrame(rows, schema=ContrastExamples.empty().schema)


@pytest.mark.parametrize("read", ["last_token", "answer"])
def test_the_estimator_reads_contrast_examples(loaded, read):
    points = [Point(1), Point(0)]
    found = scrub_estimator.train(
        loaded, pl.DataFrame(), examples(), "warm", points, 0, multiplier=0.5, method="orthogonal", read=read
    )
    assert [(p.layer, p.site) for p, _ in found] == [(0, "attention"), (0, "mlp"), (1, "attention"), (1, "mlp")]
    assert {f.operator for _, f in found} == {"affine"}
    # 12 examples show the concept; one of them is for testing only
    assert found[0][1].scalars == {"positive_share": pytest.approx(11 / 23), "scrub_multiplier": 0.5}
    changed = scrub_estimator.train(
        loaded,
        pl.DataFrame(),
        examples().with_columns(answer=pl.col("answer") + " longer"),
        "warm",
        points,
        0,
        read=read,
    )
    assert not np.allclose(changed[0][1].tensors["center"], found[0][1].tensors["center"])


def test_the_estimator_names_what_is_wrong(loaded):
    train = partial(scrub_estimator.train, loaded, pl.DataFrame())
    with pytest.raises(ConfigError, match="unknown method 'quad'; there are leace, orthogonal, ace"):
        train(examples(), "warm", [Point(0)], 0, method="quad")
    with pytest.raises(ConfigError, match="read must be"):
        train(examples(), "warm", [Point(0)], 0, read="letter")
    with pytest.raises(SteerworksError, match="no training examples of 'cold'"):
        train(examples(), "cold", [Point(0)], 0)
    with pytest.raises(SteerworksError, match=r"e0 \(row 0 of made\) has no answer to read"):
        train(examples().with_columns(answer=pl.lit("")), "warm", [Point(0)], 0, read="answer")
    with pytest.raises(SteerworksError, match=r"e0 \(row 0 of made\) has \d+ tokens; the model's context has 256"):
        train(examples().with_columns(answer=pl.lit("text " * 300)), "warm", [Point(0)], 0)
