"""A cache of goal values: what was measured once, under the same scorer version, is not measured again.

Rows live in Parquet parts below a folder, one subfolder per shard (the first digits of the text id). Parts are only
ever added, each put in place in one step, so that a kill loses at most the chunk under way.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from steer_core.tables.errors import TableError
from steer_core.tables.files import write_file

#: Columns of a part; `state` follows from `value`, and is not stored.
_SCHEMA = {"text_id": pl.String, "scorer_id": pl.String, "value": pl.Float64}
