"""Vectors that are damaged, foreign or no numbers, as files, as tables and as they are made by hand; plans likewise."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from bad_world import Case, World, vector
from safetensors.numpy import save

import steer_core as steer
from steer_core.steering.exchange import export_gguf, export_safetensors, import_gguf, import_safetensors, import_torch

NAN, INF = math.nan, math.inf
Change = Callable[[dict[str, Any], dict[str, Any]], object]


def read(world: World, data: bytes) -> object:
    """What a safetensors file of these bytes gives."""
    return import_safetensors(world.write("v.safetensors", data), model="abc", width=8)


def saved(world: World, *vectors: Any) -> bytes:
    """A whole file."""
    export_safetensors(vectors or (vector(),), world.folder / "v.safetensors")
    return (world.folder / "v.safetensors").read_bytes()


def edited(world: World, change: Change) -> object:
    """A file whose tensors and description `change` changes in place, read."""
    saved(world)
    from safetensors import safe_open

    with safe_open(world.folder / "v.safetensors", framework="numpy") as opened:
        tensors = {n: opened.get_tensor(n) for n in opened.keys()}  # noqa: SIM118
        metadata = dict(opened.metadata())
    described = {"metadata": metadata, "vectors": json.loads(metadata["vectors"])}
    change(tensors, described)
    if "vectors" in metadata and metadata["vectors"] != "":
        metadata["vectors"] = json.dumps(described["vectors"])
    return read(world, save(tensors, metadata))


def body(**changes: Any) -> Change:
    """Other fields of the first vector's description; `...` takes one away."""

    def change(_: dict[str, Any], described: dict[str, Any]) -> None:
        first = described["vectors"][0]
        for name, value in changes.items():
            if value is ...:
                del first[name]
            else:
                first[name] = value

    return change


def meta(**changes: Any) -> Change:
    """Other metadata; `...` takes an entry away."""

    def change(_: dict[str, Any], described: dict[str, Any]) -> None:
        for name, value in changes.items():
            if value is ...:
                described["metadata"].pop(name)
            else:
                described["metadata"][name] = value

    return change


def tensor(**changes: Any) -> Change:
    """Other tensors, `_` for the dot in their names; `...` takes one away."""

    def change(tensors: dict[str, Any], _: dict[str, Any]) -> None:
        for name, value in changes.items():
            name = name.replace("t0_", "0.").replace("t1_", "1.")
            if value is ...:
                tensors.pop(name)
            else:
                tensors[name] = value

    return change


ONES = np.ones((1, 8), np.float32)
#: What is wrong, how the file is changed, and what is said beside its name.
EDITS: tuple[tuple[str, Change, str], ...] = (
    ("another format", meta(format="others"), "not written by"),
    ("no format", meta(format=...), "not written by"),
    ("a newer version", meta(version="2"), "version 2"),
    ("no version", meta(version=...), "version None"),
    ("no description", meta(vectors=...), "it lacks 'vectors'"),
    ("a torn description", meta(vectors=""), "is damaged"),
    ("a description that is a mapping", lambda t, d: d.update(vectors={"a": 1}), "is damaged"),
    ("a description of texts", lambda t, d: d.update(vectors=["x"]), "is damaged"),
    ("a description of more vectors", lambda t, d: d["vectors"].append(d["vectors"][0]), "tea"),
    ("an empty description", lambda t, d: d.update(vectors=[]), "no vector"),
    ("no tensor", tensor(t0_direction=...), "tea"),
    ("a tensor of no vector", tensor(t1_direction=ONES), "1.direction"),
    ("a tensor without a number", lambda t, d: t.update(direction=ONES), "direction"),
    ("another width", tensor(t0_direction=np.ones((1, 6), np.float32)), "changed by hand"),
    ("another number", tensor(t0_direction=ONES), "changed by hand"),
    ("NaN", tensor(t0_direction=ONES * NAN), "not finite"),
    ("infinity", tensor(t0_direction=ONES * INF), "not finite"),
    ("three dimensions", tensor(t0_direction=np.ones((1, 1, 8), np.float32)), "tea"),
    ("whole numbers", tensor(t0_direction=np.ones((1, 8), np.int64)), "tea"),
    ("no numbers at all", tensor(t0_direction=np.ones((1, 0), np.float32)), "tea"),
    ("another layer", body(layer=2), "changed by hand"),
    ("a layer below 0", body(layer=-1), "layer -1"),
    ("a layer in words", body(layer="first"), "tea"),
    ("half a layer", body(layer=1.5), "tea"),
    ("no layer", body(layer=...), "'layer'"),
    ("another model", body(model="xyz"), "changed by hand"),
    ("another operator", body(operator="ablate"), "changed by hand"),
    ("an unknown site", body(site="logits"), "tea"),
    ("another site", body(site="mlp"), "changed by hand"),
    ("a scalar that is none", body(scalars={"residual_norm": NAN}), "residual_norm"),
    ("a scalar in words", body(scalars={"residual_norm": "big"}), "tea"),
    ("another scalar", body(scalars={"residual_norm": 4.0}), "changed by hand"),
    ("scalars that are a list", body(scalars=[3.0]), "is damaged"),
    ("no id", body(id=...), "'id'"),
    ("no lineage", body(lineage=...), "'lineage'"),
    ("a lineage that is a text", body(lineage="x"), "tea"),
    ("a curve that is none", body(kl_curve=[[1.0]]), "is damaged"),
    ("a curve of NaN", body(kl_curve=[[1.0, NAN]]), "tea"),
    ("a reliability in words", body(reliability="good"), "tea"),
    ("examples below 0", body(n_positive=-3), "tea"),
)  # fmt: skip


