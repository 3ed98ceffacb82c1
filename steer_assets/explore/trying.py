"""The playground: a text of one's own, rewritten towards targets by a cell's method, or answered under its vector.

Cells answer as they do on the probe (`askable`). What was tried is kept: answers in a journal of their own, and a row
of `tried` each.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from schemas import Tried
from schemas.digest import digest_json, digest_text
from schemas.specs import Decoding
from steer_assets.assets.calling import method_of
from steer_assets.explore.askable import Askable, heard
from steer_assets.measuring import measure_texts, ruler_of
from steer_assets.vector_export import of_the_part
from steer_core.evaluation.arms.answers import failure_of
from steer_core.generation.backend import Call
from steer_core.generation.journalled import run_calls
from steer_core.generation.run import Drafts
from steer_core.goals.space import GoalSpace
from steer_core.methods import driver
from steer_core.methods.cleaning import clean_answer
from steer_core.methods.fitting import give
from steer_core.methods.protocol import Artifact
from steer_core.steering.compose import interventions
from steer_core.steering.plan import Message, Plan
from steer_core.steering.strength import Strength
from steer_core.steering.vector import from_tables
from steer_core.tables.errors import ConfigError
from steer_core.tables.journal import Journal

#: Folder below a bench's with what was tried.
TRIED = "tried"
#: Characters of a text.
LONGEST = 20_000
#: Largest move that is asked for, and largest strength.
MOST_DELTA, MOST_STRENGTH = 1.0, 100.0


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        row: of `schemas.Tried`.
        starts: goal -> (z0, raw value) of the text.
        ends: goal -> (z, raw value) of the answer.
    """

    row: dict[str, Any]
    starts: Mapping[str, tuple[float | None, float | None]]
    ends: Mapping[str, tuple[float | None, float | None]]


