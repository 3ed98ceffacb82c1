"""The recipe of `char-ngram`: texts, training, and the card with what was measured.

    python -m steer_core.evaluation.profiles.scorer_training.recipe --out FOLDER [--plain FILE.jsonl:FIELD]

1. One logistic regression an attribute (L2) on hashed n-grams that occur in `LEAST` texts. Texts with the attribute
   have `SHARE` of all weight: in what models write it is rare, and values near .5 should be.
2. The `KEPT` n-grams with the largest share in the sums (largest weight of any attribute, times the root mean square of
   the value) are kept and fitted again. What is not kept says nothing, so unknown words move no score; without that
   step each of them shared a bucket with a known one, and 40 of 100 ordinary answers were taken for toxic.
3. Texts of another origin and failure modes are never trained on; whatever comes out is in the card. `--plain` names
   ordinary texts that are not shipped, of which the card says how many are taken for toxic.

Deterministic on one machine; elsewhere, sums may round otherwise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.digest import digest_bytes, digest_json
from steer_core.evaluation.profiles.discrimination import LabelledText, discrimination
from steer_core.evaluation.profiles.ngrams import READING, ngram_rows
from steer_core.evaluation.profiles.scorer import ATTRIBUTES, Scorer, score_texts
from steer_core.evaluation.profiles.scorer_training.corpus import Sizes, draw_texts, is_held_out
from steer_core.evaluation.profiles.scorer_training.reading import failure_modes, other_origin, read_templates
from steer_core.evaluation.profiles.scorers import lexicon
from steer_core.evaluation.profiles.scorers.char_ngram import CARD, WEIGHTS, build
from steer_core.evaluation.profiles.toxicity import THRESHOLD
from steer_core.evaluation.profiles.value import Missing
from steer_core.models.embedded.grammar import write

Floats = NDArray[Any]

SEED = 0
BUCKETS = 2**22
#: Fewest texts that an n-gram occurs in.
LEAST = 6
#: Most n-grams that are kept.
KEPT = 16384
#: Share of weight of the texts that have an attribute.
SHARE = 0.2
#: Inverse strength of the penalty; 1 to 100 do as well on templates held out.
C = 10.0
#: Texts of templates that are held out, for the figures of this domain.
HELD_OUT = Sizes(fills=40, among=400, ordinary=400)
#: Texts of the embedded model's grammar that should not be toxic.
GRAMMAR = 1000


def train(folder: Path, *, sizes: Sizes | None = None, seed: int = SEED) -> dict[str, Any]:
    """Train the weights and write them, with a card that has no figures yet.

    Args:
        folder: where to; made if it is not there.
        sizes: how many texts; by default those of the shipped weights.
        seed: of the texts.

    Returns:
        The card.
    """
    import sklearn
    from safetensors.numpy import save

    sizes = sizes or Sizes()
    texts = draw_texts(sizes, seed, held_out=False)
    kept, weights, constants = fit(texts)
    tensors: dict[str, Floats] = {"kept": kept.astype(np.int32), "weights": weights.astype(np.float16)}
    data = save(tensors | {"constants": constants.astype(np.float32)})
    templates = read_templates()
    card = {
        "digest": digest_bytes(data),
        "attributes": list(ATTRIBUTES),
        "reading": READING,
        "buckets": BUCKETS,
        "n_ngrams": len(kept),
        "share": SHARE,
        "c": C,
        "seed": seed,
        "sizes": asdict(sizes),
        "n_texts": len(texts),
        "n_by_attribute": {a: sum(a in t.labels for t in texts) for a in ATTRIBUTES},
        "n_templates": sum(not is_held_out(t) for t in templates),
        "n_templates_held_out": sum(map(is_held_out, templates)),
        "texts": texts_digest(texts),
        "trained_with": f"scikit-learn {sklearn.__version__}",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(data)
    _write_card(folder, {**card, "n_other_origin": 0})
    return card


def fit(texts: Sequence[LabelledText]) -> tuple[Floats, Floats, Floats]:
    """Buckets that are kept, rising; their weights, shape [attributes, kept]; constants, shape [attributes]."""
    from scipy.sparse import csc_matrix

    rows, columns, values = ngram_rows([t.text for t in texts], BUCKETS)
    known, place, in_texts = np.unique(columns, return_inverse=True, return_counts=True)
    features = csc_matrix((values, (rows, place)), shape=(len(texts), len(known)))
    often = np.flatnonzero(in_texts >= LEAST)
    weights, _ = _regressions(features[:, often], texts)
    mean_square = np.bincount(place, values * values)[often] / len(texts)
    weight = np.abs(weights).max(axis=0) * np.sqrt(mean_square)
    kept = np.sort(often[np.argsort(-weight, kind="stable")[:KEPT]])
    return known[kept], *_regressions(features[:, kept], texts)


def _regressions(features: Any, texts: Sequence[LabelledText]) -> tuple[Floats, Floats]:
    from sklearn.linear_model import LogisticRegression

    fits = []
    for attribute in ATTRIBUTES:
        labels = np.array([attribute in t.labels for t in texts])
        one = LogisticRegression(C=C, max_iter=1000)
        weights = np.where(labels, SHARE / labels.mean(), (1.0 - SHARE) / (1.0 - labels.mean()))
        fits.append(one.fit(features.tocsr(), labels, sample_weight=weights))
    return np.stack([f.coef_[0] for f in fits]), np.array([f.intercept_[0] for f in fits])


def measure(folder: Path, plain: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Put the figures of the weights in a folder into their card.

    Args:
        folder: what `train` wrote.
        plain: name -> ordinary texts that should not be toxic.

    Returns:
        The card.
    """
    scorer, by_sentence = build(folder=str(folder)), build(folder=str(folder), unit="sentence")
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    other, baseline = other_origin(), lexicon.build()
    quiet = {"grammar of the embedded model": [t.text for t in write(GRAMMAR, seed=1)], **(plain or {})}
    figures = {
        # texts of one template are not independent, so there is no interval
        "in_domain": _aucs(scorer, draw_texts(HELD_OUT, card["seed"], held_out=True), interval=False),
        "n_other_origin": len(other),
        "other_origin": {
            "text": _aucs(scorer, other, interval=True),
            "sentence": _aucs(by_sentence, other, interval=True),
        },
        "at_threshold": {u: _at_threshold(s, other) for u, s in (("text", scorer), ("sentence", by_sentence))},
        "lexicon": {"version": baseline.version, "other_origin": _aucs(baseline, other, interval=True)},
        "false_positives": {name: flagged(scorer, texts) for name, texts in quiet.items()},
        "false_positives_by_sentence": {name: flagged(by_sentence, texts) for name, texts in quiet.items()},
        "failure_modes": {mode: flagged(scorer, texts) for mode, texts in failure_modes().items()},
    }
    return _write_card(folder, {**card, **figures})


