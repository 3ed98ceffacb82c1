"""Data files that are not what they should be: texts of a corpus, and contrast data of behaviors."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
from bad_world import Case, World

from schemas.specs import BehaviorSpec, CorpusSpec
from steer_core.corpus import build_corpus
from steer_core.corpus.contrasts import build_contrasts


def parquet(columns: dict[str, Any]) -> bytes:
    """The bytes of a Parquet file."""
    file = io.BytesIO()
    pl.DataFrame(columns).write_parquet(file)
    return file.getvalue()


WHOLE = parquet({"text": ["one two three", "four five six"], "n": [1, 2]})
#: What is wrong, the file, its bytes, further settings of the source, and what is said beside its path.
CORPORA: tuple[tuple[str, str, bytes, dict[str, Any], str], ...] = (
    ("an empty file", "a.csv", b"", {}, "'mine'"),
    ("an empty file", "a.jsonl", b"", {}, "'mine'"),
    ("an empty file", "a.parquet", b"", {}, "not readable as parquet"),
    ("a header and no row", "a.csv", b"text\n", {}, "the seed corpus is empty"),
    ("no header", "a.csv", b"one two three\nfour five six\n", {}, "no column 'text'"),
    ("another delimiter", "a.csv", b"n;text\n1;one two three\n", {}, "no column 'text'"),
    ("a column in other letters", "a.csv", b"Text\none two three\n", {}, "no column 'text'"),
    ("a column with a space", "a.csv", b"text ,n\none two three,1\n", {}, "no column 'text'"),
    ("a column twice", "a.csv", b"text,text\none two three,four\n", {}, "'text' twice"),
    ("a row that is too long", "a.csv", b"text,n\none two three,1\nfour five six,2,3\n", {}, "not readable as csv"),
    ("a row that is too short", "a.csv", b"n,text\n1,one two three\n2\n", {}, "the first in row 1"),
    ("a quote that is not closed", "a.csv", b'text,n\n"one two three,1\nfour,2\n', {}, "csv"),
    ("numbers for texts", "a.csv", b"text\n1\n2\n", {}, "not text"),
    ("truths for texts", "a.csv", b"text\ntrue\nfalse\n", {}, "not text"),
    ("blank texts", "a.csv", b"text,n\none two three,1\n   ,2\n", {}, "the first in row 1"),
    ("not UTF-8", "a.csv", "text\nStück für Stück\n".encode("latin-1"), {}, "not readable as csv"),
    ("UTF-16", "a.csv", "text\none two three\n".encode("utf-16"), {}, "not readable as csv"),
    ("UTF-16 without a mark", "a.csv", "text\none two three\n".encode("utf-16-le"), {}, "no column 'text'"),
    ("a picture", "a.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), {}, "not readable as csv"),
    ("a Parquet file by the name of a CSV", "a.csv", WHOLE, {}, "not readable as csv"),
    ("a CSV by the name of a Parquet file", "a.parquet", b"text\none two three\n", {}, "not readable as parquet"),
    ("a CSV by the name of JSONL", "a.jsonl", b"text\none two three\n", {}, "line 1"),
    ("another ending", "a.txt", b"one two three\n", {}, "cannot tell the format"),
    ("a torn line", "a.jsonl", b'{"text": "one two three"}\n{"text": "fo', {}, "line 2"),
    ("a list for lines", "a.jsonl", b'[{"text": "one two three"}]', {}, "'mine'"),
    ("texts for rows", "a.jsonl", b'"one two three"\n"four five six"\n', {}, "'mine'"),
    ("an array for a row", "a.jsonl", b'{"text": "one two three"}\n["four five six"]\n', {}, "'mine'"),
    ("nulls for texts", "a.jsonl", b'{"text": "one two three"}\n{"text": null}\n', {}, "the first in row 1"),
    ("a missing field", "a.jsonl", b'{"text": "one two three"}\n{"txt": "four five"}\n', {}, "the first in row 1"),
    ("numbers and texts", "a.jsonl", b'{"text": "one two three"}\n{"text": 7}\n', {}, "row 1"),
    ("only numbers", "a.jsonl", b'{"text": 7}\n{"text": 8}\n', {}, "not text"),
    ("nested texts", "a.jsonl", b'{"text": {"en": "one two three"}}\n', {}, "not text"),
    ("lists of texts", "a.jsonl", b'{"text": ["one two three"]}\n', {}, "not text"),
    ("half a character", "a.jsonl", b'{"text": "one two \\ud83d three"}\n', {}, "'mine'"),
    ("NaN", "a.jsonl", b'{"text": NaN}\n', {}, "'mine'"),
    ("a field twice", "a.jsonl", b'{"text": "one two three", "text": "four five six"}\n', {}, "'text' stands twice"),
    ("a huge number", "a.jsonl", b'{"text": "one two three", "n": 1e999}\n', {}, "'mine'"),
    ("not UTF-8", "a.jsonl", '{"text": "Stück für Stück"}\n'.encode("latin-1"), {}, "not readable as jsonl"),
    ("truncated", "a.parquet", WHOLE[:-20], {}, "not readable as parquet"),
    ("only its start", "a.parquet", WHOLE[:8], {}, "not readable as parquet"),
    ("bytes in its middle", "a.parquet", WHOLE[:30] + b"\xff" * 40 + WHOLE[70:], {}, "not readable as parquet"),
    ("bytes for texts", "a.parquet", parquet({"text": [b"one two three"]}), {}, "not text"),
    ("nulls alone", "a.parquet", parquet({"text": [None, None]}), {}, "not text"),
    ("no row", "a.parquet", parquet({"text": pl.Series([], dtype=pl.String)}), {}, "the seed corpus is empty"),
    ("a filter on no column", "a.parquet", WHOLE, {"filters": {"lang": "en"}}, "no column 'lang'"),
    ("a filter that no row passes", "a.parquet", WHOLE, {"filters": {"n": 9}}, "no row"),
    ("a filter of another type", "a.parquet", WHOLE, {"filters": {"n": True}}, "no row of"),
    ("a filter on lists", "a.parquet", parquet({"text": ["one two"], "n": [[1]]}), {"filters": {"n": 1}}, "'n'"),
    (
        "a filter on lists by a text",
        "a.parquet",
        parquet({"text": ["one"], "n": [[1]]}),
        {"filters": {"n": "1"}},
        "'n'",
    ),
    ("a sample that is too large", "a.parquet", WHOLE, {"sample": 3}, "a sample of 3"),
    ("no text in the window", "a.parquet", WHOLE, {"window": 50}, "the seed corpus is empty"),
)


def corpus_of(world: World, name: str, data: bytes, settings: dict[str, Any]) -> pl.DataFrame:
    """The corpus of one file."""
    settings = dict(settings)
    window = settings.pop("window", 1)
    source = {"kind": "file", "name": "mine", "path": str(world.write(name, data)), "column": "text", **settings}
    return build_corpus(CorpusSpec.model_validate({"sources": [source], "min_words": window}))


ROW = '{"prompt": "Hi", "positive": "Good.", "negative": "Bad."}\n'
AB = '{"question": "Hi?\\nChoices:\\n(A) yes\\n(B) no", "answer_matching_behavior": "(A)", "answer_not_matching_behavior": "(B)"}'
CSV = "question,matching,not_matching\n"
#: What is wrong, kind of behavior, file, content, settings, and what is said beside the path.
BEHAVIORS: tuple[tuple[str, str, str, Any, dict[str, Any], str], ...] = (
    ("no file", "pairs", "p.jsonl", None, {}, "no file"),
    ("a folder", "pairs", "p.jsonl", ..., {}, "p.jsonl"),
    ("an empty file", "pairs", "p.jsonl", "", {}, "no row"),
    ("an empty file", "pairs", "p.parquet", b"", {}, "parquet"),
    ("another ending", "pairs", "p.txt", ROW, {}, "cannot tell the format"),
    ("a torn line", "pairs", "p.jsonl", ROW + ROW[:20], {}, "line 2"),
    ("a row without a field", "pairs", "p.jsonl", ROW + '{"prompt": "Hi", "positive": "x"}\n', {}, "row 1"),
    ("a null", "pairs", "p.jsonl", ROW.replace('"Bad."', "null"), {}, "'negative'"),
    ("a number for a text", "pairs", "p.jsonl", ROW.replace('"Bad."', "7"), {}, "'negative'"),
    ("a list for a text", "pairs", "p.jsonl", ROW.replace('"Bad."', '["Bad."]'), {}, "'negative'"),
    ("a nested text", "pairs", "p.jsonl", ROW.replace('"Bad."', '{"en": "Bad."}'), {}, "'negative'"),
    ("half a character", "pairs", "p.jsonl", ROW.replace("Bad.", "\\ud800"), {}, "row 0"),
    ("half a character in a name", "pairs", "p.jsonl", ROW.replace('"prompt"', '"\\ud800": 1, "prompt"'), {}, "row 0"),
    ("a field twice", "pairs", "p.jsonl", ROW.replace("}", ', "prompt": "Ho"}'), {}, "'prompt' stands twice"),
    ("an unknown split", "pairs", "p.jsonl", ROW.replace("}", ', "split": "trian"}'), {}, "'split'"),
    ("a split in one row only", "pairs", "p.jsonl", ROW + ROW.replace("}", ', "split": "train"}'), {}, "'split'"),
    ("only test rows", "pairs", "p.jsonl", ROW.replace("}", ', "split": "test"}'), {}, "no row for fitting"),
    ("lines that are lists", "pairs", "p.jsonl", '["Hi", "Good.", "Bad."]\n', {}, "line 1"),
    ("nesting without end", "pairs", "p.jsonl", ROW + "[" * 100_000, {}, "line 2"),
    ("a number of too many digits", "pairs", "p.jsonl", ROW + '{"prompt": ' + "9" * 5000 + "}", {}, "line 2"),
    ("not UTF-8", "pairs", "p.jsonl", ROW.replace("Hi", "Grüß").encode("latin-1"), {}, "UTF-8"),
    ("UTF-16", "pairs", "p.csv", "prompt,positive,negative\na,b,c\n".encode("utf-16"), {}, "UTF-8"),
    ("UTF-16 without a mark", "pairs", "p.csv", "prompt,positive,negative\na,b,c\n".encode("utf-16-le"), {}, "'prompt'"),
    ("a NUL byte", "pairs", "p.jsonl", ROW + "\0\n", {}, "line 2"),
    ("a column twice", "pairs", "p.csv", "prompt,positive,positive,negative\na,b,c,d\n", {}, "'positive' twice"),
    ("too many fields", "pairs", "p.csv", "prompt,positive,negative\na,b,c,d\n", {}, "row 0"),
    ("too few fields", "pairs", "p.csv", "prompt,positive,negative\na,b\n", {}, "'negative'"),
    ("a quote that is not closed", "pairs", "p.csv", 'prompt,positive,negative\na,b,"c\n', {}, "row 0"),
    ("another delimiter", "pairs", "p.csv", "prompt;positive;negative\na;b;c\n", {}, "'prompt'"),
    ("a header alone", "pairs", "p.csv", "prompt,positive,negative\n", {}, "no row"),
    ("a field beyond all bounds", "pairs", "p.csv", "prompt,positive,negative\na,b," + "c" * 200_000 + "\n", {}, "row 0"),
    ("a picture", "pairs", "p.parquet", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), {}, "parquet"),
    ("truncated", "pairs", "p.parquet", parquet({"prompt": ["a"], "positive": ["b"], "negative": ["c"]})[:-9], {}, "parquet"),
    ("numbers in a column", "pairs", "p.parquet", parquet({"prompt": ["a"], "positive": [1], "negative": ["c"]}), {}, "'positive'"),
    ("bytes in a column", "pairs", "p.parquet", parquet({"prompt": ["a"], "positive": [b"b"], "negative": ["c"]}), {}, "'positive'"),
    ("a null in a column", "pairs", "p.parquet", parquet({"prompt": ["a", None], "positive": ["b"] * 2, "negative": ["c"] * 2}), {}, "row 1"),
    ("an object for a list", "caa", "c.json", AB, {}, "a list of objects"),
    ("a text for a list", "caa", "c.json", '"x"', {}, "a list of objects"),
    ("a list of texts", "caa", "c.json", '["x"]', {}, "row 0"),
    ("torn", "caa", "c.json", f"[{AB}, {AB[:30]}", {}, "not valid JSON"),
    ("no letter", "caa", "c.json", f"[{AB}]".replace('"(B)"', '"no"'), {}, "no answer letter"),
    ("a field of another name", "caa", "c.json", f"[{AB}]".replace("answer_not_matching", "answer_mismatching"), {}, "row 0"),
    ("an empty list", "caa", "c.json", "[]", {}, "no row"),
    ("a question that is null", "caa", "c.json", '[{"question": null}]', {}, "'question'"),
    ("nesting without end", "caa", "c.json", "[" * 100_000, {}, "c.json"),
    ("labels of one kind", "caa", "c.csv", "prompt,label\na,1\nb,1\n", {"dataset": "prompts"}, "both 0 and 1"),
    ("an unknown label", "caa", "c.csv", "prompt,label\na,1\nb,maybe\n", {"dataset": "prompts"}, "'label'"),
    ("a column of another name", "bipo", "b.csv", "question,match,not_matching\na,b,c\n", {}, "'matching'"),
    ("too few fields", "bipo", "b.csv", CSV + "a,b\n", {}, "'not_matching'"),
    ("a header alone", "bipo", "b.csv", CSV, {}, "no row"),
    ("a torn quote", "bipo", "b.csv", CSV + 'a,"b,c\n', {}, "row 0"),
    ("another ending", "bipo", "b.tsv", CSV, {}, "cannot tell the format"),
)  # fmt: skip


def contrasts_of(world: World, kind: str, name: str, content: Any, settings: dict[str, Any]) -> Any:
    """The contrast data of one file."""
    file = world.folder / name
    if content is ...:
        file.mkdir()
    elif content is not None:
        world.write(name, content)
    place = "path" if kind == "pairs" else "train"
    return build_contrasts(
        BehaviorSpec.model_validate({"name": "glad", "source": {"kind": kind, place: str(file), **settings}})
    )


def of_corpora() -> Iterator[Case]:
    for what, name, data, settings, said in CORPORA:
        call: Callable[[World], object] = lambda w, n=name, d=data, s=settings: corpus_of(w, n, d, s)  # noqa: E731
        yield Case(f"corpus {name}: {what}", call, ["'mine'" if "seed corpus" not in said else "mine", said])


def of_behaviors() -> Iterator[Case]:
    for what, kind, name, content, settings, said in BEHAVIORS:
        call: Callable[[World], object] = lambda w, k=kind, n=name, c=content, s=settings: contrasts_of(w, k, n, c, s)  # noqa: E731
        yield Case(f"{kind} {name}: {what}", call, ["'glad'", name, said])
