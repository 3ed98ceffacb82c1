"""The ground floor: content keys, checked Parquet tables with footers, and the append-only journal."""

from steer_core.tables.errors import ContractError, SteerworksError, TableError
from steer_core.tables.footer import Footer
from steer_core.tables.journal import Journal
from steer_core.tables.snapshot import content_digest, publish_table, read_footer, read_table, table_exists
from steer_core.tables.validation import check

__all__ = [
    "ContractError",
    "Footer",
    "Journal",
    "SteerworksError",
    "TableError",
    "check",
    "content_digest",
    "publish_table",
    "read_footer",
    "read_table",
    "table_exists",
]
