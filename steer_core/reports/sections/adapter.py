"""What the page says of an adapter: what it is worth beside the model without it, how it was trained, what it cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from steer_core.reports.adapter_worth import BARE, beside_bare, claim, costs
from steer_core.reports.drawing import CELL, CONTROL, DOWN, Figure, Panel
from steer_core.reports.inputs import CellTables, filled
from steer_core.reports.numbers import listed, number, percent, plural, slug_words, span
from steer_core.reports.sections import Section
from steer_core.reports.sweeps import Sweep

#: Curves of training: measures of one panel, title, label of the axis.
CURVES = (
    (("reward",), "Reward", "mean reward of a step"),
    (("loss",), "Loss", "nats a token"),
    (("kl",), "Away from the model", "KL, nats a token"),
    (("preference_margin",), "Better before worse", "margin of the pair, a step"),
    (("meaning", "length", "copied", "failed"), "Looking for tricks", "mean of a step"),
    (("zero_spread", "clipped"), "What taught nothing", "share"),
)
#: Share of the steps at either end whose means are compared.
END = 0.1


@dataclass(frozen=True)
class AdapterSection:
    """An adapter on the page.

    Attributes:
        label: of the part, where the method has several; else empty.
        claim: what the probe says of it beside the model without it, as a sentence; empty where that was not measured.
        costs: sentences on what else differs.
        trained: how it was trained, in words.
        states: a row a state: its label, mean error on the trial texts, whether it was picked.
        unlearnt: whether no state has less error there than the model without it.
        ends: a row a measure: its mean over the first and the last tenth of the steps.
        audit: sentences on what was not learnt from.
        rewarded: whether it was trained by reward, which tricks can raise.
        suffix: of anchors and figures.
    """

    label: str
    claim: str
    costs: tuple[str, ...]
    trained: tuple[str, ...]
    states: tuple[dict[str, Any], ...]
    unlearnt: bool
    ends: tuple[dict[str, Any], ...]
    audit: tuple[str, ...]
    rewarded: bool = True
    suffix: str = ""


def sections(tables: CellTables, swept: Sequence[Sweep]) -> list[Section]:
    """A section for the adapter of a cell; none where the method has none."""
    adapters = filled(tables.fitted.get("adapters"))
    if adapters is None:
        return []
    label = str(adapters["part"][0])
    log, trials = (_own(tables, name, label) for name in ("training_log", "checkpoint_trials"))
    samples = _own(tables, "training_samples", label)
    pair = beside_bare(tables.probe_arms, tables.scores_of_arms, tables.outcomes_of_arms, label)
    content = AdapterSection(
        label="",
        claim=claim(pair),
        costs=tuple(costs(pair)),
        trained=tuple(trained(adapters, log, samples)),
        states=(states := tuple(states_of(adapters, trials))),
        unlearnt=_unlearnt(states),
        ends=tuple(_ends(log)),
        audit=tuple(_audit(log, samples)),
        rewarded=log.height > 0 and "reward" in set(log["measure"]),
    )
    return [Section("adapter.html.jinja", content, (("adapter", "Adapter"),), (curves(log),))]


def _own(tables: CellTables, name: str, label: str) -> pl.DataFrame:
    rows = tables.fitted.get(name)
    return pl.DataFrame() if rows is None or rows.is_empty() else rows.filter(pl.col("part") == label)


def trained(adapters: pl.DataFrame, log: pl.DataFrame, samples: pl.DataFrame) -> list[str]:
    """How an adapter was trained, in sentences.

    Args:
        adapters: rows of `adapters`, of one part.
        log: rows of `training_log`, of the same part.
        samples: rows of `training_samples`, likewise.
    """
    row = adapters.row(0, named=True)
    if row["rank"] is None:
        names = listed([f"`{name}`" for name in adapters["label"]])
        them = ("it", "it is", "it stays") if adapters.height == 1 else ("them", "they are", "they stay")
        return [f"A server has {them[0]}, as {names}: what {them[1]}, and that {them[2]} the same, is taken on trust."]
    size = f"rank {row['rank']}, {row['parameters']:,} numbers"
    if not row["recipe_hash"]:
        return [f"From elsewhere: {plural(adapters.height, 'state')}, {size}."]
    recipe = json.loads(row["recipe"])
    steps = int(log["step"].to_numpy().max()) if log.height else 0
    seconds = float(log.filter(measure="seconds")["value"].sum()) if log.height else 0.0
    took = f" in {number(seconds, 0)} s" if seconds else ""
    loss = recipe.get("loss", recipe["kind"])
    by = recipe["kind"] if loss == recipe["kind"] else f"{recipe['kind']} (loss {loss})"
    said = [f"Trained by {by}: {plural(steps, 'step')}{took}, {size}, seed {recipe['seed']}."]
    if samples.height:
        said.append(
            f"{samples.height:,} completions of {_asked(recipe, samples['request_id'].n_unique())}; every one is a row "
            "of the table training_samples."
        )
    return [*said, *_drawn(log, recipe)]


def _asked(recipe: Mapping[str, Any], n: int) -> str:
    if recipe.get("prompts") is None:
        return f"{plural(n, 'request')} of the training pool"
    return f"{plural(n, 'prompt')} of a set, none of which a profile of the bench asks"


def _drawn(log: pl.DataFrame, recipe: Mapping[str, Any]) -> list[str]:
    """What the best of an answer's siblings comes to, where answers were selected before training."""
    found = {m: v for m, v in log.select("measure", "value").iter_rows() if m.startswith("best_of:")}
    said = []
    for aim in recipe.get("objectives", ()):
        curve = f"best_of:{aim['metric']}:"
        ks = [int(m[len(curve) :]) for m in found if m.startswith(curve) and m[len(curve) :].isdigit()]
        most = max(ks, default=0)
        ends = [[found.get(f"{curve}{k}{end}") for end in ("", ":low", ":high")] for k in (1, most)]
        one, best = (f"{number(value)} {span(low, high)}" for value, low, high in ends)
        if most:
            name = str(aim["metric"]).removeprefix("goal:").removeprefix("text:").replace("_", " ")
            said.append(f"In {name} an answer has {one} in the mean over requests, and the best of {most} has {best}.")
    shares = log.filter(pl.col("measure").str.starts_with("share:")).sort("value", descending=True)
    if shares.height:
        of = [f"{percent(v)} by {m.removeprefix('share:')}" for m, v in shares.select("measure", "value").iter_rows()]
        said.append(f"Several models wrote the answers. What was trained on was written {listed(of)}.")
    if said and recipe.get("select") == "random":
        said.append("What was trained on was picked among them by chance: this is the control of the same cost.")
    return said


