"""Seed corpus: the texts that requests start from."""

from __future__ import annotations

from schemas.contract import Contract, column


class SeedCorpus(Contract, table="seed_corpus", key=("text_id",)):
    """One text a row, with where it came from. Texts are unique and never blank."""

    text_id: str = column(unique=True, min_length=16, description="Content hash of the text")
    text: str = column(not_blank=True, description="The text, stripped; never blank")
    source: str = column(description="Name of the configured source")
    source_row: int = column(ge=0, description="0-based row of the source that the text came from")
    n_words: int = column(ge=1, description="Whitespace-separated words")
    split: str = column(isin=["train", "test"], description="Side of the split by text; fits use train only")
