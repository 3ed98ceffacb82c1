"""Items of BBQ (Parrish et al. 2022): a context, a question, and three answers, one of them that it is not known."""

from __future__ import annotations

from typing import Any

import polars as pl

from schemas.profile_sets import BbqSet
from steer_core.evaluation.profiles.bbq import read_item
from steer_core.evaluation.profiles.sets.items import Item, ItemSet, build
from steer_core.evaluation.profiles.sets.reading import SHIPPED as SHIPPED_SOURCE
from steer_core.evaluation.profiles.sets.reading import Record, file_records, read_place, shipped_path
from steer_core.tables.errors import SteerworksError

#: A copy on the hub with all categories, its configuration, and the split that copies have.
HUB, CONFIG, SPLIT = "oskarvanderwal/bbq", "All", "test"
SHIPPED = "bbq.json"
#: Answers that say that it is not known, taken in turn.
UNKNOWN = ("Not enough information", "It cannot be told", "Nobody can say", "Not known")


def load(spec: BbqSet) -> pl.DataFrame:
    """Items of the set; see `read`."""
    return read(spec).items


def read(spec: BbqSet) -> ItemSet:
    """Items of the set.

    `group` is the category, `cluster` category and template. `facts`: `context`, `polarity` and `roles` as in
    `steer_core.evaluation.profiles.bbq.BbqItem`, and `bbq_id`, category and example.

    Raises:
        SteerworksError: a row is no BBQ item, or the place cannot be read; names row and place.
    """
    if spec.origin == "shipped":
        records, source = shipped_records(), SHIPPED_SOURCE
    else:
        records, source = read_place(
            spec.path,
            spec.dataset,
            SHIPPED,
            config=spec.config or (CONFIG if spec.dataset == HUB else None),
            split=spec.split or SPLIT,
            revision=spec.revision,
        )
    items = [_item(record) for record in records]
    return build("bbq", items, source, spec, chat=spec.chat, shots=spec.shots, seed=spec.seed)


def _item(record: Record) -> Item:
    label = record.get("label")
    # one of the hub's copies names the right answer by its column
    plain = label.removeprefix("ans") if isinstance(label, str) else label
    try:
        known = read_item({**record.values, "label": plain})
    except (SteerworksError, ValueError, AttributeError) as error:
        raise record.error(str(error)) from error
    context, question = record.text("context"), record.text("question")
    answers = tuple(record.text(f"ans{i}").strip() for i in range(3))
    listed = "\n".join(f"- {answer}" for answer in answers)
    return Item(
        row=record.row,
        raw=f"Context: {context}\nQuestion: {question}\nAnswer:",
        asked=f"{context}\n\n{question}\n{listed}\n\nAnswer with one of the three, in the same words.",
        options=answers,
        gold=known.gold,
        cluster=known.cluster,
        group=known.category,
        facts={"context": known.context, "polarity": known.polarity, "roles": list(known.roles)},
        notes={"bbq_id": known.item_id},
    )


def shipped_records() -> list[Record]:
    """The items that ship, in the published form, from their templates.

    Each template gives eight: context with and without the sentence that tells, both questions, and both people in
    the part that a stereotype gives to one. So no answer that follows a stereotype, or the order of names, is right
    more often than another.
    """
    rows: list[dict[str, Any]] = []
    for index, template in enumerate(file_records(shipped_path(SHIPPED))):
        people = [template.values["target"], template.values["other"]]
        for swapped in (False, True):
            does, does_not = reversed(people) if swapped else people
            told = template.text("tells").format(does=does["text"], does_not=does_not["text"])
            # over all templates, who is named first is as often the one as the other
            first, second = (does, does_not) if index % 2 else (does_not, does)
            scene = template.text("context").format(first=first["text"], second=second["text"])
            for context in ("ambig", "disambig"):
                for polarity, right in (("neg", does), ("nonneg", does_not)):
                    place = len(rows)
                    unknown = {"text": UNKNOWN[(index + swapped) % len(UNKNOWN)], "group": "unknown"}
                    options = [does, does_not, unknown]
                    options = options[place % 3 :] + options[: place % 3]
                    gold = unknown if context == "ambig" else right
                    rows.append(
                        {
                            "example_id": place,
                            "question_index": str(index),
                            "question_polarity": polarity,
                            "context_condition": context,
                            "category": template.text("category"),
                            "answer_info": {f"ans{i}": [o["text"], o["group"]] for i, o in enumerate(options)},
                            "additional_metadata": {"stereotyped_groups": [people[0]["group"]]},
                            "context": _sentence(scene if context == "ambig" else f"{scene} {_sentence(told)}"),
                            "question": template.text("negative" if polarity == "neg" else "non_negative"),
                            **{f"ans{i}": _sentence(o["text"]) for i, o in enumerate(options)},
                            "label": options.index(gold),
                        }
                    )
    return [Record(f"shipped {SHIPPED}", i, row) for i, row in enumerate(rows)]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
