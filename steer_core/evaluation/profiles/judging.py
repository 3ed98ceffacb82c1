"""Have the answers to a profile judged, and find out what the judges are worth: the step between answers and values.

1. A rating has one judge. Each response to each item is put to it once, however many settings share it.
2. What lies in the journal of judgements is not asked again, the answers of known rating included.
3. A judge is tried on answers whose rating is known (`judges.known_answers`): where the lower end of its AUROC is not
   above .5 it cannot tell them apart, and every figure that it made says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from schemas.profile_spec import ProfileSpec
from schemas.profiles import ProfileJudges
from schemas.sweeps import Judgements
from steer_core.evaluation.judges.calibration import Known, calibrate
from steer_core.evaluation.judges.judge import Case, Judge, judge_cases
from steer_core.evaluation.profiles.kind import Found, load_kind
from steer_core.generation.run import Progress
from steer_core.steering.plan import Message, messages_of

#: Bumped when the same answers and judges give other rows.
VERSION = "1"
#: AUROC of a judge that guesses.
CHANCE = 0.5


def cases_of(found: Found, *, keep: Callable[[Mapping[str, object]], bool] = lambda row: True) -> list[Case]:
    """Each response to each item as a case, once; a bare prompt is shown as what the user said.

    Args:
        found: what came back.
        keep: which rows of `profile_items` are judged.
    """
    rows = found.answers.unique(["response_id", "item_id"], keep="first", maintain_order=True).join(
        found.items.select("item_id", "messages", prompt="text"), on="item_id", how="inner", maintain_order="left"
    )
    wanted = {str(r["item_id"]) for r in found.items.iter_rows(named=True) if keep(r)}
    return [
        Case(r["response_id"], r["item_id"], _turns(r["messages"], r["prompt"]), r["text"])
        for r in rows.iter_rows(named=True)
        if r["item_id"] in wanted
    ]


def _turns(messages: str | None, prompt: str | None) -> tuple[Message, ...]:
    return (Message("user", prompt or ""),) if messages is None else messages_of(messages)


def judge_profile(
    spec: ProfileSpec,
    found: Found,
    panel: Mapping[str, Judge],
    *,
    done: pl.DataFrame | None = None,
    keep: Callable[[pl.DataFrame], None] | None = None,
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """All verdicts on a profile's answers, and what each judge is worth.

    Args:
        spec: of a kind that is judged.
        found: items and answers.
        panel: rating -> judge.
        done: rows of `judgements` so far, of any judges.
        keep: given new rows batch by batch.
        progress: told after each batch.

    Returns:
        Rows of `judgements`, and of `profile_judges`, one a rating.
    """
    module = load_kind(spec)
    cases: Mapping[str, Sequence[Case]] = module.cases(spec, found)
    known: Mapping[str, Sequence[Known]] = module.known(spec)
    verdicts = [Judgements.empty()]
    judges: list[tuple[object, ...]] = []
    for rating, judge in panel.items():
        verdicts.append(judge_cases(judge, cases.get(rating, []), done, keep=keep, progress=progress))
        head = (spec.name, rating, judge.judge_id, judge.rubric, judge.method)
        if not known.get(rating):
            judges.append((*head, None, None, None, None, None, None, 0, None))
            continue
        c = calibrate(judge, known[rating], done=done, keep=keep, progress=progress)
        tells = c.auroc_low is not None and c.auroc_low > CHANCE
        judges.append(
            (*head, c.auroc, c.auroc_low, c.auroc_high, c.accuracy, c.bias, c.unparsed, c.n, tells),
        )
    return pl.concat(verdicts), pl.DataFrame(judges, schema=ProfileJudges.dtypes(), orient="row")


def worth(judges: pl.DataFrame, rating: str) -> str:
    """What the verdicts of a rating's judge are worth, in words: what every figure made of them says.

    Args:
        judges: rows of `profile_judges` of one profile.
        rating: which.
    """
    rows = judges.filter(pl.col("rating") == rating)
    if not rows.height:
        return f"nobody judged {rating}"
    r = rows.row(0, named=True)
    if r["tells"] is None:
        return f"what the judge of {rating} is worth is not known: no answer of known rating was given"
    if r["method"] == "ground_truth" and r["auroc"] == 1.0:
        return ""
    said = "without an AUROC" if r["auroc"] is None else f"AUROC {r['auroc']:.2f}"
    if r["low"] is not None:
        said += f" [{r['low']:.2f}, {r['high']:.2f}]"
    said += f" on {r['n']} known answers"
    if r["unparsed"]:
        said += f", {r['unparsed']:.0%} without a verdict"
    if not r["tells"]:
        return f"no judge of {rating}: it cannot tell known answers apart ({said})"
    return f"judge of {rating}: {said}"
