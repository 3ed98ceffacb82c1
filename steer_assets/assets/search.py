"""Search for the setting of a cell's vector, behavior by behavior: trials, and what the choices come to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from schemas import SearchResults, Trials
from schemas.search_spec import SearchSpec
from schemas.specs import BehaviorSpec, Decoding
from steer_assets.asked_models import judging_model
from steer_assets.assets.behaviors import judged_by
from steer_assets.assets.calling import asking
from steer_assets.assets.contrasts import behaviors_of
from steer_assets.assets.fits import fit_context, given_tables, swept_part
from steer_assets.judging import apart, judge_of, judges_lease, verdicts_of
from steer_assets.measuring import model_digest
from steer_assets.tables import Work, table
from steer_core.methods.search import cell as core
from steer_core.methods.search.measuring import MEASURES, WRITTEN
from steer_core.tables.errors import ConfigError
from steer_core.tables.journal import Journal


def _wanted(work: Work) -> SearchSpec:
    assert work.bench.search is not None  # tables here are of benches that have one
    return work.bench.search


def searched(work: Work) -> list[BehaviorSpec]:
    """Behaviors that this cell's vector is searched for: those of the bench, or those that the search names."""
    part = swept_part(work)
    if work.bench.search is None or part is None or not part.searches:
        return []
    named = work.bench.search.behaviors
    return [b for b in behaviors_of(work) if named is None or b.name in named]


def most_answers(wanted: SearchSpec, tested: int) -> int:
    """Answers that the search of one behavior asks for at most.

    Args:
        wanted: the search.
        tested: open test items of the behavior.
    """
    tried = wanted.trials * wanted.questions * (1 + wanted.random_search)
    return tried + tested * (1 + wanted.told + wanted.random_search + wanted.random_directions)


def _follows(work: Work) -> list[Any]:
    sweep, part = work.bench.sweep, swept_part(work)
    assert part is not None
    decoding = [sweep.max_new_tokens, sweep.temperature, work.bench.seed]
    return [_wanted(work).model_dump(mode="json"), decoding, judged_by(work, searched(work)),
            part.spec.model_dump(mode="json"), model_digest(work.here.model), core.versions()]  # fmt: skip


def _cost(work: Work, frames: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    trials = frames["trials"]
    return {"answers asked for": int(trials["answers"].sum()), "ended early": trials.filter(state="pruned").height}


@contextlib.contextmanager
def _judge(work: Work, behavior: BehaviorSpec) -> Iterator[Any]:
    """A behavior's judge, where something is judged; its device is held inside the context.

    Raises:
        ConfigError: judge and model are two on one device, which would have to change places at each trial.
    """
    if "judged" not in _wanted(work).objectives:
        yield None
        return
    if behavior.judge.kind == "llm":
        model = judging_model(work.here, behavior)
        if model.identity != work.here.model.identity and not apart(work.here.model, model):
            raise ConfigError(
                f"behavior {behavior.name!r}: a search judges each trial before the next, and its judge {model.name} "
                f"shares a device with {work.here.model.name}: give it another device or an endpoint, or search for "
                f"{', '.join(n for n in MEASURES if n != 'judged')}"
            )
    with judges_lease(work, behavior):
        yield judge_of(work, behavior)


@table(
    Trials,
    SearchResults,
    names=("trials", "search_results"),
    version=core.VERSION,
    spec=_follows,
    applies=lambda work: bool(searched(work)),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    metadata=_cost,
    also=given_tables,
)
def search(
    work: Work, preference_pairs: pl.DataFrame, behavior_items: pl.DataFrame, **fitted: pl.DataFrame
) -> tuple[pl.DataFrame, ...]:
    """Settings that were tried on validation questions, and what those chosen come to on test items.

    Each trial is kept as it ends: a run that was killed goes on with the very same trials, and more of them cost only
    what is new.
    """
    part, context, wanted = swept_part(work), fit_context(work), _wanted(work)
    assert part is not None
    space = part.search_space(context, fitted)
    trials, results = (list(rows) for rows in zip(core.no_trials(), strict=True))
    open_ones = behavior_items.filter(pl.col("form") == "open")["behavior"].unique().to_list()
    for behavior in searched(work):
        if WRITTEN & set(wanted.objectives) and behavior.name not in open_ones:
            work.log.warning("behavior %r has no open items, and the search looks at answers: left out", behavior.name)
            continue
        with asking(work, f"search: {behavior.name}") as run, _judge(work, behavior) as judge:
            part.give_sweep(run.asking, context, fitted)
            made = core.search_behavior(
                behavior,
                wanted,
                part.spec,
                space,
                part.searched(context, fitted),
                preference_pairs,
                behavior_items,
                core.Asking(
                    # trials are counted, not the answers of each
                    replace(run, progress=None),
                    Decoding(max_new_tokens=work.bench.sweep.max_new_tokens, temperature=work.bench.sweep.temperature),
                    Journal(work.url("search_journal", f"model={work.here.model.name}"), Trials),
                    judge,
                    verdicts_of(work) if judge is not None and behavior.judge.kind == "llm" else None,
                    work.progress(f"search: {behavior.name}"),
                    model_digest(work.here.model),
                ),
            )
        trials.append(made[0])
        results.append(made[1])
    return pl.concat(trials), pl.concat(results)
