"""Items with options to choose from: any table of questions, and the layouts of published sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import polars as pl

from schemas.profile_sets import ChoicesSet
from steer_core.evaluation.profiles.sets.items import Item, ItemSet, build
from steer_core.evaluation.profiles.sets.reading import SHIPPED, Record, read_place
from steer_core.evaluation.profiles.sets.tales import tales_facts

ASKED = "Question: {question}\nAnswer:"
BARE = "{question}"
#: Layout -> raw prompt; published figures of the first two are with the bare text.
TEMPLATES: Mapping[str, str] = {"hellaswag": BARE, "openbookqa": BARE}
#: Layout -> hub id, configuration and split of the published set.
HUBS: Mapping[str, tuple[str, str | None, str]] = {
    "hellaswag": ("Rowan/hellaswag", None, "validation"),
    "openbookqa": ("allenai/openbookqa", "main", "test"),
    "truthfulqa-mc1": ("truthfulqa/truthful_qa", "multiple_choice", "validation"),
    "truthfulqa-mc2": ("truthfulqa/truthful_qa", "multiple_choice", "validation"),
    "yes-no": ("wics/strategy-qa", None, "test"),
}
YES_NO = ("yes", "no")


@dataclass(frozen=True)
class _Question:
    question: str
    options: tuple[str, ...]
    gold: int | None
    group: str = ""
    cluster: str | None = None
    facts: Mapping[str, Any] | None = None


def load(spec: ChoicesSet) -> pl.DataFrame:
    """Items of the set; see `read`."""
    return read(spec).items


def read(spec: ChoicesSet) -> ItemSet:
    """Items of the set.

    `group` is the column `group`, HellaSwag's activity, or what a tale's options differ in; `cluster` the column
    `cluster`, or HellaSwag's video. `facts` is empty, but for `labels` of several right options (`truthfulqa-mc2`).

    Raises:
        SteerworksError: a row is no question with options, or the place cannot be read; names row and place.
    """
    if spec.origin == "shipped" and spec.shipped == "tales-facts":
        items, source = tales_facts(spec.n, spec.seed, spec.template or BARE), SHIPPED
        return build("choices", items, source, spec, chat=spec.chat, shots=spec.shots, seed=spec.seed)
    hub, config, split = HUBS.get(spec.layout, ("", None, None))
    known = spec.dataset == hub
    records, source = read_place(
        spec.path,
        spec.dataset,
        "plain_facts.json",
        config=spec.config or (config if known else None),
        split=spec.split or (split if known else None),
        revision=spec.revision,
    )
    layout = "table" if spec.origin == "shipped" else spec.layout
    template = spec.template or TEMPLATES.get(layout, ASKED)
    items = [_item(record, _LAYOUTS[layout](record, spec), template) for record in records]
    return build("choices", items, source, spec, chat=spec.chat, shots=spec.shots, seed=spec.seed)


def _item(record: Record, found: _Question, template: str) -> Item:
    if len(found.options) < 2 or any(not isinstance(o, str) or not o.strip() for o in found.options):
        raise record.error(f"options {list(found.options)}: two or more texts are needed, none of them blank")
    if len(set(found.options)) < len(found.options):
        raise record.error(f"options {list(found.options)}: one stands twice, so that they tie by construction")
    if found.gold is not None and not 0 <= found.gold < len(found.options):
        raise record.error(f"the right option is number {found.gold} (0-based) of {len(found.options)}")
    return Item(
        row=record.row,
        raw=template.replace("{question}", found.question),
        asked=found.question,
        options=found.options,
        gold=found.gold,
        cluster=found.cluster,
        group=found.group,
        facts=dict(found.facts or {}),
    )


def _table(record: Record, spec: ChoicesSet) -> _Question:
    options = _options(record)
    return _Question(
        record.text("question"),
        options,
        _answer(record, options, spec.answer),
        record.label("group") or "",
        record.label("cluster"),
    )


def _options(record: Record) -> tuple[str, ...]:
    listed = record.get("options") if record.get("options") is not None else record.get("choices")
    if listed is None:
        letters = [letter for letter in ascii_uppercase if record.label(letter) is not None]
        if letters != list(ascii_uppercase[: len(letters)]) or not letters:
            raise record.error(f"no options or choices, and columns {letters}: A, B ... without a gap")
        return tuple(str(record.get(letter)) for letter in letters)
    if isinstance(listed, str):
        try:
            listed = json.loads(listed)
        except json.JSONDecodeError as error:
            raise record.error(f"options {listed[:60]!r} are no JSON list; or use columns A, B ...") from error
    if not isinstance(listed, list) or not all(isinstance(o, str | int | float) for o in listed):
        raise record.error(f"options {str(listed)[:60]} are no list of texts")
    return tuple(map(str, listed))


def _answer(record: Record, options: tuple[str, ...], how: str) -> int:
    """Place of the right option by its index, letter or text."""
    given = record.need("answer")
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise record.error(f"answer {given!r} is no index, letter or text")
    text = str(given).strip()
    readings = {
        "index": int(text) if text.isdecimal() else None,
        "letter": ascii_uppercase.index(text) if len(text) == 1 and text in ascii_uppercase else None,
        "text": options.index(text) if text in options else None,
    }
    if how != "auto":
        found = {place for place in (readings[how],) if place is not None}
    elif isinstance(given, int):
        found = {given}
    else:
        found = {place for place in readings.values() if place is not None and place < len(options)}
    if len(found) > 1:
        raise record.error(f"answer {text!r} may be an index, letter or text of {list(options)}: say which in `answer`")
    if not found:
        raise record.error(f"answer {text!r} is no index (from 0), letter or text of {list(options)}")
    return found.pop()


def _hellaswag(record: Record, spec: ChoicesSet) -> _Question:
    label = record.label("label")
    if label is not None and not label.isdecimal():
        raise record.error(f"label {label!r} is no index")
    return _Question(
        record.text("ctx"),
        _texts(record, "endings", record.need("endings")),
        # the published test split has none
        None if label is None else int(label),
        record.label("activity_label") or "",
        record.label("source_id"),
    )


def _openbookqa(record: Record, spec: ChoicesSet) -> _Question:
    stem, choices = record.get("question_stem"), record.get("choices")
    # the released files hold both inside `question`
    if stem is None and isinstance(inner := record.get("question"), dict):
        stem, choices = inner.get("stem"), inner.get("choices")
    if isinstance(choices, list):
        choices = {key: [c.get(key) for c in choices if isinstance(c, dict)] for key in ("text", "label")}
    if not isinstance(stem, str) or not stem.strip() or not isinstance(choices, dict):
        raise record.error("no question_stem with choices {text, label}, as the published rows have")
    texts, labels = (_texts(record, f"choices.{key}", choices.get(key)) for key in ("text", "label"))
    key = record.text("answerKey").strip()
    if key not in labels or len(labels) != len(texts):
        raise record.error(
            f"answerKey {key!r} is none of the labels {list(labels)}, or texts and labels differ in number"
        )
    return _Question(stem, texts, labels.index(key))


def _truthfulqa(record: Record, spec: ChoicesSet) -> _Question:
    several = spec.layout == "truthfulqa-mc2"
    targets = record.need("mc2_targets" if several else "mc1_targets")
    if not isinstance(targets, dict):
        raise record.error("targets must be {choices, labels}, or an object of answer -> 0 or 1")
    # the released file holds answer -> label
    if set(targets) != {"choices", "labels"}:
        targets = {"choices": list(targets), "labels": list(targets.values())}
    choices, labels = _texts(record, "choices", targets["choices"]), targets["labels"]
    if (
        not isinstance(labels, list)
        or len(labels) != len(choices)
        or any(v not in (0, 1) for v in labels)
        or 1 not in labels
    ):
        raise record.error(f"labels {str(labels)[:60]} of {len(choices)} choices: 0 or 1 each, at least one 1")
    if not several and sum(labels) != 1:
        raise record.error(f"{sum(labels)} choices are labelled right; mc1 has exactly one")
    facts = {"labels": [int(label) for label in labels]} if several else None
    group = record.label("category") or ""
    return _Question(record.text("question"), choices, labels.index(1), group, None, facts)


def _yes_no(record: Record, spec: ChoicesSet) -> _Question:
    given = record.need("answer")
    said = str(given).strip().lower()
    gold = 0 if said in ("yes", "true", "1") else 1 if said in ("no", "false", "0") else None
    if gold is None:
        raise record.error(f"answer {given!r} is neither yes nor no, true nor false")
    return _Question(record.text("question"), YES_NO, gold, record.label("group") or "", record.label("cluster"))


def _texts(record: Record, name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise record.error(f"{name} is {str(value)[:60]}: it must be a list of texts")
    return tuple(value)


_LAYOUTS: Mapping[str, Callable[[Record, ChoicesSet], _Question]] = {
    "table": _table,
    "hellaswag": _hellaswag,
    "openbookqa": _openbookqa,
    "truthfulqa-mc1": _truthfulqa,
    "truthfulqa-mc2": _truthfulqa,
    "yes-no": _yes_no,
}
