"""A bench whose tables are made up, so that what views should show is known: hostile texts, failures, arms and all."""

import json

import numpy as np
import polars as pl

from schemas import (
    Adapters,
    ArmAnswers,
    ArmScores,
    ArmSummary,
    Attempts,
    BehaviorItems,
    CheckpointTrials,
    Frontier,
    GoalMovements,
    GoalSpaceTable,
    Groundedness,
    Leaderboard,
    Outcomes,
    ProbeArms,
    RequestGoals,
    Requests,
    Responses,
    Steerability,
    SweepArms,
    TrainingLog,
    TrainingSamples,
    Vectors,
    VectorTensors,
)
from schemas.digest import digest_text
from schemas.evaluation import HEADLINE
from steer_core.explorer.bench import Bench
from steer_core.registry import load_registry, shipped_config
from steer_core.tables.footer import Footer
from steer_core.tables.snapshot import publish_table

GOALS = ("formality", "text_length")
CELLS = ("copy|embedded", "direct|embedded", "vector-leace|embedded")
#: What a model may write.
HOSTILE = [
    "<script>document.title = 'taken'; window.taken = 1</script><img src=x onerror=\"window.taken = 1\">",
    "word " * 20_000,
    "\u202ereversed\u202c and \u200bzero\u200b width \x00 null \x1b[31m",
    "שלום עולם, this goes the other way",
    '</title></style></textarea><a href="javascript:window.taken=1">here</a>{{ 7 * 7 }}',
    "w" * 5_000,
]


