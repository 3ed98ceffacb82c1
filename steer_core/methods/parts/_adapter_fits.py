"""How adapter parts come by their adapters: trained by a recipe or read from a folder, and tried state by state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl

from schemas.adapter_part import AdapterPart, Recipe
from schemas.adapters import Adapters, CheckpointTrials, TrainingLog, TrainingMeasures, TrainingSamples
from schemas.digest import canonical_json, digest_bytes, digest_json
from schemas.evaluation import HEADLINE
from schemas.specs import BenchSpec
from steer_core.adapters.hub import states_of_hub
from steer_core.adapters.recipe import Training, recipe_module, train
from steer_core.adapters.rewards import Target
from steer_core.adapters.run import RunFolder
from steer_core.adapters.split import split_by_text
from steer_core.adapters.states import State, keep_state, state_of, states_in
from steer_core.evaluation.scoring import evaluate
from steer_core.generation.journalled import printable
from steer_core.goals.space import GoalSpace
from steer_core.methods.driver import failure_of, requests_from, run_method
from steer_core.methods.fitting import POOL, FitCheck, FitContext, FitStep, Tables, asked_under, gather, give
from steer_core.methods.part import Arm, Composed, Part
from steer_core.methods.parts._adapter_needs import content_of, others_of, plans_under, written_by
from steer_core.methods.parts._adapter_served import served_rows
from steer_core.methods.protocol import Artifact, Choose, Item, Method, Request
from steer_core.models.loading import fingerprint_of, load_model
from steer_core.steering.plan import Plan
from steer_core.tables.errors import ConfigError, SteerworksError

#: Bumped when the same recipe and pool give other adapters, or other trials.
VERSION = "1"
#: The model without the adapter, among the trials.
BARE = -1
#: Folders of runs and of adapters, below the bench's.
RUNS, STATES = "training_runs", "adapter_states"
_TABLES = ("requests", "request_goals", "goal_space")


def _spec(part: Part) -> AdapterPart:
    return cast(AdapterPart, part.spec)


def pool_of(cell: FitContext, tables: Tables, trial_texts: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The training pool, cut by text: requests that are trained on, and requests that states are tried on.

    Raises:
        ConfigError: there are not enough texts, or a text of the pool stands in a test probe.
    """
    pool = tables["requests"].filter(pl.col("probe") == cell.bench.train_probe)
    split = split_by_text(
        tables["requests"], TrainingSamples.empty(), str(cell.bench.train_probe), cell.bench.test_probes
    )
    if split.shared:
        raise ConfigError(
            f"{len(split.shared)} texts of the training pool stand in a test probe as well (first: "
            f"{split.shared[0][0]}): what is trained on them would be tested on them"
        )
    # ids are hashes: the first of them are a draw
    texts = sorted(set(pool["text_id"]))
    if len(texts) <= trial_texts:
        raise ConfigError(
            f"the training pool has {len(texts)} texts, and trial_texts = {trial_texts} of them are kept for picking a "
            "state: lower it, or draw more texts"
        )
    kept = pl.col("text_id").is_in(texts[:trial_texts])
    return pool.filter(~kept), pool.filter(kept)


