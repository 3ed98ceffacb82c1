"""Shared fixtures: tiny random models of several families, saved as plain `save_pretrained` folders."""

import os
from pathlib import Path

import pytest

# more processes than cores: torch slows down badly when its threads outnumber free cores
os.environ.setdefault("OMP_NUM_THREADS", "1")
# polars' threads wait for each other at work: three million switches of context in one file of tests
os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

CHAT_TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def tiny_tokenizer(chat: bool):
    """A byte-level BPE tokenizer trained on a few sentences; deterministic."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<end>", "<user>", "<assistant>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["Please rewrite the following text so that it is longer and more formal."] * 4, trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tiny_model(folder: Path, family: str = "llama", chat: bool = True, context: int = 256) -> Path:
    """A random model with its tokenizer in a folder."""
    import torch
    import transformers

    from tests.tiny_configs import tiny_config

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(chat)
    model = transformers.AutoModelForCausalLM.from_config(tiny_config(family, len(tokenizer), context))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """`tiny_model(family, chat)`: a folder, made once a session."""
    made = {}

    def make(family: str = "llama", chat: bool = True, context: int = 256) -> Path:
        key = (family, chat, context)
        if key not in made:
            made[key] = save_tiny_model(tmp_path_factory.mktemp(family), family, chat, context)
        return made[key]

    return make
