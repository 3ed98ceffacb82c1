"""Tokenizer of the embedded model: byte-level BPE, so that any text can be read, and its chat template."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
ROLES = ("system", "user", "assistant")
CONTEXT = 512

#: One turn is `<|role|>content<|end|>`.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A byte-level BPE tokenizer.

    Args:
        texts: prompts and answers.
        vocab_size: number of tokens, special tokens included.

    Returns:
        A `transformers.PreTrainedTokenizerFast` with chat template and pad token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, END, *(f"<|{role}|>" for role in ROLES)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def prompt_text(messages: Sequence[tuple[str, str]]) -> str:
    """What the chat template makes of a conversation, up to the answer; plain text starts after the first token."""
    turns = "".join(f"<|{role}|>{content}{END}" for role, content in messages)
    return f"{BOS}{turns}<|assistant|>" if messages else BOS
