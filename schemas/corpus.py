"""Seed corpus: the texts that requests start from."""

from __future__ import annotations

import pandera.polars as pa
import polars as pl

from schemas.contract import Contract


class SeedCorpus(Contract, table="seed_corpus", key=("text_id",)):
    """One text a row, with where it came from. Texts are unique and never blank."""

    text_id: str = pa.Field(unique=True, str_length={"min_value": 16}, description="Content hash of the text")
    text: str = pa.Field(description="The text, stripped; never blank")
    source: str = pa.Field(description="Name of the configured source")
    source_row: int = pa.Field(ge=0, description="0-based row of the source that the text came from")
    n_words: int = pa.Field(ge=1, description="Whitespace-separated words")
    split: str = pa.Field(isin=["train", "test"], description="Side of the split by text; fits use train only")

    @pa.check("text", name="not_blank", error="text is blank: drop the row or fill it in")
    def not_blank(cls, data: pa.PolarsData) -> pl.LazyFrame:  # noqa: N805
        """Texts hold at least one character that is not white space."""
        return data.lazyframe.select(pl.col(data.key).str.strip_chars().str.len_chars() > 0)
