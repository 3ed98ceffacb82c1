"""The seed corpus: sources, window, duplicates, split by text, and what is said of bad input."""

import json

import polars as pl
import pytest

from schemas import SeedCorpus
from schemas.specs import CorpusSpec, ProbeSpec
from steer_core.corpus import build_corpus, candidate_texts, source_digests
from steer_core.corpus.sentences import chunk_sentences, sentences
from steer_core.tables import check
from steer_core.tables.errors import SteerworksError


def spec(*sources, **settings) -> CorpusSpec:
    return CorpusSpec.model_validate({"sources": sources, "min_words": 2, "max_words": 10, **settings})


def rows_file(path, rows):
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return {"kind": "file", "name": "own", "path": str(path), "column": "text"}


def texts_of(corpus: pl.DataFrame) -> list[str]:
    return corpus["text"].to_list()


def test_texts_are_stripped_windowed_and_deduplicated(tmp_path):
    texts = [" one two ", "one", "ONE  two", "three four", "w " * 11, "one two"]
    corpus = build_corpus(spec(rows_file(tmp_path / "a.jsonl", [{"text": t} for t in texts])))
    check(corpus, SeedCorpus)
    assert texts_of(corpus) == ["one two", "three four"]
    assert corpus["source_row"].to_list() == [0, 3]
    near = build_corpus(spec(rows_file(tmp_path / "a.jsonl", [{"text": t} for t in texts]), deduplicate=False))
    assert texts_of(near) == ["one two", "ONE  two", "three four"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_every_file_format_is_read(tmp_path, ending):
    frame = pl.DataFrame({"text": ["one two", "line\nbreak, and comma"], "other": [1, 2]})
    path = tmp_path / f"rows.{ending}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[ending](path)
    source = {"kind": "file", "name": "own", "path": str(path), "column": "text"}
    assert texts_of(build_corpus(spec(source))) == ["one two", "line\nbreak, and comma"]


def test_a_local_data_set_folder_is_read_as_the_hub_is(tmp_path):
    folder = tmp_path / "dataset"
    folder.mkdir()
    pl.DataFrame({"text": ["one two", "three four", "five six"], "kind": ["a", "b", "a"]}).write_parquet(
        folder / "validation.parquet"
    )
    source = {"kind": "hub", "name": "hub", "dataset": str(folder), "split": "validation", "column": "text"}
    assert len(build_corpus(spec(source))) == 3
    assert texts_of(build_corpus(spec({**source, "filters": {"kind": "a"}}))) == ["one two", "five six"]
    with pytest.raises(SteerworksError, match=r"no column 'body'; it has text, kind"):
        build_corpus(spec({**source, "column": "body"}))
    with pytest.raises(SteerworksError, match="split 'test'"):
        build_corpus(spec({**source, "split": "test"}))


def test_filters_samples_first_and_chunks(tmp_path):
    rows = [{"text": f"Number {i}. It rains.", "kind": "ab"[i % 2]} for i in range(20)]
    source = rows_file(tmp_path / "a.jsonl", rows)
    assert len(build_corpus(spec({**source, "filters": {"kind": "a"}}))) == 10
    sampled = build_corpus(spec({**source, "sample": 5}))
    assert texts_of(sampled) == texts_of(build_corpus(spec({**source, "sample": 5})))
    assert len(sampled) == 5
    assert texts_of(build_corpus(spec({**source, "first": 2}))) == ["Number 0. It rains.", "Number 1. It rains."]
    assert "It rains." in texts_of(build_corpus(spec({**source, "sentences": 1})))


def test_the_split_is_by_text_and_stands_when_texts_are_added(tmp_path):
    few = build_corpus(spec(rows_file(tmp_path / "a.jsonl", [{"text": f"text {i}"} for i in range(100)])))
    many = build_corpus(spec(rows_file(tmp_path / "b.jsonl", [{"text": f"text {i}"} for i in range(400)])))
    assert few.join(many, on=["text_id", "split"], how="semi").height == 100
    share = (many["split"] == "test").mean()
    assert 0.42 < share < 0.58
    other = build_corpus(spec(rows_file(tmp_path / "b.jsonl", [{"text": f"text {i}"} for i in range(400)]), seed=1))
    assert not other["split"].equals(many["split"])


@pytest.mark.parametrize("blank", [None, "", "  \n"])
def test_blank_rows_are_an_error_that_names_file_and_row_or_dropped_on_request(tmp_path, blank):
    source = rows_file(tmp_path / "a.jsonl", [{"text": "one two"}, {"text": blank}])
    with pytest.raises(
        SteerworksError, match=r"1 blank or missing text in column 'text' of .*a.jsonl.*row 1 \(0-based\)"
    ):
        build_corpus(spec(source))
    assert texts_of(build_corpus(spec({**source, "blank": "drop"}))) == ["one two"]


def test_bad_sources_are_named(tmp_path):
    source = rows_file(tmp_path / "a.jsonl", [{"text": "one two", "n": 1}])
    with pytest.raises(SteerworksError, match=r"no column 'body'; it has text, n"):
        build_corpus(spec({**source, "column": "body"}))
    with pytest.raises(SteerworksError, match=r"'n' of .* holds Int64, not text"):
        build_corpus(spec({**source, "column": "n"}))
    with pytest.raises(SteerworksError, match=r"no row of .* has n = 2; the column has 1"):
        build_corpus(spec({**source, "filters": {"n": 2}}))
    with pytest.raises(SteerworksError, match="a sample of 9 was asked of 1 rows"):
        build_corpus(spec({**source, "sample": 9}))
    with pytest.raises(SteerworksError, match="no file at"):
        build_corpus(spec({**source, "path": str(tmp_path / "none.jsonl")}))
    (tmp_path / "x.dat").write_text("x")
    with pytest.raises(SteerworksError, match="cannot tell the format"):
        build_corpus(spec({**source, "path": str(tmp_path / "x.dat")}))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 rubble")
    with pytest.raises(SteerworksError, match="not readable as parquet"):
        build_corpus(spec({**source, "path": str(tmp_path / "bad.parquet")}))


def test_an_empty_corpus_says_what_was_dropped(tmp_path):
    source = rows_file(tmp_path / "a.jsonl", [{"text": "one"}])
    with pytest.raises(SteerworksError, match=r"own: 0 of 1 texts have 2-10 words"):
        build_corpus(spec(source))


def test_an_edited_file_has_another_digest(tmp_path):
    source = rows_file(tmp_path / "a.jsonl", [{"text": "one two"}])
    before = source_digests(spec(source))
    rows_file(tmp_path / "a.jsonl", [{"text": "one three"}])
    assert source_digests(spec(source)) != before


def test_sentences_keep_abbreviations_and_quotes():
    assert sentences('Dr. Smith came. "It rains!" He left? Yes.') == [
        "Dr. Smith came.",
        '"It rains!"',
        "He left?",
        "Yes.",
    ]
    assert sentences("one\ntwo", newline_ends_sentence=True) == ["one", "two"]
    assert sentences("") == []
    assert chunk_sentences("A b. C d. E f.", 2) == ["A b. C d.", "E f."]


def test_sentence_probes_add_sentences_that_stay_on_their_side(tmp_path):
    rows = [{"text": f"Number {i} sings. Everybody listens to it."} for i in range(50)]
    corpus = build_corpus(spec(rows_file(tmp_path / "a.jsonl", rows)))
    probe = ProbeSpec(name="s", n_texts=1, n_goals_per_text=1, active=1, unit="sentence")
    found = candidate_texts(corpus, [probe])
    cut = found.filter(pl.col("unit") == "sentence")
    assert found["text_id"].is_unique().all()
    assert "Everybody listens to it." not in cut["text"].to_list()  # it stands on both sides
    parents = {t.split(" sings.")[0]: s for t, s in corpus.select("text", "split").iter_rows()}
    assert cut.height == 50
    assert all(parents[t.removesuffix(" sings.")] == s for t, s in cut.select("text", "split").iter_rows())


def test_sources_need_names_of_their_own_and_local_data_sets_have_digests(tmp_path):
    source = rows_file(tmp_path / "a.jsonl", [{"text": "one two"}])
    with pytest.raises(ValueError, match="share a name"):
        spec(source, source)
    folder = tmp_path / "dataset"
    folder.mkdir()
    pl.DataFrame({"text": ["one two"]}).write_parquet(folder / "validation.parquet")
    hub = {"kind": "hub", "name": "hub", "dataset": str(folder), "split": "validation", "column": "text"}
    before = source_digests(spec(hub))
    pl.DataFrame({"text": ["one three"]}).write_parquet(folder / "validation.parquet")
    assert source_digests(spec(hub)) != before


def test_a_column_that_is_called_like_ours_a_mark_of_byte_order_and_filters_on_numbers_all_work(tmp_path):
    rows = [{"text": f"one {w}", "source_row": k, "part": k % 2} for k, w in enumerate(("two", "three", "four"))]
    source = rows_file(tmp_path / "a.jsonl", rows)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    for value in (1, "1"):
        corpus = build_corpus(spec({**source, "filters": {"part": value}}))
        assert texts_of(corpus) == ["one three"]
        assert corpus["source_row"].to_list() == [1]
    (tmp_path / "b.csv").write_text("text,code\none two,007\none three,8\n")
    csv_source = {"kind": "file", "name": "own", "path": str(tmp_path / "b.csv"), "column": "text"}
    assert texts_of(build_corpus(spec({**csv_source, "filters": {"code": "8"}}))) == ["one three"]


def test_a_header_that_names_a_column_twice_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,text\none two,three four\n")
    source = {"kind": "file", "name": "own", "path": str(tmp_path / "a.csv"), "column": "text"}
    with pytest.raises(SteerworksError, match="names column 'text' twice"):
        build_corpus(spec(source))
