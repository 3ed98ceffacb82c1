"""The attribute model on texts whose attributes are known, on the model that ships: R^2 and calibration, held out.

Texts come from the grammar of the embedded model, with attributes that are uniform and independent of each other. Those
of the test tell scenarios that neither the language model nor the attribute model was trained on; texts of one scenario
are a cluster. Formality and difficulty say how formal and how hard words are, sentiment how pleased.

    OMP_NUM_THREADS=1 python benchmarks/attribute_model.py --out benchmarks/results/attribute_model.txt
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from schemas.specs import ModelSpec
from schemas.steerlm import AttributeModelSpec, AttributeSet, AttributeSpec
from steer_core.adapters.run import RunFolder
from steer_core.adapters.steerlm.attribute_training import train_attribute_model
from steer_core.adapters.steerlm.calibration import attribute_scores, calibration_table
from steer_core.adapters.steerlm.token_rows import TokenRows, rows_of_texts
from steer_core.models.embedded.grammar import MAX_SENTENCES, Split, write
from steer_core.models.loading import load_model
from steer_core.statistics import Estimate

ATTRIBUTES = AttributeSet(
    attributes=(
        *(AttributeSpec(name=name, low=-2, high=2) for name in ("sentiment", "formality", "difficulty")),
        AttributeSpec(name="sentences", low=1, high=MAX_SENTENCES),
    )
)
MODEL = ModelSpec(name="embedded", source="embedded", device="cpu")


def drawn(n: int, seed: int, split: Split) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Texts, their levels, and the scenario of each."""
    found = write(n, seed, split)
    levels = np.array([[getattr(t.attributes, a) for a in ATTRIBUTES.names] for t in found], dtype=float)
    scenarios = np.array([f"{t.scenario.topic}|{t.scenario.agent}|{t.scenario.object}" for t in found])
    return [t.text for t in found], levels, scenarios


def said(e: Estimate, digits: int = 3) -> str:
    if e.value is None:
        return "-"
    ends = "" if e.low is None else f" ({e.low:.{digits}f} to {e.high:.{digits}f})"
    return f"{e.value:.{digits}f}{ends}"


def write_down(predicted: np.ndarray, true: np.ndarray, scenarios: np.ndarray, say: list[str]) -> None:
    """Scores and calibration on the held-out texts."""
    say.append(f"{'attribute':12s} {'R^2':24s} {'absolute error, levels':24s} {'exact level':24s} calibration error")
    rng = np.random.default_rng(0)
    say.extend(
        f"{score.attribute:12s} {said(score.r_squared):24s} {said(score.mae):24s} {said(score.exact):24s} "
        f"{score.calibration_error:.3f}"
        for score in attribute_scores(predicted, true, ATTRIBUTES, scenarios, draws=1000, rng=rng)
    )
    say.append("by predicted level: texts, mean predicted, mean true, gap")
    say.extend(
        f"  {row.attribute:12s} {row.level:2d} {row.predicted.n:5d}  {row.predicted.value:6.2f}  "
        f"{said(row.true, 2):22s} {said(row.gap, 2)}"
        for row in calibration_table(predicted, true, ATTRIBUTES, scenarios)
        if row.predicted.value is not None
    )


def words(n: int, n_test: int, say: list[str]) -> None:
    """What counts of words alone give: a ridge regression, its penalty picked by cross-validation."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import RidgeCV

    started = time.process_time()
    texts, levels, _ = drawn(n, 11, "train")
    unseen, true, scenarios = drawn(n_test, 12, "heldout")
    counts = CountVectorizer(token_pattern=r"[A-Za-z]+|[.!?]")
    x = counts.fit_transform(texts).toarray()
    model = RidgeCV(alphas=(0.1, 1.0, 10.0, 100.0)).fit(x, levels)
    predicted = model.predict(counts.transform(unseen).toarray())
    say.append(
        f"\nno language model: ridge regression on counts of {x.shape[1]} words and full stops; {n} texts; "
        f"{time.process_time() - started:.0f} s of processor time with making the texts"
    )
    write_down(predicted, true, scenarios, say)


def report(spec: AttributeModelSpec, n: int, n_test: int, say: list[str]) -> None:
    """Train once, and write down what came of it."""
    loaded = load_model(MODEL)
    texts, levels, _ = drawn(n, 11, "train")
    unseen, true, scenarios = drawn(n_test, 12, "heldout")
    train = TokenRows(tuple(rows_of_texts(texts, loaded.tokenizer)), levels)
    with tempfile.TemporaryDirectory() as folder:
        started, cpu = time.monotonic(), time.process_time()
        model = train_attribute_model(
            lambda: load_model(MODEL).model,
            train,
            ATTRIBUTES,
            spec,
            RunFolder(Path(folder)),
            base=loaded.fingerprint,
            tokenizer=loaded.tokenizer,
            observe=lambda step, f: print(step, round(f["loss"], 4), flush=True) if step % 50 == 0 else None,
        )
        took, cpu = time.monotonic() - started, time.process_time() - cpu
    predicted = model.predict(rows_of_texts(unseen, loaded.tokenizer))
    steps = "no steps" if spec.body == "frozen" else f"{spec.steps} steps of {spec.rows_per_step} rows"
    read = "writes levels" if spec.form == "generative" else f"reads {spec.read}"
    say.append(
        f"\nbody {spec.body}, {read}; {steps}; {len(train.ids)} texts; {cpu:.0f} s of processor time "
        f"({took:.0f} s by the clock) with loading"
    )
    write_down(predicted, true, scenarios, say)


def main() -> None:
    parser = argparse.ArgumentParser(description="Attribute models on the grammar's ground truth.")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--texts", type=int, default=8000, help="texts to train on")
    parser.add_argument("--test", type=int, default=1500, help="held-out texts")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", type=int, default=32, help="texts of a step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument(
        "--bodies", nargs="+", default=["lora:last", "lora:generative", "frozen:last", "frozen:mean", "words"]
    )
    options = parser.parse_args()
    lines = [f"{options.test} held-out texts, {torch.get_num_threads()} thread; intervals over scenarios, 95%"]
    for chosen in options.bodies:
        if chosen == "words":
            words(options.texts, options.test, lines)
        else:
            report(spec_of(chosen, options), options.texts, options.test, lines)
        print("\n".join(lines), flush=True)
        if options.out is not None:
            options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def spec_of(chosen: str, options: argparse.Namespace) -> AttributeModelSpec:
    """`body:read` or `body:generative` as a spec."""
    body, read = chosen.split(":")
    form = {"form": "generative"} if read == "generative" else {"read": read}
    return AttributeModelSpec.model_validate(
        {
            "body": body,
            **form,
            "steps": options.steps,
            "rows_per_step": options.rows,
            "learning_rate": options.rate,
        }
    )


if __name__ == "__main__":
    main()
