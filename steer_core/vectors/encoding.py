"""Contrast examples as token ids, and where in them activations are read.

1. A prompt goes through the model's chat template exactly as generation sends it; the answer's tokens follow.
2. The two are tokenised apart, as in generation, where the answer begins after the prompt's last token.
3. Nothing is ever cut: an example that does not fit the model's context is left out with its pair (`fitting`), and
   where it is encoded all the same, refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from schemas.contrasts import PreferencePairs
from schemas.digest import digest_json, digest_text
from schemas.specs import Decoding
from steer_core.generation.prompt_tokens import encode_plan
from steer_core.models.loading import LoadedModel
from steer_core.steering.plan import Plan, messages_of
from steer_core.tables.errors import ConfigError, SteerworksError

Tokens = NDArray[np.int32]
#: Where activations are read. `before_letter` is the token that the answer letter is predicted from.
Read = Literal["last_token", "letter", "before_letter", "last_prompt", "answer", "prompt", "all"]
READS: tuple[Read, ...] = get_args(Read)

#: Answers tokenised in one call.
_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Encoded:
    """One contrast example as token ids.

    Attributes:
        example_id, concept, pair_id, label: as in `contrast_examples`.
        tokens: ids of prompt and answer, shape [tokens]; for `before_letter` those before the letter.
        prompt_tokens: how many of them are the prompt's.
        start, stop: span that is read, end excluded; its mean, where it is longer than a token.
        letter_token: id of the answer letter's token, for the readings at letters.
    """

    example_id: str
    concept: str
    pair_id: str
    label: int
    tokens: Tokens
    prompt_tokens: int
    start: int
    stop: int
    letter_token: int | None = None


def encode_examples(loaded: LoadedModel, examples: pl.DataFrame, reads: Sequence[Read]) -> dict[Read, list[Encoded]]:
    """Token ids and the span of each reading; readings of one example share its tokens.

    * `last_token`: last token of the answer; of the prompt where there is no answer
    * `letter`: the token that holds the answer's letter; `before_letter`: the one before it, which predicts it
    * `last_prompt`: last token before the answer, the end of the template's generation prompt
    * `answer`, `prompt`, `all`: mean over those tokens

    Args:
        loaded: whose tokenizer and chat template are used.
        examples: rows of `schemas.ContrastExamples`.
        reads: readings wanted.

    Returns:
        Reading -> encoded examples, in the order of the rows.

    Raises:
        ConfigError: an unknown reading, or letters are wanted of a tokenizer that gives no offsets.
        SteerworksError: an example is longer than the model's context, or lacks what the reading needs.
    """
    for read in reads:
        if read not in READS:
            raise ConfigError(f"unknown reading {read!r}; there are: {', '.join(READS)}")
    lettered = any("letter" in read for read in reads)
    if lettered and not loaded.tokenizer.is_fast:
        raise ConfigError(
            f"model {loaded.spec.name!r}: its tokenizer gives no character offsets, so answer letters cannot be found; "
            "use read: last_token, or a fast tokenizer"
        )
    prompts = {m: _prompt_tokens(loaded, m) for m in examples["messages"].unique(maintain_order=True)}
    answers = _answer_tokens(loaded.tokenizer, examples["answer"].unique(maintain_order=True).to_list(), lettered)
    found: dict[Read, list[Encoded]] = {read: [] for read in reads}
    for row in examples.iter_rows(named=True):
        prompt, (answer, offsets) = prompts[row["messages"]], answers[row["answer"]]
        tokens = np.concatenate([prompt, answer])
        _check_length(loaded, row, len(prompt), len(answer))
        for read in reads:
            letter = len(prompt) + _letter_token(row, offsets) if "letter" in read else None
            start, stop = _span(read, row, len(prompt), len(tokens), letter)
            found[read].append(
                Encoded(
                    row["example_id"],
                    row["concept"],
                    row["pair_id"],
                    row["label"],
                    tokens[:stop] if read == "before_letter" else tokens,
                    len(prompt),
                    start,
                    stop,
                    None if letter is None else int(tokens[letter]),
                )
            )
    return found


def fitting(loaded: LoadedModel, examples: pl.DataFrame, log: Callable[[str], None]) -> pl.DataFrame:
    """The examples whose pairs fit the model's context whole; the others are counted and named.

    Args:
        loaded: whose tokenizer, chat template and context.
        examples: rows of `schemas.ContrastExamples`.
        log: told what is left out, concept by concept.
    """
    context = loaded.info.max_context
    if context is None or not examples.height:
        return examples
    prompts = {m: len(_prompt_tokens(loaded, m)) for m in examples["messages"].unique(maintain_order=True)}
    answers = _answer_tokens(loaded.tokenizer, examples["answer"].unique(maintain_order=True).to_list(), False)
    lengths = [prompts[m] + len(answers[a][0]) for m, a in examples.select("messages", "answer").iter_rows()]
    over = examples.with_columns(tokens=pl.Series(lengths, dtype=pl.Int64)).filter(pl.col("tokens") > context)
    for (concept,), rows in over.group_by("concept", maintain_order=True):
        pairs = rows.unique("pair_id", maintain_order=True)
        named = ", ".join(f"row {r['row']} of {r['source']}" for r in pairs.head(3).iter_rows(named=True))
        log(
            f"{pairs.height} pairs of {str(concept)!r} do not fit the context of {context} tokens (the longest has "
            f"{max(rows['tokens'])}) and are left out: {named}{', ...' if pairs.height > 3 else ''}"
        )
    return examples.join(over, on=["concept", "pair_id"], how="anti", maintain_order="left")


def template_digest(loaded: LoadedModel) -> str:
    """Digest of what turns messages into a prompt: the chat template and its options, or that there is none."""
    if not loaded.info.chat:
        return digest_json(["no template"])
    return digest_json([loaded.tokenizer.chat_template, dict(loaded.spec.template_options)])


def common_prefix(sequences: Sequence[Tokens]) -> int:
    """Length of the longest token prefix that all sequences share."""
    shortest = min(map(len, sequences))
    first = sequences[0][:shortest]
    same = np.ones(shortest, dtype=bool)
    for other in sequences[1:]:
        same &= first == other[:shortest]
    return shortest if same.all() else int(same.argmin())


def pairs_of(examples: pl.DataFrame, validation_share: float = 0.1) -> pl.DataFrame:
    """Rows of `preference_pairs`: the pairs that are two answers to one prompt. Other examples make none.

    Where a concept has no validation examples, whole prompts are held out for choosing checkpoints, by hash: those of
    at least `validation_share` of its training pairs (single pairs, where all follow one prompt). They stay training
    examples elsewhere.

    Args:
        examples: rows of `schemas.ContrastExamples`.
        validation_share: share of the pairs that are held out.
    """
    sides = [
        examples.filter(pl.col("label") == label).select(
            "pair_id", "concept", "split", "messages", pl.col("answer").alias(side), "source", "row"
        )
        for label, side in ((1, "chosen"), (0, "rejected"))
    ]
    found = sides[0].join(sides[1].select("pair_id", "messages", "rejected"), on=["pair_id", "messages"], how="inner")
    found = found.filter((pl.col("chosen") != "") & (pl.col("rejected") != ""))
    found = found.with_columns(split=pl.Series(_splits(found, validation_share), dtype=pl.String))
    return found.select(PreferencePairs.empty().columns)


def _splits(pairs: pl.DataFrame, validation_share: float) -> list[str]:
    """Split of each pair, with validation pairs where a concept had none."""
    splits: list[str] = pairs["split"].to_list()
    for concept in pairs["concept"].unique():
        own = [i for i, c in enumerate(pairs["concept"]) if c == concept]
        if any(splits[i] == "validation" for i in own):
            continue
        training = [i for i in own if splits[i] == "train"]
        # pairs that all follow one prompt are held out one by one: their texts are their own
        by = "messages" if len({pairs["messages"][i] for i in training}) > 1 else "pair_id"
        prompts: dict[str, list[int]] = {}
        for i in training:
            prompts.setdefault(digest_text(f"validation:{pairs[by][i]}"), []).append(i)
        held = 0
        for key in sorted(prompts)[:-1]:
            if held >= validation_share * len(training):
                break
            held += len(prompts[key])
            for i in prompts[key]:
                splits[i] = "validation"
    return splits


def _prompt_tokens(loaded: LoadedModel, messages: str) -> Tokens:
    turns = messages_of(messages)
    plan = Plan(model=loaded.spec.identity, decoding=Decoding.model_construct(), messages=turns)
    ids = encode_plan(plan, loaded.tokenizer, bool(loaded.info.chat), loaded.spec.template_options)
    return np.asarray(ids, dtype=np.int32)


def _answer_tokens(
    tokenizer: Any, answers: Sequence[str], offsets: bool
) -> Mapping[str, tuple[Tokens, Sequence[tuple[int, int]]]]:
    """Answer -> token ids, and the characters that each covers where offsets are wanted."""
    found: dict[str, tuple[Tokens, Sequence[tuple[int, int]]]] = {"": (np.zeros(0, dtype=np.int32), [])}
    written = [a for a in answers if a]
    for start in range(0, len(written), _AT_ONCE):
        some = written[start : start + _AT_ONCE]
        options = {"return_offsets_mapping": True} if offsets else {}
        encoded = tokenizer(some, add_special_tokens=False, **options)
        spans = encoded["offset_mapping"] if offsets else [[]] * len(some)
        for answer, ids, span in zip(some, encoded["input_ids"], spans, strict=True):
            found[answer] = (np.asarray(ids, dtype=np.int32), span)
    return found


def _span(read: Read, row: Mapping[str, Any], prompt_tokens: int, tokens: int, letter: int | None) -> tuple[int, int]:
    """Start and stop of a reading."""
    match read:
        case "letter" | "before_letter":
            assert letter is not None
            at = letter if read == "letter" else letter - 1
            if at < 0:
                raise SteerworksError(f"{_where(row)}: there is no token before its letter {row['letter']!r}")
            return at, at + 1
        case "last_token":
            return tokens - 1, tokens
        case "all":
            return 0, tokens
        case "answer":
            if tokens == prompt_tokens:
                raise SteerworksError(
                    f"{_where(row)} has no answer, and activations are to be read over the answer: use read: "
                    "last_prompt or prompt"
                )
            return prompt_tokens, tokens
        case "last_prompt" | "prompt":
            if not prompt_tokens:
                raise SteerworksError(f"{_where(row)} has an empty prompt: there is nothing of it to read")
            return (0 if read == "prompt" else prompt_tokens - 1), prompt_tokens


def _letter_token(row: Mapping[str, Any], offsets: Sequence[tuple[int, int]]) -> int:
    """Index, among the answer's tokens, of the one that holds the letter."""
    letter = row["letter"]
    if not letter:
        raise SteerworksError(f"{_where(row)} has no answer letter: read: letter is for A/B data; use read: last_token")
    # "(A" first: in "A walk (B)" the letter is B, and the article is none
    found = re.search(rf"\({re.escape(letter)}(?![A-Za-z])", row["answer"]) or re.search(
        rf"(?<![A-Za-z]){re.escape(letter)}(?![A-Za-z])", row["answer"]
    )
    at = -1 if found is None else found.end() - 1
    for index, (start, stop) in enumerate(offsets):
        if start <= at < stop:
            return index
    raise SteerworksError(f"{_where(row)}: its letter {letter!r} is not in its answer {row['answer'][:40]!r}")


def _check_length(loaded: LoadedModel, row: Mapping[str, Any], prompt: int, answer: int) -> None:
    context = loaded.info.max_context
    if context is not None and prompt + answer > context:
        raise SteerworksError(
            f"{_where(row)} has {prompt} tokens of prompt and {answer} of answer; the context of model "
            f"{loaded.spec.name!r} has {context}: shorten or remove the example, nothing is cut"
        )
    if not prompt + answer:
        raise SteerworksError(f"{_where(row)} has no tokens")


def _where(row: Mapping[str, Any]) -> str:
    return f"contrast example {row['example_id']} ({row['concept']!r}, row {row['row']} of {row['source']})"
