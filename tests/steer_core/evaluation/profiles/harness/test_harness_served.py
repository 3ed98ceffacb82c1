"""The harness through an endpoint: the numbers of the same model here, and what the endpoint cannot say is named."""

import polars as pl
import pytest
import torch
from fake_endpoint import Servers
from harness_world import asked, engine

from schemas.specs import ModelSpec
from steer_core.evaluation.profiles.harness import EngineLM, run_harness
from steer_core.evaluation.profiles.harness.needs import HarnessRefusalError
from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.remote.ledger import Ledger
from steer_core.models.embedded import weights_folder
from steer_core.tables.errors import SteerworksError


class Computed:
    """What the server has: the embedded model, and one forward pass a request."""

    def __init__(self):
        self.loaded = engine().loaded

    def seen(self, ids):
        return ids

    def log_probs(self, ids):
        with torch.no_grad():
            logits = self.loaded.model(input_ids=torch.tensor([ids])).logits[0].double()
        return torch.log_softmax(logits[:-1], -1).gather(1, torch.tensor(ids)[1:, None])[:, 0].tolist()

    def spell(self, token):
        return self.loaded.tokenizer.decode([token])


@pytest.fixture(scope="module")
def servers():
    started = Servers()
    yield started
    started.stop()


@pytest.fixture
def far(servers, tmp_path):
    """`far(...)`: an engine at an address that has the embedded model."""

    def made(**endpoint):
        _, address = servers.serve(scorer=Computed(), form="echo")
        said = {"base_url": address, "backoff": 0.005, "concurrency": 8, "scores": "echo", **endpoint}
        said.setdefault("tokenizer", str(weights_folder()))
        model = ModelSpec(name="far", source="served:far-1", engine="openai", max_context=512, endpoint=said)
        return OpenAiBackend(model, Ledger(tmp_path / "ledger.sqlite"))

    return made


def test_an_endpoint_scores_choices_as_the_same_model_here(far):
    found = run_harness(["everyday_facts"], EngineLM(far()), limit=8)
    here = run_harness(["everyday_facts"], EngineLM(engine(), max_length=510), limit=8)
    assert found.not_run == {}
    for column in ("doc_hash", "prompt_hash", "metric", "value"):
        assert found.samples[column].to_list() == here.samples[column].to_list()
    for theirs, ours in zip(found.samples["log_likelihoods"], here.samples["log_likelihoods"], strict=True):
        assert theirs.to_list() == pytest.approx(ours.to_list(), abs=1e-4)
    assert found.samples.select(pl.col("greedy").is_null().all()).item()


def test_what_an_endpoint_cannot_say_is_refused_by_name(far):
    with pytest.raises(HarnessRefusalError, match="backend cannot say which tokens are the likeliest"):
        EngineLM(far()).loglikelihood(asked("loglikelihood", ("Bees make", " honey")))
    with pytest.raises(HarnessRefusalError, match="backend cannot score continuations"):
        EngineLM(far(scores=None)).loglikelihood(asked("loglikelihood", ("Bees make", " honey")))
    with pytest.raises(SteerworksError, match=r"name it in `endpoint.tokenizer`"):
        EngineLM(far(scores=None, tokenizer=None))
