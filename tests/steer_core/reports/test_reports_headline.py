from dataclasses import replace

import polars as pl
import pytest
from fixture_tables import PROBE, SPACE, cell_tables, typed, with_controls

import schemas
from steer_core.reports.contrast import contrasts
from steer_core.reports.headline import headline, headline_figures
from steer_core.reports.inputs import headline_probe, of_probe
from steer_core.reports.numbers import number, percent, plural, signed


@pytest.fixture(scope="module")
def tables():
    return of_probe(cell_tables(n_texts=8, per_text=4), PROBE)


def comparison(control, low, high, reading="worst", base=0.5, p=None):
    middle = None if low is None else (low + high) / 2
    return {
        "probe": PROBE,
        "goal_space_id": SPACE,
        "control": control,
        "measure": "error",
        "reading": reading,
        "value": None if middle is None else base + middle,
        "control_value": base,
        "difference": middle,
        "low": low,
        "high": high,
        "relative": None if middle is None else middle / base,
        "share_better": 0.7,
        "n": 32,
        "n_clusters": 8,
        "p": p,
    }


def said(tables, *rows):
    return " ".join(headline(replace(tables, comparisons=typed(rows, schemas.Comparisons))).sentences)


def test_the_share_of_the_error_of_doing_nothing_comes_with_its_interval(tables):
    assert "direct leaves 58\u00a0% of the error of doing nothing [54 to 62]." in said(
        tables, comparison("copy", -0.23, -0.19)
    )


def test_a_method_that_does_nothing_is_not_said_to_be_no_better(tables):
    text = said(tables, comparison("copy", -0.073 - 0.05, 0.001))
    assert "direct cannot be told apart from doing nothing" in text
    assert "[75 to 100], an interval that includes 100\u00a0%" in text


def test_a_method_that_does_harm_is_told_so(tables):
    assert "direct makes things worse: it ends at 120\u00a0% of" in said(tables, comparison("copy", 0.05, 0.15))


def test_the_verdict_counts_failures_and_the_easier_rest_stands_beside_it(tables):
    # the largest requests failed: what is left looks good
    complete = comparison("copy", -0.13, -0.08, reading="complete")
    text = said(tables, complete, comparison("copy", 0.25, 0.35))
    assert "direct makes things worse: it ends at 160\u00a0%" in text
    n_failed = tables.steerability["failure"].is_not_null().sum()
    assert f"{n_failed} of 32 answers failed and count at their worst; the rest alone" in text
    assert "stand at 79\u00a0%" in text


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (-0.2, -0.1, "Its error is 30\u00a0% [20 to 40] below that of an unsteered rewrite."),
        (0.1, 0.2, "Its error is 30\u00a0% [20 to 40] above that of an unsteered rewrite."),
        (-0.1, 0.2, "It cannot be told apart from an unsteered rewrite: the difference is +0.050 [−0.100 to 0.200]."),
        (None, None, "too few texts for an interval"),
    ],
)
def test_the_unsteered_rewrite_is_held_against_the_method(tables, low, high, sentence):
    assert sentence in said(tables, comparison("copy", -0.2, -0.1), comparison("rewrite", low, high))


def test_listening_stands_on_its_rank_and_deafness_is_not_claimed_from_an_interval(tables):
    def heard(low, high, p):
        return said(tables, comparison("permuted", low, high, reading="complete", p=p))

    assert "It does listen" in heard(-0.15, -0.05, 0.005)
    assert "rank p = 0.005" in heard(-0.15, -0.05, 0.005)
    assert "Whether it listens cannot be told" in heard(-0.15, 0.01, 0.2)
    assert "[−0.150 to 0.010] (rank p = 0.20)" in heard(-0.15, 0.01, 0.2)
    assert "the same answer: nothing of the request is in it" in heard(0.0, 0.0, 1.0)
    assert "not in these tables: they are of an older version" in heard(-0.15, -0.05, None)
    nobody = comparison("permuted", None, None, reading="complete") | {"n": 0}
    assert "no text has two requests" in said(tables, nobody)


def test_a_missing_control_is_named_with_its_remedy(tables):
    found = headline(replace(tables, comparisons=typed([comparison("copy", -0.2, -0.1)], schemas.Comparisons)))
    assert found.remedies == ("materialize the cell rewrite|embedded",)
    assert "The control rewrite is missing" in found.sentences[-1]


def test_a_control_is_not_held_against_itself():
    tables = of_probe(cell_tables(n_texts=8, per_text=4, method="copy"), PROBE)
    found = headline(tables)
    assert "copy is a control" in found.sentences[0]
    assert all(contrast.control != "copy" for contrast in found.contrasts)
    assert found.remedies == ()


def test_without_a_complete_case_there_is_no_error_to_report():
    found = headline(of_probe(cell_tables(n_texts=4, per_text=2, all_fail=True), PROBE))
    assert found.sentences[0] == (
        "Nothing could be measured: none of the 8 requests of direct has an answer that stands (8 empty)."
    )
    assert "error" not in headline_figures(found)
    assert headline_figures(found)["failed"] == 1.0


def test_failures_and_copies_are_counted_from_the_rows(tables):
    found = headline(tables)
    assert found.n_failed == tables.steerability["failure"].is_not_null().sum()
    assert found.n_copied == tables.steerability["copied"].sum()
    assert (found.n_texts, found.n_requests) == (8, 32)


def test_the_binned_median_of_copy_comes_from_the_copy_cell(tables):
    assert headline(tables).binned_copy is None
    beside = of_probe(with_controls(tables), PROBE)
    assert headline(beside).binned_copy == beside.control_steerability["copy"]["error_binned"].median()


def test_the_headline_is_about_the_first_test_probe():
    tables = cell_tables(n_texts=4, per_text=2)
    train = tables.requests.with_columns(pl.lit("train_pool").alias("probe"), pl.lit("train").alias("split"))
    scored = tables.steerability.with_columns(pl.lit("train_pool").alias("probe"))
    both = replace(
        tables,
        requests=pl.concat([train, tables.requests]),
        steerability=pl.concat([scored, tables.steerability]),
    )
    assert headline_probe(both) == PROBE
    assert headline_probe(replace(both, probe="train_pool")) == "train_pool"
    with pytest.raises(ValueError, match="nothing scored on probe 'other'"):
        headline_probe(replace(both, probe="other"))
    with pytest.raises(ValueError, match="no request has a score; materialize"):
        headline_probe(replace(tables, steerability=tables.steerability.clear()))


def test_comparisons_without_an_interval_have_no_verdict():
    row = typed([comparison("copy", None, None)], schemas.Comparisons)
    assert contrasts(row)[0].verdict == "unknown"


def test_another_cell_as_control_is_listed_after_the_three(tables):
    rows = [comparison("best-of-8", 0.01, 0.02), comparison("copy", -0.2, -0.1)]
    found = contrasts(typed(rows, schemas.Comparisons))
    assert [(c.control, c.verdict) for c in found] == [("copy", "better"), ("best-of-8", "worse")]


def test_numbers_are_written_for_readers():
    assert number(-1234.5, 1) == "−1,234.5"
    assert number(-0.001) == "0.00"
    assert number(None) == "–"
    assert signed(0.25) == "+0.25"
    assert signed(0.001) == "0.00"
    assert percent(0.5) == "50\u00a0%"
    assert (plural(1, "text"), plural(1024, "text")) == ("1 text", "1,024 texts")
