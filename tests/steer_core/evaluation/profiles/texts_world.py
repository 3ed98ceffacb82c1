"""Texts to profile, and their metrics by name."""

import polars as pl

from steer_core.evaluation.profiles import profile_texts

PROSE = "The river runs past the old mill. Children walk along the bank in summer. In winter nobody comes here at all."


def table(*texts):
    return pl.DataFrame({"text_id": [f"t{i}" for i in range(len(texts))], "text": list(texts)})


def values(text, reader, metrics=None, resources=None):
    """Metric -> its value, or the reason why there is none."""
    rows = profile_texts(table(text), metrics, resources=resources, reader=reader)
    return {m: why if v is None else v for m, v, why in rows.select("metric", "value", "missing").iter_rows()}
