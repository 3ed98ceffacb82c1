"""Submissions: those that there are, and a form for another."""

from __future__ import annotations

from typing import Any

from schemas.submissions import SubmissionCard
from steer_core.explorer.asking import Given
from steer_core.explorer.pages import Pages, report_link

#: Fields of the card that a form asks for: name -> whether it must be filled in.
ASKED = {name: field.is_required() for name, field in SubmissionCard.model_fields.items() if name != "links"}


def show(pages: Pages, given: Given) -> dict[str, Any]:
    """The form, filled in as far as the probe says, and what lies in the folder."""
    submitting = pages.submitting
    assert submitting is not None  # without it there is no such view
    said = {name: field.description or "" for name, field in SubmissionCard.model_fields.items()}
    return {
        "fields": [(name, required, said[name]) for name, required in ASKED.items() if name != "goal_space_id"],
        "space": submitting.goal_space_id(),
        "found": submitting.listed(),
        "report": report_link,
    }
