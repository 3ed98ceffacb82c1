"""What can be wrong with contrast data: counted and told, never repaired in silence.

Every check of a source is a row, passed or not. Thresholds are where a published data set was found to mislead: answers
that tell their side by the first word, letters that go with the concept, cut answers, test prompts seen in training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from steer_core.corpus.contrasts.letters import matching_letters, read_question
from steer_core.corpus.contrasts.records import Finding, Item, Pair, stem

#: Letters, longer answers and first words may lean this far to one side before a check fails.
MAX_LEAN = 0.1
MAX_LONGER = 0.75
MAX_FIRST_WORD = 0.9
#: Share of repeated answers, cut answers, unfinished sentences from which a check fails.
MAX_REPEATED = 0.5
MAX_CUT = 0.01
MAX_UNFINISHED = 0.05
#: Answers of at least this many words are expected to end as a sentence does.
SENTENCE_WORDS = 8

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_CLOSED = re.compile(r"[.!?…:;\"'”’)\]}*`>|]\s*$")


def check_pairs(source: str, pairs: Sequence[Pair], *, cut_by_design: Sequence[str] | None = None) -> list[Finding]:
    """Checks of the pairs of one source.

    Args:
        source: label of the file or generator.
        pairs: its pairs, in order.
        cut_by_design: the answers before their last character was removed, where a format asks for that.
    """
    answers = [a for p in pairs for a in (p.positive, p.negative)]
    lettered = any(p.letters is not None for p in pairs)
    found = [
        _count(
            source,
            "empty_answers",
            [i for i, p in enumerate(pairs) if not p.positive.strip() or not p.negative.strip()],
            pairs,
            lambda n: f"{n} pairs have an answer without a word: there is nothing to read an activation at",
        ),
        _count(
            source,
            "equal_sides",
            [i for i, p in enumerate(pairs) if p.positive.strip() == p.negative.strip()],
            pairs,
            lambda n: f"{n} pairs have the same answer on both sides and contrast nothing",
        ),
        _count(
            source,
            "duplicates",
            repeats((_folded(p.prompt), p.positive, p.negative) for p in pairs),
            pairs,
            lambda n: f"{n} pairs repeat an earlier one (prompt up to case and white space, both answers)",
        ),
        _count(
            source,
            "repeated_prompts",
            repeats(_folded(p.prompt) for p in pairs),
            pairs,
            lambda n: f"{n} pairs have the prompt of an earlier one",
            limit=MAX_REPEATED,
        ),
    ]
    if lettered:
        # letters are equal on purpose, and no sentences
        return [*found, *_letters(source, pairs)]
    return [
        *found,
        _cut(source, pairs, cut_by_design),
        _unfinished(source, pairs, answers),
        _repeated(source, answers),
        _first_word(source, pairs),
        _longer(source, pairs),
    ]


def check_letters(source: str, pairs: Sequence[Pair], before: Sequence[Pair] | None, swapped: int) -> Finding:
    """How evenly the matching letter is spread over A and B.

    Args:
        source: label of the file.
        pairs: items as they are used.
        before: items as the file has them; None where they were not balanced.
        swapped: items whose options were exchanged.
    """
    letters = matching_letters(pairs)
    a, b = letters["A"], letters["B"]
    told = f"the matching letter is A {a} and B {b} times"
    if before is not None:
        file = matching_letters(before)
        told += f"; in the file A {file['A']} and B {file['B']}, the options of {swapped} items were exchanged"
    lean = abs(a - b)
    return Finding(source, "letter_balance", lean, a + b, lean <= MAX_LEAN * (a + b), told)


def check_overlap(source: str, items: Sequence[Item], train: Iterable[str]) -> Finding:
    """Test items whose question stands in the training data, up to case, white space and options."""
    known = {_folded(stem(p)) for p in train}
    rows = list(dict.fromkeys(i.row for i in items))
    leaked = sorted({i.row for i in items if _folded(stem(i.prompt)) in known})
    return Finding(
        source,
        "train_test_overlap",
        len(leaked),
        len(rows),
        not leaked,
        f"{len(leaked)} test questions also stand in the training data{_first(leaked)}",
    )


def check_validation(source: str, n_validation: int, n_pairs: int) -> Finding:
    """Whether there is anything that the checkpoint of a trained vector can be chosen on."""
    return Finding(
        source,
        "validation_pairs",
        n_validation,
        n_pairs,
        n_validation > 0,
        f"{n_validation} of {n_pairs} preference pairs are for choosing checkpoints"
        + ("" if n_validation else ": estimators that train cannot choose one"),
    )


def repeats(keys: Iterable[object]) -> list[int]:
    """Indices of elements that equal an earlier one."""
    seen: set[object] = set()
    found = []
    for i, key in enumerate(keys):
        if key in seen:
            found.append(i)
        seen.add(key)
    return found


def ends_mid_word(answers: Sequence[str], texts: Iterable[str]) -> list[int]:
    """Answers that seem to end inside a word.

    Their last word, which nothing closes, stands nowhere in the texts as a whole word (followed by something that is
    not a letter), and longer words of the texts begin with it. A heuristic: rare names at the end can be meant.

    Args:
        answers: what is looked at.
        texts: where whole words are found; may include the answers.
    """
    whole, beginnings = set(), set()
    for text in texts:
        words = [m for m in _WORD.finditer(text) if m.end() < len(text.rstrip())]
        for word in {m[0].lower() for m in words}:
            whole.add(word)
            beginnings |= {word[:k] for k in range(1, len(word))}
    found = []
    for i, answer in enumerate(answers):
        words = list(_WORD.finditer(answer))
        if words and words[-1].end() == len(answer.rstrip()):
            last = words[-1][0].lower()
            if last not in whole and last in beginnings:
                found.append(i)
    return found


def _cut(source: str, pairs: Sequence[Pair], cut_by_design: Sequence[str] | None) -> Finding:
    answers = [a for p in pairs for a in (p.positive, p.negative)]
    if cut_by_design is not None:
        lost = [i for i, whole in enumerate(cut_by_design) if whole[-1:].isalnum()]
        told = f"this form removes the last character: {len(lost)} of {len(answers)} answers lost a letter by it"
    else:
        lost = ends_mid_word(answers, [t for p in pairs for t in (p.prompt, p.positive, p.negative)])
        told = f"{len(lost)} of {len(answers)} answers seem to end inside a word"
    passed = len(lost) <= MAX_CUT * len(answers)
    rows = [pairs[i // 2].row for i in lost]
    return Finding(source, "cut_letters", len(lost), len(answers), passed, told + _first(rows))


def _unfinished(source: str, pairs: Sequence[Pair], answers: Sequence[str]) -> Finding:
    long = [(i, a) for i, a in enumerate(answers) if len(a.split()) >= SENTENCE_WORDS]
    found = [i for i, a in long if not _CLOSED.search(a)]
    return Finding(
        source,
        "unfinished_sentences",
        len(found),
        len(long),
        len(found) <= MAX_UNFINISHED * len(long),
        f"{len(found)} of {len(long)} answers of {SENTENCE_WORDS} or more words do not end as a sentence does"
        + _first([pairs[i // 2].row for i in found]),
    )


def _repeated(source: str, answers: Sequence[str]) -> Finding:
    counts = Counter(a.strip() for a in answers)
    common, times = counts.most_common(1)[0] if counts else ("", 0)
    n = len(answers) - len(counts)
    passed = n <= MAX_REPEATED * len(answers)
    told = f"{len(counts)} different answers among {len(answers)}; the commonest, {common[:40]!r}, {times} times"
    if not passed:
        told += ". A vector may stand for these words rather than for the trait"
    return Finding(source, "few_distinct_answers", n, len(answers), passed, told)


def _first_word(source: str, pairs: Sequence[Pair]) -> Finding:
    """Answers whose side is told by their first word, each judged by the other answers that begin with it."""
    counts: Counter[tuple[str, int]] = Counter()
    firsts = []
    for pair in pairs:
        for label, answer in ((1, pair.positive), (0, pair.negative)):
            word = _WORD.search(answer)
            key = (word[0].lower() if word else "", label)
            firsts.append(key)
            counts[key] += 1
    told = [(w, label) for w, label in firsts if counts[w, label] - 1 > counts[w, 1 - label]]
    n, of = len(told), len(firsts)
    words = ", ".join(repr(w) for (w, _), _ in Counter(told).most_common(3))
    return Finding(
        source,
        "first_word_tells",
        n,
        of,
        n <= MAX_FIRST_WORD * of,
        f"the first word alone tells the side of {n} of {of} answers" + (f" ({words})" if words else ""),
    )


def _longer(source: str, pairs: Sequence[Pair]) -> Finding:
    gaps = [len(p.positive.split()) - len(p.negative.split()) for p in pairs]
    longer, shorter = sum(g > 0 for g in gaps), sum(g < 0 for g in gaps)
    n, of = max(longer, shorter), longer + shorter
    side = "shows" if longer >= shorter else "does not show"
    return Finding(
        source,
        "length_leans",
        n,
        of,
        n <= MAX_LONGER * of,
        f"of {of} pairs with answers of unequal length, the one that {side} the concept is longer in {n}",
    )


def _letters(source: str, pairs: Sequence[Pair]) -> list[Finding]:
    other = [p.row for p in pairs if p.letters is not None and set(p.letters) != {"A", "B"}]
    unread = [p.row for p in pairs if not read_question(p.prompt).options]
    return [
        Finding(
            source,
            "other_letters",
            len(other),
            len(pairs),
            not other,
            f"{len(other)} items have answers other than A and B; they stay as they stand{_first(other)}",
        ),
        Finding(
            source,
            "unread_options",
            len(unread),
            len(pairs),
            not unread,
            f"{len(unread)} questions have no `Choices:` with lettered options; they stay as they stand"
            + _first(unread),
        ),
    ]


def _count(
    source: str,
    check: str,
    found: Sequence[int],
    pairs: Sequence[Pair],
    told: Callable[[int], str],
    limit: float = 0.0,
) -> Finding:
    rows = [pairs[i].row for i in found]
    passed = len(found) <= limit * len(pairs)
    return Finding(source, check, len(found), len(pairs), passed, told(len(found)) + _first(rows))


def _first(rows: Sequence[int]) -> str:
    shown = list(dict.fromkeys(rows))[:5]
    return f"; rows (0-based) {', '.join(map(str, shown))}{' ...' if len(set(rows)) > 5 else ''}" if shown else ""


def _folded(text: str) -> str:
    return " ".join(text.lower().split())
