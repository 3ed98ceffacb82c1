"""The identity report: engines that are right agree with the hooks, and one that is wrong is seen."""

from dataclasses import replace

import pytest

from schemas.specs import ModelSpec
from steer_core.front.identity import identity_report
from steer_core.generation.engines.transformers import TransformersBackend
from steer_core.models import load_model
from steer_core.tables.errors import ConfigError

PROMPTS = ["Tell me about a baker.", "Tell me about a rainy day in the town."]


class Deaf(TransformersBackend):
    """Answers without steering, and says nothing of it."""

    def generate(self, calls, batch_size=64):
        return super().generate(
            [replace(c, plan=replace(c.plan, interventions=())) for c in calls if c is not None], batch_size
        )


@pytest.fixture(scope="module")
def loaded():
    return load_model(ModelSpec(name="embedded", source="embedded", device="cpu"))


def test_plain_batches_and_folded_weights_agree_and_an_engine_that_does_not_steer_is_seen(loaded):
    reference = TransformersBackend(loaded)
    others = {"plain": TransformersBackend(loaded, batching="plain"), "deaf": Deaf(loaded)}
    report = {r["engine"]: r for r in identity_report(reference, others, PROMPTS, max_new_tokens=24).to_dicts()}
    for name in ("transformers, row by row", "plain"):
        row = report[name]
        assert (row["rows"], row["steered"], row["same answers"], row["receipts"]) == (10, 8, 10, "as the hooks'")
        assert row["largest difference"] < 1e-5
    assert report["folded"]["same answers"] == report["folded"]["rows"] == 2
    assert 0 < report["transformers, in double precision"]["largest difference"] < 1e-4
    assert report["deaf"]["same answers"] < 10
    assert report["deaf"]["receipts"] == "8 others"
    # the model is as it was
    assert next(loaded.model.parameters()).dtype.itemsize == 4


def test_no_prompts_and_another_model_are_mistakes(loaded):
    reference = TransformersBackend(loaded)
    with pytest.raises(ConfigError, match="needs prompts"):
        identity_report(reference, {}, [])
    stranger = Deaf(loaded)
    stranger.model_identity = "other"
    with pytest.raises(ConfigError, match="runs another model"):
        identity_report(reference, {"stranger": stranger}, PROMPTS)
