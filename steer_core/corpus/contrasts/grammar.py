"""Behaviors of the embedded model's grammar: an attribute at one level against another, so that the truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from schemas.specs import GrammarBehavior
from steer_core.corpus.contrasts.integrity import check_overlap, check_pairs, check_validation
from steer_core.corpus.contrasts.records import Imported, Item, Pair
from steer_core.models.embedded.examples import OPEN
from steer_core.models.embedded.grammar import (
    LEVELS,
    MAX_SENTENCES,
    Attributes,
    Scenario,
    Split,
    draw_attributes,
    draw_scenario,
    tell,
)
from steer_core.tables.errors import ConfigError

#: Bumped when the same settings give other texts.
VERSION = "1"
#: Answers have up to this many sentences, unless their number is the attribute.
SHORT = 3
#: Prompts that name the scenario; those that name its topic alone would repeat too soon.
PROMPTS = tuple(p for p in OPEN if "{topic}" not in p)


def import_grammar(source: GrammarBehavior) -> Imported:
    """Pairs, validation pairs and test items, all drawn from the grammar.

    Both answers of a pair tell the same scenario with the attribute at its two levels; the other attributes are equal
    and drawn at random. Prompts leave the attribute free and never repeat, and those of test items are about held-out
    scenarios. Items: `open` and `pair` in group `main`; in group `neutral`, pairs whose answers are alike in every
    attribute while only the positive one is about what was asked: what steering should leave alone.

    Raises:
        ConfigError: the levels do not exist, or are the same.
    """
    check_levels(source)
    label = f"grammar:{source.attribute}"
    draw = _Draw(source)
    pairs = [draw.pair("train", "train", i, label) for i in range(source.n_pairs)]
    pairs += [draw.pair("train", "validation", source.n_pairs + i, label) for i in range(source.n_validation)]
    opened = [Item("open", prompt, label, i) for i, (prompt, _) in enumerate(draw.asked("heldout", source.n_items))]
    tested = [draw.pair("heldout", "test", source.n_items + i, label) for i in range(source.n_items)]
    start = 2 * source.n_items
    items = [
        *opened,
        *(Item("pair", p.prompt, label, p.row, p.positive, p.negative) for p in tested),
        *(draw.neutral(start + i, label) for i in range(source.n_items)),
    ]
    findings = [
        *check_pairs(label, pairs),
        check_validation(label, source.n_validation, len(pairs)),
        check_overlap(label, items, [p.prompt for p in pairs]),
    ]
    return Imported("grammar", pairs, items=items, findings=findings, seed=source.seed)


class _Draw:
    """Draws prompts and texts of one behavior; remembers the prompts, so that none comes twice."""

    def __init__(self, source: GrammarBehavior) -> None:
        self.source = source
        self.rng = np.random.default_rng(source.seed)
        self.used: set[str] = set()

    def asked(self, side: Split, n: int) -> Iterator[tuple[str, Scenario]]:
        """New prompts with their scenarios."""
        tries = 0
        while n:
            scenario = draw_scenario(self.rng, side)
            wording = PROMPTS[self.rng.integers(len(PROMPTS))]
            prompt = wording.format(agent=scenario.agent, object=scenario.object)
            if prompt in self.used:
                tries += 1
                if tries > 10_000:
                    raise ConfigError(
                        f"the grammar has too few {side} prompts for this behavior ({len(self.used)} drawn): lower "
                        "n_pairs, n_validation or n_items"
                    )
                continue
            self.used.add(prompt)
            n, tries = n - 1, 0
            yield prompt, scenario

    def pair(self, side: Split, split: str, row: int, label: str) -> Pair:
        """A prompt with the same facts told at both levels."""
        prompt, scenario = next(self.asked(side, 1))
        shared = self._attributes()
        positive, negative = (
            tell(scenario, replace(shared, **{self.source.attribute: level}), self.rng).text
            for level in (self.source.positive, self.source.negative)
        )
        return Pair(prompt, positive, negative, label, row, split)

    def neutral(self, row: int, label: str) -> Item:
        """A prompt with an answer about it, and one of equal attributes about something else."""
        prompt, scenario = next(self.asked("heldout", 1))
        shared = self._attributes()
        other = draw_scenario(self.rng, "heldout")
        while other.agent == scenario.agent or other.object == scenario.object:
            other = draw_scenario(self.rng, "heldout")
        right, wrong = (tell(s, shared, self.rng).text for s in (scenario, other))
        return Item("pair", prompt, label, row, right, wrong, "neutral")

    def _attributes(self) -> Attributes:
        return replace(draw_attributes(self.rng), sentences=int(self.rng.integers(1, SHORT + 1)))


def check_levels(source: GrammarBehavior) -> None:
    """Refuse levels that the grammar does not have.

    Raises:
        ConfigError: a level does not exist, or both are the same.
    """
    levels = tuple(range(1, MAX_SENTENCES + 1)) if source.attribute == "sentences" else LEVELS
    for side in ("positive", "negative"):
        if getattr(source, side) not in levels:
            raise ConfigError(
                f"behavior of attribute {source.attribute!r}: {side} level {getattr(source, side)} does not exist; "
                f"levels are {levels[0]} to {levels[-1]}"
            )
    if source.positive == source.negative:
        raise ConfigError(
            f"behavior of attribute {source.attribute!r}: both sides have level {source.positive}, so nothing is "
            "contrasted"
        )
