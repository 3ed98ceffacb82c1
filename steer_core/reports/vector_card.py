"""The card of exported vectors: what they do and what that costs, as the tables say it, and how they are loaded.

Front matter is that of `huggingface_hub`'s model cards. A licence is left to whoever publishes, and so is that of the
data, which is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from schemas.specs import BehaviorSpec, MethodSpec, ModelSpec
from steer_core.reports.behavior_ranking import behavior_table, verdict
from steer_core.reports.numbers import number, plural, signed, slug_words, span
from steer_core.reports.sweeps import measure_words

#: A licence that nobody here knows.
UNKNOWN = "not known here: name it before you publish"
_LOADING = """```python
import steer_core as steer

model = steer.load({source})
vector = steer.read_vector("vectors.safetensors", model, concept="{concept}", unit="{unit}")  # refused on another model
model.generate(["Write about a walk."], vector=vector, strength={strength})
```

As a method of a bench:

```yaml
borrowed:
  parts:
    - kind: vector
      estimator: imported
      options: {{folder: ~/vectors}}      # or {{hub: org/name, revision: COMMIT}}
      layers: {layers}
      site: {site}
      positions: {positions}
      unit: {unit}
      strengths: {strengths}
```{gated}"""


@dataclass(frozen=True)
class VectorFacts:
    """What a card is written from.

    Attributes:
        bench: name of the bench.
        base: the model that the vectors are of.
        fingerprint: of its files.
        method: the method of the cell.
        part: label of the vector part that they are of.
        vectors: rows of `vectors` of that part: its own layers and seed, without controls.
        findings: rows of `sweep_findings` of the cell; None where behaviors were not swept.
        behaviors: of the bench, by name.
        digests: table -> digest of its rows.
        version: of this library.
    """

    bench: str
    base: ModelSpec
    fingerprint: str
    method: MethodSpec
    part: str
    vectors: pl.DataFrame
    findings: pl.DataFrame | None
    behaviors: Mapping[str, BehaviorSpec]
    digests: Mapping[str, str] = field(default_factory=dict)
    version: str = ""


def vector_card(facts: VectorFacts) -> str:
    """Text of `README.md`."""
    parts = [
        _matter(facts),
        f"# {facts.method.name}\n\n{_what(facts)}",
        "## What they do\n\n" + _effects(facts),
        "## What they were fitted on\n\n" + _data(facts),
        "## Loading\n\n" + _loading(facts),
        "## Where they come from\n\n" + _lineage(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _matter(facts: VectorFacts) -> str:
    from huggingface_hub import ModelCardData

    named = {"base_model": facts.base.source} if facts.base.kind == "hub" else {}
    data = ModelCardData(library_name="steerworks", tags=["steering-vector", "steerworks"], **named)  # type: ignore[arg-type]
    return f"---\n{data.to_yaml().strip()}\n---"


def _what(facts: VectorFacts) -> str:
    concepts = ", ".join(slug_words(c) for c in facts.vectors["concept"].unique(maintain_order=True))
    base = {
        "hub": f"[{facts.base.source}](https://huggingface.co/{facts.base.source}) at `{facts.base.revision}`",
        "embedded": "the small model that ships with Steerworks",
        "package": f"the model in the Python package `{facts.base.source.removeprefix('package:')}`",
    }.get(facts.base.kind, f"a model in a folder (fingerprint of its files: `{facts.fingerprint}`)")
    return (
        f"{plural(facts.vectors.height, 'steering vector')} for {base}: {concepts}. They are those of method "
        f"`{facts.method.name}` on bench `{facts.bench}`. Written by Steerworks {facts.version}."
    )


def _effects(facts: VectorFacts) -> str:
    if facts.findings is None or not facts.findings.height:
        return "No behavior was swept: what they do was not measured on one."
    table = behavior_table(facts.findings.with_columns(model=pl.lit(facts.base.name), method=pl.lit(facts.method.name)))
    head = ("behavior", "measured by", "lowest strength", "highest strength", "beyond random directions (low / high)",
            "perplexity over unsteered (low / high)", "items that move against it")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in table.iter_rows(named=True):
        ends = [_end(row, end) for end in ("effect_low", "effect_high")]
        beyond = " / ".join(verdict(row[f"p_{end}"], row["n_random"]) for end in ("low", "high"))
        price = " / ".join(number(row[f"ratio_{end}"]) for end in ("low", "high"))
        against = "–" if row["anti_steerable"] is None else f"{100 * row['anti_steerable']:.0f} %"
        lines.append(
            f"| {slug_words(row['behavior'])} | {measure_words(row['measure'])} | {ends[0]} | {ends[1]} | {beyond} | "
            f"{price} | {against} |"
        )
    said = [
        "\n".join(lines),
        "Differences to the unsteered model with 95 % intervals over test items. “Yes”: two-sided rank p among random "
        "directions of equal size is at most .05.",
    ]
    said += [told for row in table.iter_rows(named=True) if (told := _asked(facts.findings, row))]
    return "\n\n".join(said)


def _end(row: Mapping[str, float | None], name: str) -> str:
    if row[name] is None:
        return "–"
    return f"{signed(row[name])} {span(row[f'{name}_from'], row[f'{name}_to'])}"


def _asked(findings: pl.DataFrame, main: Mapping[str, Any]) -> str:
    columns = ("behavior", "measure", "group", "layers", "positions")
    rows = findings.filter(*(pl.col(c) == main[c] for c in columns), pl.col("finding") == "over_asked_high")
    rows = rows.filter(pl.col("low").is_not_null())
    if not rows.height:
        return ""
    row = rows.row(0, named=True)
    return (
        f"{slug_words(main['behavior']).capitalize()}, beside a system prompt at equal KL: {signed(row['value'])} "
        f"{span(row['low'], row['high'])} ({row['detail']})."
    )


def _data(facts: VectorFacts) -> str:
    lines = ["| concept | data | pairs, positive and negative | licence of the data |", "|---|---|---|---|"]
    for (concept,), own in facts.vectors.group_by("concept", maintain_order=True):
        row = own.row(0, named=True)
        lineage = json.loads(row["lineage"])
        pairs = f"{row['n_positive']}, {row['n_negative']}"
        if row["estimator"] == "imported":
            data, licence, pairs = f"fitted elsewhere, by {lineage.get('estimator', '')}", UNKNOWN, "not known here"
        else:
            data, licence = _source(facts.behaviors.get(str(concept)))
        if (source := lineage.get("source", lineage.get("source_model"))) is not None:
            data += f"; fitted on {source}, and carried over"
        lines.append(f"| {slug_words(str(concept))} | {data} | {pairs} | {licence} |")
    return "\n".join(lines)


def _source(behavior: BehaviorSpec | None) -> tuple[str, str]:
    """What a concept was fitted on, and its licence."""
    if behavior is None:
        return "contrasts of a goal of the bench", "that of its corpus"
    match behavior.source.kind:
        case "grammar":
            return "the grammar that ships with Steerworks", "that of Steerworks"
        case "described":
            return "written by a model from a sentence", "that of what the model writes"
    return f"files of kind `{behavior.source.kind}`", UNKNOWN


def _loading(facts: VectorFacts) -> str:
    part = dict(zip(facts.method.labels(), facts.method.parts, strict=True))[facts.part]
    told = part.model_dump(mode="json")
    source = {"hub": f'"{facts.base.source}", revision="{facts.base.revision}"', "local": '"FOLDER"'}.get(
        facts.base.kind, f'"{facts.base.source}"'
    )
    gated = ""
    if told["gate"] is not None:
        gated = (
            f"\n\nIn the method they act only where a prompt resembles `{told['gate']['condition']}`; that gate is not "
            "in this file, and the figures above are with it."
        )
    others = [label for label in facts.method.labels() if label != facts.part and not label.startswith("prompt")]
    if others:
        gated += f"\n\nThe method has further parts, {', '.join(others)}, which are not in this folder."
    return _LOADING.format(
        source=source, concept=facts.vectors["concept"][0], strength=max(told["strengths"]),
        layers=sorted(set(facts.vectors["layer"])), site=told["site"], positions=told["positions"], unit=told["unit"],
        strengths=told["strengths"], gated=gated,
    )  # fmt: skip


def _lineage(facts: VectorFacts) -> str:
    rows = [("base model (fingerprint)", facts.fingerprint), ("method", facts.method.spec_hash)]
    rows += [(f"table `{name}`", digest) for name, digest in facts.digests.items()]
    lines = ["| what | digest |", "|---|---|", *(f"| {name} | `{digest}` |" for name, digest in rows)]
    return "\n".join(lines)
