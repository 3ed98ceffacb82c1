"""Steering inside stock vLLM: what runs in vLLM's own environment.

Neither `steer_core` nor `schemas` is installed there. `generation.servers.room` copies this package, under the name
`steerworks_vllm`, and the operators of `steer_core.steering.operators` as `steerworks_vllm.operators`, into a folder on
that environment's PYTHONPATH; so modules here import each other relatively, and else only the standard library, numpy,
torch and vLLM.

    support    what can be carried out, as plain data
    spec       the steering of one request: JSON, its checks, the salt of its cache
    catalogue  vectors that were handed in, so that every process of the engine can refuse others
    lanes      operator calls on the flat batch of a forward pass
    steerer    requests that come and go; receipts
    draws      draws of prompts that are read in chunks, on a CPU
    hooks      where activations are changed, as a custom op
    worker     vLLM's worker with that
    plugin     vLLM's front and engine: HTTP 400 and the salt
    offline    an engine without a server: lines of JSON in, lines out
"""
