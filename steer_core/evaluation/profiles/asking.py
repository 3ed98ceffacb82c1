"""Put the items of profiles to a model in all arms: answers, scores of options, places of texts.

The same machine as for behaviors: an arm changes a plan, an item makes one. What was scored once lies in a journal, by
plan, continuation and execution: cells share the model as it is, and a bench that grew asks what is new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.digest import digest_json
from schemas.profile_spec import ProfileSpec
from schemas.profiles import OptionScores, ProfileItems, ProfileRefusals, ProfileVectors, ScoredTexts
from schemas.specs import Decoding
from steer_core.evaluation.arms import Arm, Asked, Item, pair
from steer_core.evaluation.profiles.kind import load_kind
from steer_core.evaluation.profiles.sets import ItemSet
from steer_core.generation.backend import Verb
from steer_core.generation.forced import FORCED, score_all
from steer_core.generation.run import Run
from steer_core.steering.intervention import Intervention
from steer_core.steering.plan import Extension, Plan, messages_of
from steer_core.tables.errors import SteerworksError
from steer_core.tables.journal import Journal

#: Bumped when the same items and arms give other tables.
VERSION = "3"
#: Continuations that are scored between two writes to the journal.
BLOCK = 4096
#: Why a text has no place under a prompt.
SAID_IN_FRONT = "what is said in front would be part of the mean over the text"
#: Why an option has no score.
OVERLONG = "does not fit the model's context"


def items_table(profiles: Sequence[ProfileSpec], say: Callable[[str], object] = lambda line: None) -> pl.DataFrame:
    """What all these profiles ask.

    Args:
        profiles: their specs.
        say: told of rows that are left out since an earlier one asks the same.

    Returns:
        Rows of `profile_items`, profile by profile.

    Raises:
        SteerworksError: a profile asks nothing, or its data cannot be read; names the profile.
    """
    found = [ProfileItems.empty()]
    for spec in profiles:
        if load_kind(spec).ASKS == "own":
            continue
        try:
            asked: ItemSet = load_kind(spec).items(spec)
            rows = asked.items
            if not rows.height:
                raise SteerworksError("it has no item: there is nothing to ask")
        except SteerworksError as error:
            raise type(error)(f"profile {spec.name!r}: {error}") from error
        if asked.dropped:
            say(
                f"profile {spec.name!r}: {asked.dropped} rows ask what an earlier one asks: each question is asked once"
            )
        ids = [digest_json([spec.name, i]) for i in rows["item_id"]]
        rows = rows.with_columns(
            item_id=pl.Series(ids, dtype=pl.String), profile=pl.lit(spec.name), form=pl.lit(load_kind(spec).ASKS)
        )
        found.append(rows.select(ProfileItems.names()))
    return pl.concat(found)


def arms_of(arms: pl.DataFrame, profiles: Sequence[str]) -> list[Arm]:
    """Rows of `profile_arms` as arms of the items of each profile."""
    return [
        Arm(
            row["arm_id"],
            profile,
            row["system"],
            tuple(Intervention.from_dict(i) for i in json.loads(row["interventions"])),
            row["adapter"],
            tuple(Extension(**e) for e in json.loads(row["extensions"])),
        )
        for profile in profiles
        for row in arms.iter_rows(named=True)
    ]


def item_of(row: Mapping[str, object]) -> Item:
    """A row of `profile_items` as an item."""
    messages = row["messages"]
    return Item(
        item_id=str(row["item_id"]),
        of=str(row["profile"]),
        group=str(row["group"]),
        messages=() if messages is None else messages_of(str(messages)),
        continuations=tuple(json.loads(str(row["options"]))),
        form=str(row["form"]),
        text=None if row["text"] is None else str(row["text"]),
    )


def asked_of(arms: pl.DataFrame, items: pl.DataFrame, form: str) -> list[Asked]:
    """Every arm with every item of a form."""
    rows = items.filter(pl.col("form") == form)
    of = rows["profile"].unique(maintain_order=True).to_list()
    return pair(arms_of(arms, of), [item_of(r) for r in rows.iter_rows(named=True)])


def score_options(
    asked: Sequence[Asked], run: Run, journal: Journal, *, bare: frozenset[str] = frozenset()
) -> pl.DataFrame:
    """How likely each option of each item is in each arm.

    Args:
        asked: items with options, in their arms.
        run: who scores.
        journal: of `scored_texts`; what it holds is not scored again.
        bare: profiles whose options are also scored with nothing before them.

    Returns:
        Rows of `option_scores`. An option without a score has the reason: it does not fit the context, or the engine
        cannot score, or not under what the arm does.
    """
    backend = run.asking
    identity = backend.model_identity
    refused = _refused(asked, run, "score")
    rows: list[tuple[Asked, int, Plan | None, Plan | None]] = []
    for one in asked:
        able = one.arm.arm_id not in refused
        plan = one.plan(identity, FORCED) if able else None
        nothing = None
        if able and one.item.of in bare:
            # what an arm says in words is something before it
            nothing = replace(one.arm, system=None).applied(Plan(identity, FORCED, text=""))
        rows += [(one, k, plan, nothing) for k in range(len(one.item.continuations))]
    wanted = [(p, one.item.continuations[k]) for one, k, *plans in rows for p in plans if p is not None]
    scores = _scored(wanted, run, journal)
    table = []
    for one, k, plan, nothing in rows:
        option = one.item.continuations[k]
        own, tokens = scores[plan.id, option] if plan is not None else (None, 0)
        alone = scores[nothing.id, option][0] if nothing is not None else None
        why = refused.get(one.arm.arm_id) or (OVERLONG if own is None else None)
        head = (one.arm.arm_id, one.item.of, one.item.item_id, k)
        table.append((*head, own, tokens if own is not None else 0, len(option.encode()), alone, why))
    return pl.DataFrame(table, schema=OptionScores.dtypes(), orient="row")


def refusals_of(profile: str, asked: Sequence[Asked], run: Run, decoding: Decoding) -> pl.DataFrame:
    """Settings in which an engine cannot write answers to a profile, as drawn, as rows of `profile_refusals`."""
    rows = [(arm, profile, why) for arm, why in _refused(asked, run, "generate", decoding).items()]
    return pl.DataFrame(rows, schema=ProfileRefusals.dtypes(), orient="row")


def _refused(asked: Sequence[Asked], run: Run, verb: Verb, decoding: Decoding = FORCED) -> dict[str, str]:
    """Arms under which an engine cannot do that, with what it says; all of them where it cannot at all."""
    found = {}
    for arm, one in {one.arm.arm_id: one for one in asked}.items():
        try:
            run.asking.capabilities.refuse(one.plan(run.asking.model_identity, decoding), verb)
        except SteerworksError as error:
            found[arm] = str(error)
    return found


def _scored(
    wanted: Sequence[tuple[Plan, str]], run: Run, journal: Journal
) -> dict[tuple[str, str], tuple[float | None, int]]:
    """Log-likelihood and tokens of each (plan, continuation), from the journal or the engine."""
    distinct = {(plan.id, text): plan for plan, text in wanted}
    execution = run.asking.execution
    ids = {key: digest_json([*key, execution]) for key in distinct}
    done = {r[0]: (r[1], r[2]) for r in journal.read(list(ids.values())).iter_rows()} if ids else {}
    left = [key for key in distinct if ids[key] not in done]
    for start in range(0, len(left), BLOCK):
        block = left[start : start + BLOCK]

        def told(n: int, _: int, before: int = start) -> None:
            if run.progress is not None:
                run.progress(len(distinct) - len(left) + before + n, len(distinct))

        found = score_all([distinct[k] for k in block], [k[1] for k in block], run.asking, run.batch_size, told)
        rows = [(ids[k], float(sum(s)) if s else None, len(s)) for k, s in zip(block, found, strict=True)]
        journal.append(pl.DataFrame(rows, schema=ScoredTexts.dtypes(), orient="row"))
        done |= {r[0]: (r[1], r[2]) for r in rows}
    return {key: done[ids[key]] for key in distinct}


def encode_texts(asked: Sequence[Asked], run: Run) -> pl.DataFrame:
    """Where the texts of items lie in the model, in each arm.

    Returns:
        Rows of `profile_vectors`; without numbers, and with the reason, where a text does not fit the context, the
        engine cannot encode or carry out what an arm does, or an arm says something in front.
    """
    backend = run.asking
    plans = [one.plan(backend.model_identity, FORCED) for one in asked]
    # the mean is over all of a prompt: words in front would draw all texts together, whatever they do to the model
    said = {one.arm.arm_id: SAID_IN_FRONT for one in asked if one.arm.system is not None}
    refused = _refused(asked, run, "embed") | said
    context = backend.capabilities.max_context
    why = [
        refused.get(one.arm.arm_id)
        or (OVERLONG if context is not None and backend.prompt_tokens(plan) > context else None)
        for one, plan in zip(asked, plans, strict=True)
    ]
    able = [k for k, reason in enumerate(why) if reason is None]
    places: dict[int, NDArray[np.float32]] = {}
    for start in range(0, len(able), run.batch_size):
        block = able[start : start + run.batch_size]
        places |= dict(zip(block, backend.embed([plans[k] for k in block]), strict=True))
        if run.progress is not None:
            run.progress(start + len(block), len(able))
    table = []
    for k, one in enumerate(asked):
        values = places[k].tolist() if k in places else None
        table.append((one.arm.arm_id, one.item.of, one.item.item_id, values, why[k]))
    return pl.DataFrame(table, schema=ProfileVectors.dtypes(), orient="row")
