"""What was tried, as files to take along: `tried/pairs.jsonl` and `tried/method.yaml`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import polars as pl

from schemas.specs import MethodSpec
from steer_assets.explore.keeping import as_yaml, method, pairs
from steer_assets.explore.trying import Playground
from steer_core.explorer.pages import Pages
from steer_core.tables.errors import ConfigError

#: Name of a file -> its media type.
FILES = {"pairs.jsonl": "application/jsonl; charset=utf-8", "method.yaml": "application/yaml; charset=utf-8"}


def kept(
    name: str, ids: Sequence[str], pages: Pages, play: Playground, methods: Mapping[str, MethodSpec]
) -> tuple[str, str]:
    """What a file is called where it is kept, and its text.

    Args:
        name: of `FILES`.
        ids: rows of `tried` that were chosen; empty: all.
        pages: the bench.
        play: what was tried.
        methods: name -> method, of the bench.

    Raises:
        ConfigError: no such rows, or nothing can be made of them.
    """
    tried, bench = play.tried(), pages.bench.name
    if name == "pairs.jsonl":
        rows = pairs(tried, ids, pages.bench.goals)
        if ids and not rows:
            raise ConfigError(
                "no pair can be made of these: tick answers under a vector whose prompt was also answered unsteered, "
                "or rewrites that moved the one goal that was asked for"
            )
        return f"{bench}-pairs.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    texts = pages.bench.columns("requests", ["probe", "text"])
    on_probe = texts.filter(pl.col("probe").is_in(pages.bench.spec.test_probes))["text"].unique().to_list()
    called, entry = method(tried, ids, methods, set(on_probe), set(pages.bench.goals))
    return f"{called}.yaml", as_yaml(called, entry)
