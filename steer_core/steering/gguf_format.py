"""GGUF version 3, as far as control vectors need it: string and integer keys, and tensors of floats.

Layout (llama.cpp, `ggml/include/gguf.h`), little-endian: magic, version, number of tensors, number of keys; the keys;
name, shape, type and offset of each tensor; padding; the tensors' data, each at a multiple of the alignment.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from steer_core.tables.errors import SteerworksError

MAGIC, VERSION, ALIGNMENT = b"GGUF", 3, 32
#: Value types with a meaning here: 32-bit unsigned, text, list.
_UINT32, _STRING, _ARRAY = 4, 8, 9
#: Value type -> struct format.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
#: Tensor type -> dtype.
_TENSORS: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}


def write_gguf(file: IO[bytes], keys: Mapping[str, str | int], tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write keys and one-dimensional float32 tensors.

    Args:
        file: binary file to write to.
        keys: text, or integers from 0 to 2**32 - 1.
        tensors: name -> array of shape [width].
    """
    head = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(keys))]
    for name, value in keys.items():
        kind = _STRING if isinstance(value, str) else _UINT32
        body = _text(value) if isinstance(value, str) else struct.pack("<I", value)
        head.append(_text(name) + struct.pack("<I", kind) + body)
    offset = 0
    for name, tensor in tensors.items():
        head.append(_text(name) + struct.pack("<IQIQ", 1, tensor.shape[0], 0, offset))
        offset += _padded(tensor.nbytes)
    whole = b"".join(head)
    file.write(whole.ljust(_padded(len(whole)), b"\0"))
    for tensor in tensors.values():
        file.write(np.ascontiguousarray(tensor, dtype="<f4").tobytes().ljust(_padded(tensor.nbytes), b"\0"))


def read_gguf(data: bytes, name: str) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Keys and tensors of a file.

    Args:
        data: the whole file.
        name: what it is called in errors.

    Raises:
        SteerworksError: no GGUF file, of another version, cut off, or with tensors of another type than float32 and
            float16.
    """
    if data[:4] != MAGIC:
        raise SteerworksError(f"{name} is no GGUF file: it does not begin with `GGUF`")
    try:
        return _Reader(data, name).whole()
    except (struct.error, ArithmeticError, ValueError) as error:
        raise SteerworksError(f"{name} is a damaged GGUF file: {error}; copy it again") from error


class _Reader:
    """Reads values one after another."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data, self.name, self.at = data, name, 4

    def whole(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]]:
        version, n_tensors, n_keys = self.take("IQQ")
        if version not in (2, 3):
            raise SteerworksError(f"{self.name} is GGUF version {version}; versions 2 and 3 are read")
        keys = {}
        for _ in range(n_keys):
            key = self.text()
            keys[key] = self.value(self.take("I")[0])
        places: dict[str, tuple[tuple[int, ...], np.dtype[Any], int]] = {}
        for _ in range(n_tensors):
            tensor = self.text()
            shape = self.take(f"{self.take('I')[0]}Q")
            kind, offset = self.take("IQ")
            if kind not in _TENSORS:
                raise SteerworksError(f"{self.name}, tensor {tensor!r}: type {kind} is neither float32 nor float16")
            places[tensor] = (shape, _TENSORS[kind], offset)
        start = _padded(self.at, int(keys.get("general.alignment", ALIGNMENT)))
        tensors = {}
        for tensor, (shape, dtype, offset) in places.items():
            count = int(np.prod(shape))
            # dimensions are stored fastest first
            found = np.frombuffer(self.data, dtype, count, start + offset).reshape(shape[::-1])
            tensors[tensor] = found.astype(np.float32)
        return keys, tensors

    def take(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def text(self) -> str:
        (length,) = self.take("Q")
        end = self.at + length
        if end > len(self.data):
            raise ValueError("a text runs past its end")
        found = self.data[self.at : end].decode("utf-8")
        self.at = end
        return found

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            inner, count = self.take("IQ")
            if count > len(self.data):
                raise ValueError("a list runs past its end")
            return [self.value(inner) for _ in range(count)]
        if kind not in _SCALARS:
            raise ValueError(f"unknown value type {kind}")
        return self.take(_SCALARS[kind])[0]


def _text(text: str) -> bytes:
    body = text.encode("utf-8")
    return struct.pack("<Q", len(body)) + body


def _padded(size: int, alignment: int = ALIGNMENT) -> int:
    return -(-size // alignment) * alignment