def of_safetensors() -> Iterator[Case]:
    for what, change, said in EDITS:
        yield Case(f"safetensors: {what}", lambda w, c=change: edited(w, c), ["v.safetensors", said])
    for what, spoil, said in (
        ("empty", lambda d: b"", "v.safetensors"),
        ("truncated", lambda d: d[:-5], "v.safetensors"),
        ("only its header", lambda d: d[:40], "v.safetensors"),
        ("a header without end", lambda d: struct.pack("<Q", 2**62) + d[8:], "v.safetensors"),
        ("a header that is no JSON", lambda d: d[:8] + b"x" + d[9:], "v.safetensors"),
        ("a pickle", lambda d: b"\x80\x04K\x01.", "v.safetensors"),
        ("surplus bytes", lambda d: d + b"x" * 8, "v.safetensors"),
        ("a flipped number", lambda d: d[:-3] + bytes([d[-3] ^ 1]) + d[-2:], "changed by hand"),
    ):
        yield Case(f"safetensors: {what}", lambda w, s=spoil: read(w, s(saved(w))), [said])
    yield Case(
        "safetensors: no file", lambda w: import_safetensors(w.folder / "gone.safetensors"), ["gone.safetensors"]
    )
    yield Case("safetensors: a folder", lambda w: import_safetensors(w.folder), ["no file at"])
    yield Case(
        "safetensors: of another model",
        lambda w: (saved(w), import_safetensors(w.folder / "v.safetensors", model="xyz")),
        ["v.safetensors", "fitted on model abc"],
    )
    yield Case(
        "safetensors: of another width",
        lambda w: (saved(w), import_safetensors(w.folder / "v.safetensors", width=16)),
        ["v.safetensors", "width 8"],
    )
    yield Case(
        "safetensors: read by the front door, of another model",
        lambda w: (saved(w), steer.read_vector(w.folder / "v.safetensors", w.model)),
        ["v.safetensors", "fitted on model abc"],
    )
    yield Case(
        "safetensors: nothing to write", lambda w: export_safetensors([], w.out / "v.safetensors"), ["no vector"]
    )
    yield Case("safetensors: written to a folder", lambda w: export_safetensors([vector()], w.out), ["out"])
    yield Case(
        "safetensors: written below a file",
        lambda w: export_safetensors([vector()], w.out / "before" / "v.safetensors"),
        ["v.safetensors"],
    )


def gguf(world: World, **edits: Any) -> bytes:
    export_gguf([vector()], world.folder / "v.gguf", model_hint="llama", **edits)
    return (world.folder / "v.gguf").read_bytes()


def reread(world: World, spoil: Callable[[bytes], bytes]) -> object:
    file = world.write("v.gguf", spoil(gguf(world)))
    return import_gguf(file, concept="tea", model="abc", width=8)


