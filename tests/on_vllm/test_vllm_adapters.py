"""LoRA adapters per request, with and without vectors, against PEFT: base rows too, in the same passes."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from vllm_world import CONTEXT, PYTHON, Reference, run_vllm

from steer_core.generation.adapters import Adapter
from steer_core.generation.servers.command import ServeOptions
from steer_core.generation.servers.offline import OfflineEngine
from steer_core.generation.servers.process import ServerError
from steer_core.generation.servers.proof import spec_text
from steer_core.generation.servers.server import Server

pytestmark = pytest.mark.vllm

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK = 8


def write_adapter(folder, source, seed):
    """A random adapter on every projection, loud enough to change answers and not to drown a vector."""
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(source), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.1)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def worn(world, tmp_path_factory):
    """Adapters, requests that mix them with specs, and what PEFT and the hooks answer."""
    folders = [write_adapter(tmp_path_factory.mktemp(f"adapter{n}"), str(world.model), n) for n in range(2)]
    adapters = [Adapter.of(f) for f in folders]
    reference = Reference(world.model)
    reference.backend.add_vectors(world.vectors)
    reference.backend.add_adapters(adapters)
    wearers = (None, *(a.digest for a in adapters))
    asks = [replace(a, adapter=wearers[n % 3]) for n, a in enumerate(world.asks[0])]
    answers = [tokens for tokens, _ in reference.answer(asks)]
    bare = [tokens for tokens, _ in reference.answer([replace(a, interventions=()) for a in asks])]
    return {a.digest: str(a.folder) for a in adapters}, asks, answers, bare


def without_end(answer):
    return [t for t in answer["tokens"] if t != 1]


def test_adapters_and_vectors_both_change_answers(world, worn):
    _, asks, answers, bare = worn
    both = [n for n, a in enumerate(asks) if a.adapter and a.interventions]
    assert len(both) > 40
    assert sum(answers[n] != bare[n] for n in both) > len(both) * 0.6
    assert sum(answers[n] != world.answers[0][n][0] for n in both) > len(both) * 0.9


def test_every_row_wears_its_own_adapter_and_vector(world, worn, tmp_path):
    folders, asks, answers, _ = worn
    engine = {"enable_lora": True, "max_loras": len(folders) + 1, "max_lora_rank": RANK}
    found = run_vllm(tmp_path, world.model, world.vectors, [asks, asks], adapters=folders, **engine)
    for done in found["passes"]:
        assert [without_end(a) for a in done["answers"]] == answers
        for rows in done["receipts"].values():
            assert all(t["planned"] == t["observed"] for r in rows for t in r["touches"])
    assert sum(a["cached"] for a in found["passes"][1]["answers"]) > 0


def test_the_spare_slot_of_adapters_is_still_needed(world, worn, tmp_path):
    # vLLM PR 48421: without it, rows that wear none wear the last one. When this fails, drop the spare slot
    folders, asks, answers, _ = worn
    engine = {"enable_lora": True, "max_loras": len(folders), "max_lora_rank": RANK}
    found = run_vllm(tmp_path, world.model, world.vectors, [asks], adapters=folders, **engine)
    got = [without_end(a) for a in found["passes"][0]["answers"]]
    wrong = {asks[n].adapter for n in range(len(asks)) if got[n] != answers[n]}
    assert wrong == {None}


def completed(running, ask):
    """What a vLLM, with a server or without, answers to a request."""
    body = {"model": ask.adapter or "llama", "prompt": list(ask.tokens), "max_tokens": ask.max_tokens}
    body |= {"temperature": 0, "return_token_ids": True}
    if ask.interventions:
        body["vllm_xargs"] = {"steer": spec_text(ask.interventions, "")}
    return [t for t in running.complete(body)["token_ids"] if t != 1]


def test_the_server_takes_adapters_at_its_start_and_later(world, worn, tmp_path):
    folders, asks, answers, _ = worn
    (first, one), (second, other) = folders.items()
    options = ServeOptions(
        str(world.model), name="llama", max_context=CONTEXT, adapters={first: one}, adapter_slots=2, adapter_rank=RANK
    )
    with Server.start(PYTHON, options, folder=tmp_path) as server:
        server.upload(world.vectors)
        server.load_adapter(second, other)
        with pytest.raises(ServerError, match="Loading lora third failed"):
            server.load_adapter("third", tmp_path / "nowhere")
        for ask, want in list(zip(asks, answers, strict=True))[:18]:
            assert completed(server, ask) == want
        with pytest.raises(ServerError) as unknown:
            server.post("/v1/completions", {"model": "nobody", "prompt": [5], "max_tokens": 1})
        assert unknown.value.status == 404


def test_the_engine_without_a_server_takes_adapters_at_its_start_and_later(world, worn, tmp_path):
    folders, asks, answers, _ = worn
    (first, one), (second, other) = folders.items()
    options = ServeOptions(
        str(world.model), name="llama", max_context=CONTEXT, adapters={first: one}, adapter_slots=2, adapter_rank=RANK
    )
    with OfflineEngine.start(PYTHON, options, folder=tmp_path) as engine:
        engine.upload(world.vectors)
        engine.load_adapter(second, Path(other))
        with pytest.raises(ServerError, match="nowhere"):
            engine.load_adapter("third", tmp_path / "nowhere")
        with ThreadPoolExecutor(18) as pool:
            assert list(pool.map(lambda ask: completed(engine, ask), asks[:18])) == answers[:18]
        with pytest.raises(ServerError, match="neither a model nor a LoRA adapter is called 'third'"):
            completed(engine, replace(asks[0], adapter="third"))
