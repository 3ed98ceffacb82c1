"""Contrast and preference data: what vectors are fitted on, and what behaviors are measured on."""

from __future__ import annotations

from schemas.contract import Contract, column

SPLITS = ["train", "validation", "test"]


class ContrastExamples(Contract, table="contrast_examples", key=("example_id",)):
    """One side of a contrast: a prompt with an answer that shows a concept or its opposite.

    The two sides of a pair share `pair_id` and differ in `label`; unpaired examples have a `pair_id` of their own.
    """

    example_id: str = column(unique=True, description="Hash of concept, pair, label and texts")
    concept: str = column(description="Behavior or goal that is contrasted")
    kind: str = column(
        description="Form of the data: `ab`, `open`, `caa`, `prompts`, `bipo`, `grammar`, `asked`, `corpus` ..."
    )
    split: str = column(isin=SPLITS, description="What the example may be used for")
    pair_id: str = column(description="Pair; both sides share it")
    label: int = column(isin=[0, 1], description="1: shows the concept; 0: shows its opposite")
    messages: str = column(description="Turns before the answer, as JSON: [{role, content}, ...]")
    answer: str = column(description="The assistant's words; empty where the prompt alone is read")
    letter: str = column(nullable=True, description="Answer letter of an A/B item")
    source: str = column(description="File or generator that it came from")
    row: int = column(ge=0, description="0-based row of the source")


class ContrastSources(Contract, table="contrast_sources", key=("goal", "source")):
    """Where the contrast pairs of a goal come from: every source that was looked at, in order, and the one used.

    A goal without a used source has no pairs and gets no vector.
    """

    goal: str = column(description="Goal")
    place: int = column(ge=0, description="0-based place in the order of the sources")
    source: str = column(description="`asked`: one text under opposite requests; `corpus`: matched texts; `mined`")
    pairs: int = column(ge=0, description="Pairs that it gives")
    candidates: int = column(ge=0, description="Pairs that served, before each text was used once")
    gap: float = column(nullable=True, description="Mean gap of the pairs on the goal, in z")
    used: bool = column(description="Whether the goal's vector is fitted on these pairs")
    note: str = column(description="What there was to choose from")


class PreferencePairs(Contract, table="preference_pairs", key=("pair_id",)):
    """A prompt with the answer that shows a concept and the one that does not: what BiPO and RePS train on."""

    pair_id: str = column(unique=True, description="Hash of concept, prompt and answers")
    concept: str = column(description="Behavior or goal")
    split: str = column(isin=SPLITS, description="What the pair may be used for")
    messages: str = column(description="Turns before the answer, as JSON: [{role, content}, ...]")
    chosen: str = column(description="Answer that shows the concept")
    rejected: str = column(description="Answer that does not")
    source: str = column(description="File or generator that it came from")
    row: int = column(ge=0, description="0-based row of the source")


class BehaviorItems(Contract, table="behavior_items", key=("item_id",)):
    """A test item of a behavior: something to answer, or two answers to choose between."""

    item_id: str = column(unique=True, description="Hash of behavior, form, prompt and answers")
    behavior: str = column(description="Behavior")
    form: str = column(
        isin=["open", "ab", "pair"],
        description="`open`: written and judged; `ab`: letters scored; `pair`: two full answers scored",
    )
    group: str = column(description="Set of items that is reported apart: `main`, `harmful`, `harmless`, `neutral` ...")
    messages: str = column(description="Turns before the answer, as JSON: [{role, content}, ...]")
    positive: str = column(nullable=True, description="Answer that shows the behavior (a letter for `ab`)")
    negative: str = column(nullable=True, description="Answer that does not (a letter for `ab`)")
    source: str = column(description="File or generator that it came from")
    row: int = column(ge=0, description="0-based row of the source")


class DataIntegrity(Contract, table="data_integrity", key=("concept", "source", "check")):
    """What was found wrong, or checked and found right, in contrast data: reported, never repaired in silence."""

    concept: str = column(description="Behavior or goal")
    source: str = column(description="File or generator")
    check: str = column(description="`letter_balance`, `cut_letters`, `duplicates`, `train_test_overlap` ...")
    n: int = column(ge=0, description="Rows concerned")
    of: int = column(ge=0, description="Rows looked at")
    passed: bool = column(description="False: worth a look before a vector is fitted on it")
    detail: str = column(description="What it means, with the first rows concerned")
