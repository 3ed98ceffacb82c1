"""A model as a person handles it: loaded by name or wrapped, asked, steered, and fitted on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from schemas.digest import digest_bytes
from schemas.specs import Decoding, ModelSpec
from schemas.vector_part import Unit, VectorPart
from steer_core.front.arguments import instance, spec_of, text, whole
from steer_core.front.pairs import examples_of
from steer_core.front.vector import Vector
from steer_core.steering.plan import Message, Plan
from steer_core.tables.errors import ConfigError, SteerworksError

if TYPE_CHECKING:
    from steer_core.generation.engines.transformers import TransformersBackend
    from steer_core.models.loading import LoadedModel


class Model:
    """A language model with its tokenizer, ready to answer and to be steered.

    Attributes:
        loaded: the model as the rest of the library knows it.
        backend: what runs plans on it.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        from steer_core.generation.engines.transformers import TransformersBackend

        self.loaded = loaded
        self.backend: TransformersBackend = TransformersBackend(loaded)

    def __repr__(self) -> str:
        n = sum(p.numel() for p in self.loaded.model.parameters())
        return f"Model({self.loaded.spec.name!r}, {n / 1e6:.1f}M parameters, on {self.loaded.device})"

    @property
    def transformers_model(self) -> Any:
        """The plain transformers model inside."""
        return self.loaded.model

    def fit(
        self,
        pairs: Any,
        name: str = "concept",
        *,
        estimator: str = "mean-difference",
        layers: str | int | Sequence[int] = "middle",
        unit: Unit | None = None,
        **options: Any,
    ) -> Vector:
        """Fit a vector on contrast pairs.

        Args:
            pairs: a file, a data frame, or a list of (positive, negative) or (prompt, positive, negative) texts, or of
                dicts with those names.
            name: what the positive side shows.
            estimator: see `docs/vectors.md` for those there are.
            layers: `middle`, `all`, one layer, or several.
            unit: of strengths; None: the share of the activation norm.
            options: of the estimator.

        Raises:
            SteerworksError: a pair cannot be used, or gives no direction.
            ConfigError: an unknown estimator, option or layer.
        """
        from steer_core.vectors.fit import fit_vectors

        if not text("name", name):
            raise SteerworksError("name says what the positive side shows; it is empty")
        examples = examples_of(pairs, name)
        chosen = (layers,) if isinstance(layers, int) else layers
        # texts without an answer are read at their last token
        read = "answer" if examples["answer"].str.len_chars().max() else "last_prompt"
        part = spec_of(VectorPart, "fit", estimator=estimator, layers=chosen, read=read, options=options)
        return Vector(fit_vectors(self.loaded, examples, part), unit)

    def generate(
        self,
        prompts: str | Sequence[str],
        vector: Vector | None = None,
        strength: float | Sequence[float | None] | None = None,
        *,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        seed: int = 0,
        positions: str = "all",
    ) -> pl.DataFrame:
        """Answers to prompts, at one strength or several, all in one stream of batches.

        Args:
            prompts: what the user says; the chat template is used where the model has one.
            vector: what steers; None: nothing.
            strength: in the vector's unit; None is off. Several give an answer each.
            max_new_tokens: of each answer.
            temperature: 0 is greedy.
            seed: of sampled answers.
            positions: which tokens are steered: `all`, `prompt`, `completion`, `last_prompt` ...

        Returns:
            Columns prompt, strength, text, finish_reason, tokens; prompts in order, strengths in order within.

        Raises:
            SteerworksError: a strength without a vector, or a vector that does not fit the model.
            ConfigError: a number of tokens, a temperature or a seed that makes no sense.
        """
        from steer_core.generation.backend import Call, answer_all

        if not isinstance(prompts, Iterable):
            raise SteerworksError(f"prompts are texts; got {prompts!r}")
        asked = [prompts] if isinstance(prompts, str) else list(prompts)
        if odd := [p for p in asked if not isinstance(p, str)]:
            raise SteerworksError(f"prompts are texts; one is {odd[0]!r}")
        for k, prompt in enumerate(asked):
            text(f"prompt {k}", prompt)
        strengths = list(strength) if isinstance(strength, Sequence) and not isinstance(strength, str) else [strength]
        if not strengths:
            raise SteerworksError("strength is an empty list: nothing would be asked; None is off")
        if vector is not None:
            instance("vector", vector, Vector, "one that `fit` or `read_vector` gave")
        whole("seed", seed, 0)
        if vector is None and any(s is not None for s in strengths):
            raise SteerworksError("a strength was given and no vector: pass `vector=...`, or leave the strength out")
        if vector is not None:
            self.backend.add_vectors(vector.parts)
        decoding = spec_of(Decoding, "generate", max_new_tokens=max_new_tokens, temperature=temperature)
        rows = []
        for prompt in asked:
            plan = Plan(self.loaded.spec.identity, decoding, messages=(Message("user", prompt),))
            for s in strengths:
                steered = () if vector is None else vector.interventions(s, positions)
                rows.append((prompt, s, replace(plan, interventions=steered)))
        answers = answer_all(self.backend, [Call(plan, 0, seed) for _, _, plan in rows])
        return pl.DataFrame(
            [
                (prompt, s, a.raw.strip(), a.finish_reason, a.completion_tokens)
                for (prompt, s, _), a in zip(rows, answers, strict=True)
            ],
            schema={
                "prompt": pl.String,
                "strength": pl.Float64,
                "text": pl.String,
                "finish_reason": pl.String,
                "tokens": pl.Int64,
            },
            orient="row",
        )


