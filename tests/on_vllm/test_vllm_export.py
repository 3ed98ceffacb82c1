"""An exported adapter in vLLM: the greedy tokens of the merged checkpoint and of our engine, on 64 prompts."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from vllm_world import PYTHON

from steer_core.adapters.export import export_adapter, vllm_rank
from steer_core.generation.servers.command import ServeOptions
from steer_core.generation.servers.offline import OfflineEngine
from steer_core.models.embedded import weights_folder
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
