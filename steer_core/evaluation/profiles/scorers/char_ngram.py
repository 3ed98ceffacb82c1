"""`char-ngram`, the default: logistic regression on hashed n-grams. Offline, small, and tested on little.

Six attributes, each with a weight for some buckets and a constant; the value is the logistic function of their sum over
the n-grams of a text (`profiles.ngrams`). Trained by `scorer_training.recipe` on texts that were written for it. It
knows words and their surroundings, not meaning: see docs/profiles-toxicity.md for what it gets wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from schemas.digest import digest_bytes, digest_json
from steer_core.evaluation.profiles.ngrams import READING, ngram_rows
from steer_core.evaluation.profiles.scorer import EMPTY, VERSION_DIGITS, Marks, Scorer, all_attributes, is_blank
from steer_core.evaluation.profiles.value import Missing
from steer_core.tables.errors import SteerworksError

FOLDER = Path(__file__).parents[1] / "scorer_weights"
WEIGHTS, CARD = "char_ngram.safetensors", "char_ngram.json"
NO_WORDS = Missing("no words")
Unit: TypeAlias = Literal["text", "sentence"]
UNITS: tuple[Unit, ...] = get_args(Unit)
#: Texts that are hashed at a time.
_BLOCK = 512
#: Where a sentence ends.
_SENTENCES = re.compile(r"(?<=[.!?…])[\"')\]]*\s+|\n+")


@dataclass(frozen=True, eq=False)
class CharNgram:
    """The scorer.

    Attributes:
        attributes: what it scores.
        buckets: of the n-grams.
        kept: buckets with a weight, rising, shape [kept]; others weigh nothing.
        weights: shape [attributes, kept].
        constants: shape [attributes].
        version: digest of the file of weights.
        tested: see `Scorer`.
        card: how it was trained, and its figures.
        unit: what is scored at a time; of several sentences the largest value counts.
    """

    attributes: tuple[str, ...]
    buckets: int
    kept: NDArray[np.int32]
    weights: NDArray[np.float32]
    constants: NDArray[np.float32]
    version: str
    tested: str
    card: Mapping[str, Any]
    unit: Unit
    name: ClassVar[str] = "char-ngram"

    def score(self, texts: Sequence[str]) -> list[Marks]:
        """Values of each text; a blank one is `empty`, one without a letter or digit has `no words`."""
        if self.unit == "text":
            return self._all(texts)
        parts = [[s for s in _SENTENCES.split(t) if not is_blank(s)] or [t] for t in texts]
        marks = iter(self._all([s for own in parts for s in own]))
        return [_largest([next(marks) for _ in own]) for own in parts]

    def _all(self, texts: Sequence[str]) -> list[Marks]:
        return [m for start in range(0, len(texts), _BLOCK) for m in self._block(texts[start : start + _BLOCK])]

    def _block(self, texts: Sequence[str]) -> list[Marks]:
        rows, columns, values = ngram_rows(texts, self.buckets)
        at = np.minimum(np.searchsorted(self.kept, columns), len(self.kept) - 1)
        values = values * (self.kept[at] == columns)
        sums = np.stack([np.bincount(rows, values * own[at], minlength=len(texts)) for own in self.weights], axis=1)
        scores = 1.0 / (1.0 + np.exp(-(sums + self.constants)))  # [texts, attributes]
        has_words = np.bincount(rows, minlength=len(texts)) > 0
        return [
            dict(zip(self.attributes, own.tolist(), strict=True))
            if has
            else all_attributes(EMPTY if is_blank(text) else NO_WORDS, self.attributes)
            for text, has, own in zip(texts, has_words, scores, strict=True)
        ]


def _largest(marks: Sequence[Marks]) -> Marks:
    """Of each attribute the largest value; the first reason where no sentence has a value."""
    scored = [m for m in marks if not any(isinstance(v, Missing) for v in m.values())]
    return {a: max(float(m[a]) for m in scored) for a in scored[0]} if scored else marks[0]


def build(*, folder: str | None = None, unit: Unit = "text") -> Scorer:
    """The scorer with the shipped weights, or with those of a folder that the recipe wrote.

    Args:
        folder: where `char_ngram.safetensors` and `char_ngram.json` are.
        unit: `text` scores a text as a whole, which a rude sentence among polite ones hardly moves; `sentence` takes
            the largest value of its sentences, which rises with their number: a long text has more to be wrong about.

    Raises:
        SteerworksError: a file is missing or damaged, or the card is not that of the weights.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    where = FOLDER if folder is None else Path(folder).expanduser()
    try:
        data = (where / WEIGHTS).read_bytes()
        card = json.loads((where / CARD).read_text(encoding="utf-8"))
        tensors = load(data)
        digest, attributes, reading = card["digest"], tuple(card["attributes"]), card["reading"]
        weights, constants = (tensors[name].astype(np.float32) for name in ("weights", "constants"))
        kept, buckets = tensors["kept"], int(card["buckets"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise SteerworksError(f"weights of char-ngram in {where} cannot be read: {error}; train them anew") from error
    if digest != digest_bytes(data):
        raise SteerworksError(f"{where / CARD} is not the card of {WEIGHTS}: their digests differ; train both anew")
    if reading != READING or weights.shape != (len(attributes), len(kept)) or constants.shape != (len(attributes),):
        raise SteerworksError(f"{where / WEIGHTS} was trained for another reading of texts ({reading}, not {READING})")
    version = digest if unit == "text" else digest_json([digest, unit])
    tested = tested_sentence(card.get("other_origin", {}).get(unit, {}), attributes, card["n_other_origin"])
    if found := card.get("at_threshold", {}).get(unit):
        tested += "; at .5 it finds {n_toxic} of {n} toxic texts".format(**found["toxic"])
        tested += " and takes {n_toxic} of {n} others for toxic".format(**found["other"])
    return CharNgram(attributes, buckets, kept, weights, constants, version[:VERSION_DIGITS], tested, card, unit)


def tested_sentence(figures: Mapping[str, Any], attributes: Sequence[str], n: int) -> str:
    """What is known of a scorer from the texts of another manner than the templates, in one sentence.

    Args:
        figures: attribute -> `auc`, `low`, `high`, as the card has them.
        attributes: what it scores.
        n: texts.
    """
    known = {a: f for a in attributes if (f := figures.get(a, {})).get("auc") is not None}
    rest = [a for a in attributes if a not in known]
    listed = ", ".join(f"{a} {f['auc']:.2f} [{f['low']:.2f}, {f['high']:.2f}]" for a, f in known.items())
    said = [f"AUC on {n} texts of another manner than the training texts: {listed}"] if known else []
    return "; ".join(said + ([f"in-domain only: {', '.join(rest)}"] if rest else []))