class Playground(Askable):
    """Tries texts on the cells of a bench, one after the other: they share devices.

    Args:
        bench: the bench.
        root: storage root.
    """

    def rewrite(self, text: str, deltas: Mapping[str, float], cell: str, drafts: Drafts | None = None) -> Answer:
        """A text rewritten towards targets.

        Args:
            text: the source.
            deltas: goal -> move that is asked for, in goal-space units; 0 asks for nothing.
            cell: `method|model`.
            drafts: told texts while they are written; what it raises ends that.

        Raises:
            ConfigError: a text, goal, move or cell that cannot be.
            SteerworksError: the cell lacks a table, or its engine cannot be asked.
        """
        here, text = self._cell(cell), _checked(text)
        if odd := [g for g in deltas if g not in self.bench.goals]:
            raise ConfigError(f"goal {odd[0]!r} is not in the goal space ({', '.join(self.bench.goals)})")
        if odd := [g for g, d in deltas.items() if not -MOST_DELTA <= d <= MOST_DELTA]:
            raise ConfigError(f"goal {odd[0]!r}: a move lies between -1 and 1; got {str(deltas[odd[0]])[:20]}")
        with self._asking(here, drafts) as (run, work, frames):
            begun = time.monotonic()
            space = GoalSpace.from_table(frames["goal_space"])
            starts = self._measured(text, space)
            if odd := [g for g, d in deltas.items() if d and starts[g][0] is None]:
                raise ConfigError(f"goal {odd[0]!r} is not defined for this text: nothing can be asked of it")
            for goal, delta in deltas.items():
                # at the edge nothing is left to ask for
                if delta and float(starts[goal][0] or 0.0) == (1.0 if delta > 0 else 0.0):
                    raise ConfigError(f"goal {goal!r}: this text stands at the end of the scale already: ask otherwise")
            targets = {g: min(1.0, max(0.0, float(starts[g][0] or 0.0) + d)) for g, d in deltas.items() if d}
            request = digest_json([space.id, digest_text(text), sorted(targets.items())])
            goals = [
                (request, g, float(z if z is not None else 0.5), targets.get(g), float(raw if raw is not None else 0.0))
                for g, (z, raw) in starts.items()
            ]
            method = method_of(work)
            if run.backend is not None:
                give(method, run.asking, frames)
            requests = [(request, "playground", "test", digest_text(text), text, "playground")]
            answered = driver.run_method(
                method,
                pl.DataFrame(requests, schema=frames["requests"].schema, orient="row"),
                pl.DataFrame(goals, schema=frames["request_goals"].schema, orient="row"),
                space.goals,
                replace(run, ruler=ruler_of(self.bench, space) if method.traits.measures else None),
                artifact=Artifact.from_table(frames["artifacts"]),
            )
            outcome = answered.outcomes.row(0, named=True)
            ends = self._measured(outcome["text"], space)
            heard(drafts)
            row = {
                "cell": cell,
                "kind": "targets",
                "text": text,
                "targets": json.dumps(targets, sort_keys=True),
                "concept": "",
                "strength": None,
                "response_id": outcome["response_id"],
                "answer": outcome["text"],
                "failure": outcome["failure"],
                "error": _error(starts, targets, ends),
                "completion_tokens": outcome["completion_tokens"],
                "seconds": time.monotonic() - begun,
            }
            return self._kept(row, starts, ends)

    def steer(self, text: str, cell: str, concept: str, strength: float | None, drafts: Drafts | None = None) -> Answer:
        """A prompt answered under a cell's vector.

        Args:
            text: the prompt.
            cell: `method|model`, whose method has a vector.
            concept: which of its vectors.
            strength: in the vector's unit; None: unsteered.
            drafts: told the text while it is written; what it raises ends that.

        Raises:
            ConfigError: a text, cell, concept or strength that cannot be.
            SteerworksError: the vectors are not there, or the engine cannot be asked.
        """
        here, text = self._cell(cell), _checked(text)
        concepts, unit = self.concepts().get(cell, ([], ""))
        if concept not in concepts:
            raise ConfigError(f"{cell} has no vector of {concept!r}; it has {', '.join(concepts) or 'none'}")
        if strength is not None and not -MOST_STRENGTH <= strength <= MOST_STRENGTH:
            raise ConfigError(
                f"a strength lies between -{MOST_STRENGTH:g} and {MOST_STRENGTH:g}; got {str(strength)[:20]}"
            )
        with self._asking(here, drafts) as (run, _, frames):
            begun = time.monotonic()
            backend, sweep = run.asking, self.bench.sweep
            rows = self._frame("vectors", here).filter(pl.col("control") == "", pl.col("concept") == concept)
            own = of_the_part(rows, here)
            tensors = self._frame("vector_tensors", here).join(own, on="vector_id", how="semi")
            vectors = from_tables(own, tensors)
            backend.add_vectors(vectors)
            steered = interventions(vectors, None if strength is None else Strength(strength, unit))  # type: ignore[arg-type]
            decoding = Decoding(max_new_tokens=sweep.max_new_tokens, temperature=sweep.temperature)
            plan = Plan(backend.model_identity, decoding, messages=(Message("user", text),), interventions=steered)
            response = run_calls([Call(plan, 0, run.seed)], run).row(0, named=True)
            space, answer = GoalSpace.from_table(frames["goal_space"]), clean_answer(response["raw"])
            starts, ends = self._measured(text, space), self._measured(answer, space)
            heard(drafts)
            row = {
                "cell": cell,
                "kind": "strength",
                "text": text,
                "targets": "{}",
                "concept": concept,
                "strength": strength,
                "response_id": response["response_id"],
                "answer": answer,
                "failure": failure_of(answer, response["finish_reason"]),
                "error": None,
                "completion_tokens": response["completion_tokens"],
                "seconds": time.monotonic() - begun,
            }
            return self._kept(row, starts, ends)

    def tried(self) -> pl.DataFrame:
        """What was tried on this bench, the last first."""
        return Journal(self._journal(TRIED), Tried).read().sort("at", descending=True)

    def _kept(self, row: dict[str, Any], starts: Mapping[str, Any], ends: Mapping[str, Any]) -> Answer:
        said = {"at": time.time(), "z0": _places(starts), "z_hat": _places(ends)}
        whole = {**row, **said}
        whole["tried_id"] = digest_json(whole)
        frame = pl.DataFrame([whole], schema=Tried.empty().schema)
        Journal(self._journal(TRIED), Tried).append(frame)
        return Answer(whole, starts, ends)

    def _measured(self, text: str, space: GoalSpace) -> dict[str, tuple[float | None, float | None]]:
        """Goal -> (z, clipped; raw value, as it was measured)."""
        frame = pl.DataFrame({"text_id": [digest_text(text)], "text": [text]})
        raw = space.matrix(measure_texts(self.bench, frame), frame["text_id"])
        z, _ = space.locate(raw)
        return {
            g: (None, None) if math.isnan(value) else (float(place), float(value))
            for g, place, value in zip(space.goals, z[0], raw[0], strict=True)
        }


def _checked(text: str) -> str:
    if not text.strip():
        raise ConfigError("the text is empty: write something")
    if len(text) > LONGEST:
        raise ConfigError(f"a text takes {LONGEST:,} characters here; this one has {len(text):,}")
    return text


def _places(found: Mapping[str, tuple[float | None, float | None]]) -> str:
    return json.dumps({g: z for g, (z, _) in found.items()})


def _error(starts: Mapping[str, Any], targets: Mapping[str, float], ends: Mapping[str, Any]) -> float | None:
    """|z* - zh|; a goal that is not asked to move is asked to stay."""
    gaps = []
    for goal, (start, _) in starts.items():
        end = ends[goal][0]
        if start is None or end is None:
            return None
        gaps.append(targets.get(goal, start) - end)
    return math.hypot(*gaps)
