"""Export the adapter that a cell wears, with a model card made from the cell's tables."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from schemas.evaluation import HEADLINE
from steer_assets.assets import nodes_of
from steer_assets.io import footer_of, read_published, table_url
from steer_assets.nodes import Nodes
from steer_assets.partitions import Cell
from steer_assets.settings import storage_root
from steer_assets.status import node_is_current
from steer_assets.steps import is_current, placed
from steer_assets.tables import Work
from steer_core.adapters.export import Exported, export_adapter, no_place_in_vllm, settings_of, vllm_rank, weight_names
from steer_core.adapters.split import split_by_text
from steer_core.generation.adapters import Adapter
from steer_core.goals.space import GoalSpace
from steer_core.models.loading import fingerprint_of
from steer_core.reports.adapter_card import CardFacts, adapter_card
from steer_core.reports.adapter_worth import Pairs, beside_bare
from steer_core.tables.errors import ConfigError, SteerworksError
from steer_core.tables.folders import fetched
from steer_core.tables.snapshot import table_exists

#: Tables whose digests the card names, those that are there.
NAMED = (
    "requests", "goal_space", "adapters", "training_samples", "training_log", "checkpoint_trials", "outcomes",
    "steerability",
)  # fmt: skip


def export_cell(cell: Cell, folder: str | Path, form: str) -> tuple[Exported, tuple[str, ...]]:
    """Write the adapter that a cell wears to a new folder.

    Args:
        cell: model and method.
        folder: where it goes.
        form: as `steer_core.adapters.export` has it.

    Returns:
        What was written, and what a person should know of it.

    Raises:
        ConfigError: the cell wears no adapter, or makes no sense.
        SteerworksError: nothing is trained or picked yet, files were changed, or as `export_adapter` says.
    """
    there = _Tables.of(cell)
    label, row = _worn(there)
    if row["rank"] is None:
        raise SteerworksError(f"the adapter of {cell.key} is on a server ({row['folder']}): its files are not here")
    adapter = Adapter.of(fetched(str(row["folder"])))
    if adapter.digest != row["adapter"]:
        raise SteerworksError(
            f"adapter {adapter.folder} is not the one that was recorded: its files were changed. Make it again: "
            f"steerworks rebuild {cell.method.name}"
        )
    if form == "merged" and fingerprint_of(cell.model) != row["base"]:
        raise SteerworksError(
            f"the files of model {cell.model.name!r} are not those that the adapter was made for: bring the cell up to "
            f"date with `steerworks run {cell.method.name}`"
        )
    facts = _facts(there, label, row, adapter, form)
    notes = [] if there.current("adapters") else [f"{cell.key} has changed since its adapter was made: it is that one"]
    notes += [f"its card says that nothing was measured: {facts.unmeasured}"] if not facts.pairs else []
    exported = export_adapter(adapter, cell.model, folder, form=form, card=adapter_card(facts))
    return exported, tuple(notes)


@dataclass(frozen=True)
class _Tables:
    """The published tables of a cell, as they lie."""

    work: Work
    nodes: Nodes

    @classmethod
    def of(cls, cell: Cell) -> _Tables:
        if (why := cell.why_impossible()) is not None:
            raise ConfigError(f"{cell.key} cannot be: {why}")
        if not cell.method.of_kind("adapter"):
            kinds = ", ".join(p.kind for p in cell.method.parts)
            raise ConfigError(f"{cell.key} wears no adapter: its method is made of {kinds}")
        return cls(Work(cell.bench, storage_root(), logging.getLogger(__name__), cell), nodes_of(cell.bench))

    @property
    def cell(self) -> Cell:
        return self.work.here

    def url(self, name: str) -> str:
        grid = self.nodes.maker(name).grid
        return table_url(self.work.root, self.cell.bench.name, name, self.cell.key if grid else None)

    def read(self, name: str) -> pl.DataFrame | None:
        """A table's rows; None where there is none."""
        contract = self.nodes.maker(name).outputs[name]
        return placed(read_published(self.url(name), contract), contract, self.work) if self.there(name) else None

    def need(self, name: str) -> pl.DataFrame:
        """A table's rows.

        Raises:
            SteerworksError: there is none.
        """
        found = self.read(name)
        if found is None:
            raise SteerworksError(
                f"{self.cell.key} has no adapter to export yet, for it has no table {name!r}: steerworks run "
                f"{self.cell.method.name}"
            )
        return found

    def there(self, name: str) -> bool:
        return table_exists(self.url(name))

    def current(self, node: str) -> bool:
        """Whether a node's tables follow from what lies there now."""
        return node_is_current(next(n for n in self.nodes.all if n.name == node), self.work, self.nodes)


