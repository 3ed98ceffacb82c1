"""The arms of a behavior's sweep: a table that says what will run and what it costs, before anything does.

1. `off`: one unsteered arm. Everything is compared with it, so no exclusion removes it.
2. `vector`: the part's layers act together. All strengths at the part's positions and seed, at each further selector
   of positions and with each further seed; each further layer alone, at the two ends of the strengths.
3. `random` and `shuffled`: controls at both ends, in the place of the vector they stand for. Their coefficient is the
   vector's, times the ratio of the norms where the operator adds the direction: a step of equal length.
4. `prompt`: the behavior and its opposite asked for in a system prompt, or shown in examples (training answers as
   turns before the item's), unsteered.
5. A strength at which an operator does nothing (0 of an addition) is the unsteered arm, and is not planned twice.
6. An arm's id is the digest of what decides its answers: behavior, items, samples, decoding, interventions, system
   prompt. Settings that come to the same are one arm; a grid that is refined or widened keeps the arms it had.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from schemas.digest import canonical_json, digest_json
from schemas.specs import BehaviorSpec, SweepSpec
from schemas.sweeps import SweepArms
from schemas.vector_part import VectorPart
from steer_core.methods.sweeps.exclusions import check_exclusions, excluded
from steer_core.methods.sweeps.grid import ends, strengths_of
from steer_core.steering.compose import interventions
from steer_core.steering.intervention import Gate, Intervention
from steer_core.steering.operators import load_operator
from steer_core.steering.plan import Message, messages_of
from steer_core.steering.random_vectors import random_like
from steer_core.steering.strength import Strength
from steer_core.steering.vector import SteeringVector
from steer_core.tables.errors import ConfigError

#: Bumped when the same settings give other arms.
VERSION = "3"
#: Order in which a layer computes them.
_SITE_ORDER = {"attention": 0, "mlp": 1, "residual": 2}


@dataclass(frozen=True)
class Cost:
    """What arms cost, all together.

    Attributes:
        arms: number of arms.
        calls: texts to write.
        scored: continuations to score.
        tokens: tokens that may be written.
        seconds: estimate; None where no speed is known.
    """

    arms: int
    calls: int
    scored: int
    tokens: int
    seconds: float | None


def plan_arms(
    behavior: BehaviorSpec,
    part: VectorPart,
    sweep: SweepSpec,
    vectors: Sequence[SteeringVector],
    items: pl.DataFrame,
    *,
    layers: Sequence[int] | None = None,
    gate: Gate | None = None,
    seconds_per_token: float | None = None,
    shown: Mapping[int, Sequence[Message]] | None = None,
) -> pl.DataFrame:
    """Arms of one behavior under one vector part.

    Args:
        behavior: what is swept.
        part: vector part of the method; its strengths are the range where the sweep has none.
        sweep: what is swept.
        vectors: fitted vectors of the behavior: of the part's layers, of the sweep's further layers and seeds (`seed`
            in their lineage), and the controls (see `with_random`). Vectors of other concepts are left aside.
        items: rows of `behavior_items`; those of other behaviors are left aside.
        layers: layers of the part, where it says `middle` and the sweep has that layer too; None: worked out.
        gate: condition on the prompt, for all steered arms.
        seconds_per_token: speed so far, for the estimate; None: no estimate.
        shown: 1 for the behavior, -1 for its opposite -> the turns that show it (see `examples_of`).

    Returns:
        Rows of `sweep_arms`, the unsteered arm first, each arm once.

    Raises:
        ConfigError: a vector or control is missing, an exclusion names an unknown field, or there are no items.
        SteerworksError: the unit does not fit a vector.
    """
    check_exclusions(sweep)
    items = items.filter(pl.col("behavior") == behavior.name)
    if not items.height:
        raise ConfigError(f"behavior {behavior.name!r} has no test items: there is nothing to sweep it on")
    cost = _Cost.of(items, sweep, seconds_per_token)
    own = [v for v in vectors if v.concept == behavior.name]
    rows = []
    for arm in _arms(behavior, part, sweep, own, layers, gate, shown or {}):
        row = _row(arm, behavior, part, sweep, items, cost)
        if arm.role == "off" or not excluded(row, sweep):
            rows.append(row)
    return pl.DataFrame(rows, schema=SweepArms.empty().schema, orient="row").unique(
        "arm_id", keep="first", maintain_order=True
    )


def with_random(
    vectors: Sequence[SteeringVector], behavior: str, sweep: SweepSpec, *, layers: Sequence[int], seed: int = 0
) -> list[SteeringVector]:
    """The vectors with `sweep.random_directions` random ones of equal norm for each real one of these layers.

    Args:
        vectors: fitted vectors, of any concepts.
        behavior: concept that gets controls.
        sweep: says how many.
        layers: layers of the part.
        seed: of the part: vectors of further seeds get no controls of their own.
    """
    own = [v for v in vectors if int(v.lineage.get("seed", seed)) == seed]
    real = [v for v in own if v.concept == behavior and not v.control and v.layer in set(layers)]
    known = {v.id for v in vectors}
    made = [random_like(v, seed) for seed in range(sweep.random_directions) for v in real]
    return [*vectors, *(v for v in made if v.id not in known)]


def examples_of(behavior: str, examples: pl.DataFrame, n: int) -> dict[int, tuple[Message, ...]]:
    """Turns that show a behavior, and its opposite: n training questions, each with its answer.

    Args:
        behavior: its name.
        examples: rows of `contrast_examples`; those of one question and one answer are shown, drawn by hash.
        n: how many; 0: none.

    Returns:
        1 and -1 -> turns, for sides that have n such examples.
    """
    found: dict[int, tuple[Message, ...]] = {}
    own = examples.filter(pl.col("concept") == behavior, pl.col("split") == "train", pl.col("answer") != "")
    for side, label in ((1, 1), (-1, 0)):
        turns = [(messages_of(r["messages"]), r["answer"]) for r in own.filter(label=label).iter_rows(named=True)]
        asked = {m[0].content: answer for m, answer in turns if len(m) == 1 and m[0].role == "user"}
        chosen = sorted(asked, key=lambda q: digest_json(["example", behavior, q]))[:n]
        if n and len(chosen) == n:
            found[side] = tuple(m for q in chosen for m in (Message("user", q), Message("assistant", asked[q])))
    return found


def missing_arms(planned: pl.DataFrame, done: Collection[str]) -> pl.DataFrame:
    """Planned arms whose id is not among those that are done."""
    return planned.filter(~pl.col("arm_id").is_in(list(done)))


def cost_of(arms: pl.DataFrame) -> Cost:
    """What these arms cost, all together."""
    seconds = arms["seconds"]
    return Cost(
        arms=arms.height,
        calls=int(arms["n_calls"].sum()),
        scored=int(arms["n_scored"].sum()),
        tokens=int(arms["max_new_tokens"].sum()),
        seconds=None if not arms.height or seconds.null_count() else float(seconds.sum()),
    )


@dataclass(frozen=True)
class _Arm:
    role: str
    seed: int = 0
    strength: float | None = None
    interventions: tuple[Intervention, ...] = ()
    system: str | None = None
    turns: tuple[Message, ...] = ()
    side: int | None = None


@dataclass(frozen=True)
class _Cost:
    """Cost of one arm: texts to write, continuations to score whatever it is, and tokens."""

    calls: int
    scored: int
    tokens: int
    seconds: float | None

    @classmethod
    def of(cls, items: pl.DataFrame, sweep: SweepSpec, seconds_per_token: float | None) -> _Cost:
        n_open = items.filter(pl.col("form") == "open").height
        calls = n_open * sweep.samples
        tokens = calls * sweep.max_new_tokens
        seconds = None if seconds_per_token is None else tokens * seconds_per_token
        # both answers of an item; each written answer once, for its perplexity
        return cls(calls, 2 * (items.height - n_open) + calls, tokens, seconds)


def _arms(
    behavior: BehaviorSpec,
    part: VectorPart,
    sweep: SweepSpec,
    vectors: Sequence[SteeringVector],
    layers: Sequence[int] | None,
    gate: Gate | None,
    shown: Mapping[int, Sequence[Message]],
) -> Iterator[_Arm]:
    yield _Arm("off")
    strengths = strengths_of(part, sweep)
    main = part_layers(part, sweep, vectors) if layers is None else tuple(layers)
    real = _chosen(vectors, "", main, part.seed, part, behavior)
    for positions in dict.fromkeys((part.positions, *sweep.positions)):
        yield from _steered("vector", part.seed, real, real, strengths, part, positions, gate)
    for seed in sweep.seeds:
        again = _chosen(vectors, "", main, seed, part, behavior)
        yield from _steered("vector", seed, again, again, strengths, part, part.positions, gate)
    for layer in sweep.layers:
        alone = _chosen(vectors, "", (layer,), part.seed, part, behavior)
        yield from _steered("vector", part.seed, alone, alone, ends(strengths), part, part.positions, gate)
    for role, wanted in (("random", sweep.random_directions), ("shuffled", sweep.shuffled)):
        for seed in _control_seeds(vectors, role, wanted, behavior):
            control = _chosen(vectors, f"{role}:{seed}", main, part.seed, part, behavior)
            yield from _steered(role, seed, control, real, ends(strengths), part, part.positions, gate)
    for side, system in ((1, behavior.positive_prompt), (-1, behavior.negative_prompt)):
        if system is not None:
            yield _Arm("prompt", system=system, side=side)
    for side, turns in shown.items():
        yield _Arm("prompt", turns=tuple(turns), side=side)


def _steered(
    role: str,
    seed: int,
    vectors: Sequence[SteeringVector],
    real: Sequence[SteeringVector],
    strengths: Sequence[float],
    part: VectorPart,
    positions: str,
    gate: Gate | None,
) -> Iterator[_Arm]:
    """Arms of one set of vectors, with the coefficients of those that they are or stand for."""
    for value in strengths:
        resolved = interventions(real, Strength(value, part.unit), positions=positions, gate=gate)
        if all(i.coefficient == 0.0 and load_operator(i.operator).idle_at_zero for i in resolved):
            continue
        steps = tuple(
            i if v is r else replace(i, vector=v.id, coefficient=i.coefficient * _equal_step(v, r))
            for i, v, r in zip(resolved, vectors, real, strict=True)
        )
        yield _Arm(role, seed, value, steps)


def _equal_step(control: SteeringVector, real: SteeringVector) -> float:
    """What the real vector's coefficient is multiplied with so that the control's step has the same length."""
    if "residual_fraction" not in load_operator(real.operator).units or not control.norm or not real.norm:
        return 1.0
    ratio = real.norm / control.norm
    # float32 norms of equal vectors differ in the last digit, which must not make another arm of it
    return 1.0 if abs(ratio - 1.0) < 1e-5 else ratio


def part_layers(part: VectorPart, sweep: SweepSpec, vectors: Sequence[SteeringVector]) -> tuple[int, ...]:
    """Layers that the part itself steers, worked out from the vectors there are.

    Raises:
        ConfigError: the part says `middle`, and several layers may be meant.
    """
    if not isinstance(part.layers, str):
        return tuple(part.layers)
    fitted = sorted({v.layer for v in vectors if not v.control})
    if part.layers == "all" or len(fitted) == 1:
        return tuple(fitted)
    rest = [layer for layer in fitted if layer not in sweep.layers]
    if len(rest) != 1:
        raise ConfigError(
            f"the part steers the middle layer, and the vectors are of layers {fitted}: say which one it is "
            "(`layers=(n_layers // 2,)`)"
        )
    return tuple(rest)


def seed_of(vector: SteeringVector, part: VectorPart) -> int:
    """Seed of the fit, from the vector's lineage; the part's where it says nothing."""
    return int(vector.lineage.get("seed", part.seed))


def _chosen(
    vectors: Sequence[SteeringVector],
    control: str,
    layers: Sequence[int],
    seed: int,
    part: VectorPart,
    behavior: BehaviorSpec,
) -> list[SteeringVector]:
    """Vectors of these layers in the order in which the model meets them."""
    wanted = set(layers)
    found = [v for v in vectors if v.control == control and v.layer in wanted]
    if not control:
        found = [v for v in found if seed_of(v, part) == seed]
    lacking = sorted(wanted - {v.layer for v in found})
    if lacking or not found:
        what = f"control {control!r}" if control else f"vector (seed {seed})"
        raise ConfigError(
            f"behavior {behavior.name!r}: no {what} at layer {', '.join(map(str, lacking))}: fit it there, or leave "
            "that layer or seed out of the sweep"
        )
    return sorted(found, key=lambda v: (v.layer, _SITE_ORDER[v.site]))


def _control_seeds(
    vectors: Sequence[SteeringVector], role: str, wanted: int, behavior: BehaviorSpec
) -> tuple[int, ...]:
    found = sorted({int(v.control.split(":")[1]) for v in vectors if v.control.startswith(f"{role}:")})
    if len(found) < wanted:
        remedy = "`with_random` makes them" if role == "random" else "fit the part on shuffled labels"
        raise ConfigError(
            f"behavior {behavior.name!r}: the sweep asks for {wanted} {role} controls and {len(found)} are given: "
            f"{remedy}, or lower the number in `sweep`"
        )
    return tuple(found[:wanted])


def _row(
    arm: _Arm, behavior: BehaviorSpec, part: VectorPart, sweep: SweepSpec, items: pl.DataFrame, cost: _Cost
) -> dict[str, Any]:
    steps = [i.to_dict() for i in arm.interventions]
    turns = [{"role": t.role, "content": t.content} for t in arm.turns]
    decides = [sorted(items["item_id"]), sweep.samples, sweep.max_new_tokens, sweep.temperature]
    first = arm.interventions[0] if arm.interventions else None
    sites = dict.fromkeys(i.site for i in arm.interventions)
    return {
        "arm_id": digest_json([behavior.name, decides, steps, arm.system, *([turns] if turns else [])]),
        # how the probe uses the part is nothing to a sweep
        "spec_hash": part.model_copy(update={"doses": None, "on_probe": ()}).spec_hash,
        "behavior": behavior.name,
        "role": arm.role,
        "strength": arm.strength,
        "unit": None if first is None else part.unit,
        "coefficient": None if first is None else first.coefficient,
        "layers": canonical_json(sorted({i.layer for i in arm.interventions})),
        "site": "+".join(sites) or None,
        "positions": None if first is None else first.positions,
        "seed": arm.seed,
        "system": arm.system,
        "turns": canonical_json(turns) if turns else None,
        "side": arm.side,
        "vectors": canonical_json([i.vector for i in arm.interventions]),
        "interventions": canonical_json(steps),
        "n_calls": cost.calls,
        # an answer is also held against the model as it is, token by token
        "n_scored": cost.scored + (cost.calls if steps or arm.role == "prompt" else 0),
        "max_new_tokens": cost.tokens,
        "seconds": cost.seconds,
    }
