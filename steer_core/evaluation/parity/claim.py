"""A claim: numbers that somebody published, and the function that makes them again.

1. A number is written as it was printed. `"0.648"` may be off by half a unit of its last digit; an `int` is a count,
   and is met or not. What else may be off (inputs that were rounded too, a sample) is added by `Printed`, with its
   reason.
2. A claim says what it needs beyond the package: files, or tables of a cell. Where one is missing the claim is not run,
   and says what to supply.
3. What is there and is refused by our code differs: a broken reader must not look like a file that nobody has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite
from pathlib import Path

import polars as pl

from schemas.parity import DIFFERS, NOT_RUN, REPRODUCED, Parity
from steer_core.tables.errors import SteerworksError

#: Name of the variable in messages; it is read elsewhere.
DATA_VARIABLE = "STEERWORKS_SAMPLE_DATA"
#: Printed numbers are decimal, and halves of their units are not exact in floating point.
ROUNDING = 1e-9

#: Rows of a table of a cell, from (bench, table, cell); None where there is none, an error where it cannot be read.
Tables = Callable[[str, str, str], "pl.DataFrame | None"]


def no_tables(bench: str, table: str, cell: str) -> pl.DataFrame | None:
    """No cell was run."""
    return None


@dataclass(frozen=True)
class Supplies:
    """What claims may be recomputed from, beside what ships.

    Attributes:
        data: folder of files that others published; None: there is none.
        tables: tables of cells.
        root: where those tables lie, for messages.
    """

    data: Path | None = None
    tables: Tables = no_tables
    root: str = ""

    def file(self, name: str) -> Path:
        """A file of the folder; claims name it in `needs`, so that it is there.

        Raises:
            SteerworksError: it is not there.
        """
        if self.data is None or not (self.data / name).exists():
            raise SteerworksError(f"there is no {name} in {self.data}; a claim must name it in `needs`")
        return self.data / name


@dataclass(frozen=True)
class File:
    """A published file.

    Attributes:
        name: where it is expected below the folder.
        origin: where it is published.
    """

    name: str
    origin: str

    def missing(self, supplies: Supplies) -> str:
        """What is missing and how to supply it; empty where it is there."""
        if supplies.data is not None and (supplies.data / self.name).exists():
            return ""
        folder = f"{DATA_VARIABLE} is not set" if supplies.data is None else f"{supplies.data} has no such file"
        return f"needs {self.name} ({self.origin}): {folder}; put it there, below the folder that {DATA_VARIABLE} names"


@dataclass(frozen=True)
class CellTable:
    """A table of a cell that was run.

    Attributes:
        bench: name of the bench.
        table: name of the table.
        cell: `method|model`.
        how: how one comes by the cell.
    """

    bench: str
    table: str
    cell: str
    how: str

    def missing(self, supplies: Supplies) -> str:
        """What is missing and how to supply it; empty where it is there."""
        if supplies.tables(self.bench, self.table, self.cell) is not None:
            return ""
        return (
            f"needs table {self.table} of cell {self.cell} on bench {self.bench} in {supplies.root or '?'}: {self.how}"
        )


@dataclass(frozen=True)
class Printed:
    """A printed number with a further allowance.

    Attributes:
        digits: as printed.
        allowance: how much more than its rounding it may be off.
        because: why.
    """

    digits: str
    allowance: float
    because: str


@dataclass(frozen=True)
class Claim:
    """Numbers of one publication that are recomputed together.

    Attributes:
        name: unique among all claims.
        what: what is recomputed, in words.
        source: publication, and where in it.
        published: figure -> number as printed.
        measure: figure -> our number, for every figure that is published.
        needs: what it takes beyond the package.
    """

    name: str
    what: str
    source: str
    published: Mapping[str, int | str | Printed]
    measure: Callable[[Supplies], Mapping[str, float | None]]
    needs: tuple[File | CellTable, ...] = field(default=())


def printed(number: int | str | Printed) -> tuple[float, float, str]:
    """A printed number's value, its tolerance, and where the tolerance is from where rounding is not all.

    `"13.0"` is 13 give or take .05, `"2e3"` give or take 500, and the count 13 is 13.

    Raises:
        ValueError: it is no finite number.
    """
    if isinstance(number, int):
        return float(number), 0.0, ""
    digits, more, because = (number, 0.0, "") if isinstance(number, str) else _parts(number)
    try:
        exact = Decimal(digits)
        exponent = exact.as_tuple().exponent
    except ArithmeticError as error:
        raise ValueError(f"{digits!r} is no printed number") from error
    if not isinstance(exponent, int):
        raise ValueError(f"{digits!r} is not finite")
    return float(exact), float(Decimal(5).scaleb(exponent - 1)) + more, because


def _parts(number: Printed) -> tuple[str, float, str]:
    return number.digits, number.allowance, number.because


def check_claims(families: Mapping[str, Iterable[Claim]], supplies: Supplies) -> pl.DataFrame:
    """Recompute what can be recomputed here.

    Args:
        families: family -> its claims.
        supplies: what is there beside the package.

    Returns:
        Rows of `schemas.Parity`, in the order of the claims.

    Raises:
        ValueError: a claim does not give the figures that it publishes, or a number is not one.
    """
    rows = [
        {"family": family, **row}
        for family, claims in families.items()
        for claim in claims
        for row in _rows(claim, supplies)
    ]
    return pl.DataFrame(rows, schema=Parity.dtypes())


def _rows(claim: Claim, supplies: Supplies) -> Iterable[dict[str, object]]:
    found: Mapping[str, float | None] = {}
    missing: list[str] = []
    refused = ""
    try:
        missing = list(filter(None, (need.missing(supplies) for need in claim.needs)))
        found = {} if missing else claim.measure(supplies)
    except SteerworksError as error:
        refused = f"what it needs is there, and was refused: {error}"
    if not missing and not refused and set(found) != set(claim.published):
        raise ValueError(f"claim {claim.name!r} publishes {sorted(claim.published)} and measures {sorted(found)}")
    for figure, number in claim.published.items():
        value, tolerance, because = printed(number)
        ours = found.get(figure)
        if ours is not None and not isfinite(ours):
            ours = None
        difference = None if ours is None else ours - value
        met = difference is not None and abs(difference) <= tolerance + ROUNDING * max(1.0, abs(value))
        undefined = "" if ours is not None or missing or refused else "ours is undefined or infinite"
        yield {
            "claim": claim.name,
            "figure": figure,
            "what": claim.what,
            "source": claim.source,
            "published": value,
            "ours": ours,
            "difference": difference,
            "tolerance": tolerance,
            "status": NOT_RUN if missing else REPRODUCED if met else DIFFERS,
            "why": "; ".join(missing) or refused or undefined or because,
        }
