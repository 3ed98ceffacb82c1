"""Items in the words of the embedded model's grammar, drawn by seed about scenarios that it never saw in training.

`tales-facts`: three sentences of a tale, and four that may follow. All four tell the same kind of fact; one is as the
tale is, the others differ in what they are about (`topic`), or in one attribute (`sentiment`, `formality`,
`difficulty`). Each option reads back as it was drawn (`grammar.read`), so that the truth is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from steer_core.evaluation.profiles.sets.items import Item
from steer_core.models.embedded.examples import CONTINUE, OPEN
from steer_core.models.embedded.grammar import LEVELS, Attributes, Scenario, draw_attributes, draw_scenario, tell
from steer_core.tables.errors import SteerworksError

#: What the options of a tale differ in.
DIFFERENCES = ("topic", "sentiment", "formality", "difficulty")
OPTIONS = 4
#: Sentences before the options.
TOLD = 3
#: Draws in a row that give nothing new before it is said that there is nothing.
TRIES = 1000


def tales_facts(n: int, seed: int, template: str) -> list[Item]:
    """Tales with four endings, one of which keeps to the tale.

    `group` says what the others differ in, each of `DIFFERENCES` in turn, and the right place goes round.

    Args:
        n: items.
        seed: the same seed gives the same items.
        template: raw prompt, with `{question}` for the tale.
    """
    rng = np.random.default_rng(seed)
    return [_tale(row, DIFFERENCES[row % len(DIFFERENCES)], rng, template) for row in range(n)]


def _tale(row: int, difference: str, rng: np.random.Generator, template: str) -> Item:
    scenario = draw_scenario(rng, "heldout")
    # topics share the times of day
    while difference == "topic" and scenario.aspects[TOLD] == "time":
        scenario = draw_scenario(rng, "heldout")
    attributes = replace(draw_attributes(rng), sentences=TOLD)
    if difference != "topic":
        attributes = replace(attributes, **{difference: int(rng.choice((LEVELS[0], LEVELS[-1])))})
    told = tell(scenario, attributes, rng).text
    right = _sentence(scenario, scenario, attributes, rng)
    if difference == "topic":
        wrong = [_sentence(other, scenario, attributes, rng) for other in _elsewhere(scenario, rng)]
    else:
        level = getattr(attributes, difference)
        # the far side, and the middle
        others = [other for other in LEVELS if other * level <= 0]
        wrong = [_sentence(scenario, scenario, replace(attributes, **{difference: v}), rng) for v in others]
    place = row // len(DIFFERENCES) % OPTIONS
    return Item(
        row=row,
        raw=template.replace("{question}", told),
        asked=f"{CONTINUE[row % len(CONTINUE)]}\n\n{told}",
        options=(*wrong[:place], right, *wrong[place:]),
        gold=place,
        group=difference,
        notes={"topic": scenario.topic},
    )


def _elsewhere(scenario: Scenario, rng: np.random.Generator) -> list[Scenario]:
    """Scenarios of other topics, each of another."""
    found: dict[str, Scenario] = {}
    while len(found) < OPTIONS - 1:
        other = draw_scenario(rng, "heldout")
        if other.topic != scenario.topic:
            found.setdefault(other.topic, other)
    return list(found.values())


def _sentence(told: Scenario, like: Scenario, attributes: Attributes, rng: np.random.Generator) -> str:
    """One sentence of a scenario, on the fact that comes next in the tale."""
    content = replace(told, aspects=(like.aspects[TOLD],))
    return tell(content, replace(attributes, sentences=1), rng).text


def tales_prompts(n: int, seed: int, kept: Callable[[str], bool] = lambda prompt: True) -> list[Item]:
    """Open prompts as the embedded model was trained on, about scenarios that it was not; none comes twice.

    `group` is the topic.

    Args:
        n: items.
        seed: the same seed gives the same items.
        kept: which prompts may be drawn.

    Raises:
        SteerworksError: there are not as many.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, str] = {}
    tries = 0
    while len(found) < n:
        scenario = draw_scenario(rng, "heldout")
        wording = OPEN[rng.integers(len(OPEN))]
        prompt = wording.format(agent=scenario.agent, object=scenario.object, topic=scenario.topic)
        new = prompt not in found and kept(prompt)
        tries = 0 if new else tries + 1
        if tries > TRIES:
            raise SteerworksError(
                f"{n} `tales-prompts` were asked for, and hardly more than {len(found)} differ: lower `n`"
            )
        if new:
            found[prompt] = scenario.topic
    return [Item(row=i, raw=prompt, group=topic) for i, (prompt, topic) in enumerate(found.items())]
