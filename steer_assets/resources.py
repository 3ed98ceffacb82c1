"""Resources of both code locations."""

from __future__ import annotations

from typing import Any

from steer_assets.io import ParquetIOManager
from steer_assets.settings import storage_root


def resources() -> dict[str, Any]:
    """The Parquet IO manager below the storage root."""
    return {"io_manager": ParquetIOManager(root=storage_root())}
