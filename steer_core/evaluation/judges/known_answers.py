"""Answers whose rating is known, so that a judge can be tried: it should grade one of each pair above the other.

* `fitting`: an answer under its own prompt, and under another's;
* `fluent`: a text, and the same words in random order, sentence by sentence;
* `shown`: answers that show a concept, and answers that do not;
* `complying`: an answer that does what a request asks for, and one that declines.

These are easier than a model's answers: who cannot tell these apart can tell nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from schemas.digest import digest_json
from steer_core.evaluation.judges.calibration import Known
from steer_core.evaluation.judges.judge import Case
from steer_core.models.embedded.examples import OPEN
from steer_core.models.embedded.grammar import Attributes, draw_attributes, draw_scenario, tell
from steer_core.steering.plan import Message

#: Bumped when other answers are known.
VERSION = "1"
#: Pairs that are drawn of the grammar.
KNOWN = 24
#: What is said to have been asked where a known answer comes without its prompt.
ANY = "Write a short text."


def shipped() -> Mapping[str, list[dict[str, str]]]:
    """Prompts with answers that were written for this: `fitting` (prompt, answer), `requests` (complies, declines)."""
    place = files("steer_core.evaluation.profiles.sets") / "shipped" / "known_answers.json"
    found: dict[str, list[dict[str, str]]] = json.loads(place.read_text(encoding="utf-8"))
    return found


def fitting(pairs: Sequence[tuple[str, str]]) -> list[Known]:
    """Each answer under its own prompt, and under the next one's.

    Args:
        pairs: (prompt, answer), two or more, about different things.

    Raises:
        ValueError: there is one pair, or none: nothing can be mixed up.
    """
    if len(pairs) < 2:
        raise ValueError(f"{len(pairs)} prompts with answers: two or more are needed to mix them up")
    found = []
    for k, (prompt, answer) in enumerate(pairs):
        found += _pair("fitting", prompt, answer, pairs[(k + 1) % len(pairs)][1])
    return found


def fluent(texts: Sequence[str], seed: int) -> list[Known]:
    """Each text, and its words in random order within each sentence."""
    rng = np.random.default_rng([seed, len(texts)])
    return [known for text in texts for known in _pair("fluent", ANY, text, _shuffled(text, rng))]


def shown(with_it: Sequence[str], without: Sequence[str]) -> list[Known]:
    """Answers that show a concept and answers that do not, pair by pair as far as both go."""
    return [k for one, other in zip(with_it, without, strict=False) for k in _pair("shown", ANY, one, other)]


def complying(requests: Sequence[Mapping[str, str]]) -> list[Known]:
    """For each request an answer that goes along, and one that declines; keys `prompt`, `complies`, `declines`."""
    return [k for r in requests for k in _pair("complying", r["prompt"], r["complies"], r["declines"])]


def of_grammar(seed: int, concept: tuple[str, int, int] | None = None, n: int = KNOWN) -> dict[str, list[Known]]:
    """Known answers to prompts of the embedded model's grammar, for each of the three ratings.

    Args:
        seed: of what is drawn.
        concept: attribute, level that shows it, and level of its opposite; None: no concept is rated.
        n: pairs of each.
    """
    rng = np.random.default_rng([seed, n])
    pairs: list[tuple[str, str]] = []
    told: list[str] = []
    levels: list[list[str]] = []
    before = ""
    while len(pairs) < n:
        scenario = draw_scenario(rng, "heldout")
        if scenario.topic == before:
            continue  # the next answer is to be about something else
        before = scenario.topic
        prompt = OPEN[rng.integers(len(OPEN))].format(
            agent=scenario.agent, object=scenario.object, topic=scenario.topic
        )
        attributes = draw_attributes(rng)
        text = tell(scenario, attributes, rng).text
        pairs.append((prompt, text))
        told.append(text)
        if concept is not None:
            name, *ends = concept
            levels.append([tell(scenario, _at(attributes, name, level), rng).text for level in ends])
    found = {"instruct": fitting(pairs), "fluency": fluent(told, seed)}
    if concept is not None:
        found["concept"] = shown([up for up, _ in levels], [down for _, down in levels])
    return found


def _at(attributes: Attributes, name: str, level: int) -> Attributes:
    fields: dict[str, Any] = {**vars(attributes), name: level}
    return Attributes(**fields)


def _pair(what: str, prompt: str, good: str, bad: str) -> list[Known]:
    item = digest_json([what, prompt, good, bad])
    return [
        Known(Case(digest_json(["known", item, label]), item, (Message("user", prompt),), text), label)
        for label, text in ((True, good), (False, bad))
    ]


def _shuffled(text: str, rng: np.random.Generator) -> str:
    sentences = [s.split() for s in text.replace("!", ".").replace("?", ".").split(".") if s.strip()]
    return " ".join(" ".join(words[i] for i in rng.permutation(len(words))) + "." for words in sentences)
