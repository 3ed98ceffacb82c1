"""What importers hand over, and the tables that it becomes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import polars as pl

from schemas.contrasts import BehaviorItems, ContrastExamples, DataIntegrity, PreferencePairs
from schemas.digest import canonical_json, digest_json, digest_text

#: What parts a question from its lettered options.
CHOICES = re.compile(r"\n\s*Choices:[ \t]*\n")


@dataclass(frozen=True)
class Contrasts:
    """Contrast data of one behavior.

    Attributes:
        examples: rows of `contrast_examples`.
        preferences: rows of `preference_pairs`; none for data without answers.
        items: rows of `behavior_items`.
        integrity: rows of `data_integrity`.
    """

    examples: pl.DataFrame
    preferences: pl.DataFrame
    items: pl.DataFrame
    integrity: pl.DataFrame


@dataclass(frozen=True)
class Pair:
    """A user's turn with two answers.

    Attributes:
        prompt: the user's words.
        positive: answer that shows the concept.
        negative: answer that shows its opposite.
        source: label of the file or generator.
        row: 0-based row of the source.
        split: `train`, `validation` or `test`.
        letters: letters of the two answers of an A/B item, positive first.
    """

    prompt: str
    positive: str
    negative: str
    source: str
    row: int
    split: str = "train"
    letters: tuple[str, str] | None = None


@dataclass(frozen=True)
class Prompt:
    """A user's turn that is an example by itself: it is read at its end, without an answer.

    Attributes:
        prompt: the user's words.
        label: 1 shows the concept, 0 its opposite.
        source: label of the file.
        row: 0-based row of the source.
    """

    prompt: str
    label: int
    source: str
    row: int


@dataclass(frozen=True)
class Item:
    """A test item.

    Attributes:
        form: `open`, `ab` or `pair`.
        prompt: the user's words.
        source: label of the file or generator.
        row: 0-based row of the source.
        positive, negative: the two answers; for `ab` the letters as the model writes them, in brackets: `(A)`. For
            `open` an example of each, for judges, where the source has them.
        group: set of items that is reported apart.
    """

    form: str
    prompt: str
    source: str
    row: int
    positive: str | None = None
    negative: str | None = None
    group: str = "main"


@dataclass(frozen=True)
class Finding:
    """One check of one source, see `schemas.contrasts.DataIntegrity`."""

    source: str
    check: str
    n: int
    of: int
    passed: bool
    detail: str


@dataclass(frozen=True)
class Imported:
    """What an importer hands over.

    Attributes:
        kind: form of the data, see `ContrastExamples.kind`.
        pairs: pairs in the order of the source.
        prompts: examples without answers.
        items: test items.
        findings: integrity checks.
        preference_validation: share of the pairs that only `preference_pairs` marks as validation, by hash of the
            prompt; for sources whose examples are all for fitting.
        seed: seed of that hash.
    """

    kind: str
    pairs: Sequence[Pair] = ()
    prompts: Sequence[Prompt] = ()
    items: Sequence[Item] = ()
    findings: Sequence[Finding] = ()
    preference_validation: float = 0.0
    seed: int = 0


@dataclass
class _Ids:
    """Content hashes; the second occurrence of equal content gets an id of its own, so that duplicates stay rows."""

    seen: Counter[str] = field(default_factory=Counter)

    def __call__(self, *content: object) -> str:
        key = digest_json(list(content))
        self.seen[key] += 1
        return key if self.seen[key] == 1 else digest_json([*content, self.seen[key] - 1])


def tabulate(concept: str, imported: Imported) -> Contrasts:
    """The tables of what an importer found; nothing is dropped or repaired here."""
    examples, preferences = [], []
    pair_id = _Ids()
    for pair in imported.pairs:
        key = pair_id(concept, pair.prompt, pair.positive, pair.negative)
        for label in (1, 0):
            answer = pair.positive if label else pair.negative
            examples.append(
                {
                    "example_id": digest_json([key, label]),
                    "concept": concept,
                    "kind": imported.kind,
                    "split": pair.split,
                    "pair_id": key,
                    "label": label,
                    "messages": user_turn(pair.prompt),
                    "answer": answer,
                    "letter": None if pair.letters is None else pair.letters[1 - label],
                    "source": pair.source,
                    "row": pair.row,
                }
            )
        split = pair.split
        if imported.preference_validation and held_out(pair.prompt, imported.preference_validation, imported.seed):
            split = "validation"
        preferences.append(
            {
                "pair_id": key,
                "concept": concept,
                "split": split,
                "messages": user_turn(pair.prompt),
                "chosen": pair.positive,
                "rejected": pair.negative,
                "source": pair.source,
                "row": pair.row,
            }
        )
    for one in imported.prompts:
        key = pair_id(concept, one.prompt, one.label)
        examples.append(
            {
                "example_id": digest_json([key, one.label]),
                "concept": concept,
                "kind": imported.kind,
                "split": "train",
                "pair_id": key,
                "label": one.label,
                "messages": user_turn(one.prompt),
                "answer": "",
                "letter": None,
                "source": one.source,
                "row": one.row,
            }
        )
    return Contrasts(
        examples=pl.DataFrame(examples, schema=ContrastExamples.empty().schema, orient="row"),
        preferences=pl.DataFrame(preferences, schema=PreferencePairs.empty().schema, orient="row"),
        items=_items(concept, imported.items),
        integrity=pl.DataFrame(
            [{"concept": concept, **vars(f)} for f in imported.findings],
            schema=DataIntegrity.empty().schema,
            orient="row",
        ),
    )


def _items(behavior: str, items: Iterable[Item]) -> pl.DataFrame:
    item_id = _Ids()
    rows = [
        {
            "item_id": item_id(behavior, i.form, i.group, i.prompt, i.positive, i.negative),
            "behavior": behavior,
            "form": i.form,
            "group": i.group,
            "messages": user_turn(i.prompt),
            "positive": i.positive,
            "negative": i.negative,
            "source": i.source,
            "row": i.row,
        }
        for i in items
    ]
    return pl.DataFrame(rows, schema=BehaviorItems.empty().schema, orient="row")


def user_turn(prompt: str) -> str:
    """A conversation of one user turn, as the JSON of the `messages` columns."""
    return canonical_json([{"role": "user", "content": prompt}])


def held_out(prompt: str, share: float, seed: int) -> bool:
    """Whether a prompt falls into the held-out share, by hash of its question without options.

    Rows of equal questions stay together, and a new row moves no other to the other side.
    """
    return int(digest_text(f"held out:{seed}:{stem(prompt)}")[:12], 16) / 16**12 < share


def stem(prompt: str) -> str:
    """A question without its lettered options; a prompt without options as it stands."""
    found = CHOICES.search(prompt)
    return prompt if found is None else prompt[: found.start()]
