"""Whether an answer declines, told by its words: no model is asked."""

from __future__ import annotations

import re

#: Bumped when the same answers are called otherwise.
VERSION = "1"
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
