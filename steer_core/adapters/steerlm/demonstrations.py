"""Answers that people or other models wrote, as the first answers of a run: JSON lines with `source` and `answer`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from steer_core.adapters.inheritance.candidates import Drawn
from steer_core.tables.errors import ConfigError


def demonstrations(file: Path, tokenizer: Any) -> tuple[list[Drawn], dict[str, str]]:
    """Answers as if the model had written them, and the source of each by its id; ids are lines of the file.

    Args:
        file: JSON lines; blank lines are passed over.
        tokenizer: of the model; the token that ends an answer is put behind each.

    Raises:
        ConfigError: the file cannot be read or holds nothing, or rows are wrong, with their lines.
    """
    try:
        lines = file.expanduser().read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"demonstrations {file} cannot be read: {error}") from error
    found, sources, wrong = list[Drawn](), dict[str, str](), list[str]()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            source, answer = row["source"], row["answer"]
        except (ValueError, KeyError, TypeError) as error:
            wrong.append(f"line {number}: no JSON object with `source` and `answer` ({error})")
            continue
        if not isinstance(source, str) or not isinstance(answer, str) or not answer.strip():
            wrong.append(f"line {number}: `source` and `answer` are texts, and the answer is not blank")
            continue
        tokens = tokenizer.encode(answer, add_special_tokens=False)
        request = f"given-{number}"
        sources[request] = source
        found.append(Drawn(request, 0, answer, "stop", (*tokens, tokenizer.eos_token_id), float("nan")))
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ConfigError(f"demonstrations {file}: {'; '.join(wrong[:5])}{more}")
    if not found:
        raise ConfigError(f"demonstrations {file} holds no row")
    return found, sources
