"""Profiles of a cell: what its model is like apart from the requests, as it is and under the cell's steering."""

from __future__ import annotations

from typing import Any

import polars as pl

from schemas import (
    ArmAnswers,
    Judgements,
    OptionScores,
    ProfileArms,
    ProfileFigures,
    ProfileItems,
    ProfileJudges,
    ProfileReadings,
    ProfileRefusals,
    ProfileValues,
    ProfileVectors,
    Responses,
    ScoredTexts,
)
from schemas.profile_spec import ProfileSpec
from steer_assets import reading
from steer_assets.asked_models import rating_model
from steer_assets.assets.calling import asking, follows_from, method_of
from steer_assets.assets.fits import fit_context, given_tables, swept_part
from steer_assets.judging import panel_of, verdicts_of
from steer_assets.measuring import judge_digest, model_digest
from steer_assets.receipts import RECEIPTS
from steer_assets.settings import registry
from steer_assets.tables import Work, table
from steer_core.evaluation.arms import answers
from steer_core.evaluation.profiles import asking as core
from steer_core.evaluation.profiles import judging, kind
from steer_core.generation.run import Run
from steer_core.methods import standing
from steer_core.methods.cleaning import clean_answer
from steer_core.methods.fitting import give
from steer_core.methods.protocol import Artifact
from steer_core.tables.journal import Journal


def profiles_of(work: Work, form: str | None = None) -> list[ProfileSpec]:
    """Profiles of the bench: all, or those that ask for that (`kind.profiles_asking`)."""
    every = list(registry().profiles_of(work.bench).values())
    return every if form is None else kind.profiles_asking(every, form)


def profiled(work: Work) -> bool:
    """Whether the cell has profiles: the bench wants some, and its method means something without a text to rewrite."""
    return bool(work.bench.profiles) and standing.why_not_profiled(method_of(work)) is None


def _asks(form: str) -> Any:
    return lambda work: profiled(work) and bool(profiles_of(work, form))


@table(
    ProfileItems,
    version=core.VERSION,
    spec=lambda work: [kind.follows(spec) for spec in profiles_of(work)],
)
def profile_items(work: Work) -> pl.DataFrame:
    """What the bench's profiles ask, whoever is asked."""
    return core.items_table(profiles_of(work), work.log.warning)


@table(
    ProfileArms,
    version=standing.VERSION,
    spec=lambda work: [
        follows_from(work, work.here.method),
        list(work.bench.goals),
        [dict(r) for r in work.bench.profiled.requests(work.bench.goals)],
        work.bench.profiled.model_dump(mode="json", include={"behaviors", "strengths", "pairs"}),
    ],
    applies=profiled,
    grid=True,
)
def profile_arms(work: Work, artifacts: pl.DataFrame, sweep_arms: pl.DataFrame) -> pl.DataFrame:
    """The settings in which the cell is profiled: the model as it is first."""
    wanted = work.bench.profiled
    arms = standing.profile_arms(
        method_of(work), Artifact.from_table(artifacts), wanted.requests(work.bench.goals), work.bench.goals
    )
    swept = standing.behavior_arms(sweep_arms, wanted.swept, wanted.strengths, wanted.pairs)
    return pl.concat([arms, swept]).unique("arm_id", maintain_order=True)


def _give(work: Work, run: Run, fitted: dict[str, pl.DataFrame]) -> None:
    """Hand the engine what the arms refer to, behaviors' vectors included."""
    give(method_of(work), run.asking, fitted)
    part = swept_part(work)
    if part is not None and work.bench.profiled.swept:
        part.give_sweep(run.asking, fit_context(work), fitted)


def _drawn(work: Work) -> list[Any]:
    """What written answers follow from, besides their tables."""
    kinds = [(spec, kind.load_kind(spec)) for spec in profiles_of(work, "written")]
    how = [[spec.name, own.decoding(spec).model_dump(mode="json"), own.samples(spec)] for spec, own in kinds]
    return [model_digest(work.here.model), work.bench.seed, how]


def _bare(work: Work) -> list[str]:
    """Profiles whose options are also scored with nothing before them."""
    return [spec.name for spec in profiles_of(work, "scored") if kind.bare(spec)]


