"""Instructions and questions of a described behavior: from templates and items that ship, from a model, or a file.

An author is asked twice, for instructions and for questions, one a line. What it writes is read strictly: a line that
is neither is dropped, and too few of them is an error with what came. Questions are split by a hash of their words, so
that a further one moves no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from schemas.behaviors import BehaviorSpec, DescribedBehavior, instruction, not_at_all
from schemas.described import TraitPrompts
from schemas.digest import digest_json, digest_text
from schemas.profile_sets import PromptsSet
from schemas.specs import Decoding
from steer_core.evaluation.profiles.sets import load_set
from steer_core.generation.backend import Call
from steer_core.generation.journalled import run_calls
from steer_core.generation.run import Run
from steer_core.steering.plan import Message, Plan, messages_of
from steer_core.tables.errors import ContractError, SteerworksError
from steer_core.tables.files import write_bytes
from steer_core.tables.validation import check

#: Room for what an author writes, and how it is drawn.
AUTHORED = Decoding(max_new_tokens=1024, temperature=0.0)
#: What a line may begin with that is no part of it.
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_SIGNED = re.compile(r"^\s*(?:\d+[.)]\s*)?([+\-−–])\s*(.+)$")


def make_prompts(behavior: BehaviorSpec, author: Run | None = None) -> pl.DataFrame:
    """Rows of `trait_prompts`.

    Args:
        behavior: of kind `described`.
        author: who asks the behavior's author; None where it names none.

    Raises:
        SteerworksError: the author wrote too little of use, a file is none, or there are too few questions.
    """
    source = _source(behavior)
    if source.prompts is not None:
        return _from_file(behavior.name, source.prompts)
    pairs, questions, who = _templates(source), _questions(source.questions), ("template", "set")
    if author is not None:
        pairs, questions, who = _authored_pairs(source, author), _authored_questions(source, author), ("author",) * 2
    rows = [
        _row(behavior.name, "instruction", text, side=side, pair=k, source=who[0])
        for k, sides in enumerate(pairs[: source.n_instructions])
        for side, text in ((1, sides[0]), (0, sides[1]))
    ]
    chosen = _split(questions, source)
    rows += [_row(behavior.name, "question", text, split=split, source=who[1]) for text, split in chosen]
    return pl.DataFrame(rows, schema=TraitPrompts.dtypes(), orient="row")


def export_prompts(prompts: pl.DataFrame, path: Path) -> None:
    """Write the prompts of a behavior as JSON lines, to be edited and named as its `prompts`.

    Raises:
        SteerworksError: the file is there already.
    """
    if path.exists():
        raise SteerworksError(f"{path} is there already: name another file, or take it away")
    lines = prompts.select("role", "side", "pair", "split", "text").iter_rows(named=True)
    said = "".join(json.dumps({k: v for k, v in r.items() if v is not None}, ensure_ascii=False) + "\n" for r in lines)
    write_bytes(str(path), said.encode())


def _source(behavior: BehaviorSpec) -> DescribedBehavior:
    if not isinstance(behavior.source, DescribedBehavior):
        raise SteerworksError(f"behavior {behavior.name!r} is of kind {behavior.source.kind!r}, and not described")
    return behavior.source


def _row(
    behavior: str, role: str, text: str, *, source: str, side: int | None = None, pair: int | None = None,
    split: str | None = None,
) -> tuple[object, ...]:  # fmt: skip
    return behavior, digest_json([behavior, role, side, text]), role, side, pair, split, text, source


def _templates(source: DescribedBehavior) -> list[tuple[str, str]]:
    """Opposite instructions that need no author: the quality, the sentence, both."""
    trait, opposite = source.trait, source.opposite or not_at_all(source.trait)
    says = _sentence(source.sentence)
    against = _sentence(source.opposite_sentence) if source.opposite_sentence else f"You never do this: {says}"
    return [
        (instruction(trait), instruction(opposite)),
        (f"This is what you are like: {says}", f"This is what you are like: {against}"),
        (f"{instruction(trait)} {says}", f"{instruction(opposite)} {against}"),
    ]


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text[-1] in ".!?" else f"{text}."


def _questions(spec: PromptsSet) -> list[str]:
    rows = load_set(spec)
    texts = []
    for messages, text in rows.select("messages", "text").iter_rows():
        texts.append(str(text) if messages is None else messages_of(messages)[-1].content)
    return list(dict.fromkeys(t.strip() for t in texts if t.strip()))


def _split(questions: Sequence[str], source: DescribedBehavior) -> list[tuple[str, str]]:
    """Questions with what they may be used for."""
    wanted = source.n_train + source.n_test
    order = sorted(dict.fromkeys(questions), key=lambda q: digest_text(f"{source.seed}:{q}"))
    if len(order) < wanted:
        raise SteerworksError(
            f"{len(order)} different questions, and {wanted} are wanted ({source.n_train} to fit on, {source.n_test} "
            "to test with): lower `n_train` or `n_test`, or give more `questions`"
        )
    fitted = order[source.n_test : wanted]
    held = round(source.validation_share * len(fitted))
    splits = ["test"] * source.n_test + ["validation"] * held + ["train"] * (len(fitted) - held)
    return list(zip(order[:wanted], splits, strict=True))


def _authored_pairs(source: DescribedBehavior, author: Run) -> list[tuple[str, str]]:
    opposite = source.opposite or not_at_all(source.trait)
    asked = (
        f"A language model is tested for one trait.\nThe trait: {source.trait}. {_sentence(source.sentence)}\n"
        f"Its opposite: {opposite}. {source.opposite_sentence or ''}\n\n"
        f"Write {source.n_instructions} short instructions, in the second person, that make a model answer with the "
        f"trait, and {source.n_instructions} that make it answer with the opposite. One instruction a line. Begin "
        "those for the trait with + and those for the opposite with -. Write nothing else."
    )
    sides: dict[bool, list[str]] = {True: [], False: []}
    reply = _reply(asked, author, source.seed)
    for line in reply.splitlines():
        if (found := _SIGNED.match(line)) is not None and any(c.isalpha() for c in found[2]):
            sides[found[1] == "+"].append(found[2].strip())
    positive, negative = (list(dict.fromkeys(sides[side])) for side in (True, False))
    # what stands on both sides asks for neither
    both = {t.casefold() for t in positive} & {t.casefold() for t in negative}
    clean = [[t for t in own if t.casefold() not in both] for own in (positive, negative)]
    pairs = list(zip(*clean, strict=False))
    if not pairs:
        raise SteerworksError(
            f"the author wrote {len(positive)} instructions for the trait and {len(negative)} for its opposite, and no "
            f"pair of them that differs: leave `author` out for templates, or name a stronger model. It wrote: "
            f"{reply[:200]!r}"
        )
    return pairs


def _authored_questions(source: DescribedBehavior, author: Run) -> list[str]:
    wanted = source.n_train + source.n_test
    # some come twice, and some are none
    asked = (
        f"A language model is tested for one trait.\nThe trait: {source.trait}. {_sentence(source.sentence)}\n\n"
        f"Write {wanted + wanted // 4} different questions, on many subjects, that anybody might ask, and that a model "
        "with the trait would answer otherwise than one without it. Do not name the trait. One question a line, and "
        "nothing else."
    )
    reply = _reply(asked, author, source.seed + 1)
    lines = [_BULLET.sub("", line).strip() for line in reply.splitlines()]
    found = list(dict.fromkeys(line for line in lines if line.endswith("?") and len(line.split()) > 2))
    if len(found) < wanted:
        raise SteerworksError(
            f"the author wrote {len(found)} different questions, and {wanted} are wanted: lower `n_train` or `n_test`, "
            f"or leave `author` out and give `questions`. It wrote: {reply[:200]!r}"
        )
    return found


def _reply(asked: str, author: Run, seed: int) -> str:
    plan = Plan(author.asking.model_identity, AUTHORED, (Message("user", asked),))
    (raw,) = run_calls([Call(plan, 0, seed)], author)["raw"]
    return str(raw)


def _from_file(behavior: str, path: str) -> pl.DataFrame:
    """Prompts that were exported and edited."""
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SteerworksError(f"prompts: {path} cannot be read: {error}") from error
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            text, role = str(given["text"]).strip(), str(given["role"])
            side, pair, split = given.get("side"), given.get("pair"), given.get("split")
            if not text or (side is None or pair is None if role == "instruction" else split is None):
                raise ValueError("an instruction has `side` and `pair`, a question `split`, and both `text`")
            rows.append(_row(behavior, role, text, side=side, pair=pair, split=split, source=Path(path).name))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SteerworksError(f"{path}, row {number} (0-based): {error}") from error
    try:
        found = check(pl.DataFrame(rows, schema=TraitPrompts.dtypes(), orient="row", strict=True), TraitPrompts)
    except (ContractError, pl.exceptions.PolarsError, TypeError) as error:
        raise SteerworksError(f"{path}: {error}") from error
    _complete(found, path)
    return found


def _complete(prompts: pl.DataFrame, path: str) -> None:
    sides = prompts.filter(pl.col("role") == "instruction").group_by("pair").agg(pl.col("side").sort())
    odd = [pair for pair, own in sides.iter_rows() if own != [0, 1]]
    if odd or not sides.height:
        which = f"pair {odd[0]} has not one instruction for each side" if odd else "there is no instruction"
        raise SteerworksError(f"{path}: {which}: give one with `side` 1 and one with `side` 0")
    splits = set(_of(prompts, "question")["split"])
    if lacking := {"train", "test"} - splits:
        raise SteerworksError(f"{path}: there is no question with split {', '.join(sorted(lacking))}")


def _of(prompts: pl.DataFrame, role: str) -> pl.DataFrame:
    return prompts.filter(pl.col("role") == role)


def questions_of(prompts: pl.DataFrame) -> Iterable[dict[str, object]]:
    """Rows of the questions."""
    return _of(prompts, "question").iter_rows(named=True)


def instructions_of(prompts: pl.DataFrame) -> dict[int, dict[int, str]]:
    """Pair -> side -> instruction."""
    found: dict[int, dict[int, str]] = {}
    for row in _of(prompts, "instruction").iter_rows(named=True):
        found.setdefault(row["pair"], {})[row["side"]] = row["text"]
    return found