def flagged(scorer: Scorer, texts: Sequence[str], attribute: str = "toxicity") -> dict[str, Any]:
    """How many of some texts reach the threshold, and the largest value."""
    marks = score_texts(scorer, texts)
    values = [v for t in texts if not isinstance(v := marks[t][attribute], Missing)]
    return {
        "n": len(values),
        "n_toxic": sum(v >= THRESHOLD for v in values),
        "largest": round(max(values, default=0.0), 3),
    }


def _at_threshold(scorer: Scorer, texts: Sequence[LabelledText]) -> dict[str, Any]:
    return {
        "toxic": flagged(scorer, [t.text for t in texts if "toxicity" in t.labels]),
        "other": flagged(scorer, [t.text for t in texts if "toxicity" not in t.labels]),
    }


def texts_digest(texts: Sequence[LabelledText]) -> str:
    """Digest of texts with their labels, in order."""
    return digest_json([[t.text, sorted(t.labels)] for t in texts])


def _aucs(scorer: Scorer, texts: Sequence[LabelledText], *, interval: bool) -> dict[str, Any]:
    kept = ("auc", "low", "high") if interval else ("auc",)
    return {
        row["attribute"]: {k: None if row[k] is None else round(row[k], 3) for k in kept}
        | {k: row[k] for k in ("n_positive", "n_negative")}
        for row in discrimination(scorer, texts).iter_rows(named=True)
    }


def _write_card(folder: Path, card: dict[str, Any]) -> dict[str, Any]:
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and card")
    parser.add_argument("--plain", action="append", default=[], help="FILE.jsonl:FIELD of ordinary texts")
    given = parser.parse_args()
    plain = {}
    for item in given.plain:
        file, _, field = item.rpartition(":")
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        plain[f"{Path(file).stem}, {field}"] = [str(json.loads(line)[field]) for line in lines if line.strip()]
    train(given.out)
    print(json.dumps(measure(given.out, plain), indent=2))


if __name__ == "__main__":
    _main()
