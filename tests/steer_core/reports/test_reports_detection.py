"""What a page says of directions that are read: chosen by folds, told on what was in no fit, chance called chance."""

from types import SimpleNamespace

import polars as pl
import pytest

from schemas import Detections
from steer_core.reports.drawing import render
from steer_core.reports.page import environment
from steer_core.reports.sections.detection import chosen, sections, sentence


def rows(*changes):
    base = {
        "concept": "glad-tone", "layer": 1, "read": "answer", "direction": "discriminant", "fitted_auroc": 0.9,
        "auroc": 0.8, "low": 0.7, "high": 0.9, "balanced_accuracy": 0.7, "balanced_low": 0.6, "balanced_high": 0.8,
        "threshold": 0.1, "calibration_error": 0.1, "brier": 0.2, "n_fitted": 100, "n_tested": 40,
    }  # fmt: skip
    return pl.DataFrame([{**base, **c} for c in changes], schema=Detections.dtypes())


def test_the_place_is_chosen_by_folds_and_not_by_what_is_told():
    table = rows({"layer": 2, "fitted_auroc": 0.95, "auroc": 0.6, "low": 0.52, "high": 0.68}, {"auroc": 0.99})
    assert [r["layer"] for r in chosen(table)] == [2]
    assert sentence(table) == (
        "glad-tone: layer 2, mean of the answer, by the discriminant: an answer with the trait lies above one without "
        "in 0.60 [0.52 to 0.68] of cases."
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"auroc": 0.55, "low": 0.45, "high": 0.65}, "not told apart from chance: AUROC 0.55 [0.45 to 0.65]"),
        ({"auroc": 0.3, "low": 0.2, "high": 0.4}, "reads the wrong way on answers that it never saw"),
        ({"low": None, "high": None}, "of too few pairs for an interval"),
    ],
)
def test_what_is_not_shown_is_not_said(change, said):
    assert said in sentence(rows(change))


def test_the_section_has_a_figure_a_behavior_and_none_without_detections():
    table = pl.concat([rows({}, {"layer": 2}), rows({"concept": "b", "direction": "mean_difference"})])
    (section,) = sections(SimpleNamespace(fitted={"detections": table}), ())
    assert [f.name for f in section.figures] == ["detection_1", "detection_2"]
    figures = {f.name: render(f) for f in section.figures}
    page = environment().get_template(section.template).render(section=section, figures=figures)
    assert page.count("<svg") == 2
    assert "Glad-tone: layer 1" in page
    assert sections(SimpleNamespace(fitted={}), ()) == []
