"""Asks a fake endpoint from a process that can be killed: ADDRESS[,ADDRESS] FOLDER N."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import openai  # noqa: F401  (imports are part of a start, and the start is not timed)

from schemas.specs import Decoding, ModelSpec
from steer_core.generation.backend import Call
from steer_core.generation.engines.openai import OpenAiBackend
from steer_core.generation.remote.ledger import Ledger
from steer_core.steering.plan import Message, Plan

(address, *others), folder, n = sys.argv[1].split(","), Path(sys.argv[2]), int(sys.argv[3])
prices = {"prompt": 1.0, "completion": 2.0, "as_of": "2025-01-01"}
endpoint = {
    "base_url": address,
    "replicas": others,
    "backoff": 0.005,
    "concurrency": 16 // (1 + len(others)),
    "prices": prices,
}
model = ModelSpec(name="far", source="served:far-1", engine="openai", endpoint=endpoint)
backend = OpenAiBackend(model, Ledger(folder / "ledger.sqlite"))
drawn = Decoding(max_new_tokens=16)
calls = [Call(Plan(model.identity, drawn, (Message("user", f"question {i}"),)), 0, 0) for i in range(n)]
# imports are over
print("begins", flush=True)
found = list(backend.generate(calls))
rows = backend.ledger.attempts()
spent, under_way = backend.ledger.money()
print(
    json.dumps(
        {
            "answers": len(found),
            "right": sum(f.generation.raw == f"answer to question {f.index}" for f in found),
            "attempts": rows.height,
            "waiting": rows.filter(outcome="waiting").height,
            "lost": rows.filter(outcome="lost").height,
            "spent": spent,
            "open": round(under_way, 12),
        }
    )
)
