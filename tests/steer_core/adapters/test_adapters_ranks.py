"""Several processes take the steps of one: the same completions and rows, and weights that rounding alone tells apart."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from steer_core.adapters.books import Books
from steer_core.adapters.ranks import Ranks, unequal
from steer_core.adapters.recipe import not_shared, train
from steer_core.adapters.rewards import Rewarder
from steer_core.adapters.run import RunFolder
from steer_core.tables.errors import ConfigError, SteerworksError
from tests.steer_core.adapters import grpo_world, inheritance_world
from tests.steer_core.adapters.grpo_world import training
from tests.steer_core.adapters.ranks_world import together


def odd_ones_fail(request, raw, finish):
    return raw.strip(), "empty" if len(raw) % 2 else None


#: The completions of a request are in both processes.
PIECES = (grpo_world.recipe(steps=2, checkpoints=2, prompts_per_step=1), {})
#: Some completions have no reward.
DRAWN = (
    grpo_world.recipe(
        steps=2, checkpoints=2, drawn=6, completions=2, loss="dapo", weights="linear", failures="left_out"
    ),
    {"failure": odd_ones_fail},
)
#: Sixteen rows in steps of six: the last has four.
INHERITANCE = (inheritance_world.recipe(batch=6, epochs=4), {})


def by_two(recipe, folder: Path, **more) -> list[int]:
    return together(lambda ranks: train(recipe, training(folder, run=RunFolder(folder, ranks), **more)))


def apart(one: Path, other: Path) -> float:
    one, other = (load_file(f / "adapter_model.safetensors") for f in (one, other))
    return max(float((one[n] - other[n]).abs().max()) for n in one)


def rows(folder: Path, name: str) -> list[dict]:
    """Rows without what rounding, or the clock, has a part in."""
    found = RunFolder(folder).rows(name)
    return [r for r in found if r["measure"].startswith(("z:", "reward"))] if name == "measures" else found


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A run of two processes."""
    folder = tmp_path_factory.mktemp("pieces") / "two"
    assert by_two(PIECES[0], folder) == [0, 0]
    return folder


@pytest.mark.parametrize("case", [PIECES, DRAWN, INHERITANCE], ids=["pieces", "drawn", "inheritance"])
def test_two_processes_take_the_steps_of_one(case, pieces, tmp_path):
    recipe, more = case
    one, two = tmp_path / "one", pieces if case is PIECES else tmp_path / "two"
    states = train(recipe, training(one, **more))
    assert case is PIECES or by_two(recipe, two, **more) == [0, 0]
    found = RunFolder(two).checkpoints()
    assert set(states) <= set(found)
    # texts, rewards, advantages, states and their order
    assert rows(one, "samples") == rows(two, "samples")
    assert rows(one, "measures") == rows(two, "measures")
    log, other = ({(r["step"], r["measure"]): r["value"] for r in RunFolder(f).rows("log")} for f in (one, two))
    assert log.keys() == other.keys()
    for key, value in log.items():
        if key[1] != "seconds":
            assert other[key] == pytest.approx(value, abs=5e-5, nan_ok=True), key
    # gradients differ by rounding, and Adam divides each by its own size: what is near 0 moves by as much as the rest
    first, last = min(states), max(states)
    moved = apart(states[first], states[last])
    assert moved > 3e-3
    assert apart(states[last], found[last]) < 0.1 * moved


def test_two_processes_that_are_killed_go_on_to_the_same_weights(pieces, tmp_path):
    def observe(step, figures):
        if step == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    killed = tmp_path / "killed"
    assert by_two(PIECES[0], killed, observe=observe) == [-signal.SIGKILL] * 2
    assert list(RunFolder(killed).checkpoints()) == [1]
    assert by_two(PIECES[0], killed) == [0, 0]
    assert apart(RunFolder(pieces).checkpoints()[2], RunFolder(killed).checkpoints()[2]) <= 1e-6
    assert rows(pieces, "samples") == rows(killed, "samples")
    curve = [(r["step"], r["measure"]) for r in RunFolder(killed).rows("log")]
    assert curve == [(r["step"], r["measure"]) for r in RunFolder(pieces).rows("log")]


@dataclass(frozen=True)
class Beside(Ranks):
    """The first of two, of which the other says what is given."""

    other: object = None

    def gathered(self, own):
        return [own, self.other]


@pytest.mark.parametrize(("mean", "largest"), [(0.05, 0.1), (float("nan"), float("nan"))])
def test_drift_in_any_process_stops_all(tmp_path, mean, largest):
    recipe = grpo_world.recipe()
    rewarder = Rewarder(recipe, ("length",), {}, grpo_world.ruler)
    books = Books(recipe, rewarder, odd_ones_fail, RunFolder(tmp_path, Beside(0, 2, (mean, largest, 100))))
    with pytest.raises(SteerworksError, match="step 3: sampled and trained log-probabilities differ"):
        books.drift(1e-6, 1e-5, 100, 3)
    assert books.figures["drift"] == pytest.approx((mean + 1e-6) / 2, nan_ok=True)
    assert np.isnan(mean) or books.figures["drift_max"] == largest


def test_what_processes_cannot_share_is_refused_and_said_with_numbers_that_would_do(tmp_path):
    recipe = grpo_world.recipe
    assert not_shared(recipe(), 1) is None
    assert not_shared(recipe(), 2) is None
    assert not_shared(recipe(prompts_per_step=3, completions=5), 2) == (
        "recipe 'grpo': prompts_per_step = 3 with 5 completions makes 15 rows of a step, which 2 processes cannot share "
        "equally: 1, 3, 5, 15 can; or take 14 or 16 rows"
    )
    assert "`loss: bnpo`" in not_shared(recipe(loss="bnpo"), 2)
    assert "`margin`" in not_shared(recipe(margin=0.1), 2)
    assert "can be shared by 1, 3 processes, not by 2" in not_shared(recipe(prompts_per_step=3, drawn=6), 2)
    parts = recipe(prompts_per_step=1, completions=4, trl={"gradient_accumulation_steps": 4})
    assert "2 processes in 4 passes (`gradient_accumulation_steps`) cannot" in not_shared(parts, 2)
    assert not_shared(inheritance_world.recipe(batch=5), 2) == (
        "recipe 'inheritance': batch = 5 makes 5 rows of a step, which 2 processes cannot share equally: "
        "1, 5 can; or take 4 or 6 rows"
    )
    assert unequal("batch = 1", 1, 2).endswith("1 can; or take 2 rows")
    # also where nobody has asked before
    with pytest.raises(ConfigError, match="cannot share equally"):
        train(inheritance_world.recipe(batch=5), training(tmp_path, run=RunFolder(tmp_path, Ranks(0, 2))))
