"""Word and sentence embedding association tests (WEAT: Caliskan et al. 2017; SEAT: May et al. 2019).

1. s(w) = mean cosine of w with A - mean cosine with B; effect size d = (mean s over X - mean s over Y) / SD of s over
   both, ddof 1.
2. p is the share of re-partitions of X and Y whose sum over X is at least that observed: of all of them where they are
   few (`exact`), else of random ones, the observed counted in (`sampled`; Phipson and Smyth 2010), or, when asked for,
   by a normal fitted to those (`parametric`, what the released programs do). Ties count as reaching. One-sided as
   published; the two-sided p is beside it.
3. Sentences made of one word are not exchangeable one by one: several templates around eight words are eight draws of a
   word, not eighty. `words` names the word of each row; then s is averaged by word before anything is shuffled.
4. |d| of embeddings without any association is not 0: `null_size` is its mean over the same partitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations, islice
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steer_core.tables import SteerworksError

Floats = NDArray[np.float64]
How = Literal["exact", "sampled", "parametric"]

#: Partitions up to which all are looked at.
EXACT = 200_000
#: Share of the largest sum below which two sums are equal: rounding.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Association:
    """One association test.

    Attributes:
        effect: d; None where s is constant.
        p: one-sided, upper tail; None with it.
        p_two_sided: as far from what partitions give on average, either way.
        how: where both come from.
        partitions: looked at.
        null_size: mean |d| over them.
        n_x: rows of X.
        n_y: rows of Y.
        units: what was shuffled: rows, or words.
        reason: why there is no effect; empty where there is one.
    """

    effect: float | None
    p: float | None
    p_two_sided: float | None
    how: How
    partitions: int
    null_size: float | None
    n_x: int
    n_y: int
    units: int
    reason: str = ""


def associations(rows: Floats, a: Floats, b: Floats) -> Floats:
    """s(w) of each row: mean cosine with A less mean cosine with B, in [-2, 2].

    Args:
        rows: embeddings, shape [n, d].
        a: of attribute A, shape [n_a, d].
        b: of attribute B, shape [n_b, d].

    Raises:
        SteerworksError: widths differ, a set is empty, or an embedding is not finite or has no direction.
    """
    units = [_directions(part) for part in (rows, a, b)]
    if len({part.shape[1] for part in units}) != 1:
        raise SteerworksError(f"embeddings of widths {[part.shape[1] for part in units]}: one model gives one width")
    return np.asarray(units[0] @ (units[1].mean(axis=0) - units[2].mean(axis=0)))


def _directions(rows: Floats) -> Floats:
    if rows.ndim != 2 or not len(rows) or not np.isfinite(rows).all():
        raise SteerworksError(f"embeddings of shape {list(rows.shape)}: [rows, width], at least one, all finite")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise SteerworksError("an embedding of length 0 has no direction")
    return np.asarray(rows / lengths)


def association_test(
    x: Floats,
    y: Floats,
    a: Floats,
    b: Floats,
    *,
    rng: np.random.Generator,
    how: How | None = None,
    samples: int = 100_000,
    words: tuple[NDArray[Any], NDArray[Any]] | None = None,
) -> Association:
    """Effect size and permutation p.

    Args:
        x: embeddings of the first target, shape [n_x, d].
        y: of the second, shape [n_y, d].
        a: of the first attribute.
        b: of the second.
        rng: source of sampled partitions; not touched by `exact`.
        how: None takes `exact` up to `EXACT` partitions and `sampled` beyond.
        samples: partitions that are drawn.
        words: word of each row of X and of Y; None shuffles rows.

    Raises:
        SteerworksError: see `associations`; fewer than two rows, words of another length, a word in X and Y, no sample,
            or `exact` beyond `EXACT`.
    """
    s_x, s_y = associations(x, a, b), associations(y, a, b)
    s = np.concatenate([s_x, s_y])
    u_x, u_y = (s_x, s_y) if words is None else _by_word(s_x, s_y, words)
    total, n_x = len(u_x) + len(u_y), len(u_x)
    ways = comb(total, n_x)
    chosen: How = how or ("exact" if ways <= EXACT else "sampled")
    if (chosen == "exact" and ways > EXACT) or samples < 1:
        raise SteerworksError(f"{ways} partitions, {samples} samples: `exact` goes up to {EXACT}, samples from 1")
    spread = float(s.std(ddof=1))
    if spread <= ROUNDING:
        reason = "every row has the same association"
        return Association(None, None, None, chosen, 0, None, len(x), len(y), total, reason)
    units = np.concatenate([u_x, u_y])
    sums = _all_sums(units, n_x, ways) if chosen == "exact" else _drawn_sums(units, n_x, samples, rng)
    p, p_two = _tails(float(u_x.sum()), sums, float(units.sum()) * n_x / total, chosen)
    # a partition's d: its sum fixes both means
    means = sums / n_x - (units.sum() - sums) / (total - n_x)
    return Association(
        effect=float((s_x.mean() - s_y.mean()) / spread),
        p=p,
        p_two_sided=p_two,
        how=chosen,
        partitions=len(sums),
        null_size=float(np.abs(means).mean() / spread),
        n_x=len(x),
        n_y=len(y),
        units=total,
    )


def _by_word(s_x: Floats, s_y: Floats, words: tuple[NDArray[Any], NDArray[Any]]) -> tuple[Floats, Floats]:
    if [len(w) for w in words] != [len(s_x), len(s_y)] or set(words[0].tolist()) & set(words[1].tolist()):
        raise SteerworksError("`words` names the word of each row of X and of Y, and no word stands on both sides")
    found = []
    for s, own in zip((s_x, s_y), words, strict=True):
        owner = np.unique(own, return_inverse=True)[1]
        found.append(np.bincount(owner, weights=s) / np.bincount(owner))
    return found[0], found[1]


def _all_sums(units: Floats, n_x: int, ways: int) -> Floats:
    flat = np.fromiter((i for c in islice(combinations(range(len(units)), n_x), ways) for i in c), np.intp, ways * n_x)
    return np.asarray(units[flat.reshape(ways, n_x)].sum(axis=1))


def _drawn_sums(units: Floats, n_x: int, samples: int, rng: np.random.Generator) -> Floats:
    sums, step = [], max(1_000_000 // len(units), 1)
    for start in range(0, samples, step):
        order = rng.random((min(step, samples - start), len(units))).argpartition(n_x - 1, axis=1)
        sums.append(units[order[:, :n_x]].sum(axis=1))
    return np.concatenate(sums)


def _tails(observed: float, sums: Floats, centre: float, how: How) -> tuple[float, float]:
    """One-sided and two-sided p of a sum among those of partitions, whose mean is `centre`."""
    if how == "parametric":
        from scipy.special import ndtr

        z = (observed - float(sums.mean())) / float(sums.std(ddof=1)) if len(sums) > 1 else 0.0
        return float(ndtr(-z)), float(2.0 * ndtr(-abs(z)))
    slack = ROUNDING * max(float(np.abs(sums).max()), abs(observed))
    upper = int((sums >= observed - slack).sum())
    both = int((np.abs(sums - centre) >= abs(observed - centre) - slack).sum())
    # the observed partition is one of all, and is added to a sample
    own = 0 if how == "exact" else 1
    return (upper + own) / (len(sums) + own), (both + own) / (len(sums) + own)


@dataclass(frozen=True)
class SizeByType:
    """Mean |d| of the tests of one type, beside its mean under no association.

    Attributes:
        mean_size: mean |d|; None without a test that has one.
        null_size: the same over partitions.
        n_tests: behind both.
        n_undefined: tests without an effect.
    """

    mean_size: float | None
    null_size: float | None
    n_tests: int
    n_undefined: int


def sizes_by_type(tests: Iterable[tuple[str, Association]]) -> Mapping[str, SizeByType]:
    """Mean |d| by type of bias, as bias-bench sums up (Meade et al. 2022); types in order of first appearance."""
    by_type: dict[str, list[Association]] = {}
    for kind, test in tests:
        by_type.setdefault(kind, []).append(test)
    return {kind: _size(found) for kind, found in by_type.items()}


def _size(tests: list[Association]) -> SizeByType:
    defined = [(abs(t.effect), t.null_size) for t in tests if t.effect is not None and t.null_size is not None]
    if not defined:
        return SizeByType(None, None, 0, len(tests))
    effects, nulls = zip(*defined, strict=True)
    return SizeByType(float(np.mean(effects)), float(np.mean(nulls)), len(defined), len(tests) - len(defined))
