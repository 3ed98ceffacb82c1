"""How steerable the embedded model is: `python benchmarks/embedded_trial.py [--folder DIR] [--record]`.

Everything is asked on held-out scenarios in held-out wordings and measured in normalised goal units: 0 and 1 are the
2.5th and 97.5th percentile of a corpus of 2000 held-out texts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steer_core.goals.analysis import Analyzer
from steer_core.goals.scorer import load_scorer
from steer_core.models.embedded import weights_folder
from steer_core.models.embedded.examples import OPEN
from steer_core.models.embedded.grammar import GrammarText, rewrite, write
from steer_core.models.embedded.manifest import add_figures
from steer_core.models.embedded.tokenizer import prompt_text
from steer_core.models.embedded.wording import HELDOUT_FRAMES, HELDOUT_REWRITE, Wish, join, library_phrase
from steer_core.registry import load_registry

Floats = NDArray[np.float64]

#: The goals of the default bench.
MEASURES = ("reading_difficulty", "text_length", "formality", "sentiment")
#: Measure -> the attribute of the grammar that moves it.
ATTRIBUTE_OF = {
    "reading_difficulty": "difficulty",
    "text_length": "sentences",
    "formality": "formality",
    "sentiment": "sentiment",
}
#: 1 leads from the middle between the classes to one of them.
MULTIPLIERS = (-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0)


def measure(texts: Sequence[str]) -> Floats:
    """Raw values of the default bench's goals, shape [n, 4] in the order of `MEASURES`; NaN where undefined."""
    goals = load_registry([Path(__file__).parent.parent / "config"]).goals
    analyses = Analyzer().analyse_all(texts)
    values = [load_scorer(goals[goal]).measure(analyses) for goal in MEASURES]
    return np.array(values, dtype=np.float64).T.reshape(len(texts), len(MEASURES))


