"""Model folders with damage: each refused when it is loaded, or before its first answer, with the folder or file named."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bad_world import Case, World, rewritten
from safetensors.numpy import load_file, save_file

import steer_core as steer
from steer_core.models.embedded import weights_folder

CONFIG, TOKENIZER, WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
Spoil = Callable[[Path], object]


def whole(world: World) -> Path:
    """A copy of the embedded model."""
    return shutil.copytree(weights_folder(), world.folder / "mine")


def asked(world: World, spoil: Spoil, **settings: Any) -> object:
    """The first token of a damaged copy."""
    folder = whole(world)
    spoil(folder)
    return steer.load(folder, **settings).generate("Tell me.", max_new_tokens=1)


def config(**changes: Any) -> Spoil:
    """Other settings in config.json; `...` takes one away."""
    return lambda f: rewritten(f / CONFIG, lambda c: {k: v for k, v in {**c, **changes}.items() if v is not ...})


def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Another tokenizer.json."""
    return lambda f: rewritten(f / TOKENIZER, change)


def weights(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Other tensors in model.safetensors, which `change` changes in place."""

    def spoil(folder: Path) -> None:
        tensors = dict(load_file(folder / WEIGHTS))
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return spoil


def written(name: str, content: str | bytes) -> Spoil:
    """A file with another content."""
    return lambda f: (f / name).write_bytes(content.encode() if isinstance(content, str) else content)


def cut(name: str, by: int) -> Spoil:
    """A file that lacks its last bytes."""
    return lambda f: (f / name).write_bytes((f / name).read_bytes()[:-by])


def gone(*names: str) -> Spoil:
    """Files that are not there."""
    return lambda f: [(f / n).unlink() for n in names]


def flipped(at: int) -> Spoil:
    """Weights with one byte of their header changed."""

    def spoil(folder: Path) -> None:
        data = bytearray((folder / WEIGHTS).read_bytes())
        data[at] ^= 0xFF
        (folder / WEIGHTS).write_bytes(data)

    return spoil


def headed(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Weights whose header says something else."""

    def spoil(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        change(header)
        body = json.dumps(header).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(body)) + body + data[8 + size :])

    return spoil


NORM, DOWN = "model.layers.1.input_layernorm.weight", "model.layers.2.mlp.down_proj.weight"


def numbered(name: str, number: float) -> Spoil:
    """One number of a weight that is none."""

    def change(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name].flat[3] = number

    return weights(change)


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    """A mapping with one key called otherwise."""

    def change(body: dict[str, Any]) -> None:
        body[new] = body.pop(old)

    return change