def of_gguf() -> Iterator[Case]:
    for what, spoil, said in (
        ("empty", lambda d: b"", "no GGUF file"),
        ("another magic", lambda d: b"GGML" + d[4:], "no GGUF file"),
        ("an older version", lambda d: d[:4] + struct.pack("<I", 1) + d[8:], "version 1"),
        ("a newer version", lambda d: d[:4] + struct.pack("<I", 4) + d[8:], "version 4"),
        ("too many tensors", lambda d: d[:8] + struct.pack("<Q", 2**60) + d[16:], "damaged"),
        ("too many keys", lambda d: d[:16] + struct.pack("<Q", 2**60) + d[24:], "damaged"),
        ("no tensor", lambda d: d[:8] + struct.pack("<Q", 0) + d[16:], "no direction"),
        ("truncated", lambda d: d[:-16], "damaged"),
        (
            "another kind of numbers",
            lambda d: d.replace(
                b"direction.1" + struct.pack("<IQI", 1, 8, 0), b"direction.1" + struct.pack("<IQI", 1, 8, 8)
            ),
            "Quantized",
        ),
        (
            "a shape without end",
            lambda d: d.replace(
                b"direction.1" + struct.pack("<IQI", 1, 8, 0), b"direction.1" + struct.pack("<IQI", 1, 2**62, 0)
            ),
            "damaged",
        ),
        (
            "a shape that goes round",
            lambda d: d.replace(
                b"direction.1" + struct.pack("<IQI", 1, 8, 0), b"direction.1" + struct.pack("<IQI", 1, 2**64 - 1, 0)
            ),
            "damaged",
        ),
        (
            "another width",
            lambda d: d.replace(
                b"direction.1" + struct.pack("<IQI", 1, 8, 0), b"direction.1" + struct.pack("<IQI", 1, 4, 0)
            ),
            "width 4",
        ),
        (
            "a place beyond its end",
            lambda d: d.replace(struct.pack("<IQIQ", 1, 8, 0, 0), struct.pack("<IQIQ", 1, 8, 0, 2**40)),
            "damaged",
        ),
        ("a tensor of another name", lambda d: d.replace(b"direction.1", b"direction.x"), "direction.x"),
        ("a name that is not UTF-8", lambda d: d.replace(b"direction.1", b"\xff\xferection.1"), "damaged"),
        ("another architecture", lambda d: d.replace(b"controlvector", b"controlvektor"), "controlvektor"),
        ("NaN", lambda d: d[:-32] + np.full(8, NAN, "<f4").tobytes(), "not finite"),
    ):
        yield Case(f"GGUF: {what}", lambda w, s=spoil: reread(w, s), ["v.gguf", said])
    for what, call, said in (
        (
            "a coefficient that is none",
            lambda w: export_gguf([vector()], w.out / "v.gguf", model_hint="llama", coefficient=NAN),
            "coefficient",
        ),
        (
            "a coefficient without end",
            lambda w: export_gguf([vector()], w.out / "v.gguf", model_hint="llama", coefficient=INF),
            "coefficient",
        ),
        (
            "a coefficient that is too large",
            lambda w: export_gguf([vector()], w.out / "v.gguf", model_hint="llama", coefficient=1e39),
            "coefficient",
        ),
        (
            "two widths",
            lambda w: export_gguf([vector(), vector(2, 6)], w.out / "v.gguf", model_hint="llama"),
            "width 6",
        ),
        ("written to a folder", lambda w: export_gguf([vector()], w.out, model_hint="llama"), "out"),
        ("an infinite strength", lambda w: w.vector.export_gguf(w.out / "v.gguf", INF), "strength"),
    ):
        yield Case(f"GGUF: {what}", call, [said])


def of_torch() -> Iterator[Case]:
    for what, value, layer, said in (
        ("a list", [torch.ones(8)], 1, "no tensor"),
        ("numbers", [1.0] * 8, 1, "no tensor"),
        ("a text", "x", 1, "no tensor"),
        ("nothing", None, 1, "no tensor"),
        ("a mapping of lists", {1: [1.0]}, None, "layer 1"),
        ("layers below 0", {-1: torch.ones(8)}, None, "-1"),
        ("layers with points", {1.0: torch.ones(8)}, None, "1.0"),
        ("the same layer twice", {1: torch.ones(8), "1": torch.zeros(8)}, None, "1"),
        ("layers in other digits", {"²": torch.ones(8)}, None, "keys must be"),
        ("a layer below 0", torch.ones(8), -2, "layer -2"),
        ("a layer in words", torch.ones(8), "one", "layer"),
        ("half a layer", torch.ones(8), 1.5, "layer"),
        ("truths", torch.ones(8, dtype=torch.bool), 1, "torch.bool"),
        ("complex numbers", torch.ones(8, dtype=torch.complex64), 1, "complex64"),
        ("no numbers", torch.ones(0), 1, "empty"),
        ("a square", torch.ones(8, 8), 1, "shape"),
        ("another width", torch.ones(6), 1, "width 6"),
        ("infinity", torch.full((8,), INF), 1, "not finite"),
        ("a number too large for it", torch.full((8,), 1e300, dtype=torch.float64), 1, "not finite"),
        ("a sparse tensor", torch.ones(8).to_sparse(), 1, "v.pt"),
        ("a tensor without storage", torch.ones(8, device="meta"), 1, "v.pt"),
    ):  # fmt: skip

        def call(world: World, value: Any = value, layer: Any = layer) -> object:
            torch.save(value, world.folder / "v.pt")
            return import_torch(world.folder / "v.pt", concept="tea", model="abc", layer=layer, width=8)

        yield Case(f"torch: {what}", call, ["v.pt", said])
    for what, spoil in (
        ("truncated", lambda d: d[:-100]),
        ("empty", lambda d: b""),
        ("words", lambda d: b"direction"),
        ("bytes in its middle", lambda d: d[:60] + b"\xff" * 60 + d[120:]),
        ("an archive of other things", lambda d: b"PK\x05\x06" + b"\0" * 18),
        ("safetensors", lambda d: save({"a": ONES})),
    ):

        def cut(world: World, spoil: Callable[[bytes], bytes] = spoil) -> object:
            torch.save(torch.ones(8), world.folder / "v.pt")
            world.write("v.pt", spoil((world.folder / "v.pt").read_bytes()))
            return import_torch(world.folder / "v.pt", concept="tea", model="abc", layer=1)

        yield Case(f"torch: {what}", cut, ["v.pt", "not a torch file of plain tensors"])