def load(model: Any = "embedded", tokenizer: Any = None, **settings: Any) -> Model:
    """A model by name, or one that is loaded already.

    Args:
        model: `embedded` (the small one that ships with Steerworks), a folder, a hub id (with `revision=`), or a
            transformers model, with its tokenizer.
        tokenizer: of a model that is loaded already.
        settings: of a model by name: `revision`, `dtype`, `quantization`, `device`, `max_context`, `chat`,
            `template_options`.

    Raises:
        ConfigError: it cannot be found or loaded, or a setting does not exist; says what to do.
    """
    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise ConfigError("a tokenizer goes with a model that is loaded already; one by name brings its own")
        return Model(_by_name(str(model), settings))
    if not hasattr(model, "generate") or not hasattr(model, "config"):
        raise ConfigError(f"a model is a name, a folder, or a transformers model; got {type(model).__name__}")
    if tokenizer is None:
        raise ConfigError("pass the model's tokenizer too: steer_core.load(model, tokenizer)")
    if not callable(tokenizer) or not hasattr(tokenizer, "pad_token_id"):
        raise ConfigError(f"the tokenizer is {type(tokenizer).__name__}, and must be one of transformers")
    if settings:
        raise ConfigError(f"{', '.join(settings)}: settings are for models by name; this one is loaded already")
    return Model(_wrapped(model, tokenizer))


def _by_name(name: str, settings: dict[str, Any]) -> LoadedModel:
    from steer_core.models.loading import load_model

    if given := [s for s in ("name", "source") if s in settings]:
        raise ConfigError(f"model {name!r}: {given[0]!r} is no setting; the model that is loaded says it")
    source = str(Path(name).resolve()) if Path(name).is_dir() else name
    spec = spec_of(ModelSpec, f"model {name!r}", name=_slug(Path(name).name), source=source, **settings)
    with _no_bars():
        return load_model(spec)


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Nothing drawn while weights are loaded: whoever called waits for the model, not for a bar."""
    from transformers.utils import logging as bars

    logging: Any = bars
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _wrapped(model: Any, tokenizer: Any) -> LoadedModel:
    from steer_core.models.info import ModelInfo, context_of
    from steer_core.models.loading import LoadedModel
    from steer_core.models.quantization import is_quantized, numbers_of

    if hasattr(model, "get_base_model"):
        model = model.get_base_model()  # PEFT's wrapper: the layers inside wear the adapter
    dtype = str(model.dtype).removeprefix("torch.")
    # the object's own numbers: another checkpoint, or the same one trained on, is another model
    total = b"".join(
        f"{name}{tuple(p.shape)}{float(p.float().sum()):.9g}{float(p.float().abs().max()):.9g}".encode()
        for name, p in ((name, numbers_of(p)) for name, p in _own_parameters(model))
    )
    if is_quantized(model):
        # what the stored numbers mean
        total += model.config.quantization_config.to_json_string().encode()
    fingerprint = digest_bytes(total)
    spec = ModelSpec(name=_slug(type(model).__name__), source=f"./{fingerprint}", dtype=dtype)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    tokenizer.padding_side = "left"
    info = ModelInfo(context_of(model.config), bool(tokenizer.chat_template))
    return LoadedModel(spec, model.eval(), tokenizer, info, fingerprint, str(model.device))


def _own_parameters(model: Any) -> Iterator[tuple[str, Any]]:
    """The model's parameters under their own names, whether or not adapters of ours have wrapped its layers since."""
    from steer_core.generation.adapters import has_adapters

    ours = has_adapters(model)
    for name, parameter in model.named_parameters():
        if not ours or "lora_" not in name:
            yield (name.replace(".base_layer", "") if ours else name), parameter


def _slug(name: str) -> str:
    kept = "".join(c if (c.isascii() and c.isalnum()) or c in "_.-" else "-" for c in name.lower()).lstrip("_.-")
    # a folder `7` would be read as a number from the tables' paths
    return kept[:80] if any(c.isalpha() for c in kept) else f"model-{kept}"[:80]
