"""Trials of a search: what was tried, what it came to on the items that are chosen by, and what it cost."""

from __future__ import annotations

from schemas.contract import Contract, column


class Trials(Contract, table="trials", key=("study", "number")):
    """A trial of a study, as it ended: the journal that a search goes on from, whatever ended the run."""

    study: str = column(description="Digest of space, objectives, sampler, seed and what is measured")
    number: int = column(ge=0, description="0-based, in the order in which they were proposed")
    params: str = column(description="What was tried, as JSON: parameter -> value")
    state: str = column(
        isin=["complete", "pruned", "failed"],
        description="`pruned`: ended early, hopeless; `failed`: it could not be run",
    )
    values: str = column(
        description="What it came to, as JSON: objective -> mean over the items seen; {} where it failed"
    )
    reports: str = column(description="Means after each stretch of items, as JSON: items seen -> first objective")
    items: int = column(ge=0, description="Items that it was measured on")
    answers: int = column(ge=0, description="Answers that were asked for: what it cost")
    note: str = column(description="Why it failed; may be empty")


class SearchResults(Contract, table="search_results", key=("behavior", "name")):
    """A setting that a search chose, or that stands on its front, told on items that chose nothing."""

    behavior: str = column(description="Behavior")
    name: str = column(description="BEHAVIOR:NUMBER, by which it is loaded; of the control BEHAVIOR:random:NUMBER")
    study: str = column(description="Study, in `trials`")
    number: int = column(ge=0, description="Trial, in `trials`")
    role: str = column(
        isin=["chosen", "front", "random", "none"],
        description="`chosen`: best on the first objective; `front`: none beats it on all; `random`: what chance "
        "chose; `none`: no trial was complete, and `label` says why",
    )
    label: str = column(description="The setting in words")
    part: str = column(description="Settings of a vector part that is this setting, as JSON; `{}` where it is not one")
    objective: str = column(description="The first objective")
    validation: float = column(nullable=True, description="Its mean where the setting was chosen: too good")
    test: float = column(nullable=True, description="Its mean on test items")
    low: float = column(nullable=True, description="Lower end of its 95 % interval, by item")
    high: float = column(nullable=True, description="Upper end")
    effect: float = column(nullable=True, description="Paired difference to the model as it is, on test items")
    effect_low: float = column(nullable=True, description="Lower end of its 95 % interval")
    effect_high: float = column(nullable=True, description="Upper end")
    p_random: float = column(
        nullable=True, ge=0.0, le=1.0, description="Rank of the effect among random directions of its size"
    )
    n_random: int = column(ge=0, description="How many of those")
    over_random: float = column(
        nullable=True, description="Test mean less that of the setting that chance chose, paired; null without it"
    )
    over_random_low: float = column(nullable=True, description="Lower end of its 95 % interval")
    over_random_high: float = column(nullable=True, description="Upper end")
    missing: float = column(
        ge=0.0, le=1.0, description="Share of test answers without a verdict, which count as the worst"
    )
    others: str = column(description="Further objectives on test items, as JSON: measure -> mean")
    n: int = column(ge=0, description="Test items with a value")
    trials: int = column(ge=0, description="Trials of the study")
    answers: int = column(ge=0, description="Answers that the study asked for")