def _worn(there: _Tables) -> tuple[str, dict[str, object]]:
    """Label of the part, and the row of the state that is worn."""
    from steer_assets.assets.calling import own_parts

    tables = {name: there.need(name) for name in ("adapters", "checkpoint_trials")}
    for part in own_parts(there.work):
        if part.spec.kind == "adapter":
            picked = [i.body["step"] for i in part.collect(tables).items if i.body["picked"]]
            rows = tables["adapters"].filter(part=part.label)
            if picked and rows.height:
                return part.label, rows.filter(step=picked[0]).row(0, named=True)
    raise SteerworksError(
        f"{there.cell.key} has no state of its adapter that was picked: steerworks rebuild {there.cell.method.name}"
    )


def _facts(there: _Tables, label: str, row: dict[str, object], adapter: Adapter, form: str) -> CardFacts:
    cell, requests = there.cell, there.need("requests")
    own = {
        n: there.need(n).filter(part=label)
        for n in ("adapters", "training_log", "training_samples", "checkpoint_trials")
    }
    split = split_by_text(requests, own["training_samples"], str(cell.bench.train_probe), cell.bench.test_probes)
    pairs, unmeasured = _measured(there, label, adapter.digest)
    settings = settings_of(adapter)
    # what vLLM would pass over is in the weights of its own form alone
    served = form == "vllm" or not (settings.get("rank_pattern") or settings.get("alpha_pattern"))
    fits = no_place_in_vllm(settings, weight_names(adapter)) is None
    footers = {name: footer_of(there.url(name)) for name in NAMED if there.there(name)}
    return CardFacts(
        bench=cell.bench.name,
        base=cell.model,
        fingerprint=str(row["base"]),
        method=cell.method,
        label=label,
        step=int(str(row["step"])),
        form=form,
        settings=settings,
        vllm_rank=vllm_rank(settings) if served and fits else None,
        adapters=own["adapters"],
        log=own["training_log"],
        samples=own["training_samples"],
        trials=own["checkpoint_trials"],
        requests=requests,
        goals=tuple(GoalSpace.from_table(there.need("goal_space")).goals),
        train_probe=str(cell.bench.train_probe),
        probe=cell.bench.test_probes[0],
        pairs=pairs,
        unmeasured=unmeasured,
        split=split.said() if row["recipe_hash"] else "",
        digests={name: footer.content for name, footer in footers.items() if footer is not None},
        version=importlib.metadata.version("steerworks"),
    )


def _measured(there: _Tables, label: str, digest: str) -> tuple[Pairs, str]:
    """What the probe says of exactly this adapter; or no figures, and why there are none."""
    names = ("outcomes", "responses", "probe_arms", "steerability")
    found = {name: there.read(name) for name in names}
    if missing := [name for name, rows in found.items() if rows is None or not rows.height]:
        return {}, f"{there.cell.key} has no answers with scores on its probe yet (table {missing[0]!r})"
    probe = there.cell.bench.test_probes[0]
    outcomes, responses, arms, scores = (rows for rows in found.values() if rows is not None)
    outcomes, scores = outcomes.filter(probe=probe), scores.filter(probe=probe)
    chosen = outcomes.filter(arm_id=HEADLINE).join(
        responses.select("response_id", "plan"), on="response_id", how="left"
    )
    worn = {None if plan is None else json.loads(plan).get("adapter") for plan in chosen["plan"]}
    if worn != {digest}:
        return {}, "the answers that lie there were written with another adapter"
    if not _scores_are_of_answers(there):
        return {}, "the scores that lie there are not of these answers"
    pairs = beside_bare(arms, scores, outcomes, label)
    return pairs, "" if pairs else "the method was not asked without the adapter (`checkpoints_on_probe: false`)"


def _scores_are_of_answers(there: _Tables) -> bool:
    try:
        return is_current(there.nodes.maker("steerability"), there.work, there.nodes)
    except SteerworksError:
        # an input is gone
        return False
