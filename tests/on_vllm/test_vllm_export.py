"""Adapters in vLLM: exported ones write what the merged checkpoint and our engine write; served ones are found by name."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from vllm_world import PYTHON

from schemas.endpoints import VllmServer
from schemas.specs import Decoding
from steer_core.adapters.export import export_adapter, vllm_rank
from steer_core.generation.backend import Call, answer_all
from steer_core.generation.engines.vllm import VllmBackend
from steer_core.generation.servers.command import ServeOptions
from steer_core.generation.servers.offline import OfflineEngine
from steer_core.generation.servers.server import Server
from steer_core.models.embedded import weights_folder
from steer_core.steering.plan import Plan
from steer_core.tables.errors import SteerworksError
from tests.steer_core.adapters.export_world import (
    EMBEDDED,
    PROMPTS,
    WRITTEN,
    of_engine,
    prompts,
    settings,
    write_adapter,
)

pytestmark = pytest.mark.vllm


def written(engine, model, tokens):
    """Greedy tokens of a vLLM."""
    body = {"model": model, "prompt": list(tokens), "max_tokens": WRITTEN, "temperature": 0, "return_token_ids": True}
    return list(engine.complete(body)["token_ids"])


def test_lora_merged_weights_and_our_engine_write_the_same_greedy_tokens(tmp_path):
    # scales of single layers too, which vLLM alone would pass over
    adapter = write_adapter(tmp_path / "adapter", rank_pattern={"q_proj": 4}, alpha_pattern={"v_proj": 64})
    lora = export_adapter(adapter, EMBEDDED, tmp_path / "lora", form="vllm", card="").folder
    merged = export_adapter(adapter, EMBEDDED, tmp_path / "merged", form="merged", card="").folder
    asked = prompts()
    ours, bare = of_engine(asked, adapter), of_engine(asked)
    assert sum(a != b for a, b in zip(ours, bare, strict=True)) > PROMPTS // 2
    room = {"dtype": "float32", "max_context": 512}
    options = ServeOptions(
        str(weights_folder()),
        name="base",
        adapters={"worn": str(lora)},
        # the command adds the spare one (`max_loras` 2): see `test_the_spare_slot_of_adapters_is_still_needed`
        adapter_slots=1,
        adapter_rank=vllm_rank(settings(lora)),
        **room,
    )
    with OfflineEngine.start(PYTHON, options, folder=tmp_path / "a") as engine, ThreadPoolExecutor(PROMPTS) as pool:
        worn = list(pool.map(lambda tokens: written(engine, "worn", tokens), asked))
        plain = list(pool.map(lambda tokens: written(engine, "base", tokens), asked))
    assert worn == ours
    assert plain == bare
    options = ServeOptions(str(merged), name="merged", **room)
    with OfflineEngine.start(PYTHON, options, folder=tmp_path / "b") as engine, ThreadPoolExecutor(PROMPTS) as pool:
        assert list(pool.map(lambda tokens: written(engine, "merged", tokens), asked)) == ours


def test_an_adapter_that_a_running_server_lists_is_worn_by_its_name(tmp_path):
    adapter = write_adapter(tmp_path / "adapter")
    lora = export_adapter(adapter, EMBEDDED, tmp_path / "lora", form="vllm", card="").folder
    asked = prompts()
    options = ServeOptions(
        str(weights_folder()), name="there", max_context=512, adapters={"formal": str(lora)}, adapter_rank=8
    )
    with Server.start(PYTHON, options, folder=tmp_path / "server") as server:
        vllm = {"address": server.address, "adapter_slots": 1}
        backend = VllmBackend(
            EMBEDDED.model_copy(update={"name": "there", "engine": "vllm", "vllm": VllmServer(**vllm)})
        )
        worn = backend.served_adapter("formal")
        assert (str(worn.folder), worn.base) == (str(lora), "there")
        with pytest.raises(SteerworksError, match="adapter 'there' is a model of its own, and no adapter"):
            backend.served_adapter("there")
        backend.add_adapters([worn])
        wearers = [(None, of_engine(asked)), (worn.digest, of_engine(asked, adapter))]
        for digest, want in wearers:
            plans = [
                Plan(backend.model_identity, Decoding(max_new_tokens=WRITTEN), tokens=t, adapter=digest) for t in asked
            ]
            found = answer_all(backend, [Call(p, 0, 0) for p in plans])
            # the token that ends an answer is no part of its text
            texts = [backend._write([t for t in tokens if t not in backend._ends]) for tokens in want]
            assert [g.raw for g in found] == texts
    assert wearers[0][1] != wearers[1][1]
