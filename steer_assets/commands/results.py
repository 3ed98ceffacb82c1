"""Commands that say what came out: comparisons, profiles, judges, reviews, published numbers."""

from __future__ import annotations

import argparse
import getpass

import polars as pl

from schemas.specs import BenchSpec
from steer_assets.commands.printing import print_table
from steer_assets.partitions import Cell, named_cell
from steer_assets.settings import registry, storage_root
from steer_core.tables.errors import ConfigError, SteerworksError


def compare(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print whether one cell is better than another."""
    from steer_core.front.measured import compare_scores

    one, other = named_cell(bench, options.cell), named_cell(bench, options.other)
    print(compare_scores(one.key, _scores(one), other.key, _scores(other)))
    if options.judge is not None:
        from steer_assets.comparing import by_judge

        found = by_judge(one, other, registry().model(options.judge))
        print(f"\n{one.key} beside {other.key}, two at a time, by {options.judge}:\n")
        print_table(found.with_columns(pl.selectors.float().round(3).cast(pl.String)))
        print(
            f"\ntau: whether the goal orders the answers as the judge does (1: always, 0: no relation). toward: how "
            f"far the judge puts {one.key} on the side that was asked for (-1 to 1, 95 % interval)."
        )


def _scores(cell: Cell) -> pl.DataFrame:
    from schemas import Steerability
    from steer_assets.io import read_published, table_url
    from steer_core.tables.snapshot import table_exists

    url = table_url(storage_root(), cell.bench.name, "steerability", cell.key)
    if not table_exists(url):
        raise SteerworksError(f"{cell.key} has no scores yet: steerworks run {cell.method.name}")
    probe = cell.bench.test_probes[0]
    return read_published(url, Steerability).filter(probe=probe)


def profiles(bench: BenchSpec, options: argparse.Namespace) -> None:
    """What steering changes apart from the requests."""
    from steer_assets import profiling

    cell = named_cell(bench, options.cell)
    if options.other is None:
        print(f"{cell.key}, settings: {'; '.join(profiling.settings_of(cell)['setting'])}\n")
        rows = profiling.own_changes(cell, options.every)
        against = "the model as it is"
    else:
        other = named_cell(bench, options.other)
        rows = profiling.between(cell, other, options.setting, options.other_setting, options.every)
        against = other.key
    if not rows.height:
        said = "Nothing could be compared with" if options.every else "Nothing is known to differ from"
        print(f"{said} {against}.")
        return
    print_table(rows)
    print(f"\nplain_value: {against}; effect_size in its standard deviations; p corrected for all looked at (Holm).")


def profile_texts(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Characteristics of texts."""
    from steer_assets.profiling import texts_profile

    rows, said = texts_profile(options.file, options.other, options.column, options.by, options.metrics)
    print_table(rows)
    print(f"\n{said}")


def traits(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print or export what a behavior from a sentence is made of."""
    from schemas import TraitAnswers, TraitFilters, TraitPrompts
    from steer_assets.assets.traits import described_of
    from steer_assets.io import read_published, table_url
    from steer_core.evaluation.described import export_prompts
    from steer_core.tables.snapshot import table_exists

    known = [behavior.name for behavior, _ in described_of(bench)]
    if options.behavior not in known:
        raise ConfigError(
            f"bench {bench.name!r} has no behavior {options.behavior!r} of kind `described`; it has: "
            f"{', '.join(known) or 'none'}"
        )
    urls = {
        c: table_url(storage_root(), bench.name, c.table(), None) for c in (TraitPrompts, TraitAnswers, TraitFilters)
    }
    if not all(map(table_exists, urls.values())):
        raise SteerworksError(f"nothing was written for {options.behavior!r} yet: run a cell of the bench first")
    own = {c: read_published(url, c).filter(pl.col("behavior") == options.behavior) for c, url in urls.items()}
    if options.export is not None:
        export_prompts(own[TraitPrompts], options.export)
        print(f"{options.export}: edit it, and name it as `prompts` of the behavior's source")
        return
    print_table(own[TraitPrompts].filter(role="instruction").select("pair", "side", "text", "source"))
    print()
    figures = own[TraitFilters].select("filter", "used", "auroc", "low", "high", "n", "note")
    print_table(figures.with_columns(pl.selectors.float().round(3).cast(pl.String)))
    answers = own[TraitAnswers]
    failed = dict(answers["failure"].drop_nulls().value_counts().iter_rows())
    said = "".join(f", {n} {why}" for why, n in failed.items())
    print(f"\n{int(answers['kept'].sum())} of {answers.height} answers are kept{said}.")
    print("AUROC: chance that an answer for the trait is put above one for its opposite; .5 is chance.")


def judges(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print how the judges of the cells that were swept do on answers of known label."""
    from schemas import JudgeCalibration
    from steer_assets.io import read_published, table_url
    from steer_assets.partitions import all_cells
    from steer_core.tables.snapshot import table_exists

    found = []
    for cell in all_cells(bench):
        url = table_url(storage_root(), bench.name, "judge_calibration", cell.key)
        if table_exists(url):
            found.append(read_published(url, JudgeCalibration).select(pl.lit(cell.key).alias("cell"), pl.all()))
    if not found:
        raise SteerworksError(f"no cell of bench {bench.name!r} was judged by a language model yet: run one first")
    columns = ["cell", "behavior", "auroc", "low", "high", "accuracy", "bias", "unparsed", "n"]
    print_table(pl.concat(found).select(columns).with_columns(pl.selectors.float().round(3).cast(pl.String)))
    print("\nAUROC: chance that an answer with the trait is graded above one without; .5 is chance, 1 is never wrong.")


def review(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Let a person have the last word on what a judge doubts."""
    from steer_assets import review as reviewing

    cell = named_cell(bench, options.cell)
    if options.spot < 0:
        raise ConfigError(f"--spot {options.spot}: a number of answers, from 0")
    if options.export is not None:
        n = reviewing.export(cell, options.export, options.spot, options.again)
        print(f"{n} answers in {options.export}: fill in `stays` with yes or no, then `--import` the file")
        return
    if options.take is not None:
        said = reviewing.take(cell, _reviewer(options.by), options.take, options.again)
    else:
        said = reviewing.ask(cell, _reviewer(options.by), options.spot, options.again)
    left = reviewing.waiting(cell).height
    print(f"{said} rulings kept; {left} answers still wait for a look.")
    if said:
        print(f"Bring the page up to date: steerworks run {cell.method.name}")


def _reviewer(name: str | None) -> str:
    """Who looks: as named, or the user.

    Raises:
        ConfigError: nobody is named, and the system does not know the user either, as in some containers.
    """
    try:
        return name or getpass.getuser()
    except (OSError, KeyError) as error:
        raise ConfigError("a ruling needs a name, and the system knows none for this user: give --by NAME") from error


def parity(bench: BenchSpec | None, options: argparse.Namespace) -> int:
    """Print published numbers beside ours; 1 where one differs and should not."""
    from steer_assets.parity import counts, failed, not_run, recompute, shown

    rows = recompute(options.family)
    print_table(shown(rows))
    for claim, why in not_run(rows).iter_rows():
        print(f"{claim}: not run, {why}")
    print("\nFigures: " + ", ".join(f"{n} {status}" for status, n in counts(rows).items()))
    return int(failed(rows))


def figures(bench: BenchSpec, options: argparse.Namespace) -> None:
    """What the steps of a run took, or all of them as a file for Prometheus."""
    from steer_assets.figures import figures_of, listing, write_prometheus

    rows = figures_of(bench, storage_root()).read()
    if options.prometheus:
        write_prometheus(rows, bench.name, options.prometheus)
    elif rows.height:
        print_table(listing(rows, options.run, options.hourly))
    else:
        print(f"No step of bench {bench.name} has run yet.")
