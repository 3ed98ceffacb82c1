"""Any text classification model as a goal: the mean probability of a label over a text's sentences."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from steer_core.goals.analysis import TextAnalysis
from steer_core.goals.scorer import Scorer, check_number, raise_config, raise_unavailable


@dataclass(frozen=True)
class HubClassifier(Scorer):
    """Probability of a label, averaged over the sentences of a text, each cut where the model's window ends.

    Probabilities are a softmax over the labels, or a sigmoid each where the model's config says
    `multi_label_classification`. Undefined for a text without sentences.

    Attributes:
        identity: what decides the values: hub id and revision, or a hash of a local folder's weights.
        label: label of the model's config.
        model: hub id or path of a local `save_pretrained` folder.
        revision: commit or tag of a hub model.
        batch_size: sentences at a time; changes no value beyond rounding.
        device: `auto` (CUDA where there is one), `cpu`, `cuda:1` ...
    """

    identity: str
    label: str
    model: str = field(metadata={"identity": False})
    revision: str | None = field(metadata={"identity": False})
    batch_size: int = field(default=32, metadata={"identity": False})
    device: str = field(default="auto", metadata={"identity": False})
    name: ClassVar[str] = "hub_classifier"
    version: ClassVar[int] = 2

    def __reduce__(self) -> tuple[object, ...]:
        # a worker process loads the model itself: only the options travel
        options = (self.identity, self.label, self.model, self.revision, self.batch_size, self.device)
        return HubClassifier, options

    def measure(self, analyses: Sequence[TextAnalysis]) -> list[float | None]:
        """Mean probability of the label for each text, 0 to 1."""
        import torch

        tokenizer, model, label = self._loaded
        owners = [i for i, a in enumerate(analyses) for _ in a.sentences]
        sentences = [s for a in analyses for s in a.sentences]
        sums, counts = [0.0] * len(analyses), [0] * len(analyses)
        # like lengths together: less padding
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            encoded = tokenizer(
                [sentences[i] for i in batch],
                truncation=True,
                max_length=window(tokenizer, model),
                return_overflowing_tokens=True,
                padding=True,
                return_tensors="pt",
            )
            sample = encoded.pop("overflow_to_sample_mapping").tolist()
            with torch.inference_mode():
                logits = model(**encoded.to(model.device)).logits.float()
            multi = model.config.problem_type == "multi_label_classification"
            chances = (logits.sigmoid() if multi else logits.softmax(-1))[:, label].tolist()
            for which, chance in zip(sample, chances, strict=True):
                sums[owners[batch[which]]] += chance
                counts[owners[batch[which]]] += 1
        return [total / n if n else None for total, n in zip(sums, counts, strict=True)]

    @functools.cached_property
    def _loaded(self) -> tuple[Any, Any, int]:
        """Tokenizer, model in evaluation mode, and index of the label."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.model, revision=self.revision)
            model = AutoModelForSequenceClassification.from_pretrained(self.model, revision=self.revision)
        except OSError as error:
            raise_unavailable(
                f"scorer 'hub_classifier': model {self.model!r} (revision {self.revision}) cannot be loaded: {error}. "
                "Check name and revision and the network, or give the path of a local `save_pretrained` folder"
            )
        labels = {str(name): int(index) for index, name in model.config.id2label.items()}
        if self.label not in labels:
            raise_config(
                f"scorer 'hub_classifier': model {self.model!r} has no label {self.label!r}; it has: "
                f"{', '.join(labels)}"
            )
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return tokenizer, model.to(device).eval(), labels[self.label]


def window(tokenizer: Any, model: Any) -> int:
    """Most tokens that both tokenizer and model take."""
    positions = getattr(model.config, "max_position_embeddings", None) or 512
    # RoBERTa's positions start behind the padding index
    if model.config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= model.config.pad_token_id + 1
    return int(min(tokenizer.model_max_length, positions))


def build(*, model: str, label: str, revision: str | None = None, batch_size: int = 32, device: str = "auto") -> Scorer:
    """The scorer; the model is loaded when it first scores.

    Args:
        model: hub id, or path of a local folder (starts with `/`, `.` or `~`).
        label: label of the model's config, e.g. `joy`.
        revision: commit or tag; required for a hub id, so that values can be reproduced.
        batch_size: sentences at a time.
        device: `auto`, `cpu`, `cuda`, `cuda:1` ...
    """
    check_number("hub_classifier", "batch_size", batch_size, 1)
    if model.startswith(("/", ".", "~")):
        folder = Path(model).expanduser()
        identity, model = fingerprint(folder), str(folder)
    elif revision is None:
        raise_config(f"scorer 'hub_classifier': hub id {model!r} needs a `revision` (a commit or tag)")
    else:
        identity = f"{model}@{revision}"
    return HubClassifier(identity, label, model, revision, batch_size, device)


def fingerprint(folder: Path, scorer: str = "hub_classifier") -> str:
    """Hash of the weights, the config and the tokenizer of a local folder.

    Raises:
        ScorerUnavailableError: it holds no safetensors weights; names the scorer.
    """
    from schemas.digest import digest_bytes, digest_json

    files = sorted(f for f in folder.glob("*") if f.suffix in (".safetensors", ".json", ".txt", ".model"))
    if not any(f.suffix == ".safetensors" for f in files):
        raise_unavailable(f"scorer {scorer!r}: folder {folder} holds no .safetensors weights")
    return digest_json({f.name: digest_bytes(f.read_bytes()) for f in files})
