"""Questions with lettered options: read, write, and balance them.

The layout is that of Contrastive Activation Addition (Rimsky et al. 2024): the question, an empty line, `Choices:`, and
one option a line as ` (A) text`. Answers are `(A)`, as a model writes them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.digest import digest_text
from steer_core.corpus.contrasts.records import CHOICES, Pair

_OPTION = re.compile(r"^[ \t]*\(([A-Z])\)[ \t]*", re.MULTILINE)
_ANSWER = re.compile(r"\s*\(([A-Z])\)?\s*")


@dataclass(frozen=True)
class Question:
    """A question with its options.

    Attributes:
        text: all of it, as it stands.
        stem: what comes before the options.
        options: letter -> (start, end) of its text in `text`.
    """

    text: str
    stem: str
    options: dict[str, tuple[int, int]]

    @property
    def swappable(self) -> bool:
        """Two options, A and B."""
        return list(self.options) == ["A", "B"]

    def swapped(self) -> str:
        """The question with the texts of A and B exchanged.

        Raises:
            ValueError: it has other options than A and B.
        """
        if not self.swappable:
            raise ValueError(f"only questions with options A and B can be swapped; this one has {list(self.options)}")
        (a0, a1), (b0, b1) = self.options["A"], self.options["B"]
        t = self.text
        return t[:a0] + t[b0:b1] + t[a1:b0] + t[a0:a1] + t[b1:]


def read_question(text: str) -> Question:
    """Find the options of a question; a question without `Choices:` has none."""
    found = CHOICES.search(text)
    if found is None:
        return Question(text, text.strip(), {})
    marks = list(_OPTION.finditer(text, found.end()))
    ends = [m.start() for m in marks[1:]] + [len(text)]
    options = {}
    for mark, end in zip(marks, ends, strict=True):
        # an option may run over lines, and ends before white space
        stop = mark.end() + len(text[mark.end() : end].rstrip())
        options[mark[1]] = (mark.end(), stop)
    return Question(text, text[: found.start()].strip(), options)


def write_question(stem: str, a: str, b: str) -> str:
    """A question with two options."""
    return f"{stem}\n\nChoices:\n (A) {a}\n (B) {b}"


def answer_letter(answer: str) -> str | None:
    """The letter of an answer such as `(A)` or `(A`; None where it is something else."""
    found = _ANSWER.fullmatch(answer)
    return found[1] if found else None


def balance(pairs: Sequence[Pair], seed: int) -> tuple[list[Pair], int]:
    """Exchange the options of half the items, so that the matching letter is A as often as B.

    Of the items whose matching letter is A, and of those where it is B, half are chosen by hash of their question: the
    counts end up equal (or one apart), and whatever order the author listed answers in no longer goes with the letter.
    Items with other letters than A and B, or without readable options, stay as they stand.

    Args:
        pairs: A/B items, `letters` given.
        seed: another seed chooses other items.

    Returns:
        The pairs in their order, and how many were changed.
    """
    groups: dict[str, list[tuple[str, int]]] = {"A": [], "B": []}
    for i, pair in enumerate(pairs):
        if can_swap(pair) and pair.letters is not None:
            groups[pair.letters[0]].append((digest_text(f"letters:{seed}:{pair.prompt}"), i))
    chosen = {i for group in groups.values() for _, i in sorted(group)[: len(group) // 2]}
    return [_swap(p) if i in chosen else p for i, p in enumerate(pairs)], len(chosen)


def can_swap(pair: Pair) -> bool:
    """Whether the pair is an item with exactly the options A and B."""
    return pair.letters is not None and set(pair.letters) == {"A", "B"} and read_question(pair.prompt).swappable


def matching_letters(pairs: Sequence[Pair]) -> Counter[str]:
    """How often each letter is the matching one."""
    return Counter(p.letters[0] for p in pairs if p.letters is not None)


def _swap(pair: Pair) -> Pair:
    assert pair.letters is not None
    return replace(
        pair,
        prompt=read_question(pair.prompt).swapped(),
        positive=pair.negative,
        negative=pair.positive,
        letters=(pair.letters[1], pair.letters[0]),
    )
