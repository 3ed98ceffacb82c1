"""GGUF files of control vectors, written and read by the `gguf` package; what stands in them is `exchange`'s to say."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from steer_core.steering.vector import Floats
from steer_core.tables.errors import SteerworksError


def control_vector_bytes(keys: Mapping[str, str | int], tensors: Mapping[str, Floats]) -> bytes:
    """A GGUF file of architecture `controlvector`.

    Args:
        keys: text, or integers from 0 to 2**32 - 1.
        tensors: name -> float32 array of shape [width].
    """
    from gguf import GGUFWriter

    with tempfile.TemporaryDirectory() as folder:
        aside = Path(folder) / "vector.gguf"
        writer = GGUFWriter(aside, "controlvector")
        for key, value in keys.items():
            if isinstance(value, str):
                writer.add_string(key, value)
            else:
                writer.add_uint32(key, value)
        for name, tensor in tensors.items():
            writer.add_tensor(name, np.ascontiguousarray(tensor))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return aside.read_bytes()


def read_control_vector(file: Path, data: bytes) -> tuple[dict[str, Any], dict[str, Floats]]:
    """Keys and tensors of a file of float32 or float16 tensors.

    Raises:
        SteerworksError: no GGUF file, of another version, damaged, or with quantized tensors.
    """
    from gguf import GGMLQuantizationType, GGUFReader

    if data[:4] != b"GGUF":
        raise SteerworksError(f"{file} is no GGUF file: it does not begin with `GGUF`")
    try:
        reader = GGUFReader(file)
        keys = {name: field.contents() for name, field in reader.fields.items()}
        read = [(t.name, t.tensor_type, np.array(t.data), int(t.data_offset + t.n_bytes)) for t in reader.tensors]
    except Exception as error:  # what the reader meets in damaged files, it raises as it comes
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise SteerworksError(f"{file} is a damaged GGUF file ({said}): copy it again") from error
    plain = (GGMLQuantizationType.F32, GGMLQuantizationType.F16)
    for name, kind, _, end in read:
        if kind not in plain:
            raise SteerworksError(f"{file}, tensor {name!r}: type {kind.name} is neither float32 nor float16")
        if end > len(data):
            raise SteerworksError(f"{file} is a damaged GGUF file (tensor {name!r} runs past its end): copy it again")
    return keys, {name: numbers.astype(np.float32) for name, _, numbers, _ in read}
