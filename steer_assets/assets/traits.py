"""Behaviors from a sentence: instructions and questions, answers under both, and what is kept of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import polars as pl

from schemas import Responses, TraitAnswers, TraitFilters, TraitPrompts
from schemas.specs import BehaviorSpec, BenchSpec, DescribedBehavior, ModelSpec
from steer_assets.compute import backend_for, device_lease, device_of
from steer_assets.judging import apart, verdicts_on
from steer_assets.measuring import judge_digest, model_digest
from steer_assets.progress import Reporter
from steer_assets.settings import registry
from steer_assets.tables import Work, table
from steer_core.corpus.contrasts.files import digest_file
from steer_core.evaluation import described as core
from steer_core.evaluation.judges import load as judges
from steer_core.generation.run import Run
from steer_core.methods.cleaning import clean_answer
from steer_core.tables.errors import ConfigError
from steer_core.tables.journal import Journal


def described_of(bench: BenchSpec) -> list[tuple[BehaviorSpec, DescribedBehavior]]:
    """The behaviors of a bench that are made from a sentence."""
    found = [registry().behavior(name) for name in bench.behaviors]
    return [(b, b.source) for b in found if isinstance(b.source, DescribedBehavior)]


def writer_of(bench: BenchSpec, behavior: BehaviorSpec, source: DescribedBehavior) -> ModelSpec:
    """The model that answers under both instructions.

    Raises:
        ConfigError: none is named, and the bench has several.
    """
    if source.writer is not None:
        return registry().model(source.writer)
    if len(bench.models) > 1:
        raise ConfigError(
            f"behavior {behavior.name!r}: bench {bench.name!r} has {len(bench.models)} models, and nothing says which "
            f"of them answers: give the source's `writer`, one of {', '.join(bench.models)} or another"
        )
    return registry().model(bench.models[0])


@contextlib.contextmanager
def _asking(work: Work, model: ModelSpec, what: str) -> Iterator[Run]:
    """A run that asks a model for what all cells share; its device is held inside the context."""
    with device_lease(device_of(model)):
        yield Run(
            Journal(work.url("journal", f"model={model.name}"), Responses),
            backend_for(model),
            seed=work.bench.seed,
            batch_size=work.bench.batch_size,
            progress=Reporter(work.log, work.bench.name, what),
        )


def _prompted(work: Work) -> list[Any]:
    found: list[Any] = []
    for behavior, source in described_of(work.bench):
        files = {p: digest_file(p) for p in (source.prompts, source.questions.path) if p is not None}
        author = None if source.author is None else model_digest(registry().model(source.author))
        # where a file lies is not what it says
        settings = source.model_dump(mode="json", exclude={"prompts", "writer", "author"})
        found.append([behavior.name, settings, sorted(files.values()), author])
    return found


@table(
    TraitPrompts,
    version=core.VERSION,
    spec=_prompted,
    gpu=True,
)
def trait_prompts(work: Work) -> pl.DataFrame:
    """Opposite instructions and questions of each described behavior: to be read, and edited if they miss it."""
    rows = [TraitPrompts.empty()]
    for behavior, source in described_of(work.bench):
        if source.author is None or source.prompts is not None:
            rows.append(core.make_prompts(behavior))
            continue
        with _asking(work, registry().model(source.author), "traits: prompts") as run:
            rows.append(core.make_prompts(behavior, run))
    return pl.concat(rows)


def _answered(work: Work) -> list[Any]:
    found: list[Any] = []
    for behavior, source in described_of(work.bench):
        judge = None if behavior.judge.kind != "llm" else judge_digest(_judge_model(work, behavior, source))
        settings = source.model_dump(mode="json", include={"samples", "max_new_tokens", "temperature", "seed"})
        rated = [behavior.judge.model_dump(mode="json"), list(behavior.scale), behavior.description, judge]
        found.append([behavior.name, settings, model_digest(writer_of(work.bench, behavior, source)), rated])
    return found


def _judge_model(work: Work, behavior: BehaviorSpec, source: DescribedBehavior) -> ModelSpec:
    named = behavior.judge.model
    return registry().model(named) if named is not None else writer_of(work.bench, behavior, source)


def _told(work: Work, frames: Any) -> dict[str, Any]:
    answers = frames["trait_answers"]
    return {"answers": answers.height, "kept": int(answers["kept"].sum())}


@table(
    TraitAnswers,
    TraitFilters,
    version=core.VERSION,
    spec=_answered,
    gpu=True,
    metadata=_told,
)
def trait_answers(work: Work, trait_prompts: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Answers to every question under both instructions, what the filter says of each, and who could have filtered."""
    answers, filters = [TraitAnswers.empty()], [TraitFilters.empty()]
    for behavior, source in described_of(work.bench):
        own = trait_prompts.filter(pl.col("behavior") == behavior.name)
        model = writer_of(work.bench, behavior, source)
        judged_by = _judge_model(work, behavior, source)
        kept = verdicts_on(work, model)
        with contextlib.ExitStack() as stack:
            run = stack.enter_context(_asking(work, model, "traits: answers"))
            wrote = core.write_answers(source, own, run, clean=clean_answer)
            if behavior.judge.kind != "llm":
                judge = judges.load_judge(behavior)
            else:
                stack.enter_context(device_lease(device_of(judged_by)))
                backend = backend_for(judged_by, beside=apart(model, judged_by))
                judge = judges.load_judge(behavior, backend, judged_by.identity, seed=work.bench.seed)
            found, who = core.filter_answers(
                wrote, own, run, judge, done=kept.read(), keep=kept.append, progress=run.progress
            )
        kept.compact()
        answers.append(found)
        filters.append(who)
    return pl.concat(answers), pl.concat(filters)
