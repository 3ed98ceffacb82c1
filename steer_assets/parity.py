"""Parity with published numbers: one asset beside the benches, a check a family (docs/decisions/0030-parity.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from schemas.contract import CONTRACTS
from schemas.parity import DIFFERS, FAMILIES, NOT_RUN, REPRODUCED, Parity
from steer_assets.contracts import table_schema
from steer_assets.io import read_published, table_url
from steer_assets.settings import sample_data, storage_root
from steer_core.tables.errors import SteerworksError
from steer_core.tables.footer import Footer
from steer_core.tables.snapshot import publish_table, table_exists

KEY = dg.AssetKey(["parity", "claims"])
#: Bumped when claims are added or changed.
VERSION = "1"
#: What a difference of a family means: figures of models rest on more than a publication fixes.
SEVERITIES = dict.fromkeys(FAMILIES, dg.AssetCheckSeverity.ERROR) | {"models": dg.AssetCheckSeverity.WARN}
_CHECKED = {
    "profiles": "Diversity, readability, association, calibration, bias and toxicity",
    "probes": "The released probe: its counts, our bins, our drawing",
    "metrics": "Lattice, doing nothing, released saturation, closed forms of 2024, released result rows",
    "vectors": "Numbers and cosines of released vectors",
    "contrasts": "Rows of published contrast data, and probabilities of letters",
    "training": "Levels and weights of SteerLM",
    "models": "Figures of language models, on cells that were run; a difference is a warning",
}
_TABLES = dg.TableSchema(
    [dg.TableColumn("table"), dg.TableColumn("status"), dg.TableColumn("rows", "int"), dg.TableColumn("file")]
)
_FIGURES = dg.TableSchema(
    [
        *(dg.TableColumn(c) for c in ("claim", "figure")),
        *(dg.TableColumn(c, "float") for c in ("published", "ours", "difference", "tolerance")),
        dg.TableColumn("why"),
    ]
)
_MISSING = dg.TableSchema([dg.TableColumn("claim"), dg.TableColumn("why")])


def recompute(families: Sequence[str] = FAMILIES) -> pl.DataFrame:
    """Published numbers beside ours, from what ships, `STEERWORKS_SAMPLE_DATA` and the cells below the storage root."""
    # rooms with torch behind them: not before somebody asks
    from steer_core.evaluation.parity import Supplies, check_claims
    from steer_core.front.parity import all_claims

    known = all_claims()
    supplies = Supplies(sample_data(), _rows_of, storage_root())
    return check_claims({family: known[family] for family in families}, supplies)


def _rows_of(bench: str, table: str, cell: str) -> pl.DataFrame | None:
    url = table_url(storage_root(), bench, table, cell)
    return read_published(url, CONTRACTS[table]) if table_exists(url) else None


def parity_asset() -> dg.AssetsDefinition:
    """The asset `parity/claims`. It is made anew each time: what it follows from is all of the code."""

    @dg.asset(
        key=KEY,
        group_name="parity",
        description="Published numbers beside what this code makes of the same inputs; what is missing is named",
        code_version=VERSION,
        kinds={"parquet", "polars"},
        owners=["team:steerworks"],
        metadata={"dagster/column_schema": table_schema(Parity)},
        check_specs=[
            dg.AssetCheckSpec(family, asset=KEY, description=f"{_CHECKED[family]}: nothing that was run differs")
            for family in FAMILIES
        ],
    )
    def claims(context):  # type: ignore[no-untyped-def]  # Dagster reads annotations here
        yield from _materialize({key.name for key in context.selected_asset_check_keys})

    return claims


def _materialize(selected: set[str]) -> Iterator[Any]:
    url = table_url(storage_root(), *KEY.path, None)
    try:
        rows = recompute()
        footer = publish_table(rows, Parity, url, Footer(Parity.table(), Parity.version(), code_version=VERSION))
    except SteerworksError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    written = dg.TableRecord({"table": KEY.path[-1], "status": "written", "rows": rows.height, "file": url})
    yield dg.MaterializeResult(
        asset_key=KEY,
        data_version=dg.DataVersion(footer.content),
        metadata={
            "tables": dg.MetadataValue.table([written], schema=_TABLES),
            "dagster/row_count": rows.height,
            **{f"figures {status}": n for status, n in counts(rows).items()},
        },
    )
    for family in FAMILIES:
        if family in selected:
            yield _judged(family, rows.filter(family=family))


def _judged(family: str, rows: pl.DataFrame) -> dg.AssetCheckResult:
    differing = rows.filter(status=DIFFERS).select(c.name for c in _FIGURES.columns)
    missing = not_run(rows)
    return dg.AssetCheckResult(
        check_name=family,
        asset_key=KEY,
        passed=differing.is_empty(),
        severity=SEVERITIES[family],
        metadata={
            **{f"figures {status}": n for status, n in counts(rows).items()},
            DIFFERS: dg.MetadataValue.table([dg.TableRecord(r) for r in differing.to_dicts()], schema=_FIGURES),
            f"{NOT_RUN} for lack of": dg.MetadataValue.table(
                [dg.TableRecord(r) for r in missing.to_dicts()], schema=_MISSING
            ),
        },
    )


def counts(rows: pl.DataFrame) -> dict[str, int]:
    """How many figures came out how."""
    return {status: rows.filter(status=status).height for status in (REPRODUCED, DIFFERS, NOT_RUN)}


def not_run(rows: pl.DataFrame) -> pl.DataFrame:
    """Claims that were not run, one row each, and what they lack."""
    return rows.filter(status=NOT_RUN).select("claim", "why").unique(maintain_order=True)


def failed(rows: pl.DataFrame) -> bool:
    """Whether a figure differs where that is a fault."""
    faults = [family for family, severity in SEVERITIES.items() if severity is dg.AssetCheckSeverity.ERROR]
    return rows.filter(pl.col("status") == DIFFERS, pl.col("family").is_in(faults)).height > 0


def shown(rows: pl.DataFrame) -> pl.DataFrame:
    """The figures that were run, as a person reads them."""
    number = [
        pl.col(c).map_elements("{:.8g}".format, return_dtype=pl.String)
        for c in ("published", "ours", "difference", "tolerance")
    ]
    return rows.filter(pl.col("status") != NOT_RUN).select("family", "claim", "figure", *number, "status")
