"""The backends of a run: one model has the device at a time, and those that can rest come back."""

import pytest

from schemas.specs import ModelSpec
from steer_assets import compute


class Played:
    """A backend that writes down what becomes of it."""

    def __init__(self, name, said):
        self.name, self.said = name, said

    def close(self):
        self.said.append(f"{self.name} closed")


class Resting(Played):
    can = True

    def rest(self):
        self.said.append(f"{self.name} rests" if self.can else f"{self.name} cannot")
        return self.can


@pytest.fixture
def world(monkeypatch):
    """Names of models to kinds of backends, and what happened."""
    kinds, said = {}, []

    def load(model):
        said.append(f"{model.name} loaded")
        return kinds[model.name](model.name, said)

    monkeypatch.setattr(compute, "load_engine", load)
    compute.let_go()
    yield kinds, said
    compute.let_go()


def ask(name):
    return compute.backend_for(ModelSpec(name=name, source=f"/{name}", device="cpu"))


def test_one_that_can_rest_does_while_another_has_the_device_and_is_the_same_afterwards(world):
    kinds, said = world
    kinds |= {"policy": Resting, "judge": Played}
    policy = ask("policy")
    assert ask("policy") is policy
    assert said == ["policy loaded"]
    judge = ask("judge")
    assert ask("policy") is policy
    # a backend that cannot rest is gone, and loaded anew
    assert ask("judge") is not judge
    assert said[1:] == ["policy rests", "judge loaded", "judge closed", "policy rests", "judge loaded"]


def test_two_that_can_rest_take_turns_and_all_are_closed_at_the_end(world):
    kinds, said = world
    kinds |= {"policy": Resting, "judge": Resting}
    policy, judge = ask("policy"), ask("judge")
    assert (ask("policy"), ask("judge")) == (policy, judge)
    assert said == ["policy loaded", "policy rests", "judge loaded", "judge rests", "policy rests"]
    compute.let_go()
    assert said[5:] == ["policy closed", "judge closed"]
    assert ask("policy") is not policy


def test_one_that_finds_no_room_to_rest_is_closed(world, monkeypatch):
    kinds, said = world
    kinds |= {"policy": Resting, "judge": Played}
    monkeypatch.setattr(Resting, "can", False)
    ask("policy")
    ask("judge")
    assert said == ["policy loaded", "policy cannot", "policy closed", "judge loaded"]
