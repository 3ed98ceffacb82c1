"""What conditioned training is made of: answers under a prompt that asks for the labels they have, and labels to ask.

* Hindsight: whatever an answer was drawn for, it is a perfect example of its own labels.
* Attribute dropout: each label is left out of the prompt with a probability, anew in every epoch, and all of them with
  another one, so that the model also learns to be asked for a few, and for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.steerlm_recipe import SteerlmRecipe
from steer_core.adapters.inheritance.candidates import Drawn
from steer_core.adapters.sft import Row
from steer_core.adapters.steerlm.annotating import Annotated
from steer_core.adapters.steerlm.asking import LabelPrompt
from steer_core.adapters.steerlm.labels import drop_some
from steer_core.steering.plan import Message

#: Messages -> token ids of the prompt.
Encode = Callable[[Sequence[Message]], Sequence[int]]
#: What generators of random numbers are for.
DROPOUT, ORDER, ASKING, SOME = 3, 4, 5, 6
#: Batches whose rows are sorted by length among each other.
SORTED = 8


@dataclass(frozen=True)
class Pair:
    """An answer to learn from.

    Attributes:
        drawn: the answer as the model wrote it, token by token.
        labels: what it is.
    """

    drawn: Drawn
    labels: Mapping[str, int]


@dataclass(frozen=True)
class Layout:
    """How answers are laid out under prompts.

    Attributes:
        prompt: goals and levels.
        sources: request id -> its text.
        encode: tokens of a prompt.
    """

    prompt: LabelPrompt
    sources: Mapping[str, str]
    encode: Encode

    def row(self, drawn: Drawn, labels: Mapping[str, int]) -> Row:
        """An answer under the prompt that asks for labels."""
        return Row(tuple(self.encode(self.prompt.messages(labels, self.sources[drawn.request_id]))), drawn.tokens)

    def fits(self, pair: Pair, room: int | None) -> bool:
        """Whether the context holds a pair with all of its labels."""
        messages = self.prompt.messages(pair.labels, self.sources[pair.drawn.request_id])
        return room is None or len(self.encode(messages)) + len(pair.drawn.tokens) <= room


def pairs_of(annotated: Sequence[Annotated], prompt: LabelPrompt) -> list[Pair | None]:
    """A pair for each answer; None for what is no answer, or of which nothing is known."""
    return [Pair(a.drawn, prompt.labels_of(a.values)) if a.usable else None for a in annotated]


def laid(
    pairs: Sequence[Pair], layout: Layout, recipe: SteerlmRecipe, epochs: int, seed: int
) -> tuple[list[Row], list[int]]:
    """Rows, each pair once an epoch with labels dropped anew, and the order in which steps take them.

    Args:
        pairs: what is learnt.
        layout: rows of prompts and answers.
        recipe: probabilities that a label, or all of them, are left out.
        epochs: times that each pair is learnt.
        seed: of dropout and order.
    """
    rows, places = list[Row](), list[int]()
    for epoch in range(epochs):
        rng = np.random.default_rng([seed, DROPOUT, epoch])
        own = list[Row]()
        for pair in pairs:
            unasked = rng.random() < recipe.unasked
            own.append(layout.row(pair.drawn, {} if unasked else drop_some(pair.labels, recipe.dropout, rng)))
        lengths = [len(r.prompt) + len(r.completion) for r in own]
        order = by_length(lengths, recipe.batch, np.random.default_rng([seed, ORDER, epoch]))
        places += [len(rows) + i for i in order]
        rows += own
    return rows, places


def by_length(lengths: Sequence[int], batch: int, rng: np.random.Generator) -> list[int]:
    """An order in which rows of about one length stand together, so that little of a batch is padding.

    Rows are shuffled, sorted by length within `SORTED` batches, cut into batches, and these are shuffled; what is left
    over stands last.

    Args:
        lengths: tokens of each row.
        batch: rows of a batch.
        rng: of both shuffles.
    """
    order: list[int] = rng.permutation(len(lengths)).tolist()
    whole = len(order) // batch * batch
    cut: list[list[int]] = []
    for start in range(0, whole, batch * SORTED):
        part = sorted(order[start : min(start + batch * SORTED, whole)], key=lambda i: lengths[i])
        cut += [part[k : k + batch] for k in range(0, len(part), batch)]
    return [i for k in rng.permutation(len(cut)) for i in cut[k]] + order[whole:]


def some_of(requests: Sequence[str], share: float, seed: int, phase: int) -> list[str]:
    """A share of the requests, at least one, drawn for a phase; in order."""
    n = max(1, round(share * len(requests)))
    order = np.random.default_rng([seed, SOME, phase]).permutation(len(requests))
    return sorted(requests[int(i)] for i in order[:n])


def asked_of(
    keys: Sequence[tuple[str, int]],
    recipe: SteerlmRecipe,
    phase: int,
    seen: Sequence[Mapping[str, int]],
    requested: Mapping[str, Mapping[str, int]],
    prompt: LabelPrompt,
) -> dict[tuple[str, int], dict[str, int]]:
    """Labels to ask for; some are dropped, as in training, unless they are those of the requests.

    Args:
        keys: (request, which of its answers); answers of an iteration share labels, so that their key is asked once.
        recipe: what is asked (`ask`, `quality`), dropout, seed.
        phase: number of the phase, part of the draw.
        seen: labels of answers that were drawn before, at least one.
        requested: request id -> what it asks for.
        prompt: goals and levels.
    """
    rng = np.random.default_rng([recipe.seed, ASKING, phase])
    if recipe.ask == "requested":
        return {key: dict(requested[key[0]]) for key in keys}
    best = [s[recipe.quality] for s in seen if recipe.quality in s] if recipe.quality is not None else []
    pool = [s for s in seen if not best or s.get(str(recipe.quality)) == max(best)]
    found = {}
    for key in keys:
        if recipe.ask == "seen":
            labels = dict(pool[int(rng.integers(len(pool)))])
        else:
            labels = {goal: int(rng.integers(prompt.levels)) for goal in prompt.goals}
            if best:
                labels[str(recipe.quality)] = max(best)
        found[key] = drop_some(labels, recipe.dropout, rng)
    return found
