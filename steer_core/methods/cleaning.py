"""Take the answer out of what a model wrote: thinking, preambles, fences, headings. The raw text is always kept."""

from __future__ import annotations

import re

_THINK = r"think|thinking|thought|thoughts|reasoning|reflection|scratchpad|analysis"
#: Tags of thinking in <..>, [..] or <|..|> form, opening and closing.
_TAG = re.compile(rf"(?:<|\[|<\|)(?P<slash>/?)(?P<tag>{_THINK})(?:>|\]|\|>)|<\|(?P<end>START|END)_THINKING\|>", re.I)
#: A closing tag; with no opening one before it, that was part of the prompt's template.
_CLOSING = re.compile(rf"(?:</|\[/|<\|/|<\|end_of_|<\|end_)(?:{_THINK})(?:>|\]|\|>)", re.I)
_OPENING = re.compile(rf"(?:<|\[|<\||<\|start_)(?:{_THINK})(?:>|\]|\|>)", re.I)
#: Marks around an answer that say nothing.
_AROUND = re.compile(r"<\|(?:start_response|end_response|return)\|>", re.I)
#: Harmony-style channels: what counts follows the marker of the final channel.
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final\s*(?:<\|message\|>)?", re.I)

_OFFER = re.compile(
    r"\A\s*(?:sure|certainly|of course|okay|ok|absolutely|here(?:'s| is| are|’s)|below is|the following is)\b"
    r"[^\n]{0,200}:\s*\n+",
    re.I,
)
_HERE_REWRITTEN = re.compile(
    r"\A\s*(?=[^\n]{0,300}$)(?=[^\n]*\bhere\b)(?=[^\n]*\b(?:rewritten|revised|rewrite)\b)[^\n]*(?:\n|\Z)", re.I | re.M
)
_RULE = re.compile(r"\A\s*(?:-{3,}|\*{3,}|_{3,})[ \t]*\n+")
_LABEL = re.compile(r"\A\s*[*_#\s]{0,6}(?:rewritten|revised|new) (?:text|version)[*_\s]{0,4}:[*_\s]{0,4}\s*", re.I)
_FENCE = re.compile(r"\A\s*```[\w-]*[ \t]*\n(?P<body>.*?)\n?```\s*\Z", re.S)


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    last = None
    for match in pattern.finditer(text):
        last = match
    return last


def _without_blocks(text: str) -> str:
    """The text without closed blocks of thinking that open a line, one or several; within a line a tag is a word.

    Linear: a tag opens a block only if one of its kind closes later.
    """
    tags = [(m.start(), m.end(), *_read_tag(m)) for m in _TAG.finditer(text)]
    closed = {name: start for start, _, name, closing in tags if closing}
    kept, position, begun = [], 0, None
    for start, end, name, closing in tags:
        if begun is None:
            # behind a block that was taken away, too, nothing but blanks may stand before the next
            before = text[max(position, text.rfind("\n", 0, start) + 1) : start]
            if not closing and not before.strip(" \t") and closed.get(name, -1) > start:
                begun = name
                kept.append(text[position:start])
        elif closing and name == begun:
            position, begun = end, None
    return "".join([*kept, text[position:]])


def _read_tag(match: re.Match[str]) -> tuple[str, bool]:
    """Kind of a tag, and whether it closes."""
    if match["end"]:
        return "", match["end"].upper() == "END"
    return match["tag"].lower(), bool(match["slash"])


def strip_thinking(text: str) -> str:
    """What is left once thinking is taken away; an answer that opens a block and never closes it leaves nothing."""
    channel = _last(_FINAL_CHANNEL, text)
    if channel is not None:
        return re.sub(r"<\|end\|>\s*\Z", "", text[channel.end() :]).strip()
    text = _AROUND.sub("", _without_blocks(text))
    opening = _OPENING.search(text)
    closing = _last(_CLOSING, text if opening is None else text[: opening.start()])
    if closing is not None:
        text = text[closing.end() :]
    # a block that is never closed is the whole answer, and so is a channel that is not the final one
    begun = text.lstrip()
    return "" if _OPENING.match(begun) or begun.startswith("<|channel|>") else text.strip()


def strip_preamble(text: str) -> str:
    """The text without an offer line ("Here is the rewritten text:"), a rule, a label or a fence around it all."""
    for _ in range(3):
        before = text
        for pattern in (_OFFER, _HERE_REWRITTEN, _RULE, _LABEL):
            shorter = pattern.sub("", text, count=1)
            # an answer that is nothing but such a line is left as it is: it will be scored as what it is
            text = shorter if shorter.strip() else text
        if fenced := _FENCE.match(text):
            text = fenced["body"]
        if text == before:
            break
    return text.strip()


def clean_answer(raw: str) -> str:
    """Thinking and preamble taken away."""
    return strip_preamble(strip_thinking(raw))


def after_heading(raw: str, heading: str) -> tuple[str, bool]:
    """What follows the last line that is this heading, and whether there is one.

    Without the heading the whole cleaned answer is returned, marked as not parsed.
    """
    answer = strip_thinking(raw)
    pattern = re.compile(rf"^[ \t#*_]*{re.escape(heading)}[ \t*_]*:[ \t*_]*", re.I | re.M)
    found = _last(pattern, answer)
    if found is None:
        return strip_preamble(answer), False
    return strip_preamble(answer[found.end() :]), True
