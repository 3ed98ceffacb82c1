"""Build the seed corpus: read, window, de-duplicate, split by text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from schemas.digest import digest_bytes, digest_json, digest_text
from schemas.specs import CorpusSpec, FileSource, HubSource, ProbeSpec
from steer_core.corpus.sentences import sentences
from steer_core.corpus.sources import read_source
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import open_file

#: Bumped when the same spec gives other texts.
VERSION = "1"

#: `first` cuts after everything else, so it is applied here, source by source.
_COLUMNS = ["text_id", "text", "source", "source_row", "n_words", "split"]


def build_corpus(spec: CorpusSpec) -> pl.DataFrame:
    """Rows of `seed_corpus`, in the order of the sources.

    Texts are stripped; those outside `min_words .. max_words` (white-space words) are dropped; of texts equal up to
    case and white space the first is kept (exact duplicates are always dropped: a text is its own key). The split is
    by text and by hash, so adding texts moves no other text to the other side.

    Raises:
        SteerworksError: a source cannot be read, or no text is left; the message counts what each rule dropped.
    """
    frames, told = [], []
    for source in spec.sources:
        raw = read_source(source)
        rows = raw.with_columns(pl.col("text").str.strip_chars()).with_columns(
            n_words=pl.col("text").str.count_matches(r"\S+").cast(pl.Int64)
        )
        kept = rows.filter(pl.col("n_words").is_between(spec.min_words, spec.max_words))
        first = getattr(source, "first", None)
        told.append(f"{source.name}: {kept.height} of {raw.height} texts have {spec.min_words}-{spec.max_words} words")
        frames.append(kept.head(first) if first is not None else kept)
    rows = pl.concat(frames).unique(subset="text", keep="first", maintain_order=True)
    if spec.deduplicate:
        rows = (
            rows.with_columns(folded=folded(pl.col("text")))
            .unique(subset="folded", keep="first", maintain_order=True)
            .drop("folded")
        )
    if not rows.height:
        raise SteerworksError(
            "the seed corpus is empty: " + "; ".join(told) + ". Widen the window or check the sources"
        )
    ids = [digest_text(t) for t in rows["text"].to_list()]
    return rows.with_columns(
        text_id=pl.Series(ids, dtype=pl.String),
        split=pl.Series([_side(i, spec) for i in ids], dtype=pl.String),
    ).select(_COLUMNS)


def folded(text: pl.Expr) -> pl.Expr:
    """What texts are told apart by: case and white space make no other text."""
    return text.str.strip_chars().str.to_lowercase().str.replace_all(r"\s+", " ")


def _side(text_id: str, spec: CorpusSpec) -> str:
    draw = int(digest_text(f"{spec.seed}:{text_id}")[:12], 16) / 16**12
    return "test" if draw < spec.test_share else "train"


def source_digests(spec: CorpusSpec) -> dict[str, str]:
    """Digest of each file or local data set folder that the corpus is read from: an edited file is a new corpus.

    The grammar is pinned by its code and a hub data set by its `revision`, where one is given, so they have no entry.
    A file that is not there has the digest of nothing: reading the source says so in words.
    """
    digests = {}
    for source in spec.sources:
        if isinstance(source, FileSource):
            digests[source.name] = _digest_file(source.path)
        elif isinstance(source, HubSource) and (folder := Path(source.dataset).expanduser()).is_dir():
            files = sorted(p for p in folder.rglob("*") if p.is_file())
            digests[source.name] = digest_json([[str(p.relative_to(folder)), _digest_file(str(p))] for p in files])
    return digests


def _digest_file(url: str) -> str:
    try:
        with open_file(url) as file:
            return digest_bytes(file.read())
    except FileNotFoundError:
        return digest_bytes(b"")


def candidate_texts(corpus: pl.DataFrame, probes: Iterable[ProbeSpec]) -> pl.DataFrame:
    """Texts that some probe may draw: the corpus, and its sentences where a probe is on sentence level.

    Args:
        corpus: rows of `seed_corpus`.
        probes: the bench's probes.

    Returns:
        Columns text_id, text, source, split, unit (`text` or `sentence`). A sentence stays on its text's side of the
        split; one that stands on both sides is dropped from both.
    """
    texts = corpus.select("text_id", "text", "source", "split", unit=pl.lit("text"))
    if all(p.unit == "text" for p in probes):
        return texts
    cut = (
        corpus.with_columns(text=pl.col("text").map_elements(sentences, return_dtype=pl.List(pl.String)))
        .explode("text")
        .filter(~pl.col("text").is_in(corpus["text"].implode()))
        .filter(pl.col("split").n_unique().over("text") == 1)
        .unique(subset="text", keep="first", maintain_order=True)
    )
    ids = pl.Series([digest_text(t) for t in cut["text"].to_list()], dtype=pl.String)
    parts = cut.with_columns(text_id=ids).select("text_id", "text", "source", "split", unit=pl.lit("sentence"))
    return pl.concat([texts, parts])
