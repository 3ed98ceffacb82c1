"""Did the rewrite keep what the source says? Offline measures, and one for a loaded embedding model.

1. All measures are 0 where either text is blank and 1 where the two are identical.
2. `content_f1` looks at words: content-word stems, as bags. It sees paraphrase as loss, but no change of order.
3. `chrf` looks at characters (Popovic 2015) and so forgives inflection and small edits.
4. `embedding_cosine` takes a loaded transformers encoder and forgives paraphrase as well.

None of them tells facts apart ("rose" and "fell" are one word each): they say how much of the wording is left.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
#: Longer words are taken as they are: no English word is, and stemming is not linear in length.
LONGEST_STEMMED = 40
#: Longest character n-gram of chrF, and the weight of recall (Popovic 2015: chrF2 with 6-grams).
MAX_ORDER = 6
BETA = 2.0
#: Characters are digits of this base in the code of an n-gram.
RADIX = 1024

#: Closed-class words: articles, pronouns, prepositions, conjunctions, auxiliaries, and what contractions leave of them.
STOP_WORDS = frozenset(
    """
    a an the this that these those some any each every either neither no
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
    herself it its itself they them their theirs themselves one who whom whose which what
    of in on at by for with about against between into through during before after above below to from up down out off
    over under upon onto within without toward towards among across along around behind beside besides near per via
    and or but nor so yet if then else because as until while than though although whether when where why how since
    unless
    am is are was were be been being have has had having do does did doing done can could will would shall should may
    might must ought
    not very too just also only there here again further once both few more most other such own same all
    i'm i've i'd i'll we're we've we'd we'll you're you've you'd you'll he's he'd he'll she's she'd she'll it's it'd
    it'll they're they've they'd they'll that's there's here's what's who's let's
    isn't aren't wasn't weren't don't doesn't didn't hasn't haven't hadn't won't wouldn't shan't shouldn't can't cannot
    couldn't mustn't mightn't
    """.split()  # noqa: SIM905 - a list literal hides the groups
)


def content_f1(source: str, rewrite: str) -> float:
    """F1 of content-word stems (Porter 1980) between two texts, as bags of words, in [0, 1]. Symmetric."""
    return float(content_f1_pairs([source], [rewrite])[0])


def content_f1_pairs(sources: Sequence[str], rewrites: Sequence[str]) -> Floats:
    """`content_f1` of many pairs; a text that occurs often is read once. Shape [n].

    Raises:
        ValueError: the two lists differ in length.
    """
    _check_pairs(sources, rewrites)
    from nltk.stem.porter import PorterStemmer  # type: ignore[import-untyped]  # a second to import

    stemmer, stems = PorterStemmer(), dict[str, str]()
    bags: dict[str, Counter[str]] = {}
    scores = np.zeros(len(sources))
    for i, (source, rewrite) in enumerate(zip(sources, rewrites, strict=True)):
        if not source.strip() or not rewrite.strip():
            continue
        if source == rewrite:
            scores[i] = 1.0
            continue
        if source not in bags:
            bags[source] = _bag(source, stemmer, stems)
        one, other = bags[source], _bag(rewrite, stemmer, stems)
        total = one.total() + other.total()
        # two different texts without a content word share none
        scores[i] = 2.0 * (one & other).total() / total if total else 0.0
    return scores


def chrf(source: str, rewrite: str) -> float:
    """Overlap of character n-grams of a rewrite with its source: chrF (Popovic 2015), in [0, 1].

    Precision and recall of character n-grams, n = 1 to 6, white space removed, averaged over the orders of which both
    texts have n-grams; then F with beta = 2, which weighs the source's recall twice as much as precision. Time grows
    with n log n in characters. N-grams are compared as 63-bit codes: exact up to 1024 distinct characters in a pair;
    with more, a pair of texts of 100 000 characters confuses two of its n-grams with a chance of about 1e-9.
    """
    if not source.strip() or not rewrite.strip():
        return 0.0
    if source == rewrite:
        return 1.0
    left, right = _codes(_characters(source), _characters(rewrite))
    # 10 bits a character: six of them and a bit for the side fit in 64; larger alphabets wrap around an odd factor
    base = np.uint64(RADIX if max(left.max(), right.max()) < RADIX else 0x9E3779B97F4A7C15)
    one, other = left, right
    precisions, recalls = [], []
    for order in range(1, MAX_ORDER + 1):
        if order > 1:
            one, other = one[:-1] * base + left[order - 1 :], other[:-1] * base + right[order - 1 :]
        if not len(one) or not len(other):
            break
        shared = _shared(one, other)
        precisions.append(shared / len(other))
        recalls.append(shared / len(one))
    precision, recall = float(np.mean(precisions)), float(np.mean(recalls))
    if precision + recall == 0.0:
        return 0.0
    return min(1.0, (1.0 + BETA**2) * precision * recall / (BETA**2 * precision + recall))


def chrf_pairs(sources: Sequence[str], rewrites: Sequence[str]) -> Floats:
    """`chrf` of many pairs, shape [n].

    Raises:
        ValueError: the two lists differ in length.
    """
    _check_pairs(sources, rewrites)
    return np.array([chrf(s, r) for s, r in zip(sources, rewrites, strict=True)], dtype=np.float64)


def embedding_cosine(
    sources: Sequence[str],
    rewrites: Sequence[str],
    model: Any,
    tokenizer: Any,
    *,
    batch_size: int = 32,
    max_length: int = 512,
) -> Floats:
    """Cosine of mean-pooled sentence embeddings (Reimers and Gurevych 2019), in [-1, 1]; shape [n].

    Args:
        sources: source texts.
        rewrites: rewrites, pair by pair.
        model: loaded transformers encoder whose output has `last_hidden_state`; used in evaluation mode.
        tokenizer: its tokenizer; needs a padding token.
        batch_size: distinct texts encoded at a time.
        max_length: tokens read of each text; the rest is cut off.

    Raises:
        ValueError: the two lists differ in length, or the tokenizer has no padding token.
    """
    _check_pairs(sources, rewrites)
    texts = list(dict.fromkeys(t for t in (*sources, *rewrites) if t.strip()))
    row = {text: i for i, text in enumerate(texts)}
    embedded = embed_texts(texts, model, tokenizer, batch_size=batch_size, max_length=max_length)
    scores = np.zeros(len(sources))
    for i, (source, rewrite) in enumerate(zip(sources, rewrites, strict=True)):
        if source in row and rewrite in row:
            cosine = float(embedded[row[source]] @ embedded[row[rewrite]])
            scores[i] = 1.0 if source == rewrite else min(1.0, max(-1.0, cosine))
    return scores


def embed_texts(
    texts: Sequence[str], model: Any, tokenizer: Any, *, batch_size: int = 32, max_length: int = 512
) -> Floats:
    """Mean-pooled embeddings of unit length, shape [texts, width]; arguments as of `embedding_cosine`.

    Raises:
        ValueError: the tokenizer has no padding token.
    """
    if tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no padding token: set `tokenizer.pad_token`, e.g. to its end-of-text token")
    return _embed(texts, model, tokenizer, batch_size, max_length)


def _embed(texts: Sequence[str], model: Any, tokenizer: Any, batch_size: int, max_length: int) -> Floats:
    import torch

    was_training = model.training
    model.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), batch_size):
            batch = tokenizer(
                list(texts[start : start + batch_size]),
                padding=True,
                truncation=True,
                max_length=max_length,
                return_tensors="pt",
            ).to(model.device)
            hidden = model(**batch).last_hidden_state.double()  # [texts, tokens, width]
            mask = batch["attention_mask"].unsqueeze(-1)
            # a text without a token has a zero mean, not a division by zero
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
            parts.append(torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy())
    model.train(was_training)
    return np.concatenate(parts) if parts else np.empty((0, 0))


def _bag(text: str, stemmer: Any, stems: dict[str, str]) -> Counter[str]:
    """Stems of the content words and how often each occurs; `stems` remembers words already stemmed."""
    bag: Counter[str] = Counter()
    for word, times in Counter(_WORD.findall(text.lower().replace("’", "'"))).items():
        if word in STOP_WORDS:
            continue
        if word not in stems:
            stems[word] = word if len(word) > LONGEST_STEMMED else stemmer.stem(word.removesuffix("'s"))
        bag[stems[word]] += times
    return bag


def _characters(text: str) -> NDArray[np.uint32]:
    """Code points without white space, shape [characters]; lone surrogates are kept."""
    return np.frombuffer("".join(text.split()).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _codes(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Small integers for the characters of two texts: code points, or their ranks where code points are large."""
    both = np.concatenate([one, other])
    if both.max() >= RADIX:
        both = np.unique(both, return_inverse=True)[1]
    codes = both.astype(np.uint64)
    return codes[: len(one)], codes[len(one) :]


def _shared(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> int:
    """Size of the intersection of two bags of codes."""
    tagged = np.concatenate([one << np.uint64(1), (other << np.uint64(1)) | np.uint64(1)])
    tagged.sort()
    grams = tagged >> np.uint64(1)
    starts = np.flatnonzero(np.concatenate([[True], grams[1:] != grams[:-1]]))
    sizes = np.diff(np.append(starts, len(grams)))
    of_other = np.add.reduceat((tagged & np.uint64(1)).astype(np.int64), starts)
    return int(np.minimum(of_other, sizes - of_other).sum())


def _check_pairs(sources: Sequence[str], rewrites: Sequence[str]) -> None:
    if len(sources) != len(rewrites):
        raise ValueError(f"{len(sources)} sources with {len(rewrites)} rewrites: pass one rewrite a source")
