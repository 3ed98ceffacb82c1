"""The embedded model: a small chat model that ships with the library, the grammar it learned, and its recipe."""

from __future__ import annotations

from pathlib import Path

__all__ = ["weights_folder"]


def weights_folder() -> Path:
    """The folder of the shipped weights, tokenizer and chat template, as `save_pretrained` writes them."""
    return Path(__file__).parent / "weights"