@table(
    Responses,
    ArmAnswers,
    ProfileRefusals,
    names=("profile_responses", "profile_answers", "profile_refusals"),
    version=core.VERSION,
    spec=_drawn,
    applies=_asks("written"),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    science=(RECEIPTS,),
    also=given_tables,
)
def profile_responses(
    work: Work, profile_arms: pl.DataFrame, profile_items: pl.DataFrame, **fitted: pl.DataFrame
) -> tuple[pl.DataFrame, ...]:
    """Answers to the profiles' prompts in every setting; what lies in the journal is not asked again.

    A setting that the engine refuses has no answer, and what it said is kept.
    """
    asked = core.asked_of(profile_arms, profile_items, "written")
    responses, found, refused = [Responses.empty()], [ArmAnswers.empty()], [ProfileRefusals.empty()]
    with asking(work, "profiles: answers") as run:
        _give(work, run, fitted)
        for spec in profiles_of(work, "written"):
            own, how = [one for one in asked if one.item.of == spec.name], kind.load_kind(spec)
            refusals = core.refusals_of(spec.name, own, run, how.decoding(spec))
            for arm, _, why in refusals.iter_rows():
                work.log.warning("profile %s has no answers in setting %s: %s", spec.name, arm, why)
            able = [one for one in own if one.arm.arm_id not in set(refusals["arm_id"])]
            wrote = answers.write(able, run, how.decoding(spec), samples=how.samples(spec), clean=clean_answer)
            responses.append(wrote.responses)
            found.append(wrote.answers)
            refused.append(refusals)
    return pl.concat(responses).unique("response_id", maintain_order=True), pl.concat(found), pl.concat(refused)


@table(
    OptionScores,
    version=core.VERSION,
    spec=lambda work: [model_digest(work.here.model), _bare(work)],
    applies=_asks("scored"),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    also=given_tables,
)
def option_scores(
    work: Work, profile_arms: pl.DataFrame, profile_items: pl.DataFrame, **fitted: pl.DataFrame
) -> pl.DataFrame:
    """How likely each option is in every setting; what was scored once, for any cell, is not scored again."""
    kept = Journal(work.url("journal", f"scored-{work.here.model.name}"), ScoredTexts)
    with asking(work, "profiles: options") as run:
        _give(work, run, fitted)
        asked = core.asked_of(profile_arms, profile_items, "scored")
        found = core.score_options(asked, run, kept, bare=frozenset(_bare(work)))
    kept.compact()
    return found


@table(
    ProfileVectors,
    version=core.VERSION,
    spec=lambda work: model_digest(work.here.model),
    applies=_asks("encoded"),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    also=given_tables,
)
def profile_vectors(
    work: Work, profile_arms: pl.DataFrame, profile_items: pl.DataFrame, **fitted: pl.DataFrame
) -> pl.DataFrame:
    """Where texts lie in the model, in every setting."""
    with asking(work, "profiles: texts") as run:
        _give(work, run, fitted)
        return core.encode_texts(core.asked_of(profile_arms, profile_items, "encoded"), run)


@table(
    ProfileValues,
    ProfileFigures,
    names=("own_profile_values", "own_profile_figures"),
    version=kind.VERSION,
    spec=lambda work: [
        model_digest(work.here.model),
        work.bench.seed,
        [kind.follows(s) for s in profiles_of(work, "own")],
    ],
    applies=_asks("own"),
    grid=True,
    gpu=True,
    kinds=("huggingface",),
    also=given_tables,
)
def own_profiles(work: Work, profile_arms: pl.DataFrame, **fitted: pl.DataFrame) -> tuple[pl.DataFrame, ...]:
    """Profiles whose kind asks for itself, in every setting."""
    values, figures = [ProfileValues.empty()], [ProfileFigures.empty()]
    with asking(work, "profiles: tasks") as run:
        _give(work, run, fitted)
        for spec in profiles_of(work, "own"):
            found, told = kind.load_kind(spec).ask(spec, core.arms_of(profile_arms, [spec.name]), run)
            values.append(found.with_columns(profile=pl.lit(spec.name)).select(ProfileValues.names()))
            figures.append(told)
    return pl.concat(values), pl.concat(figures)


def _read(work: Work) -> list[ProfileSpec]:
    """Profiles whose answers are read by models."""
    return [spec for spec in profiles_of(work, "written") if kind.reads(spec)]


