"""Contrast and preference data: what vectors are fitted on, and what behaviors are measured on."""

from __future__ import annotations

import pandera.polars as pa

from schemas.contract import Contract

SPLITS = ["train", "validation", "test"]


class ContrastExamples(Contract, table="contrast_examples", key=("example_id",)):
    """One side of a contrast: a prompt with an answer that shows a concept or its opposite.

    The two sides of a pair share `pair_id` and differ in `label`; unpaired examples have a `pair_id` of their own.
    """

    example_id: str = pa.Field(unique=True, description="Hash of concept, pair, label and texts")
    concept: str = pa.Field(description="Behavior or goal that is contrasted")
    kind: str = pa.Field(
        description="Form of the data: `ab`, `open`, `caa`, `prompts`, `bipo`, `grammar`, `asked`, `corpus` ..."
    )
    split: str = pa.Field(isin=SPLITS, description="What the example may be used for")
    pair_id: str = pa.Field(description="Pair; both sides share it")
    label: int = pa.Field(isin=[0, 1], description="1: shows the concept; 0: shows its opposite")
    messages: str = pa.Field(description="Turns before the answer, as JSON: [{role, content}, ...]")
    answer: str = pa.Field(description="The assistant's words; empty where the prompt alone is read")
    letter: str = pa.Field(nullable=True, description="Answer letter of an A/B item")
    source: str = pa.Field(description="File or generator that it came from")
    row: int = pa.Field(ge=0, description="0-based row of the source")


class ContrastSources(Contract, table="contrast_sources", key=("goal", "source")):
    """Where the contrast pairs of a goal come from: every source that was looked at, in order, and the one used.

    A goal without a used source has no pairs and gets no vector.
    """

    goal: str = pa.Field(description="Goal")
    place: int = pa.Field(ge=0, description="0-based place in the order of the sources")
    source: str = pa.Field(description="`asked`: one text under opposite requests; `corpus`: matched texts; `mined`")
    pairs: int = pa.Field(ge=0, description="Pairs that it gives")
    candidates: int = pa.Field(ge=0, description="Pairs that served, before each text was used once")
    gap: float = pa.Field(nullable=True, description="Mean gap of the pairs on the goal, in z")
    used: bool = pa.Field(description="Whether the goal's vector is fitted on these pairs")
    note: str = pa.Field(description="What there was to choose from")


class PreferencePairs(Contract, table="preference_pairs", key=("pair_id",)):
    """A prompt with the answer that shows a concept and the one that does not: what BiPO and RePS train on."""

    pair_id: str = pa.Field(unique=True, description="Hash of concept, prompt and answers")
    concept: str = pa.Field(description="Behavior or goal")
    split: str = pa.Field(isin=SPLITS, description="What the pair may be used for")
    messages: str = pa.Field(description="Turns before the answer, as JSON: [{role, content}, ...]")
    chosen: str = pa.Field(description="Answer that shows the concept")
    rejected: str = pa.Field(description="Answer that does not")
    source: str = pa.Field(description="File or generator that it came from")
    row: int = pa.Field(ge=0, description="0-based row of the source")


class BehaviorItems(Contract, table="behavior_items", key=("item_id",)):
    """A test item of a behavior: something to answer, or two answers to choose between."""

    item_id: str = pa.Field(unique=True, description="Hash of behavior, form, prompt and answers")
    behavior: str = pa.Field(description="Behavior")
    form: str = pa.Field(
        isin=["open", "ab", "pair"],
        description="`open`: written and judged; `ab`: letters scored; `pair`: two full answers scored",
    )
    group: str = pa.Field(
        description="Set of items that is reported apart: `main`, `harmful`, `harmless`, `neutral` ..."
    )
    messages: str = pa.Field(description="Turns before the answer, as JSON: [{role, content}, ...]")
    positive: str = pa.Field(nullable=True, description="Answer that shows the behavior (a letter for `ab`)")
    negative: str = pa.Field(nullable=True, description="Answer that does not (a letter for `ab`)")
    source: str = pa.Field(description="File or generator that it came from")
    row: int = pa.Field(ge=0, description="0-based row of the source")


class DataIntegrity(Contract, table="data_integrity", key=("concept", "source", "check")):
    """What was found wrong, or checked and found right, in contrast data: reported, never repaired in silence."""

    concept: str = pa.Field(description="Behavior or goal")
    source: str = pa.Field(description="File or generator")
    check: str = pa.Field(description="`letter_balance`, `cut_letters`, `duplicates`, `train_test_overlap` ...")
    n: int = pa.Field(ge=0, description="Rows concerned")
    of: int = pa.Field(ge=0, description="Rows looked at")
    passed: bool = pa.Field(description="False: worth a look before a vector is fitted on it")
    detail: str = pa.Field(description="What it means, with the first rows concerned")
