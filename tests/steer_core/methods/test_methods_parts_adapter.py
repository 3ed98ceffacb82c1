"""Adapter parts: which states are arms, and where they stand."""

from pathlib import Path

import pytest

from schemas.adapter_part import AdapterPart
from schemas.specs import ModelSpec
from steer_core.generation.adapters import Adapter
from steer_core.methods.parts import _adapter_training
from steer_core.methods.parts._adapter_served import served_rows
from steer_core.methods.parts.adapter import Worn
from steer_core.methods.protocol import Artifact, Item


class Asked:
    """An engine whose server has adapters of these names."""

    def __init__(self, *names):
        self.names = names

    def served_adapters(self):
        return [Adapter(name.rjust(32, "0"), Path("/r"), "m", name) for name in self.names]


@pytest.mark.parametrize(
    ("names", "steps", "positions"),
    [
        (("run-step-9", "run-step-30"), [9, 30], [0.0, 9.0, 30.0]),
        (("brief", "formal"), [1, 2], [None, None, None]),
        # two runs of the same steps are no one curve
        (("a-step-9", "b-step-9"), [1, 2], [None, None, None]),
        (("formal",), [0], [None]),
        (("run/checkpoint-50",), [50], [0.0]),
    ],
)
def test_adapters_of_a_server_stand_at_the_steps_that_their_names_say_or_nowhere(names, steps, positions):
    rows = served_rows("adapter", "*", Asked(*names), "base")
    assert rows["step"].to_list() == steps
    states = [
        Item("state", {**row, "picked": False}, part="adapter")
        for row in rows.select("adapter", "step", "label").iter_rows(named=True)
    ]
    arms = Worn(AdapterPart(served="*")).arms(Artifact(tuple(states)))
    assert [arm.position for arm in arms] == positions
    assert {arm.axis for arm in arms} == {"" if None in positions else "training step"}
    assert [arm.label for arm in arms[1:]] == (list(names) if len(names) > 1 else [])


@pytest.mark.parametrize(
    ("device", "cards", "processes", "within", "shown"),
    [
        ("cpu", 4, 1, True, {}),
        ("cpu", 0, 2, False, {}),
        ("cuda", 1, 1, True, {}),
        ("cuda", 2, 1, False, {}),
        ("cuda:1", 2, 1, False, {"CUDA_VISIBLE_DEVICES": "7"}),
        ("cuda", 2, 2, False, {}),
    ],
)
def test_a_trainer_that_would_see_several_cards_gets_a_process_that_sees_one(
    monkeypatch, device, cards, processes, within, shown
):
    monkeypatch.setattr("torch.cuda.device_count", lambda: cards)
    monkeypatch.setattr(_adapter_training, "device_of", lambda model: device)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    model = ModelSpec(name="one", source="embedded", training_processes=processes)
    assert _adapter_training.in_process(model) is within
    assert _adapter_training.card_of(model) == shown