@table(
    ProfileReadings,
    version=kind.VERSION,
    spec=lambda work: [[kind.follows(spec), reading.digests(work, spec)] for spec in _read(work)],
    applies=lambda work: profiled(work) and bool(_read(work)),
    grid=True,
    gpu=True,
)
def profile_readings(work: Work, profile_items: pl.DataFrame, profile_answers: pl.DataFrame) -> pl.DataFrame:
    """What models make of the written answers, each text once: sentence vectors, perplexity."""
    rows = [ProfileReadings.empty()]
    for spec in _read(work):
        found = kind.Found.of(spec.name, profile_items, answers=profile_answers)
        with reading.readers_of(work, spec) as resources:
            own = kind.load_kind(spec).read(spec, found, resources)
        rows.append(own.with_columns(profile=pl.lit(spec.name)).select(ProfileReadings.names()))
    return pl.concat(rows)


def _judged(work: Work) -> list[ProfileSpec]:
    """Profiles whose answers are judged."""
    return [spec for spec in profiles_of(work) if kind.rater_of(spec) is not None]


def _judged_by(work: Work) -> list[Any]:
    models = [(spec, rating_model(work.here, spec)) for spec in _judged(work)]
    return [
        [kind.follows(spec), None if model is None else judge_digest(model), work.bench.seed] for spec, model in models
    ]


@table(
    Judgements,
    ProfileJudges,
    names=("profile_judgements", "profile_judges"),
    version=judging.VERSION,
    spec=_judged_by,
    applies=lambda work: profiled(work) and bool(_judged(work)),
    grid=True,
    gpu=True,
)
def profile_judgements(
    work: Work, profile_items: pl.DataFrame, profile_answers: pl.DataFrame
) -> tuple[pl.DataFrame, ...]:
    """Verdicts on written answers, and what each judge is worth on answers whose rating is known."""
    kept = verdicts_of(work)
    verdicts, judges = [Judgements.empty()], [ProfileJudges.empty()]
    for spec in _judged(work):
        found = kind.Found.of(spec.name, profile_items, answers=profile_answers)
        # reading the grammar costs less than finding what was read before
        asks = rating_model(work.here, spec) is not None
        with panel_of(work, spec) as panel:
            said, worth = judging.judge_profile(
                spec,
                found,
                panel,
                done=kept.read() if asks else None,
                keep=kept.append if asks else None,
                progress=work.progress("profiles: verdicts"),
            )
        verdicts.append(said)
        judges.append(worth)
    kept.compact()
    return pl.concat(verdicts), pl.concat(judges)


def _told(work: Work, frames: Any) -> dict[str, Any]:
    values = frames["profile_values"]
    missing = values.filter(pl.col("value").is_null())
    by_reason = missing["missing"].value_counts(sort=True).rows()
    return {"values": values.height, **{f"missing: {why}": n for why, n in by_reason}}


@table(
    ProfileValues,
    ProfileFigures,
    version=kind.VERSION,
    spec=lambda work: [[kind.follows(s) for s in profiles_of(work)], work.bench.bootstrap, work.bench.seed],
    applies=profiled,
    grid=True,
    metadata=_told,
)
def profile_values(
    work: Work,
    profile_items: pl.DataFrame,
    profile_answers: pl.DataFrame,
    profile_refusals: pl.DataFrame,
    option_scores: pl.DataFrame,
    profile_vectors: pl.DataFrame,
    own_profile_values: pl.DataFrame,
    own_profile_figures: pl.DataFrame,
    profile_readings: pl.DataFrame,
    profile_judgements: pl.DataFrame,
    profile_judges: pl.DataFrame,
) -> tuple[pl.DataFrame, ...]:
    """Every metric of every item, and what they come to; nothing here asks the model."""
    values, figures = [own_profile_values], [own_profile_figures]
    how = kind.How(draws=work.bench.bootstrap, seed=work.bench.seed)
    for spec in profiles_of(work):
        module = kind.load_kind(spec)
        if module.ASKS == "own":
            continue
        found = kind.Found.of(
            spec.name,
            profile_items,
            answers=profile_answers,
            options=option_scores,
            vectors=profile_vectors,
            verdicts=profile_judgements,
            judges=profile_judges,
            readings=profile_readings,
        )
        refused = profile_refusals.filter(pl.col("profile") == spec.name)
        own = kind.with_refused(module.measure(spec, found), found, refused)
        values.append(own.with_columns(profile=pl.lit(spec.name)).select(ProfileValues.names()))
        figures.append(kind.figures_table(spec.name, module.figures(spec, found, own, how)))
    return pl.concat(values), pl.concat(figures)
