"""`classifier`: a sequence classifier of transformers, from a hub id or a local folder.

Labels of models trained on the comments of Jigsaw's three challenges are known by name; others are mapped by option. A
text that is longer than the model reads is scored on its first tokens, and `truncated` says which are.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from schemas.digest import digest_json
from steer_core.evaluation.profiles.scorer import (
    ATTRIBUTES,
    EMPTY,
    VERSION_DIGITS,
    Marks,
    Scorer,
    all_attributes,
    is_blank,
)
from steer_core.goals.errors import ScorerUnavailableError
from steer_core.goals.scorers.hub_classifier import fingerprint, window
from steer_core.tables.errors import ConfigError

_log = logging.getLogger(__name__)

#: Labels stand in the model's config.
KNOWS_LATE = True
Activation = Literal["sigmoid", "softmax"]
#: Label of toxic-bert or detoxify, in lower case with `_` -> attribute.
LABELS = {
    "toxic": "toxicity",
    "severe_toxic": "severe_toxicity",
    "obscene": "profanity",
    "identity_hate": "identity_attack",
    **{a: a for a in ATTRIBUTES},
}
_ACTIVATIONS: dict[str, Activation] = {
    "multi_label_classification": "sigmoid",
    "single_label_classification": "softmax",
}


@dataclass(frozen=True)
class Classifier:
    """The scorer; the model is loaded when it first scores, or is asked what it scores.

    Attributes:
        name: of the model.
        version: digest of the identity of the weights and of the settings below.
        tested: as it was given.
        model: hub id or folder.
        revision: of a hub id.
        labels: label -> attribute, or None for the labels that are known.
        activation: or None for what the model's config says.
        max_tokens: that are read of a text; None for all that the model takes.
        batch_size: texts at a time.
        device: `auto` (CUDA where there is one), `cpu`, `cuda:1` ...
    """

    name: str
    version: str
    tested: str
    model: str
    revision: str | None
    labels: Mapping[str, str] | None
    activation: Activation | None
    max_tokens: int | None
    batch_size: int
    device: str

    @property
    def attributes(self) -> tuple[str, ...]:
        """What it scores."""
        return tuple(self._loaded[2])

    def score(self, texts: Sequence[str]) -> list[Marks]:
        """Probability of the label of each attribute; a blank text is `empty`.

        Raises:
            ScorerUnavailableError: the model cannot be loaded.
            ConfigError: its labels or its activation are not known, and no option says them.
        """
        import torch

        tokenizer, model, columns, activation = self._loaded
        wanted = [i for i, t in enumerate(texts) if not is_blank(t)]
        marks: list[Marks] = [all_attributes(EMPTY, self.attributes)] * len(texts)
        # like lengths together: less padding
        wanted.sort(key=lambda i: len(texts[i]))
        for start in range(0, len(wanted), self.batch_size):
            batch = wanted[start : start + self.batch_size]
            encoded = tokenizer(
                [texts[i] for i in batch],
                truncation=True,
                max_length=self._limit,
                padding=len(batch) > 1,
                return_tensors="pt",
            )
            with torch.inference_mode():
                logits = model(**encoded.to(model.device)).logits.double()  # [texts, labels]
            chances = (logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1)).tolist()
            for i, row in zip(batch, chances, strict=True):
                marks[i] = {a: row[column] for a, column in columns.items()}
        cut = sum(self.truncated(texts))
        if cut:
            _log.warning("%s: %d of %d texts scored on their first %d tokens", self.name, cut, len(texts), self._limit)
        return marks

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is scored on its first tokens only."""
        tokenizer = self._loaded[0]
        if not texts:
            return []
        return [len(ids) > self._limit for ids in tokenizer(list(texts), verbose=False)["input_ids"]]

    @functools.cached_property
    def _limit(self) -> int:
        most = window(self._loaded[0], self._loaded[1])
        return most if self.max_tokens is None else min(most, self.max_tokens)

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any, dict[str, int], Activation]:
        """Tokenizer, model in evaluation mode, attribute -> column, activation."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, revision=self.revision)
            model = AutoModelForSequenceClassification.from_pretrained(
                self.model, revision=self.revision, use_safetensors=True
            )
        except OSError as error:
            raise ScorerUnavailableError(
                f"scorer 'classifier': model {self.model!r} (revision {self.revision}) cannot be loaded: {error}. "
                "Check name, revision and network, or name a folder with .safetensors weights and a tokenizer"
            ) from error
        columns = _columns(self.model, {int(i): str(n) for i, n in model.config.id2label.items()}, self.labels)
        activation = self.activation or _ACTIVATIONS.get(model.config.problem_type or "")
        if activation is None:
            raise ConfigError(
                f"scorer 'classifier': the config of {self.model!r} does not say its problem type; give `activation`: "
                "sigmoid if a text may have several labels, softmax if it has one"
            )
        if self.batch_size > 1 and (tokenizer.pad_token is None or model.config.pad_token_id is None):
            raise ConfigError(
                f"scorer 'classifier': {self.model!r} has no padding token, so texts cannot share a batch; give "
                "`batch_size` 1"
            )
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return tokenizer, model.to(device).eval(), columns, activation


def build(
    *,
    model: str,
    revision: str | None = None,
    labels: dict[str, str] | None = None,
    activation: Activation | None = None,
    max_tokens: int | None = None,
    batch_size: int = 16,
    device: str = "auto",
    tested: str | None = None,
) -> Scorer:
    """The scorer; the model is loaded when it is first needed.

    Args:
        model: hub id, or path of a local folder (starts with `/`, `.` or `~`).
        revision: commit or tag; required for a hub id, so that scores can be made again.
        labels: label of the model -> attribute, in place of the labels that are known; other labels are left out.
        activation: `sigmoid` or `softmax`; by default what the `problem_type` of the model's config says.
        max_tokens: that are read of a text; by default all that the model takes.
        batch_size: texts at a time; changes no score beyond rounding.
        device: `auto`, `cpu`, `cuda`, `cuda:1` ...
        tested: what is known of how well it works; by default, that nobody has tested it here.

    Raises:
        ConfigError: a hub id without a revision, or a number below 1.
        ScorerUnavailableError: the folder holds no safetensors weights.
    """
    for option, number in (("max_tokens", max_tokens), ("batch_size", batch_size)):
        if number is not None and number < 1:
            raise ConfigError(f"scorer 'classifier': option {option!r} must be at least 1, not {number}")
    if model.startswith(("/", ".", "~")):
        from pathlib import Path

        folder = Path(model).expanduser()
        identity, model, name = fingerprint(folder, "classifier"), str(folder), folder.resolve().name
    elif revision is None:
        raise ConfigError(f"scorer 'classifier': hub id {model!r} needs a `revision` (a commit or tag)")
    else:
        identity = name = f"{model}@{revision}"
    settings = {"identity": identity, "labels": labels, "activation": activation, "max_tokens": max_tokens}
    tested = tested or f"nobody has tested {name} here"
    version = digest_json(settings)[:VERSION_DIGITS]
    return Classifier(name, version, tested, model, revision, labels, activation, max_tokens, batch_size, device)


def _columns(model: str, names: Mapping[int, str], labels: Mapping[str, str] | None) -> dict[str, int]:
    has = f"model {model!r} has the labels {', '.join(names.values())}"
    if labels is not None and (absent := [label for label in labels if label not in names.values()]):
        raise ConfigError(f"scorer 'classifier': no label {absent[0]!r}; {has}")
    columns: dict[str, int] = {}
    for column, name in names.items():
        plain = name.lower().replace(" ", "_").replace("-", "_")
        attribute = LABELS.get(plain) if labels is None else labels.get(name)
        if attribute in columns:
            raise ConfigError(f"scorer 'classifier': two labels are {attribute!r}; {has}. Map one by option `labels`")
        if attribute is not None:
            columns[attribute] = column
    if not columns:
        raise ConfigError(f"scorer 'classifier': {has}, and none is known; map them by option `labels`")
    ordered = [a for a in ATTRIBUTES if a in columns] + [a for a in columns if a not in ATTRIBUTES]
    return {a: columns[a] for a in ordered}
