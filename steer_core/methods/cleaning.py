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


#: Declining, in the models' own words: an apology or a mention of being an AI, or an object that only a request has.
_SORRY = (
    r"(?:(?:i(?: a|'|’)m (?:very |really |so )?sorry|sorry|i apologi[sz]e|unfortunately)\b[,.;:! ]*(?:but |that )?"
    r"(?:as an ai[^.!?\n]{0,60}, )?|as an ai[^.!?\n]{0,60}, )"
)
_CANNOT = (
    r"(?:i|we)(?: (?:can(?:no|'|’)t|can not|won(?:'|’)t|(?:am|are) (?:not able|unable)|must (?:decline|refuse))"
    r"|(?:'|’)m (?:not able|unable)) (?:to )?"
)
_VERB = r"(?:help|assist|comply|fulfill?|do|rewrite|provide|write|create|generate|continue)\b"
_ASKED = r"[^.!?\n]{0,20}?\b(?:request|text|content|task|message|passage)\b"
_REFUSAL = re.compile(
    rf"\A\W*(?:{_SORRY}{_CANNOT}{_VERB}(?! but\b)"
    rf"|{_CANNOT}{_VERB}(?: you)?(?: with| to)? (?:that|this|the|your)\b{_ASKED}"
    rf"|{_CANNOT}(?:help|assist)(?: you)? with (?:that|this|it|rewriting)\b|{_CANNOT}(?:comply|assist)\b)",
    re.I,
)
#: A refusal is short; a longer text that begins like one is a text about something.
_LONGEST_REFUSAL = 600


def is_refusal(answer: str, source: str = "") -> bool:
    """Whether a cleaned answer declines instead of answering.

    Args:
        answer: the cleaned answer.
        source: the text that was to be rewritten; one that begins like a refusal makes such an answer no refusal.
    """
    return len(answer) <= _LONGEST_REFUSAL and bool(_REFUSAL.match(answer)) and not _REFUSAL.match(source)


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