def _adapters(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    """Trains the adapter on the training pool, or reads one from elsewhere; each state that is kept is a row."""
    spec = _spec(part)
    if spec.recipe is not None:
        return _trained(part, spec.recipe, cell, tables)
    if spec.served is not None:
        with cell.asking("adapters that are served") as run:
            rows = served_rows(part.label, spec.served, run.asking, fingerprint_of(cell.model))
        return rows, TrainingLog.empty(), TrainingSamples.empty(), TrainingMeasures.empty()
    if spec.hub is not None:
        states, folders = states_of_hub(spec.hub, str(spec.revision), cell.folders, STATES)
    else:
        states = states_in(Path(str(spec.folder)).expanduser())
        folders = [str(s.adapter.folder) for s in states]
    rows = _rows(part.label, states, cell, folders, recipe=None, hashes=("", ""))
    return rows, TrainingLog.empty(), TrainingSamples.empty(), TrainingMeasures.empty()


def _trained(part: Part, recipe: Recipe, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    method = cast(Composed, cell.method).before(part.label)
    requests, _ = pool_of(cell, tables, _spec(part).trial_texts)
    space = GoalSpace.from_table(tables["goal_space"])
    asked = tables["request_goals"].join(requests, on="request_id", how="semi")
    wanted = requests_from(requests, asked, space.goals)
    artifact = gather(method, tables)
    plans = {r.request_id: _prompt(method, r, artifact) for r in wanted}
    fingerprint = fingerprint_of(cell.model)
    settings = recipe.model_dump(mode="json") | written_by(recipe, cell)
    also = {name: plans_under(name, method, wanted) for name in recipe.also_under()}
    said: list[Any] = [sorted((r, p.id) for r, p in plans.items()), asked.sort("request_id", "goal").rows()]
    said += [[digest_bytes(content_of(f)) for f in recipe.files()]] if recipe.files() else []
    data = digest_json([*said, *(sorted((r, p.id) for r, p in more.items()) for more in also.values())])
    known = digest_json([settings, recipe_module(recipe.kind).VERSION, VERSION, fingerprint, data])
    run = RunFolder(cell.folders.local(f"{RUNS}/{known}"))
    training = Training(
        load=lambda: load_model(cell.model),
        plans=plans,
        targets={r.request_id: _target(r) for r in wanted},
        goals=tuple(space.goals),
        comparatives={name: (goal.less, goal.more) for name, goal in cell.goals.items()},
        ruler=cell.ruler(space),
        failure=_failure(method, {r.request_id: r.text for r in wanted}),
        run=run,
        base=cell.model.source,
        also=also,
        say=cell.say,
        observe=cell.observe,
        name=cell.model.name,
        others={name: other.asking for name, other in others_of(recipe, cell).items()},
    )
    with cell.training():
        checkpoints = train(recipe, training)
    states, folders = [], []
    for step, checkpoint in sorted(checkpoints.items()):
        name = f"{STATES}/{known}/step-{step}"
        keep_state(checkpoint, cell.folders.local(name), cell.model.source)
        cell.folders.publish(name)
        states.append(state_of(cell.folders.local(name), step, f"step {step}"))
        folders.append(name)
    hashes = (digest_json(settings), data)
    return (
        _rows(part.label, states, cell, folders, recipe=recipe, hashes=hashes),
        *(
            _streamed(run, name, part.label, contract)
            for name, contract in (("log", TrainingLog), ("samples", TrainingSamples), ("measures", TrainingMeasures))
        ),
    )


def _prompt(method: Method, request: Request, artifact: Artifact) -> Plan:
    step = method.step(request, artifact, ())
    if isinstance(step, Choose) or len(step) != 1:
        raise SteerworksError("an adapter is trained under a prompt that asks once")
    return step[0]


def _target(request: Request) -> Target:
    ends = [np.nan if g.z_star is None else g.z_star for g in request.goals]
    return Target(request.text, np.array([g.z0 for g in request.goals]), np.array(ends, dtype=np.float64))


def _failure(method: Method, sources: dict[str, str]) -> Any:
    def failure(request_id: str, raw: str, finish_reason: str) -> tuple[str, str | None]:
        text, parsed = method.clean(raw)
        text = printable(text)
        return text, failure_of(text, finish_reason, parsed, sources[request_id])

    return failure


def _rows(
    label: str,
    states: Sequence[State],
    cell: FitContext,
    folders: Sequence[str],
    *,
    recipe: Recipe | None,
    hashes: tuple[str, str],
) -> pl.DataFrame:
    rows = [
        {
            "part": label,
            "step": s.step,
            "label": s.label,
            "adapter": s.adapter.digest,
            "folder": folder,
            "base": fingerprint_of(cell.model),
            "recipe": canonical_json(dict(s.settings) if recipe is None else recipe.model_dump(mode="json")),
            "recipe_hash": hashes[0],
            "data_hash": hashes[1],
            "rank": s.rank,
            "parameters": s.parameters,
            "norm": s.norm,
        }
        for s, folder in zip(states, folders, strict=True)
    ]
    return pl.DataFrame(rows, schema=Adapters.empty().schema)


def _streamed(run: RunFolder, name: str, label: str, contract: Any) -> pl.DataFrame:
    rows = [{"part": label, **row} for row in run.rows(name)]
    found: pl.DataFrame = pl.DataFrame(rows, schema=contract.empty().schema)
    return found


def _follows(part: Part, cell: FitContext) -> Any:
    """What the adapter follows from beside its settings: the files of a folder, or what the pool is asked."""
    spec = _spec(part)
    if spec.recipe is not None:
        files = [digest_bytes(content_of(f)) for f in spec.recipe.files()]
        version, written = recipe_module(spec.recipe.kind).VERSION, written_by(spec.recipe, cell)
        return [asked_under(part, cell), version, *([files] if files else []), *([written] if written else [])]
    if spec.folder is None:
        # a revision of the hub stays as it is; whether a server has what it had is looked at when it is asked
        return None
    return [[s.step, s.adapter.digest] for s in states_in(Path(spec.folder).expanduser())]


def _trials(part: Part, cell: FitContext, tables: Tables) -> tuple[pl.DataFrame, ...]:
    """Each state, and the model without it, on texts of the training pool that it was not trained on."""
    method = cast(Composed, cell.method)
    _, requests = pool_of(cell, tables, _spec(part).trial_texts)
    asked = tables["request_goals"].join(requests, on="request_id", how="semi")
    space = GoalSpace.from_table(tables["goal_space"])
    under = method.before(part.label)
    worn = replace(under, parts=(*under.parts, part))
    states = tables["adapters"].filter(pl.col("part") == part.label).sort("step")
    items = [
        Item(
            "state", {"adapter": r["adapter"], "step": r["step"], "label": r["label"], "picked": False}, part=part.label
        )
        for r in states.iter_rows(named=True)
    ]
    artifact = Artifact((*gather(under, tables).items, *items))
    arms = [Arm(part.label, str(i.body["label"]), {"step": i.body["step"]}) for i in items]
    with cell.asking("trials of states") as run:
        give(under, run.asking, tables)
        part.give(run.asking, tables)
        variants = {BARE: under, **{int(arm.settings["step"]): worn.at(arm) for arm in arms}}
        found = []
        for step, variant in variants.items():
            answered = run_method(variant, requests, asked, space.goals, run, artifact=artifact)
            scored, _ = evaluate(
                requests, asked, answered.outcomes, cell.measure(answered.outcomes), tables["goal_space"]
            )
            found.append(
                scored.filter(arm_id=HEADLINE).select(
                    part=pl.lit(part.label),
                    step=pl.lit(step, pl.Int64),
                    request_id="request_id",
                    text_id="text_id",
                    error="error_worst",
                    failure="failure",
                )
            )
    table = pl.concat([CheckpointTrials.empty(), *found])
    _tell(cell, part.label, table)
    return (table,)


def best_step(trials: pl.DataFrame) -> int | None:
    """The state with the least mean error, failures at their worst; of equals the first. None without trials."""
    means = trials.filter(pl.col("step") != BARE).group_by("step").agg(pl.col("error").mean()).sort("error", "step")
    return int(means["step"][0]) if means.height else None


def _tell(cell: FitContext, label: str, trials: pl.DataFrame) -> None:
    picked = best_step(trials)
    mean = dict(trials.group_by("step").agg(pl.col("error").mean()).iter_rows())
    if picked is not None and BARE in mean and mean[picked] >= mean[BARE]:
        cell.warn(
            f"no state of {label!r} has less error on the training pool than the model without it "
            f"({mean[picked]:.3f}, {mean[BARE]:.3f}): nothing was learnt that helps"
        )


def _draws(part: Part, cell: FitContext) -> dict[str, tuple[int, int]]:
    """Model -> answers that training draws from it at most, and their tokens."""
    spec, probe = _spec(part), cell.bench.probe(str(cell.bench.train_probe))
    if spec.recipe is None:
        return {}
    requests = max(probe.n_texts - spec.trial_texts, 0) * probe.n_goals_per_text
    return dict.fromkeys(spec.recipe.writers(cell.model.name), spec.recipe.draws(requests))


def _own_draws(part: Part, cell: FitContext) -> tuple[int, int]:
    return _draws(part, cell).get(cell.model.name, (0, 0))


def _draws_of_others(part: Part, cell: FitContext) -> dict[str, tuple[int, int]]:
    return {name: drawn for name, drawn in _draws(part, cell).items() if name != cell.model.name}


def _trial_calls(part: Part, cell: FitContext) -> int:
    spec = _spec(part)
    probe = cell.bench.probe(str(cell.bench.train_probe))
    states = 1 if spec.recipe is None else spec.recipe.states()
    return (states + 1) * spec.trial_texts * probe.n_goals_per_text


def _split(bench: BenchSpec, tables: Tables) -> tuple[bool, str]:
    found = split_by_text(tables["requests"], tables["training_samples"], str(bench.train_probe), bench.test_probes)
    return found.holds, found.said()


FITS = (
    FitStep(
        "adapters",
        {
            "adapters": Adapters,
            "training_log": TrainingLog,
            "training_samples": TrainingSamples,
            "training_measures": TrainingMeasures,
        },
        POOL,
        _adapters,
        VERSION,
        settings=lambda part: [_origin(_spec(part)), _recipe_settings(part), _spec(part).trial_texts],
        follows=_follows,
        calls_model=True,
        calls=lambda part, cell: _own_draws(part, cell)[0],
        new_tokens=lambda part, cell: _own_draws(part, cell)[1],
        others=_draws_of_others,
        kinds=("huggingface",),
        checks=(
            FitCheck(
                "split_by_text",
                "No text of a test probe is in the training pool, or among what completions were drawn for",
                ("requests",),
                _split,
            ),
        ),
    ),
    FitStep(
        "checkpoint_trials",
        {"checkpoint_trials": CheckpointTrials},
        (*POOL, "adapters"),
        _trials,
        VERSION,
        settings=lambda part: _spec(part).trial_texts,
        follows=lambda part, cell: asked_under(part, cell),
        calls_model=True,
        calls=_trial_calls,
        kinds=("huggingface",),
    ),
)


def _origin(spec: AdapterPart) -> Any:
    if spec.served is not None:
        return {"served": spec.served}
    return spec.folder if spec.hub is None else {"hub": spec.hub, "revision": spec.revision}


def _recipe_settings(part: Part) -> Any:
    recipe = _spec(part).recipe
    return None if recipe is None else recipe.model_dump(mode="json")


__all__ = ["BARE", "FITS", "best_step", "pool_of"]
