"""Receipts of a whole table of responses: does every steered one prove that it was?"""

from __future__ import annotations

import json
from dataclasses import dataclass

import polars as pl

from schemas.digest import digest_json


@dataclass(frozen=True)
class ReceiptCount:
    """What the receipts of a table say.

    Attributes:
        steered: responses whose plan has interventions.
        receipts: those with a receipt.
        wrong: ids of responses whose receipt is missing, is of other interventions, has other tokens than expected, or
            that have one without being steered.
        untouched: steered responses of which no token was touched: their positions lie beyond every token, or every
            gate was closed.
    """

    steered: int
    receipts: int
    wrong: tuple[str, ...]
    untouched: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong


def check_receipts(responses: pl.DataFrame) -> ReceiptCount:
    """Hold the receipts of rows of `responses` against their plans.

    An answer that ran out of room before anything was fed (`overlong`) needs none.
    """
    steered = receipts = untouched = 0
    wrong = []
    columns = responses.select("response_id", "plan", "receipt", "finish_reason")
    for response_id, plan, receipt, finish in columns.iter_rows():
        asked = json.loads(plan).get("interventions", [])
        if not asked:
            if receipt is not None:
                wrong.append(response_id)
            continue
        if finish == "overlong":
            continue
        steered += 1
        receipts += receipt is not None
        if receipt is None or not _holds(json.loads(receipt), asked):
            wrong.append(response_id)
        elif not any(touch["observed"] for touch in json.loads(receipt)["touches"]):
            untouched += 1
    return ReceiptCount(steered, receipts, tuple(wrong), untouched)


def _holds(receipt: dict[str, object], asked: list[dict[str, object]]) -> bool:
    touches = receipt["touches"]
    assert isinstance(touches, list)
    counts = all(t["expected"] == t["observed"] for t in touches)
    return counts and len(touches) == len(asked) and receipt["digest"] == digest_json(asked)
