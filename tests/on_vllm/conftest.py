"""The world of these tests, answered by the hooks once."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from vllm_world import PYTHON, Ask, Reference, first_turn, next_turn, save_model, vectors_of

# vLLM ties the threads of every engine to the same processors, where they wait for each other and for whatever else runs
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


@dataclass
class World:
    """A model, vectors, two turns of conversations, and what the hooks of transformers answer."""

    model: Path
    reference: Reference
    vectors: list
    asks: list[list[Ask]]
    answers: list[list[tuple]]

    @property
    def unsteered(self) -> list[list[int]]:
        """What the first turn is answered with when nothing is steered."""
        return [tokens for tokens, _ in self.reference.answer([replace(a, interventions=()) for a in self.asks[0]])]


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    assert PYTHON.exists(), "these tests run vLLM: build its environment with `make .venv-vllm/.installed`"
    model = save_model(tmp_path_factory.mktemp("llama"))
    reference = Reference(model)
    vectors = vectors_of(reference.fingerprint)
    reference.backend.add_vectors(vectors.values())
    first = first_turn(vectors)
    answers = reference.answer(first)
    second = next_turn(first, [tokens for tokens, _ in answers])
    return World(model, reference, list(vectors.values()), [first, second], [answers, reference.answer(second)])
