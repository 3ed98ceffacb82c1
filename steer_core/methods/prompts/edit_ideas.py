"""Edit ideas: what a model said it would change, goal by goal, in its answers to the training pool. Not a strategy."""

from __future__ import annotations

import re
from collections import Counter

from steer_core.methods.cleaning import strip_thinking
from steer_core.methods.prompts.chain_of_thought import EDITS, REWRITTEN
from steer_core.methods.protocol import Artifact, FitResponse, Item, Request
from steer_core.methods.wording import row_rng

_SECTION = re.compile(rf"^[ \t#*_]*{EDITS}[ \t*_]*:(?P<body>.*?)^[ \t#*_]*{REWRITTEN}[ \t*_]*:", re.I | re.M | re.S)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+(?P<idea>\S.*?)\s*$", re.M)
#: Longest idea kept, in characters: a longer one quotes the text it was made for.
LONGEST = 160


def parse_edits(raw: str) -> list[str]:
    """The listed edits of an answer; empty where it has none."""
    section = _SECTION.search(strip_thinking(raw))
    found = _BULLET.findall(section["body"]) if section else []
    return [idea for idea in found if len(idea) <= LONGEST]


def fit_edit_ideas(responses: tuple[FitResponse, ...], per_goal: int = 50) -> Artifact:
    """Ideas by goal and direction, the most frequent first (ties by spelling).

    An idea counts for every goal that its request asked to move: with one active goal a request that is exact.
    """
    counts: dict[tuple[str, int], Counter[str]] = {}
    for response in responses:
        ideas = parse_edits(response.raw)
        for target in response.request.active:
            if target.delta:
                key = (target.goal, 1 if target.delta > 0 else -1)
                counts.setdefault(key, Counter()).update(ideas)
    items = []
    for (goal, direction), counter in sorted(counts.items()):
        ordered = sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))[:per_goal]
        items += [Item("edit_idea", {"idea": idea, "count": n}, goal, direction) for idea, n in ordered]
    return Artifact(tuple(items))


def draw_ideas(request: Request, artifact: Artifact, n: int, seed: int) -> list[str]:
    """`n` ideas for what a request asks, drawn in proportion to how often they were had; fewer if there are fewer."""
    weights: Counter[str] = Counter()
    for target in request.active:
        direction = (target.delta > 0) - (target.delta < 0)
        for item in artifact.items:
            if item.kind == "edit_idea" and (item.goal, item.direction) == (target.goal, direction):
                weights[item.body["idea"]] += item.body["count"]
    if not weights:
        return []
    ideas = sorted(weights)
    mass = [weights[i] / weights.total() for i in ideas]
    rng = row_rng(seed, request, "edit ideas")
    return [ideas[i] for i in rng.choice(len(ideas), min(n, len(ideas)), replace=False, p=mass)]