def load(folder: Path) -> tuple[Any, Any]:
    """Model in eval mode and tokenizer that pads on the left."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.padding_side = "left"
    return AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer


def answer(model: Any, tokenizer: Any, prompts: Sequence[str], rows: int = 64) -> list[str]:
    """Greedy answers to user prompts, in batches of `rows`."""
    import torch

    texts: list[str] = []
    for start in range(0, len(prompts), rows):
        turns = [prompt_text([("user", p)]) for p in prompts[start : start + rows]]
        batch = tokenizer(turns, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.no_grad():
            out = model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=192,
                do_sample=False,
            )
        texts += tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


class Scale:
    """Normalised goal units: percentile bounds of a corpus.

    Attributes:
        lower, upper: raw values of 0 and 1, shape [4].
    """

    def __init__(self, corpus: Sequence[GrammarText]) -> None:
        self.lower, self.upper = np.percentile(measure([t.text for t in corpus]), [2.5, 97.5], axis=0)

    def locate(self, texts: Sequence[str]) -> Floats:
        """Places of texts, clipped to [0, 1], shape [n, 4]; a text without words counts as 0."""
        places: Floats = np.clip((np.nan_to_num(measure(texts)) - self.lower) / (self.upper - self.lower), 0, 1)
        return places


def wish_of(goal: str, delta: float) -> Wish:
    """A delta in normalised units as a wish: below .2 slightly, above .5 much."""
    strength = 0 if abs(delta) < 0.2 else 2 if abs(delta) > 0.5 else 1
    return Wish(ATTRIBUTE_OF[goal], delta > 0, strength, max(1, round(10 * abs(delta))))


def ask(frame: str, text: str, wishes: Sequence[Wish]) -> str:
    """The prompt of a request."""
    return f"{frame.format(join([library_phrase(w) for w in wishes]))}\n\n{text}"


def single_goals(model: Any, tokenizer: Any, scale: Scale, corpus: Sequence[GrammarText], n: int) -> dict[str, Any]:
    """Each goal alone, both directions, three strengths, on texts with room of .55 in that direction.

    Returns:
        `goal up|down strength` -> mean move in the asked direction, half width of its 95 % interval, and the mean
        absolute move of the other three goals.
    """
    places = scale.locate([t.text for t in corpus])
    table = {}
    for g, goal in enumerate(MEASURES):
        for sign in (1, -1):
            room = 1 - places[:, g] if sign > 0 else places[:, g]
            chosen = np.flatnonzero(room >= 0.55)[:n]
            for name, size in (("slightly", 0.15), ("plain", 0.35), ("much", 0.6)):
                prompts = [ask(HELDOUT_FRAMES[1], corpus[i].text, [wish_of(goal, sign * size)]) for i in chosen]
                moved = scale.locate(answer(model, tokenizer, prompts)) - places[chosen]
                wanted = sign * moved[:, g]
                table[f"{goal} {'up' if sign > 0 else 'down'} {name}"] = {
                    "move": round(float(wanted.mean()), 3),
                    "ci": round(float(1.96 * wanted.std(ddof=1) / np.sqrt(len(chosen))), 3),
                    "others": round(float(np.abs(np.delete(moved, g, axis=1)).mean()), 3),
                    "n": len(chosen),
                }
    return table


def pairs_of_goals(
    model: Any, tokenizer: Any, scale: Scale, corpus: Sequence[GrammarText], seed: int
) -> dict[str, Any]:
    """Requests with two of four active goals: mean distance to the target for copy, rewrite and held-out wordings.

    Deltas are uniform in +-[.1, .7] within the range; inactive goals are asked to stay.
    """
    rng = np.random.default_rng(seed)
    texts = [t.text for t in corpus]
    start = scale.locate(texts)
    target = start.copy()
    wishes: list[list[Wish]] = []
    for row in range(len(texts)):
        wishes.append([])
        for g in rng.permutation(len(MEASURES))[:2]:
            delta = 0.0
            while not (delta and 0 <= start[row, g] + delta <= 1):
                delta = float(rng.uniform(0.1, 0.7) * rng.choice((-1, 1)))
            target[row, g] += delta
            wishes[-1].append(wish_of(MEASURES[g], delta))

    def error(answers: Sequence[str]) -> float:
        return float(np.linalg.norm(target - scale.locate(answers), axis=1).mean())

    rewritten = answer(model, tokenizer, [f"{HELDOUT_REWRITE}\n\n{t}" for t in texts])
    figures = {"copy": error(texts), "rewrite": error(rewritten)}
    figures["rewrite moves"] = float(np.abs(scale.locate(rewritten) - start).mean())
    for k, frame in enumerate(HELDOUT_FRAMES):
        prompts = [ask(frame, t, w) for t, w in zip(texts, wishes, strict=True)]
        figures[f"frame {k}"] = error(answer(model, tokenizer, prompts))
    return {name: round(value, 3) for name, value in figures.items()}


def open_prompts(n: int) -> list[str]:
    """Open-ended prompts about held-out scenarios."""
    return [_open_prompt(i, text) for i, text in enumerate(write(n, seed=5, split="heldout"))]


def _open_prompt(i: int, text: GrammarText) -> str:
    told = text.scenario
    # the first eight name agent and object
    return OPEN[i % 8].format(agent=told.agent, object=told.object, topic=told.topic)


def mean_difference(model: Any, tokenizer: Any, layer: int, n: int, goal: str = "sentiment") -> Any:
    """Half the difference of mean activations over answer tokens between texts of level 2 and level -2.

    The texts are pairs: one scenario, one prompt, all other attributes alike.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        layer: residual stream after this layer.
        n: pairs, from the training scenarios.
        goal: measure whose attribute makes the classes.

    Returns:
        Tensor of shape [width].
    """
    import torch

    attribute = ATTRIBUTE_OF[goal]
    rng = np.random.default_rng(11)
    sources = write(n, seed=11)
    means = []
    for level in (2, -2):
        total, count = torch.zeros(model.config.hidden_size), 0
        for i, source in enumerate(sources):
            text = rewrite(source, {attribute: level}, rng).text
            head = tokenizer(prompt_text([("user", _open_prompt(i, source))]), add_special_tokens=False)["input_ids"]
            tail = tokenizer(text, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                states = model(input_ids=torch.tensor([head + tail]), output_hidden_states=True).hidden_states
            total += states[layer + 1][0, len(head) :].sum(0)
            count += len(tail)
        means.append(total / count)
    return (means[0] - means[1]) / 2


@contextmanager
def added(model: Any, layer: int, vector: Any) -> Iterator[None]:
    """Add a vector to the residual stream after a layer, at every position."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

    handle = model.model.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def vectors(model: Any, tokenizer: Any, layer: int, n: int) -> dict[str, dict[str, float]]:
    """Dose and response of mean-difference vectors in open-ended answers.

    Returns:
        Goal -> multiplier -> mean of the measure, raw.
    """
    table = {}
    for goal in ("sentiment", "formality", "reading_difficulty"):
        vector = mean_difference(model, tokenizer, layer, 64, goal)
        row = {}
        for multiplier in MULTIPLIERS:
            with added(model, layer, multiplier * vector):
                values = measure(answer(model, tokenizer, open_prompts(n)))
            row[f"{multiplier:+g}"] = round(float(np.nanmean(values[:, MEASURES.index(goal)])), 3)
        table[goal] = row
    return table


def run(folder: Path) -> dict[str, Any]:
    """All figures of a model folder."""
    model, tokenizer = load(folder)
    scale = Scale(write(2000, seed=7, split="heldout"))
    corpus = write(400, seed=3, split="heldout")
    return {
        "bounds": {
            goal: [round(float(a), 3), round(float(b), 3)]
            for goal, a, b in zip(MEASURES, scale.lower, scale.upper, strict=True)
        },
        "single goals": single_goals(model, tokenizer, scale, corpus, 64),
        "two of four goals, mean error": pairs_of_goals(model, tokenizer, scale, corpus[:128], seed=1),
        "mean-difference vectors after layer 2": vectors(model, tokenizer, 2, 64),
    }


def main() -> None:
    """Print the figures; `--record` puts them into the manifest."""
    parser = argparse.ArgumentParser(description="Measure how steerable the embedded model is.")
    parser.add_argument("--folder", type=Path, default=weights_folder())
    parser.add_argument("--record", action="store_true", help="write the figures into MANIFEST.json")
    options = parser.parse_args()
    figures = run(options.folder)
    for name, table in figures.items():
        print(name)
        for row, value in table.items():
            print(f"  {row:36} {json.dumps(value)}")
    if options.record:
        add_figures(options.folder, figures)


if __name__ == "__main__":
    main()
