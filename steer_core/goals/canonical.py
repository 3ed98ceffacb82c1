"""One form of a text for all goals, so that typography moves nothing.

Two texts that read the same to a person have one canonical form: composed characters (Unicode NFC), straight quotes and
apostrophes, plain hyphens, `--` for long dashes, `...` for an ellipsis, plain spaces and line ends; invisible
characters are dropped, and an emoji that is put together from several is its first. Stored texts are never changed, and
scorers that reproduce a published tool read the text as it stands.
"""

from __future__ import annotations

import re
import unicodedata

_SINGLE = "‘’‚‛′ʼ＇´"
_DOUBLE = "“”„‟″«»＂"
_HYPHENS = "‐‑‒–−﹣－"
_LONG_DASHES = "—―⸺⸻"
_LINE_ENDS = "\u0085\u2028\v\f"
#: Soft hyphen, zero-width space and non-joiner, word joiner, byte-order mark, marks of direction, styles of emoji.
_INVISIBLE = (
    "\u00ad\u200b\u200c\u2060\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufe0e\ufe0f"
)
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_TABLE = str.maketrans(
    {
        **dict.fromkeys(_SINGLE, "'"),
        **dict.fromkeys(_DOUBLE, '"'),
        **dict.fromkeys(_HYPHENS, "-"),
        **dict.fromkeys(_LONG_DASHES, "--"),
        **dict.fromkeys(_LINE_ENDS, "\n"),
        **dict.fromkeys(_INVISIBLE, None),
        **dict.fromkeys(_SPACES, " "),
        "…": "...",
        "\u2029": "\n\n",
    }
)
_TONE = "[\U0001f3fb-\U0001f3ff]"
#: An emoji with a skin tone, with others joined to it, or a flag of two letters: the first of them stays.
_CLUSTER = re.compile(
    rf"([\u2190-\u2bff\U0001f000-\U0001faff]){_TONE}*(?:\u200d[\u2190-\u2bff\U0001f000-\U0001faff]{_TONE}*)*"
)
_FLAG = re.compile("([\U0001f1e6-\U0001f1ff])[\U0001f1e6-\U0001f1ff]")


def canonical(text: str) -> str:
    """The canonical form of a text; applied twice it changes nothing more.

    Any `str` is welcome, lone surrogates included. Linear in the length of the text.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.isascii():
        return text.translate(_TABLE) if "\v" in text or "\f" in text else text
    text = unicodedata.normalize("NFC", text).translate(_TABLE)
    # without its joiner a cluster would be several
    return _FLAG.sub(r"\1", _CLUSTER.sub(r"\1", text)).replace("\u200d", "")
