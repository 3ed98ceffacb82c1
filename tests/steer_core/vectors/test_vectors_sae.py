"""Features of a small sparse autoencoder, trained here: read from both formats, and steered as by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from sklearn.metrics import roc_auc_score
from test_vectors_detection import examples

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models.loading import load_model
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError
from steer_core.vectors.detection import activations_of
from steer_core.vectors.evidence import Point
from steer_core.vectors.sae import load_sae
from steer_core.vectors.sae_ranking import rank_features

LAYER, FEATURES = 1, 192


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))


@pytest.fixture(scope="module")
def sides(loaded):
    """Activations, labels and pairs of fitted and tested examples."""
    found = []
    for rows in (examples(96, 0), examples(48, 1)):
        x = activations_of(loaded, rows, [Point(LAYER)], "last_token")[Point(LAYER)]
        found.append((x, rows["label"].to_numpy() == 1, rows["pair_id"].to_list()))
    return found


@pytest.fixture(scope="module")
def arrays(sides):
    """A ReLU autoencoder with an L1 penalty, a few hundred steps on the fitted activations."""
    torch.manual_seed(0)
    x = torch.tensor(sides[0][0], dtype=torch.float32)
    center, width = x.mean(dim=0), x.shape[1]
    decoder = torch.nn.functional.normalize(torch.randn(FEATURES, width), dim=1).requires_grad_()
    encoder = decoder.detach().T.clone().requires_grad_()
    bias = torch.zeros(FEATURES, requires_grad=True)
    optimizer = torch.optim.Adam([encoder, decoder, bias], lr=3e-3)
    for _ in range(300):
        features = torch.relu((x - center) @ encoder + bias)
        loss = ((features @ decoder + center - x) ** 2).sum(dim=1).mean() + 0.05 * features.sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    named = {"W_enc": encoder, "W_dec": decoder, "b_enc": bias, "b_dec": center}
    return {n: t.detach().numpy().copy() for n, t in named.items()}


def saelens(folder, arrays, **changed):
    folder.mkdir(exist_ok=True)
    save_file(arrays, folder / "sae_weights.safetensors")
    told = {"architecture": "standard", "d_in": 128, "d_sae": FEATURES, "hook_name": f"blocks.{LAYER}.hook_resid_post",
            "apply_b_dec_to_input": True, "normalize_activations": "none"}  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(told | changed))
    return folder


@pytest.fixture(scope="module")
def sae(tmp_path_factory, arrays):
    return load_sae(saelens(tmp_path_factory.mktemp("sae"), arrays))


def test_a_folder_of_saelens_is_read_and_encodes_as_its_formula(sae, arrays, sides):
    x = sides[1][0].astype(np.float32)
    by_hand = np.maximum((x - arrays["b_dec"]) @ arrays["W_enc"] + arrays["b_enc"], 0.0)
    assert (sae.layer, sae.site, sae.width, sae.features) == (LAYER, "residual", 128, FEATURES)
    assert np.allclose(sae.encode(x), by_hand, atol=1e-4)
    assert np.allclose(sae.decode(by_hand), by_hand @ arrays["W_dec"] + arrays["b_dec"], atol=1e-4)
    # it was trained: it explains most of what it was not trained on, with few features
    left = ((sae.decode(sae.encode(x)) - x) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    assert left < 0.5
    assert (sae.encode(x) > 0).mean() < 0.5


def test_params_of_gemma_scope_are_a_jump_relu_with_a_threshold_of_its_own(tmp_path, arrays, sides):
    threshold = np.full(FEATURES, 0.3, dtype=np.float32)
    np.savez(tmp_path / "params.npz", **arrays, threshold=threshold)
    found = load_sae(tmp_path / "params.npz", layer=LAYER)
    x = sides[1][0].astype(np.float32)
    z = x @ arrays["W_enc"] + arrays["b_enc"]
    assert np.allclose(found.encode(x), np.where(z > 0.3, z, 0.0), atol=1e-4)
    with pytest.raises(SteerworksError, match="give `layer`, `site`"):
        load_sae(tmp_path / "params.npz")


@pytest.mark.parametrize(
    ("hook", "place"),
    [
        ("blocks.3.hook_resid_post", (3, "residual")),
        ("blocks.3.hook_resid_pre", (2, "residual")),
        ("blocks.3.hook_mlp_out", (3, "mlp")),
        ("blocks.3.hook_attn_out", (3, "attention")),
    ],
)
def test_hooks_are_places(tmp_path, arrays, hook, place):
    found = load_sae(saelens(tmp_path / "sae", arrays, hook_name=hook))
    assert (found.layer, found.site) == place
    # newer files keep the hook apart
    told = json.loads((tmp_path / "sae" / "cfg.json").read_text())
    (tmp_path / "sae" / "cfg.json").write_text(json.dumps({**told, "hook_name": "", "metadata": {"hook_name": hook}}))
    again = load_sae(tmp_path / "sae")
    assert (again.layer, again.site) == place


def test_damaged_and_foreign_files_say_what_is_wrong(tmp_path, arrays):
    with pytest.raises(SteerworksError, match="neither a folder"):
        load_sae(tmp_path / "nothing.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SteerworksError, match=r"no cfg\.json"):
        load_sae(tmp_path / "empty")
    with pytest.raises(SteerworksError, match="'W_dec'.*it has"):
        load_sae(saelens(tmp_path / "a", {n: a for n, a in arrays.items() if n != "W_dec"}))
    with pytest.raises(SteerworksError, match="'b_enc' has shape"):
        load_sae(saelens(tmp_path / "b", {**arrays, "b_enc": arrays["b_enc"][:5].copy()}))
    with pytest.raises(SteerworksError, match="normalised"):
        load_sae(saelens(tmp_path / "c", arrays, normalize_activations="layer_norm"))
    with pytest.raises(SteerworksError, match="or before the first"):
        load_sae(saelens(tmp_path / "d", arrays, hook_name="blocks.0.hook_resid_pre"))
    # never a pickle
    np.savez(tmp_path / "params.npz", W_enc=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SteerworksError, match="cannot be read"):
        load_sae(tmp_path / "params.npz", layer=1)


def test_features_that_hang_on_each_other_can_be_added_and_no_more(sae, loaded):
    topk = replace(sae, architecture="topk")
    assert topk.vector(3, loaded.fingerprint).operator == "add"
    for how in ("clamp", "scale"):
        with pytest.raises(SteerworksError, match="'topk' autoencoder cannot be"):
            topk.vector(3, loaded.fingerprint, how)
    with pytest.raises(SteerworksError, match="has 192, counted from 0"):
        sae.vector(192, loaded.fingerprint)


def strongest(sae, sides):
    return int(sae.encode(sides[0][0]).mean(axis=0).argmax())


@pytest.mark.parametrize(
    ("how", "strength", "wanted"),
    [
        ("add", 2.0, lambda h, a, d: h + 2.0 * d),
        ("clamp", 1.5, lambda h, a, d: h + (1.5 - a) * d),
        ("clamp", 0.0, lambda h, a, d: h - a * d),
        ("scale", 0.5, lambda h, a, d: h + 0.5 * a * d),
        ("scale", -1.0, lambda h, a, d: h - a * d),
    ],
)
def test_steering_is_the_formula_at_every_position(sae, sides, loaded, how, strength, wanted):
    """Logits of a steered pass equal those under a hook that computes the formula with the published arrays."""
    feature = strongest(sae, sides)
    vector = sae.vector(feature, loaded.fingerprint, how)
    backend = TransformersBackend(loaded, [vector])
    step = Intervention(vector.operator, vector.id, LAYER, strength)
    plan = Plan(backend.model_identity, Decoding(max_new_tokens=1), text="The clerk sings a song near the mill.")
    text = " It was lovely."
    (ours,) = backend.score([replace(plan, interventions=(step,))], [text])
    encoder, decoder = torch.tensor(sae.encoder[feature]), torch.tensor(sae.decoder[feature])

    def hook(module, inputs, output):
        hidden = output[0] if isinstance(output, tuple) else output
        a = torch.relu(hidden @ encoder + float(sae.bias[feature]))[..., None]
        new = wanted(hidden, a, decoder)
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = loaded.model.model.layers[LAYER].register_forward_hook(hook)
    (by_hand,) = backend.score([plan], [text])
    handle.remove()
    (plain,) = backend.score([plan], [text])
    assert np.allclose(ours, by_hand, atol=1e-4)
    assert not np.allclose(ours, plain, atol=1e-3)


def test_features_are_chosen_on_one_side_and_told_on_the_other(sae, sides):
    fitted, tested = sides
    rows = rank_features(sae, fitted[:2], tested, top=5)
    assert rows.height == 5
    assert (rows["fitted_auroc"] - 0.5).abs().is_sorted(descending=True)
    values = sae.encode(tested[0])
    for row in rows.iter_rows(named=True):
        assert row["auroc"] == pytest.approx(roc_auc_score(tested[1], values[:, row["feature"]]))
        assert row["low"] <= row["auroc"] <= row["high"]
    # the best of many is too good where it was chosen; with labels that say nothing, by all of it
    rng = np.random.default_rng(0)
    null = rank_features(
        sae, (fitted[0], rng.permutation(fitted[1])), (tested[0], rng.permutation(tested[1]), tested[2])
    )
    assert (null["fitted_auroc"] - 0.5).abs().mean() > (null["auroc"] - 0.5).abs().mean()
    assert ((null["low"] <= 0.5) & (null["high"] >= 0.5)).mean() > 0.8
    with pytest.raises(SteerworksError, match="all examples are of one"):
        rank_features(sae, (fitted[0], np.ones(len(fitted[0]), dtype=bool)), tested)
