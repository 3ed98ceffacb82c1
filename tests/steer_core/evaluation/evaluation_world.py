"""A small world to score: texts with raw values, requests in two probes, and outcomes of three methods."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from schemas.digest import digest_json, digest_text

GOALS = ("reading_difficulty", "formality", "text_length")
LOWER = np.array([2.0, 40.0, 10.0])
UPPER = np.array([12.0, 70.0, 110.0])
SPACE_ID = "space-1"
WORDS = ["river", "letter", "garden", "window", "meeting", "answer", "winter", "engine", "valley", "promise", "music"]


@dataclass(frozen=True)
class World:
    requests: pl.DataFrame
    request_goals: pl.DataFrame
    outcomes: pl.DataFrame
    values: pl.DataFrame
    space: pl.DataFrame

    def tables(self) -> tuple[pl.DataFrame, ...]:
        return self.requests, self.request_goals, self.outcomes, self.values, self.space

    def with_outcomes(self, outcomes: pl.DataFrame, values: pl.DataFrame) -> World:
        return replace(
            self, outcomes=outcomes, values=pl.concat([self.values, values]).unique(["text_id", "scorer_id"])
        )


def space_table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "goal_space_id": [SPACE_ID] * 3,
            "position": [0, 1, 2],
            "goal": list(GOALS),
            "scorer_id": [f"{g}@1" for g in GOALS],
            "lower": LOWER,
            "upper": UPPER,
            "bounds": ["fixed"] * 3,
            "n_texts": [0] * 3,
        }
    )


def value_rows(text_id: str, raw: np.ndarray) -> list[dict[str, object]]:
    return [
        {
            "text_id": text_id,
            "scorer_id": f"{goal}@1",
            "value": None if np.isnan(v) else float(v),
            "state": "undefined" if np.isnan(v) else "ok",
        }
        for goal, v in zip(GOALS, raw, strict=True)
    ]


VALUE_TYPES = {"text_id": pl.String, "scorer_id": pl.String, "value": pl.Float64, "state": pl.String}


def make_world(
    n_texts: int = 10, per_text: int = 6, seed: int = 0, probes: tuple[str, ...] = ("main", "other")
) -> World:
    """Requests with two active goals of three, answered by copying the source."""
    rng = np.random.default_rng(seed)
    requests, goals, outcomes, values = [], [], [], []
    for t in range(n_texts):
        text = f"Text {t} about the " + " and the ".join(rng.choice(WORDS, 12)) + "."
        # some texts start beyond the bounds, as the tails of a corpus do
        raw = LOWER + rng.uniform(-0.1, 1.1, 3) * (UPPER - LOWER)
        z0 = np.clip((raw - LOWER) / (UPPER - LOWER), 0, 1)
        values += value_rows(digest_text(text), raw)
        for probe in probes:
            for k in range(per_text):
                request_id = digest_json([probe, t, k])
                target = np.where(rng.permutation(3) < 2, rng.uniform(0, 1, 3), np.nan)
                requests.append(
                    {
                        "request_id": request_id,
                        "probe": probe,
                        "split": "test",
                        "text_id": digest_text(text),
                        "text": text,
                        "source": "made",
                    }
                )
                goals += [
                    {
                        "request_id": request_id,
                        "goal": goal,
                        "z0": float(z0[i]),
                        "z_star": None if np.isnan(target[i]) else float(target[i]),
                        "z0_raw": float(raw[i]),
                    }
                    for i, goal in enumerate(GOALS)
                ]
                outcomes.append(outcome_row(request_id, probe, text, copied=True))
    return World(
        pl.DataFrame(requests),
        pl.DataFrame(goals, schema_overrides={"z_star": pl.Float64}),
        pl.DataFrame(outcomes, schema_overrides={"failure": pl.String}),
        pl.DataFrame(values, schema=VALUE_TYPES),
        space_table(),
    )


def outcome_row(
    request_id: str, probe: str, text: str, copied: bool = False, failure: str | None = None
) -> dict[str, object]:
    return {
        "arm_id": "headline",
        "request_id": request_id,
        "probe": probe,
        "response_id": digest_text(request_id),
        "text": text,
        "text_id": digest_text(text),
        "failure": failure,
        "copied": copied,
        "rounds": 1,
        "n_calls": 1,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "seconds": 0.1,
    }


def steered(
    world: World, gain: float = 0.7, noise: float = 0.1, seed: int = 1, failures: bool = True, tag: str = ""
) -> World:
    """The same requests answered by a method that goes `gain` of the way, with noise; some answers fail."""
    rng = np.random.default_rng(seed)
    outcomes, values = [], []
    wide = {
        request_id: rows.sort(pl.col("goal").replace_strict({g: i for i, g in enumerate(GOALS)}))
        for (request_id,), rows in world.request_goals.group_by(["request_id"])
    }
    for i, request in enumerate(world.requests.iter_rows(named=True)):
        rows = wide[request["request_id"]]
        z0 = rows["z0"].to_numpy()
        target = np.where(rows["z_star"].is_null(), z0, rows["z_star"].fill_null(0.0).to_numpy())
        raw = LOWER + (z0 + gain * (target - z0) + rng.normal(0, noise, 3)) * (UPPER - LOWER)
        text = f"{request['text'][: 40 + i % 30]} rewritten in way {i}{tag}"
        failure = ("truncated" if i % 11 == 0 else "empty" if i % 13 == 0 else None) if failures else None
        if failures and i % 17 == 5:
            raw[1] = np.nan  # measure undefined
        if failure == "empty":
            text = ""
        else:
            values += value_rows(digest_text(text), raw)
        outcomes.append(outcome_row(request["request_id"], request["probe"], text, failure=failure))
    return world.with_outcomes(
        pl.DataFrame(outcomes, schema_overrides={"failure": pl.String}), pl.DataFrame(values, schema=VALUE_TYPES)
    )
