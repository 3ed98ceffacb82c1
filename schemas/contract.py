"""What every table contract shares: strictness, a name, a version, and a key.

A contract is declared in plain Python; its pandera schema is built when a table is first checked. Importing pandera and
building all schemas takes longer than importing Dagster, and most processes check few tables or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

import polars as pl

if TYPE_CHECKING:
    import pandera.polars as pa

#: table name -> contract, filled as the contract modules are imported.
CONTRACTS: dict[str, type[Contract]] = {}

#: Types of columns as they are written in a contract.
DTYPES: dict[Any, pl.DataType] = {str: pl.String(), int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean()}


@dataclass(frozen=True)
class Rules:
    """What holds for a column.

    Attributes:
        description: what it holds, with its unit.
        nullable: whether null is data.
        unique: whether no value may come twice.
        ge, gt, le: bounds of its values.
        isin: its only values.
        min_length: fewest characters.
        not_blank: whether text must hold a character that is not white space.
    """

    description: str = ""
    nullable: bool = False
    unique: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    isin: tuple[Any, ...] | None = None
    min_length: int | None = None
    not_blank: bool = False

    def in_words(self) -> list[str]:
        """The rules on values, as a person reads them."""
        said = {
            f"at least {self.ge}": self.ge,
            f"above {self.gt}": self.gt,
            f"at most {self.le}": self.le,
            f"one of {', '.join(map(str, self.isin or ()))}": self.isin,
            f"{self.min_length} characters or more": self.min_length,
            "not blank": self.not_blank or None,
        }
        return [words for words, rule in said.items() if rule is not None]

    def checks(self) -> list[pa.Check]:
        """The rules on values as pandera's checks."""
        from pandera.polars import Check

        made = [
            made(rule)
            for made, rule in (
                (Check.greater_than_or_equal_to, self.ge),
                (Check.greater_than, self.gt),
                (Check.less_than_or_equal_to, self.le),
                (Check.isin, self.isin),
                (lambda least: Check.str_length(min_value=least), self.min_length),
            )
            if rule is not None
        ]
        if self.not_blank:
            made.append(
                Check(
                    lambda data: data.lazyframe.select(pl.col(data.key).str.strip_chars().str.len_chars() > 0),
                    name="not_blank",
                    error="text is blank: drop the row or fill it in",
                )
            )
        return made


def column(
    *,
    description: str = "",
    nullable: bool = False,
    unique: bool = False,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    isin: list[Any] | None = None,
    min_length: int | None = None,
    not_blank: bool = False,
) -> Any:
    """A column of a contract; its type is its annotation. See `Rules`."""
    values = None if isin is None else tuple(isin)
    return Rules(description, nullable, unique, ge, gt, le, values, min_length, not_blank)


class Contract:
    """Base of all tables: columns exactly as declared, in order, without coercion.

    A subclass says in its class line which table it is:
    `class GoalValues(Contract, table="goal_values", key=("text_id", "scorer_id"), version=2)`.
    `key` lists the columns that identify a row (checked to be unique); `version` is raised on every change of the
    columns or of their meaning.
    """

    _table: ClassVar[str] = ""
    _version: ClassVar[int] = 1
    _key: ClassVar[tuple[str, ...]] = ()
    _rules: ClassVar[dict[str, Rules]] = {}
    #: Columns with places below the bench's folder; whoever reads the table gets them whole.
    places: ClassVar[tuple[str, ...]] = ()
    # made when first asked for
    _dtypes: ClassVar[dict[str, pl.DataType] | None] = None
    _schema: ClassVar[Any] = None

    def __init_subclass__(cls, *, table: str, key: tuple[str, ...], version: int = 1) -> None:
        cls._table, cls._key, cls._version = table, key, version
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Rules)}
        cls._rules = {**cls._rules, **own}
        cls._dtypes = cls._schema = None
        CONTRACTS[table] = cls

    @classmethod
    def table(cls) -> str:
        """Name of the table: its folder and its entry in `CONTRACTS`."""
        return cls._table

    @classmethod
    def key(cls) -> tuple[str, ...]:
        """Columns that identify a row."""
        return cls._key

    @classmethod
    def version(cls) -> int:
        """Version of the contract."""
        return cls._version

    @classmethod
    def names(cls) -> list[str]:
        """Columns, in order."""
        return list(cls._rules)

    @classmethod
    def rules(cls) -> dict[str, Rules]:
        """Column -> what holds for it, in order."""
        return cls._rules

    @classmethod
    def dtypes(cls) -> dict[str, pl.DataType]:
        """Column -> its type, in order: a frame of these is an empty table."""
        if cls._dtypes is None:
            hints = get_type_hints(cls)
            cls._dtypes = {name: DTYPES.get(hints[name]) or hints[name] for name in cls.names()}
        return cls._dtypes

    @classmethod
    def empty(cls) -> pl.DataFrame:
        """The table without a row."""
        return pl.DataFrame(schema=cls.dtypes())

    @classmethod
    def to_schema(cls) -> pa.DataFrameSchema:
        """The table as pandera checks it: strict, ordered, nothing coerced."""
        if cls._schema is None:
            import pandera.polars as pa

            columns = {
                name: pa.Column(
                    cls.dtypes()[name],
                    rules.checks(),
                    nullable=rules.nullable,
                    unique=rules.unique,
                    description=rules.description,
                )
                for name, rules in cls._rules.items()
            }
            cls._schema = pa.DataFrameSchema(columns, strict=True, ordered=True, coerce=False, name=cls.__name__)
        built: pa.DataFrameSchema = cls._schema
        return built

    @classmethod
    def validate(cls, rows: pl.DataFrame, *, lazy: bool = False) -> pl.DataFrame:
        """The rows, once pandera has checked them.

        Args:
            rows: a table.
            lazy: whether to collect all failures instead of stopping at the first.

        Raises:
            pandera.errors.SchemaError: at the first broken rule.
            pandera.errors.SchemaErrors: with all of them, where `lazy`.
        """
        return cls.to_schema().validate(rows, lazy=lazy)

    @classmethod
    def migrate(cls, rows: pl.DataFrame, version: int) -> pl.DataFrame | None:
        """Rows of an older version as rows of this one; None where that version cannot be read any more."""
        return None