def states_of(adapters: pl.DataFrame, trials: pl.DataFrame) -> list[dict[str, Any]]:
    """A row a state that was tried: label, mean error on the trial texts, whether it was picked.

    Args:
        adapters: rows of `adapters`, of one part.
        trials: rows of `checkpoint_trials`, likewise.
    """
    if not trials.height:
        return []
    means = trials.group_by("step").agg(pl.col("error").mean(), pl.len()).sort("step")
    states = means.filter(pl.col("step") >= 0)
    picked = states.sort("error", "step")["step"][0] if states.height else None
    labels = dict(adapters.select("step", "label").iter_rows())
    return [
        {"label": labels.get(step, BARE), "error": error, "n": n, "picked": step == picked}
        for step, error, n in means.iter_rows()
    ]


def _unlearnt(states: Sequence[Mapping[str, Any]]) -> bool:
    bare = [s["error"] for s in states if s["label"] == BARE]
    worn = [s["error"] for s in states if s["picked"]]
    return bool(bare and worn and worn[0] >= bare[0])


def _said(log: pl.DataFrame) -> set[str]:
    """Measures that say something: the loss of a policy gradient does not."""
    known = set(log["measure"])
    return known - {"loss"} if "reward" in known else known


def _ends(log: pl.DataFrame) -> list[dict[str, Any]]:
    """Means over the first and the last tenth of the steps."""
    if not log.height:
        return []
    last = int(log["step"].to_numpy().max())
    n = max(1, round(END * last))
    known = _said(log)
    wanted = ["reward", "loss", "token_accuracy", "kl", "entropy", "tokens", "clipped"]
    wanted += ["meaning", "length", "copied", "failed", "refused"]
    found = []
    for name in [*wanted, *sorted(m for m in known if m.startswith(("reward:", "error:")))]:
        rows = log.filter(measure=name)
        if name in known and rows["value"].drop_nulls().len():
            first = rows.filter(pl.col("step") <= n)["value"].mean()
            end = rows.filter(pl.col("step") > last - n)["value"].mean()
            found.append({"measure": name, "first": first, "last": end})
    return found


def _audit(log: pl.DataFrame, samples: pl.DataFrame) -> list[str]:
    if not log.height:
        return []

    def mean(name: str) -> float | None:
        values = log.filter(measure=name)["value"].drop_nulls().to_numpy()
        return float(values.mean()) if len(values) else None

    said = []
    if (flat := mean("zero_spread")) is not None:
        said.append(f"{percent(flat)} of the groups had one reward for all their completions, and taught nothing.")
    if samples.height:
        states = dict(samples["state"].value_counts().iter_rows())
        if lost := states.get("unscorable", 0):
            said.append(f"{plural(lost, 'completion')} had no reward, and moved nothing.")
        if dropped := states.get("dropped", 0):
            said.append(f"{plural(dropped, 'completion')} were drawn and not trained on.")
    drift = log.filter(measure="drift")["value"].drop_nulls().to_numpy()
    if len(drift):
        said.append(
            f"What was trained is what wrote the completions: in every step their log-probabilities differ by "
            f"{drift.max():.1e} nats a token at most."
        )
    return said


def curves(log: pl.DataFrame) -> Figure:
    """What happened step by step.

    Args:
        log: rows of `training_log`, of one part.
    """
    alt = "Lines are means of each step of training"
    if not log.height:
        return Figure("training", "Training, step by step", alt, (), log, "Nothing to draw: it was trained elsewhere.")
    known = _said(log)
    panels = []
    for names, title, label in CURVES:
        own = [n for n in names if n in known]
        if own:
            panels.append(Panel(title, _draw(log, own, label), 4.7, 2.5))
    return Figure("training", "Training, step by step", alt, tuple(panels), log)


def _draw(log: pl.DataFrame, names: Sequence[str], label: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for name, colour in zip(names, (CELL, DOWN, CONTROL, "#009e73"), strict=False):
            rows = log.filter(measure=name).sort("step")
            smooth = rows["value"].rolling_mean(max(1, rows.height // 20), min_samples=1)
            axes.plot(rows["step"], rows["value"], color=colour, linewidth=0.5, alpha=0.35)
            axes.plot(rows["step"], smooth, color=colour, linewidth=1.4, label=slug_words(name))
        if len(names) > 1:
            axes.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set(xlabel="step", ylabel=label)
        axes.grid(axis="y")

    return draw
