"""The steps that fit adapter parts, made and then tried: what each follows from, asks for, and must show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.adapter_part import AdapterPart
from schemas.adapters import Adapters, CheckpointTrials, TrainingLog, TrainingMeasures, TrainingSamples
from schemas.digest import digest_bytes
from schemas.specs import BenchSpec
from steer_core.adapters.recipe import follows, recipe_module
from steer_core.adapters.split import split_by_text
from steer_core.adapters.states import states_in
from steer_core.evaluation.profiles.sets import load_set
from steer_core.methods.fitting import POOL, FitCheck, FitContext, FitStep, Tables, asked_under
from steer_core.methods.part import Part
from steer_core.methods.parts._adapter_fits import make_adapters
from steer_core.methods.parts._adapter_job import VERSION
from steer_core.methods.parts._adapter_needs import content_of, written_by
from steer_core.methods.parts._adapter_pool import spec_of
from steer_core.methods.parts._adapter_trials import trial_calls, try_states


def _follows(part: Part, cell: FitContext) -> Any:
    """What the adapter follows from beside its settings: the files of a folder, or what the pool is asked."""
    spec = spec_of(part)
    if spec.recipe is not None:
        files = [digest_bytes(content_of(f)) for f in spec.recipe.files()]
        version, written = recipe_module(spec.recipe.kind).VERSION, written_by(spec.recipe, cell)
        # what a profile asks may not be trained on: another profile is another look at that
        profiles = [] if spec.recipe.asked() is None else [p.spec_hash for p in cell.profiles]
        more = (files, written, follows(spec.recipe), profiles)
        return [asked_under(part, cell), version, *(what for what in more if what)]
    if spec.folder is None:
        # a revision of the hub stays as it is; whether a server has what it had is looked at when it is asked
        return None
    return [[s.step, s.adapter.digest] for s in states_in(Path(spec.folder).expanduser())]


def _draws(part: Part, cell: FitContext) -> dict[str, tuple[int, int]]:
    """Model -> answers that training draws from it at most, and their tokens."""
    spec, probe = spec_of(part), cell.bench.probe(str(cell.bench.train_probe))
    if spec.recipe is None:
        return {}
    requests = max(probe.n_texts - spec.trial_texts, 0) * probe.n_goals_per_text
    if (prompts := spec.recipe.asked()) is not None:
        requests = load_set(prompts).height
    return dict.fromkeys(spec.recipe.writers(cell.model.name), spec.recipe.draws(requests))


def _own_draws(part: Part, cell: FitContext) -> tuple[int, int]:
    return _draws(part, cell).get(cell.model.name, (0, 0))


def _draws_of_others(part: Part, cell: FitContext) -> dict[str, tuple[int, int]]:
    return {name: drawn for name, drawn in _draws(part, cell).items() if name != cell.model.name}


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
        make_adapters,
        VERSION,
        settings=lambda part: [_origin(spec_of(part)), _recipe_settings(part), spec_of(part).trial_texts],
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
        try_states,
        VERSION,
        settings=lambda part: spec_of(part).trial_texts,
        follows=lambda part, cell: asked_under(part, cell),
        calls_model=True,
        calls=trial_calls,
        kinds=("huggingface",),
    ),
)


def _origin(spec: AdapterPart) -> Any:
    if spec.served is not None:
        return {"served": spec.served}
    return spec.folder if spec.hub is None else {"hub": spec.hub, "revision": spec.revision}


def _recipe_settings(part: Part) -> Any:
    recipe = spec_of(part).recipe
    return None if recipe is None else recipe.model_dump(mode="json")
