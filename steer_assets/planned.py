"""What cells will ask of their models, before anything is asked: the tables of the node `plans`, made on the spot."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import polars as pl

from schemas import BehaviorItems, Contract, GoalSpaceTable, RequestGoals, Requests
from schemas.specs import BenchSpec, ModelSpec
from steer_assets.assets import nodes_of
from steer_assets.assets.calling import method_of
from steer_assets.assets.fits import fit_context, fitting_kinds, kind_of, pool_method
from steer_assets.assets.search import most_answers, searched
from steer_assets.assets.traits import described_of, writer_of
from steer_assets.io import read_published, table_url
from steer_assets.measuring import seconds_per_token
from steer_assets.nodes import SHARED, Nodes
from steer_assets.partitions import Cell
from steer_assets.preflight import PLANS, check_bench
from steer_assets.settings import storage_root
from steer_assets.status import node_is_current
from steer_assets.steps import run_step
from steer_assets.tables import Work
from steer_core.generation.engines import cost_at_most, token_counter
from steer_core.goals.space import GoalSpace
from steer_core.methods import preview
from steer_core.methods.part import Composed, arms_of, parts_of
from steer_core.methods.protocol import Artifact, Method


def plan_cells(bench: BenchSpec, cells: Sequence[Cell]) -> tuple[pl.DataFrame, dict[str, str]]:
    """Plan cells; what all cells share is brought up to date first, and no model writes a word.

    Returns:
        One row a cell and probe, and one for its sweep: requests, calls, prompt tokens, new tokens, seconds. And for
        cells that cannot be planned, why.

    Raises:
        ConfigError: every mistake in the configuration at once.
        SteerworksError: what the cells share, or a plan, cannot be made.
    """
    check_bench(bench, cells)
    nodes = nodes_of(bench)
    shared = Work(bench, storage_root(), logging.getLogger(__name__))
    rows: list[dict[str, object]] = []
    lacking: set[str] = set()
    for node in nodes.all:
        if node.group != SHARED:
            continue
        if node.calls_model and not node_is_current(node, shared, nodes):
            # what a model writes for all cells is planned, too, and not written
            lacking.add(node.name)
            rows += _written_for_all(shared)
        elif lacking.isdisjoint(nodes.upstream(node)):
            for spec in node.tables:
                run_step(spec, shared, nodes)
        else:
            lacking.add(node.name)
    plans = next(n for n in nodes.all if n.name == PLANS)
    said = {}
    for cell in cells:
        work = shared.of(cell)
        if why := cell.why_impossible():
            said[cell.key] = f"impossible, {why}"
        elif lacking:
            rows += _unfitted(work)
            said[cell.key] = "waits for behaviors that are written from a sentence; it is planned whole when they are"
        elif _fitted(work, nodes):
            made = [run_step(spec, work, nodes).frames for spec in plans.tables]
            tables = {name: frame for frames in made for name, frame in frames.items()}
            arms = 1 + len(arms_of(method_of(work), _artifact(tables.get("artifacts"))))
            rows += _rows_of(cell, tables["run_plans"], "probe", times=arms)
            rows += _sweep_rows(cell, tables.get("sweep_arms"), work)
            rows += _search_rows(cell, work)
        else:
            rows += _unfitted(work)
            said[cell.key] = "is fitted first; the arms of its sweeps are known when it is"
    return pl.DataFrame(rows, schema=_SCHEMA), said


def _fitted(work: Work, nodes: Nodes) -> bool:
    """Whether everything that the plans read is there and follows from what lies there now."""
    plans = next(n for n in nodes.all if n.name == PLANS)
    before = set(nodes.upstream(plans))
    return all(node_is_current(n, work, nodes) for n in nodes.all if n.grid and n.name in before)


def _written_for_all(work: Work) -> list[dict[str, object]]:
    """What behaviors that are made from a sentence ask for, whichever cells are run."""
    found = []
    for behavior, source in described_of(work.bench):
        model = writer_of(work.bench, behavior, source)
        calls = 2 * (source.n_train + source.n_test) * source.samples
        found.append(
            {
                "cell": "all",
                "of": f"behavior {behavior.name}, by {model.name}",
                "requests": None,
                "calls at most": calls,
                "prompt tokens": None,
                "new tokens at most": calls * source.max_new_tokens,
                "seconds at most": None,
                **_cost(model, 0, calls * source.max_new_tokens, calls),
            }
        )
    return found


def _unfitted(work: Work) -> list[dict[str, object]]:
    """What fitting a cell asks for, and its probe: prompts as they are before anything was learnt."""
    bench, cell, method = work.bench, work.here, method_of(work)
    fit, pool = fit_context(work), pool_method(work)
    rows = (
        [] if pool is None else _rows_of(cell, _preview(work, method_of(work, pool), [str(bench.train_probe)]), "fit")
    )
    speed, length = seconds_per_token(work.journal), bench.decoding.max_new_tokens
    for module in fitting_kinds(bench).values():
        for part in (p for p in parts_of(method) if p.spec.kind == kind_of(module)):
            for step in module.FITS:
                calls = 0 if step.calls is None else step.calls(part, fit)
                if calls:
                    tokens = calls * length if step.new_tokens is None else step.new_tokens(part, fit)
                    rows.append(_row(cell, f"fit, {step.name} of {part.label}", calls, tokens, speed))
                others = {} if step.others is None else step.others(part, fit)
                for name, (asked, tokens) in others.items():
                    rows.append(_other_row(work, fit.other(name).spec, f"{step.name} of {part.label}", asked, tokens))
    base = method.base if isinstance(method, Composed) else method
    planned = _preview(work, base, bench.test_probes)
    if parts_of(method):
        # equal prompts are asked once, and the parts may make them differ from request to request
        most = pl.col("n_requests") * base.traits.max_calls
        share = most / pl.max_horizontal(pl.col("max_calls"), 1)
        planned = planned.with_columns(
            prompt_tokens=(pl.col("prompt_tokens") * share).round().cast(pl.Int64),
            max_new_tokens=most * length,
            seconds=pl.col("seconds") * share,
            max_calls=most,
        )
    rows += _rows_of(cell, planned, "probe", times=1 + len(arms_of(method, Artifact())))
    return rows + ([] if described_of(bench) else _search_rows(cell, work))


def _other_row(work: Work, model: ModelSpec, what: str, calls: int, new_tokens: int) -> dict[str, object]:
    """What another model is asked for a fit: the prompts of the training pool, as its own tokenizer counts them."""
    method, cell = method_of(work), work.here
    base = method.base if isinstance(method, Composed) else method
    pool = _preview(work, base, [str(work.bench.train_probe)], model)
    # some texts of the pool are kept aside, and others are asked several times
    known = pool["prompt_tokens"].null_count() == 0
    prompt = round(pool["prompt_tokens"].sum() / max(pool["max_calls"].sum(), 1) * calls) if known else None
    return {
        "cell": cell.key,
        "of": f"fit, {what}, by {model.name}",
        "requests": None,
        "calls at most": calls,
        "prompt tokens": prompt,
        "new tokens at most": new_tokens,
        "seconds at most": None,
        **_cost(model, prompt, new_tokens, calls),
    }


def _artifact(rows: pl.DataFrame | None) -> Artifact:
    return Artifact() if rows is None else Artifact.from_table(rows)


def _preview(work: Work, method: Method, probes: Sequence[str], model: ModelSpec | None = None) -> pl.DataFrame:
    """What a method asks of the cell's model, or of another one."""

    def read(name: str, contract: type[Contract]) -> pl.DataFrame:
        return read_published(table_url(work.root, work.bench.name, name, None), contract)

    requests = read("requests", Requests)
    return preview.plan_run(
        method,
        requests.filter(pl.col("probe").is_in(list(probes))),
        read("request_goals", RequestGoals),
        GoalSpace.from_table(read("goal_space", GoalSpaceTable)).goals,
        artifact=Artifact(),
        count_tokens=token_counter(model or work.here.model),
        seconds_per_token=seconds_per_token(work.journal),
        max_new_tokens=work.bench.decoding.max_new_tokens,
    )


