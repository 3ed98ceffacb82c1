"""Labels of answers: by the ruler, or by an attribute model that learnt from labels of the ruler in the same run.

Annotations are rows of the run and are made once: a run that is taken up again labels what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.steerlm_recipe import SteerlmRecipe
from steer_core.adapters.inheritance.candidates import Drawn, positions
from steer_core.adapters.recipe import Training
from steer_core.adapters.run import RunFolder
from steer_core.adapters.steerlm.asking import LabelPrompt
from steer_core.adapters.steerlm.calibration import attribute_scores
from steer_core.tables.errors import ConfigError

Floats = NDArray[np.float64]
#: Texts -> levels, not rounded, shape [n, attributes]; NaN where undefined.
Annotator = Callable[[Sequence[str]], Floats]
#: Rows of the run that annotations are kept in, of step 0, and how many are made between two writes.
FILE, STEP, CHUNK = "annotations", 0, 256
#: Resamples of texts for the interval of the attribute model's R^2.
DRAWS = 1000


@dataclass(frozen=True)
class Annotated:
    """An answer with what it is.

    Attributes:
        drawn: the answer as the model wrote it.
        text: cleaned.
        failure: why it is no answer; None where it is one.
        values: levels, not rounded, shape [attributes]; NaN where undefined, and for an answer that is none.
    """

    drawn: Drawn
    text: str
    failure: str | None
    values: Floats

    @property
    def usable(self) -> bool:
        """Whether it is an answer of which at least one attribute is known."""
        return self.failure is None and not bool(np.isnan(self.values).all())


def ruler_of(training: Training, prompt: LabelPrompt) -> Annotator:
    """The ruler as an annotator: positions in [0, 1] times the highest level."""

    def levels(texts: Sequence[str]) -> Floats:
        places = positions(texts, training)
        z = np.array([[places[t].get(g) for g in prompt.goals] for t in texts], dtype=np.float64)
        return np.asarray(z.reshape(len(texts), len(prompt.goals)) * prompt.top)

    return levels


def annotate(drawn: Sequence[Drawn], training: Training, annotator: Annotator, goals: int) -> list[Annotated]:
    """Answers with their labels, in order; those that the run has already are not labelled again.

    Args:
        drawn: answers; one that failed is not labelled.
        training: cleans answers and says which are none; its run keeps the annotations.
        annotator: labels texts.
        goals: number of attributes.
    """
    cleaned = {(d.request_id, d.sample): training.failure(d.request_id, d.raw, d.finish_reason) for d in drawn}
    known = {(r["request_id"], r["sample"]): r["values"] for r in training.run.rows(FILE)}
    missing = [d for d in drawn if (d.request_id, d.sample) not in known]
    nothing = np.full(goals, np.nan)
    for start in range(0, len(missing), CHUNK):
        part = missing[start : start + CHUNK]
        answers = [cleaned[d.request_id, d.sample] for d in part]
        able = [k for k, (text, failure) in enumerate(answers) if failure is None and text.strip()]
        values = dict(zip(able, annotator([answers[k][0] for k in able]) if able else [], strict=True))
        rows: list[dict[str, Any]] = []
        for k, one in enumerate(part):
            own = [None if np.isnan(v) else float(v) for v in values.get(k, nothing)]
            rows.append({"step": STEP, "request_id": one.request_id, "sample": one.sample, "values": own})
            known[one.request_id, one.sample] = own
        training.run.append(FILE, rows)
    found = []
    for one in drawn:
        text, failure = cleaned[one.request_id, one.sample]
        found.append(Annotated(one, text, failure, np.array(known[one.request_id, one.sample], dtype=np.float64)))
    return found


def attribute_annotator(
    recipe: SteerlmRecipe,
    training: Training,
    prompt: LabelPrompt,
    drawn: Sequence[Drawn],
    sources: Mapping[str, str],
) -> tuple[Annotator, dict[str, float]]:
    """An attribute model that is trained on the ruler's labels of some answers, and how far it is right on others.

    Answers are parted by their source text. Where the training stopped it goes on; a finished one is read.

    Args:
        recipe: which share is rated, which is held aside, and how the model is trained.
        training: the run; the model lies in its folder `attribute_model`, the ruler's labels in `rated`.
        prompt: attributes.
        drawn: the first answers.
        sources: request id -> its text.

    Returns:
        The annotator, and figures `annotator:NAME:GOAL` on the texts that were held aside.

    Raises:
        ConfigError: there are too few texts to part.
        SteerworksError: no answer could be rated.
    """
    from steer_core.adapters.steerlm.attribute_training import train_attribute_model
    from steer_core.adapters.steerlm.token_rows import TokenRows, rows_of_texts

    texts = sorted({sources[d.request_id] for d in drawn})
    order = np.random.default_rng([recipe.seed, 1]).permutation(len(texts))
    n = round(recipe.rated * len(texts))
    aside = max(1, round(recipe.held_aside * n))
    if n - aside < 1:
        raise ConfigError(
            f"rated = {recipe.rated:g} of {len(texts)} texts and held_aside = {recipe.held_aside:g} of those leave "
            "no text to learn from: raise the first, or train on more texts"
        )
    place = {texts[i]: k for k, i in enumerate(order)}
    group = {d: place[sources[d.request_id]] for d in drawn}
    chosen = [d for d in drawn if group[d] < n]
    if recipe.demonstrations is not None:
        training = replace(training, failure=lambda request, raw, finish: (raw.strip(), None))
    judged = replace(training, run=_begun(training.run, "rated"))
    rated = annotate(chosen, judged, ruler_of(training, prompt), len(prompt.goals))
    usable = [a for a in rated if a.usable]
    loaded = training.load()
    learnt = [a for a in usable if group[a.drawn] >= aside]
    ids = tuple(rows_of_texts([a.text for a in learnt], loaded.tokenizer, "escape"))
    targets = np.array([a.values for a in learnt], dtype=np.float64).reshape(len(learnt), len(prompt.goals))
    model = train_attribute_model(
        lambda: loaded.model,
        TokenRows(ids, targets),
        prompt.attributes,
        recipe.attribute_model,
        RunFolder(training.run.path / "attribute_model"),
        base=loaded.fingerprint,
        tokenizer=loaded.tokenizer,
        say=training.say,
    )

    def levels(texts: Sequence[str]) -> Floats:
        return model.predict(rows_of_texts(texts, loaded.tokenizer, "escape"))

    tested = [a for a in usable if group[a.drawn] < aside]
    figures = {"annotator:rated": float(len(usable)), "annotator:unrated": float(len(rated) - len(usable))}
    if tested:
        true = np.stack([a.values for a in tested])
        clusters = np.array([group[a.drawn] for a in tested])
        rng = np.random.default_rng([recipe.seed, 2])
        for score in attribute_scores(
            levels([a.text for a in tested]), true, prompt.attributes, clusters, draws=DRAWS, rng=rng
        ):
            for name, value in (
                ("r_squared", score.r_squared.value),
                ("mae", score.mae.value),
                ("calibration_error", score.calibration_error),
            ):
                figures[f"annotator:{name}:{score.attribute}"] = float("nan") if value is None else value
    return levels, figures


def _begun(run: RunFolder, name: str) -> RunFolder:
    own = RunFolder(run.path / name)
    own.begin()
    return own
