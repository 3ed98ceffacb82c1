"""Content hashes: the one place that says how a key is made."""

from __future__ import annotations

import hashlib
import json

#: Hex digits of a key: 128 bits, so that collisions need about 2^64 rows.
KEY_DIGITS = 32


def digest_bytes(data: bytes) -> str:
    """BLAKE2b key of raw bytes, `KEY_DIGITS` hex digits."""
    return hashlib.blake2b(data, digest_size=KEY_DIGITS // 2).hexdigest()


def digest_text(text: str) -> str:
    """Key of a text (UTF-8; lone surrogates are kept, so that any `str` has a key)."""
    return digest_bytes(text.encode("utf-8", "surrogatepass"))


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal strings.

    Raises:
        TypeError: for a value that JSON cannot hold.
        ValueError: for NaN or infinity, which JSON cannot hold either.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest_json(value: object) -> str:
    """Key of a JSON value, independent of the order of its keys."""
    return digest_text(canonical_json(value))
