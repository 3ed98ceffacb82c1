"""Commands that make cells: what is there, what it would cost, run it."""

from __future__ import annotations

import argparse
import datetime

import polars as pl

from schemas import SeedCorpus
from schemas.specs import BenchSpec
from steer_assets.commands.printing import print_table
from steer_assets.partitions import chosen_cells
from steer_assets.settings import registry, storage_root
from steer_core.tables.errors import ConfigError


def cells(bench: BenchSpec, options: argparse.Namespace) -> None:
    """List every cell of the bench."""
    from steer_assets.assets import nodes_of
    from steer_assets.partitions import all_cells
    from steer_assets.status import State, listing, status_of

    found = [status_of(cell, nodes_of(bench), storage_root()) for cell in all_cells(bench)]
    print_table(listing([s for s in found if s.state is not State.IMPOSSIBLE], datetime.datetime.now(datetime.UTC)))
    print("".join(f"\n{s.cell.key}: impossible, {s.why}" for s in found if s.state is State.IMPOSSIBLE))


def plan(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print what cells will ask of their models; makes what all cells share, and fits nothing."""
    from steer_assets.asked_models import how_judged
    from steer_assets.planned import plan_cells

    rows, unplanned = plan_cells(bench, chosen_cells(bench, options.methods, options.models))
    if rows.height:
        money = rows.drop_nulls("currency").group_by("currency").agg(pl.col("cost at most").sum()).rows()
        print_table(rows if money else rows.drop("cost at most", "currency"))
        known = rows["seconds at most"].drop_nulls()
        print(
            f"\nTogether at most {rows['calls at most'].sum():,} calls, {rows['new tokens at most'].sum():,} new tokens"
            + (f", {known.sum():.0f} s of the model at its speed so far." if known.len() else "; speed not yet known.")
        )
        for currency, amount in money:
            print(f"At most {amount:.4g} {currency}; what has an answer already is not paid again.")
    chosen = [c for c in chosen_cells(bench, options.methods, options.models) if c.why_impossible() is None]
    for line in dict.fromkeys(said for cell in chosen for said in how_judged(cell)):
        print(line)
    for key, why in unplanned.items():
        print(f"{key}: {why}")


def run_(bench: BenchSpec, options: argparse.Namespace) -> int:
    """Bring cells up to date."""
    from steer_assets.running import run_cells

    cells = chosen_cells(bench, options.methods, options.models)
    if options.ray:
        from steer_assets.on_ray.driver import run_on_ray
        from steer_assets.on_ray.preflight import parse_wants

        return run_on_ray(bench, cells, options.ray, parse_wants(options.per_worker))
    return run_cells(bench, cells)


def rebuild(bench: BenchSpec, options: argparse.Namespace) -> int:
    """Make the tables of cells again; what all cells share stays as it is, where it is up to date."""
    from steer_assets.running import run_cells
    from steer_assets.steps import making_anew

    return run_cells(bench, chosen_cells(bench, options.methods, options.models), around_cells=making_anew)


def batch(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Submit, look at, or collect the batches of models."""
    from steer_assets.batching import batches_of, first_calls

    for name in options.models:
        model = registry().model(name)
        _, batches = batches_of(model)
        if options.step == "submit":
            cells = chosen_cells(bench, options.methods or ["all"], [name])
            done = batches.submit(first_calls(bench, cells))
            print(
                f"{name}: {done.sent} requests sent in {len(done.batches)} batches; {done.answered} have an answer, "
                f"{done.under_way} are under way"
            )
            if done.left:
                print(f"{name}: the rest was not sent: {done.left}")
            continue
        for one in batches.poll() if options.step == "poll" else batches.collect():
            took = f", {one.answers} answers, {one.again} to be sent again" if options.step == "collect" else ""
            print(f"{name}: {one.batch_id}: {one.state}, {one.rows} requests{took}")


def engines(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Print whether the same model answers alike on several engines."""
    from steer_assets.io import read_published, table_url
    from steer_core.front.identity import identity_report
    from steer_core.generation.engines import load_engine
    from steer_core.generation.engines.transformers import TransformersBackend

    reference = load_engine(registry().model(options.model))
    if not isinstance(reference, TransformersBackend):
        raise ConfigError(f"model {options.model!r} does not run on `transformers`, which others are held against")
    others = {}
    try:
        for name in options.others:
            others[name] = load_engine(registry().model(name))
        texts = read_published(table_url(storage_root(), bench.name, "seed_corpus", None), SeedCorpus)["text"]
        prompts = texts.head(max(1, options.prompts)).to_list()
        found = identity_report(reference, {f"{n} ({b.capabilities.name})": b for n, b in others.items()}, prompts)
    finally:
        for backend in others.values():
            getattr(backend, "close", lambda: None)()
    print_table(found.with_columns(pl.col("largest difference").map_elements("{:.1e}".format, return_dtype=pl.String)))


def clean(bench: BenchSpec, options: argparse.Namespace) -> None:
    """Compact the journals of a bench."""
    from steer_assets.cleaning import clean_journals

    for name, before, after in clean_journals(bench, storage_root()):
        print(f"{name}: {before} files before, {after} now")