#: What is wrong, how it comes about, settings of the loading, and what is said.
FAULTS: tuple[tuple[str, Spoil, dict[str, Any], list[str]], ...] = (
    ("config.json gone", gone(CONFIG), {}, ["no config.json"]),
    ("config.json torn", cut(CONFIG, 100), {}, [CONFIG]),
    ("config.json empty", written(CONFIG, ""), {}, [CONFIG]),
    ("config.json a list", written(CONFIG, "[]"), {}, [CONFIG]),
    ("config.json null", written(CONFIG, "null"), {}, [CONFIG]),
    ("config.json not UTF-8", written(CONFIG, '{"a": "ü"}'.encode("latin-1")), {}, [CONFIG]),
    ("config.json a web page", written(CONFIG, "<html>"), {}, [CONFIG]),
    ("config.json nested without end", written(CONFIG, "[" * 100_000), {}, [CONFIG]),
    ("config.json a folder", lambda f: ((f / CONFIG).unlink(), (f / CONFIG).mkdir()), {}, ["config.json"]),
    ("config: no model type", config(model_type=..., architectures=...), {}, ["'mine'"]),
    ("config: another model type", config(model_type="gpt2"), {}, ["'mine'"]),
    ("config: an unknown model type", config(model_type="martian"), {}, ["'mine'", "martian"]),
    ("config: a model type that is a number", config(model_type=7), {}, ["'mine'"]),
    ("config: an encoder", config(model_type="bert", architectures=["BertModel"]), {}, ["'mine'"]),
    ("config: fewer layers", config(num_hidden_layers=3), {}, ["9 weights", "no place"]),
    ("config: more layers", config(num_hidden_layers=5), {}, ["lack 9"]),
    ("config: no layer", config(num_hidden_layers=0), {}, ["'mine'"]),
    ("config: layers below 0", config(num_hidden_layers=-1), {}, ["'mine'"]),
    ("config: layers in words", config(num_hidden_layers="four"), {}, ["'mine'"]),
    ("config: another width", config(hidden_size=96), {}, ["'mine'"]),
    ("config: a width of text", config(hidden_size="wide"), {}, ["'mine'"]),
    ("config: another vocabulary", config(vocab_size=1000), {}, ["'mine'"]),
    ("config: heads that do not divide", config(num_attention_heads=3, head_dim=...), {}, ["'mine'"]),
    ("config: an unknown activation", config(hidden_act="magic"), {}, ["'mine'"]),
    ("config: another RoPE", config(rope_parameters={"rope_type": "magic"}), {}, ["'mine'"]),
    ("config: a context of 0", config(max_position_embeddings=0), {}, ["'mine'"]),
    ("config: a context below 0", config(max_position_embeddings=-512), {}, ["'mine'"]),
    ("config: a context in words", config(max_position_embeddings="long"), {}, ["'mine'"]),
    ("config: text settings that are none", config(text_config="x"), {}, ["'mine'"]),
    ("tokenizer gone", gone(TOKENIZER, "tokenizer_config.json"), {}, ["no tokenizer can be read"]),
    ("tokenizer.json gone", gone(TOKENIZER), {}, ["no tokenizer can be read"]),
    ("tokenizer.json torn", cut(TOKENIZER, 500), {}, ["no tokenizer can be read"]),
    ("tokenizer.json empty", written(TOKENIZER, ""), {}, ["no tokenizer can be read"]),
    ("tokenizer.json null", written(TOKENIZER, "null"), {}, ["no tokenizer can be read"]),
    ("tokenizer.json without a model", tokenizer(lambda t: {k: v for k, v in t.items() if k != "model"}), {}, ["no tokenizer can be read"]),
    ("tokenizer.json of an unknown kind", tokenizer(lambda t: {**t, "model": {**t["model"], "type": "Magic"}}), {}, ["no tokenizer can be read"]),
    ("tokenizer_config.json torn", cut("tokenizer_config.json", 40), {}, ["no tokenizer can be read"]),
    ("tokenizer_config.json a list", written("tokenizer_config.json", "[]"), {}, ["'mine'"]),
    ("tokenizer: a word that the weights lack", tokenizer(lambda t: {**t, "added_tokens": [*t["added_tokens"], {**t["added_tokens"][0], "id": 1408, "content": "Tell me", "special": False}]}), {}, ["1408", "tokenizer"]),
    ("weights gone", gone(WEIGHTS), {}, ["no *.safetensors"]),
    ("weights empty", written(WEIGHTS, b""), {}, ["could not be loaded"]),
    ("weights truncated", cut(WEIGHTS, 1000), {}, ["could not be loaded"]),
    ("weights: only their header", lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:200]), {}, ["could not be loaded"]),
    ("weights: surplus bytes", lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes() + b"x" * 64), {}, ["could not be loaded"]),
    ("weights: a header of another length", flipped(1), {}, ["could not be loaded"]),
    ("weights: a header without end", flipped(7), {}, ["could not be loaded"]),
    ("weights: a header that is no JSON", flipped(8), {}, ["could not be loaded"]),
    ("weights: a pointer to a large file", written(WEIGHTS, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"), {}, ["could not be loaded"]),
    ("weights: pickles", lambda f: (f / WEIGHTS).rename(f / "pytorch_model.bin"), {}, ["pickled weights are not read"]),
    ("weights: one missing", weights(lambda t: t.pop(NORM)), {}, ["lack 1", NORM]),
    ("weights: one too many", weights(lambda t: t.update(extra=np.ones(3, np.float32))), {}, ["1 weights", "extra"]),
    ("weights: one renamed", weights(renamed(NORM, f"{NORM}s")), {}, ["lack 1", NORM]),
    ("weights: one of another shape", weights(lambda t: t.update({NORM: np.ones(64, np.float32)})), {}, ["another shape", NORM]),
    ("weights: one transposed", weights(lambda t: t.update({DOWN: np.ascontiguousarray(t[DOWN].T)})), {}, ["another shape", DOWN]),
    ("weights: NaN", numbered(DOWN, np.nan), {}, ["1 numbers", DOWN]),
    ("weights: infinity", numbered(NORM, np.inf), {}, ["1 numbers", NORM]),
    ("weights: whole numbers", weights(lambda t: t.update({DOWN: (t[DOWN] * 100).astype(np.int8)})), {}, ["I8", DOWN]),
    ("weights: a name called otherwise in the header", headed(renamed(DOWN, "model.layers.9.mlp.down_proj.weight")), {}, ["lack 1", DOWN]),
    ("weights: another type in the header", headed(lambda h: h[NORM].update(dtype="F64")), {}, ["could not be loaded"]),
    ("weights: an unknown type in the header", headed(lambda h: h[NORM].update(dtype="F7")), {}, ["could not be loaded"]),
    ("weights: offsets that overlap", headed(lambda h: h[NORM].update(data_offsets=[0, 512])), {}, ["could not be loaded"]),
    ("weights: an index of files that are not there", lambda f: ((f / WEIGHTS).rename(f / "other.safetensors"), written("model.safetensors.index.json", '{"metadata": {}, "weight_map": {"lm_head.weight": "a.safetensors"}}')(f)), {}, ["could not be loaded"]),
    ("weights: an index that is torn", lambda f: ((f / WEIGHTS).rename(f / "other.safetensors"), written("model.safetensors.index.json", '{"weight_map": ')(f)), {}, ["could not be loaded"]),
    ("template: a syntax error", written("chat_template.jinja", "{% for m in messages %}{{ m.content "), {}, ["chat template"]),
    ("template: an unknown variable", written("chat_template.jinja", "{{ persona.name }}{% for m in messages %}{{ m.content }}{% endfor %}"), {}, ["chat template"]),
    ("template: an unknown filter", written("chat_template.jinja", "{% for m in messages %}{{ m.content | shout }}{% endfor %}"), {}, ["chat template"]),
    ("template: nothing", written("chat_template.jinja", "hello"), {}, ["chat template"]),
    ("template: no user", written("chat_template.jinja", "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}"), {}, ["chat template"]),
    ("template: it refuses", written("chat_template.jinja", "{{ raise_exception('only tools') }}"), {}, ["chat template", "only tools"]),
    ("template: words changed", written("chat_template.jinja", "{% for m in messages %}{{ m.content | upper }}{% endfor %}"), {}, ["chat template"]),
    ("template: not UTF-8", written("chat_template.jinja", "{{ messages }} ü".encode("latin-1")), {}, ["'mine'"]),
    ("template: empty, and wanted", written("chat_template.jinja", ""), {"chat": True}, ["chat template"]),
    ("template: none, and wanted", gone("chat_template.jinja"), {"chat": True}, ["chat template"]),
    ("an unknown type", lambda f: None, {"dtype": "float8"}, ["dtype"]),
    ("an unknown device", lambda f: None, {"device": "gpu"}, ["'gpu'"]),
    ("a device that is not there", lambda f: None, {"device": "cuda:77"}, ["cuda:77"]),
    ("a context of 0", lambda f: None, {"max_context": 0}, ["max_context"]),
    ("a setting that is none", lambda f: None, {"dtyp": "float32"}, ["dtyp"]),
    ("options that are no JSON", lambda f: None, {"template_options": {"a": float("nan")}}, ["template_options"]),
    ("an empty folder", lambda f: [p.unlink() for p in f.iterdir()], {}, ["no config.json"]),
)  # fmt: skip


def of_models() -> Iterator[Case]:
    for what, spoil, settings, said in FAULTS:
        yield Case(f"model {what}", lambda w, s=spoil, kw=settings: asked(w, s, **kw), said)
