"""What the page says of a judge's words: first what they are worth, and nothing of what they are not."""

from types import SimpleNamespace

import polars as pl
import pytest

from schemas.validation import GoalAgreement, GroundednessSummary
from steer_core.reports.page import environment
from steer_core.reports.sections.judged import sections

SUMMARY = {
    "judge_id": "j", "n": 24, "judged_grounded": 20, "no_verdict": 1, "open": 2, "looked_at": 3, "overruled": 1,
    "spot_checked": 2, "spot_overruled": 1, "share": 0.875, "low": 0.7, "high": 0.96, "worst": 0.75, "known": 8,
    "own_accepted": 1.0, "other_accepted": 0.125, "p_value": 0.01,
}  # fmt: skip
AGREEMENT = {
    "against": "source", "goal": "text_length", "tau": 0.5, "p_value": 0.0001, "same_side": 0.8, "first_place": 0.1,
    "unparsed": 0.0, "n": 20, "left_out": 4, "toward": 0.3, "toward_low": 0.1, "toward_high": 0.5, "toward_n": 12,
}  # fmt: skip


def shown(**changes):
    judged = {
        "groundedness_summary": pl.DataFrame(
            [{**SUMMARY, **changes}], schema=GroundednessSummary.empty().schema, strict=False
        ),
        "goal_agreement": pl.DataFrame([AGREEMENT], schema=GoalAgreement.empty().schema),
    }
    (section,) = sections(SimpleNamespace(judged=judged), [])
    page = environment().get_template(section.template).render(section=section, figures={})
    return section.content, page


def test_a_judge_that_can_tell_is_quoted_with_what_it_is_worth():
    content, page = shown()
    assert content.doubt == ""
    said = " ".join(content.stays).replace("\u00a0", " ")
    assert "The judge says that 20 of 23 answers stay with their source; 1 answer got no verdict." in said
    assert "it accepted 100 % of sources in another order (right: 100 %) and 12 % of other sources" in said
    assert "People looked at 3 and overruled the judge on 1; of 2 drawn from where nobody doubted, 1." in said
    assert (
        "Settled so far: 88 % stay [70 % to 96 % over texts]; 75 % if what is open or without a word does not." in said
    )
    assert "&lt; 0.001" in page
    assert "its source" in page


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"own_accepted": 1.0, "other_accepted": 1.0, "p_value": 1.0}, "is not known to tell texts apart"),
        ({"own_accepted": 0.0, "other_accepted": 1.0, "p_value": 1.0}, "is not known to tell texts apart"),
        ({"known": 0, "own_accepted": None, "other_accepted": None, "p_value": None}, "was not tried"),
    ],
)
def test_a_judge_that_cannot_tell_is_not_quoted_and_people_are(changes, why):
    content, page = shown(**changes)
    assert why in content.doubt
    assert content.doubt in page
    said = " ".join(content.stays)
    assert "The judge says" not in said
    assert "Settled" not in said
    assert "People looked at 3" in said


def test_without_a_judge_there_is_no_section():
    assert sections(SimpleNamespace(judged={}), []) == []
    empty = {"groundedness_summary": GroundednessSummary.empty(), "goal_agreement": GoalAgreement.empty()}
    assert sections(SimpleNamespace(judged=empty), []) == []