class World:
    """Tables on disk, and the rows behind them.

    Attributes:
        root: storage root.
        requests: `n` of them; the last four are of another probe.
        samples: a dict a sample: cell, arm, request, failure, error, text ...
    """

    def __init__(self, root, n=24, seed=3):
        self.root, self.rng = str(root), np.random.default_rng(seed)
        self.requests = [self._request(i, n) for i in range(n)]
        self.samples = []
        self._shared()
        for cell in CELLS:
            self._cell(cell, [HEADLINE] if cell != CELLS[2] else [HEADLINE, "stronger"])

    def bench(self):
        registry = load_registry([shipped_config()])
        spec = registry.bench("tales").model_copy(update={"goals": GOALS})
        return Bench(self.root, spec, {g: registry.goal(g) for g in GOALS}, ("copy",))

    def _request(self, i, n):
        text = f"source {i} of the baker" if i % 3 else f"source {i} of the SAILOR"
        z0 = self.rng.random(2)
        asked = (i % 4 != 3, i % 2 == 0)
        z_star = [float(self.rng.random()) if a else None for a in asked]
        return {
            "id": digest_text(f"request {i}"), "text": text, "text_id": f"text{i // 2}", "probe": "main" if i < n - 4 else "nothing-asked",
            "z0": z0.tolist(), "z_star": z_star,
        }  # fmt: skip

    def put(self, contract, rows, *where):
        frame = pl.DataFrame(rows, schema=contract.empty().schema, orient="row")
        publish_table(frame, contract, "/".join([self.root, "tales", *where, "part.parquet"]), Footer("x", 1))

    def _shared(self):
        self.put(
            GoalSpaceTable, [("s", n, g, f"{g}@1", 0.0, 1.0, "fixed", 9) for n, g in enumerate(GOALS)], "goal_space"
        )
        rows = [(r["id"], r["probe"], "test", r["text_id"], r["text"], "made up") for r in self.requests]
        self.put(Requests, rows, "requests")
        goals = [
            (r["id"], g, r["z0"][k], r["z_star"][k], 10 * r["z0"][k])
            for r in self.requests
            for k, g in enumerate(GOALS)
        ]
        self.put(RequestGoals, goals, "request_goals")

    def _cell(self, cell, arms):
        method, model = cell.split("|")
        at = (f"model={model}", f"method={method}")
        scores, outcomes, moves, responses = [], [], [], []
        for arm in arms:
            for i, r in enumerate(self.requests):
                sample = self._sample(cell, arm, i, r)
                self.samples.append(sample)
                scores.append(sample["scores"])
                outcomes.append(sample["outcome"])
                moves += sample["moves"]
                responses += sample["responses"]
        # of one cell the tables are in another order than its scores
        outcomes = outcomes if cell != CELLS[1] else outcomes[::-1]
        self.put(Steerability, [tuple(s.values()) for s in scores], "steerability", *at)
        self.put(Outcomes, outcomes, "outcomes", *at)
        self.put(GoalMovements, moves, "goal_movements", *at)
        self.put(Responses, responses, "responses", *at)
        self.put(ProbeArms, [(a, "", "as it is used" if a == HEADLINE else "twice as strong", None, "", "{}") for a in arms], "probe_arms", *at)  # fmt: skip
        if cell == CELLS[1]:
            self.put(
                Groundedness,
                [(self.requests[0]["id"], responses[0][0], "judge", 1.0, 0.5, True, False)],
                "groundedness",
                *at,
            )
            attempt = ("a1", responses[0][0], 1, 0.0, 0.5, "waiting", 429, "<b>slow down</b>", "", 5, 0, 0, 0, 0.25, 0.3, "x", "", None)  # fmt: skip
            self.put(Attempts, [attempt], "attempts", *at)

    def _sample(self, cell, arm, i, r):
        rng = self.rng
        text = HOSTILE[i] if i < len(HOSTILE) and cell != CELLS[0] else f"{cell} answers {i} to the Fisherman"
        text = r["text"] if cell == CELLS[0] else text
        failure = "truncated" if i == 7 and cell != CELLS[0] else "empty" if i == 8 and cell == CELLS[1] else None
        text = "" if failure == "empty" else text
        z0, target = (
            np.array(r["z0"]),
            np.array([z if s is None else s for z, s in zip(r["z0"], r["z_star"], strict=True)]),
        )
        reached = z0 if cell == CELLS[0] else rng.random(2)
        whole = failure is None
        figures = {
            "requested": float(np.linalg.norm(target - z0)),
            "moved": float(np.linalg.norm(reached - z0)) if whole else None,
            "error": float(np.linalg.norm(target - reached)) if whole else None,
        }
        scores = {
            "arm_id": arm, "request_id": r["id"], "probe": r["probe"], "goal_space_id": "s", "text_id": r["text_id"],
            "failure": failure, "copied": cell == CELLS[0], **figures,
        }  # fmt: skip
        for name in Steerability.names():
            nullable = Steerability.rules()[name].nullable
            scores.setdefault(name, float(rng.random()) if whole or not nullable else None)
        scores["meaning_embedding"] = None
        scores["error_worst"] = figures["error"] if whole else 1.2
        scores = {name: scores[name] for name in Steerability.names()}
        plan = {
            "messages": [{"role": "user", "content": f"Rewrite: {r['text']} <i>now</i>"}],
            "decoding": {"temperature": 0},
        }
        key = digest_text(f"{cell} {arm} {i}")
        answer = (key, f"plan {key}", json.dumps(plan), 0, 1, "e", f"Sure! {text}", text, digest_text(text), "stop", True, 20, 11 + i, 0.5, None)  # fmt: skip
        other = (digest_text(key), f"plan {key}", json.dumps(plan), 1, 2, "e", "another try", "another try", "t", "length", True, 20, 5, 0.5, None)  # fmt: skip
        outcome = (arm, r["id"], r["probe"], key, text, digest_text(text), failure, cell == CELLS[0], 1, 1 + i % 3, 20, 11 + i, 0.5)  # fmt: skip
        moves = [
            (
                arm,
                r["id"],
                r["probe"],
                g,
                r["z0"][k],
                r["z_star"][k],
                float(reached[k]) if whole else None,
                0.0,
                float(10 * reached[k]) if whole else None,
            )
            for k, g in enumerate(GOALS)
        ]
        return {
            "cell": cell, "arm": arm, "i": i, "request": r, "text": text, "failure": failure, "scores": scores,
            "reached": reached, "target": target, "tokens": 11 + i, "outcome": outcome, "moves": moves,
            "responses": [answer, other],
        }  # fmt: skip

    def sweep(self):
        """Strengths of the vector cell on one behavior, three items, and its vectors."""
        method, model = CELLS[2].split("|")
        at = (f"model={model}", f"method={method}")
        arms = [("off", "off", None, "[]"), *((f"v{k}", "vector", k / 10, "[2]") for k in (-2, 2, 4))]
        arms += [("random", "random", 0.4, "[2]"), ("asked", "prompt", None, "[]")]
        items = [f"item{k}" for k in range(3)]
        asked = [
            (
                i,
                "kindness",
                "open",
                "main",
                json.dumps([{"role": "user", "content": f"Say {i} <b>please</b>"}]),
                None,
                None,
                "s",
                k,
            )
            for k, i in enumerate(items)
        ]
        self.put(BehaviorItems, asked, "behavior_items")
        sweep, answers, scores, summary = [], [], [], []
        for arm, role, strength, layers in arms:
            side = 1 if role == "prompt" else None
            unit, positions = ("residual_fraction", "all") if layers != "[]" else (None, None)
            sweep.append((arm, "h", "kindness", role, strength, unit, 1.0, layers, "residual", positions, 0, "Be kind." if side else None, None, side, "[]", "[]", 3, 0, 9, None))  # fmt: skip
            for k, item in enumerate(items):
                answers.append((arm, item, 0, f"r{arm}{item}", f"{arm} says {item}" if k else HOSTILE[0], None))
                scores.append((arm, item, 0, "main", "judged", 5.0 + 10 * (strength or 0.0)))
            for measure, mean in (("judged", 5.0 + 10 * (strength or 0.0)), ("kl", abs(strength or 0.0) / 10)):
                summary.append((arm, "kindness", role, strength, unit, layers, positions, 0, "main", measure, mean, mean - 0.5, mean + 0.5, 0.0, None, None, 0.0, 3, 3))  # fmt: skip
        self.put(SweepArms, sweep, "sweep_arms", *at)
        self.put(ArmAnswers, answers, "arm_answers", *at)
        self.put(ArmScores, scores, "arm_scores", *at)
        self.put(ArmSummary, summary, "arm_summary", *at)
        directions = {"a": [3.0, 4.0, 0.0, 0.0], "b": [0.0, 5.0, 0.0, 0.0], "c": [-6.0, -8.0, 0.0, 0.0]}
        vectors = [
            (
                "vector",
                f"v{n}",
                n,
                "",
                0,
                "leace",
                "add",
                2,
                "residual",
                "answer",
                4,
                float(np.linalg.norm(v)),
                10.0,
                8,
                8,
                0.9,
                "m",
                "t",
                "{}",
                '{"examples": "0123456789", "options": {"rank": 2}}',
            )
            for n, v in directions.items()
        ]
        self.put(Vectors, vectors, "vectors", *at)
        self.put(VectorTensors, [(f"v{n}", "direction", 0, v) for n, v in directions.items()], "vector_tensors", *at)

    def leaderboard(self):
        """A leaderboard with made-up figures."""
        rows = []
        for place, cell in enumerate(CELLS):
            method, model = cell.split("|")
            row = dict.fromkeys(Leaderboard.names(), 0.1 * (place + 1))
            row |= {"goal_space_id": "s", "probe": "main", "model": model, "method": method, "rank": place + 1, "best": CELLS[0], "n": 20, "n_clusters": 10}  # fmt: skip
            rows.append(tuple(row[n] for n in Leaderboard.names()))
        self.put(Leaderboard, rows, "leaderboard")

    def trained(self):
        """An adapter of the prompt cell: two states, ten steps, tried on two requests."""
        method, model = CELLS[1].split("|")
        at = (f"model={model}", f"method={method}")
        recipe = json.dumps({"kind": "grpo", "loss": "grpo", "seed": 3})
        states = [("adapter", k, f"step {k}", f"digest{k}", f"adapters/{k}", "m", recipe, "h", "d", 4, 1000 * k, 0.5) for k in (5, 10)]  # fmt: skip
        self.put(Adapters, states, "adapters", *at)
        log = [("adapter", k, m, v) for k in range(1, 11) for m, v in (("reward", k / 10), ("kl", k / 100))]
        self.put(TrainingLog, log, "training_log", *at)
        self.put(TrainingSamples, [], "training_samples", *at)
        trials = [("adapter", step, error) for step, error in ((-1, 0.5), (5, 0.3), (10, 0.4))]
        rows = [(*state[:2], r, f"text {r}", state[2], None) for state in trials for r in "ab"]
        self.put(CheckpointTrials, rows, "checkpoint_trials", *at)

    def costs(self):
        """Effect against side effect: both methods, and the model as it is."""
        rows = []
        for place, cell in enumerate((None, *CELLS[1:])):
            method, model = (cell or CELLS[0]).split("|")
            row = {
                "model": model, "method": method, "probe": "main", "arm_id": "plain" if cell is None else HEADLINE,
                "label": "as it is", "headline": True, "error": 0.5 - 0.1 * place, "error_low": 0.4 - 0.1 * place,
                "error_high": 0.6 - 0.1 * place, "profile": "arithmetic", "metric": "accuracy", "cost": 0.05 * place,
                "cost_low": 0.01 * place, "cost_high": 0.09 * place, "n_different": place, "n_metrics": 4, "best": True,
                "outdated": "",
            }  # fmt: skip
            rows.append(tuple(row[n] for n in Frontier.names()))
        self.put(Frontier, rows, "frontier")