_SCHEMA = {
    "cell": pl.String,
    "of": pl.String,
    "requests": pl.Int64,
    "calls at most": pl.Int64,
    "prompt tokens": pl.Int64,
    "new tokens at most": pl.Int64,
    "seconds at most": pl.Float64,
    "cost at most": pl.Float64,
    "currency": pl.String,
}


def _row(cell: Cell, of: str, calls: int, new_tokens: int, speed: float | None) -> dict[str, object]:
    """A row of the plan; what is not known is null."""
    seconds = None if speed is None else new_tokens * speed
    figures = {"calls at most": calls, "new tokens at most": new_tokens, "seconds at most": seconds}
    return {
        "cell": cell.key,
        "of": of,
        "requests": None,
        "prompt tokens": None,
        **figures,
        **_cost(cell.model, 0, new_tokens, calls),
    }


def _cost(model: ModelSpec, prompt_tokens: int | None, new_tokens: int, calls: int) -> dict[str, object]:
    """Money at most; null where the engine costs none, or nobody knows."""
    cost = cost_at_most(model, prompt_tokens or 0, new_tokens, calls)
    return {"cost at most": None if cost is None else cost.amount, "currency": None if cost is None else cost.currency}


def _rows_of(cell: Cell, plans: pl.DataFrame, what: str, times: int = 1) -> list[dict[str, object]]:
    """A row a probe; `times` as many where it is also asked at further arms."""
    return [
        {
            "cell": cell.key,
            "of": f"{what} {r['probe']}",
            "requests": r["n_requests"],
            "calls at most": r["max_calls"] * times,
            "prompt tokens": None if r["prompt_tokens"] is None else r["prompt_tokens"] * times,
            "new tokens at most": r["max_new_tokens"] * times,
            "seconds at most": None if r["seconds"] is None else r["seconds"] * times,
            **_cost(cell.model, (r["prompt_tokens"] or 0) * times, r["max_new_tokens"] * times, r["max_calls"] * times),
        }
        for r in plans.iter_rows(named=True)
    ]


def _sweep_rows(cell: Cell, arms: pl.DataFrame | None, work: Work) -> list[dict[str, object]]:
    if arms is None or not arms.height:
        return []
    calls, tokens = int(arms["n_calls"].sum()), int(arms["max_new_tokens"].sum())
    return [_row(cell, f"sweep of {arms.height} arms", calls, tokens, seconds_per_token(work.journal))]


def _search_rows(cell: Cell, work: Work) -> list[dict[str, object]]:
    """What the search of a cell asks for where no trial ends early: a row a behavior."""
    wanted = work.bench.search
    behaviors = searched(work)
    if wanted is None or not behaviors:
        return []
    items = read_published(table_url(work.root, work.bench.name, "behavior_items", None), BehaviorItems)
    length, speed = work.bench.sweep.max_new_tokens, seconds_per_token(work.journal)
    rows = []
    for behavior in behaviors:
        tested = items.filter(behavior=behavior.name, form="open", group="main").height
        calls = most_answers(wanted, tested)
        rows.append(_row(cell, f"search, {behavior.name}", calls, calls * length, speed))
    return rows
