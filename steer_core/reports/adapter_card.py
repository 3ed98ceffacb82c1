"""The model card of an exported adapter: the page's claim, how it was trained, how it is loaded, where it comes from.

Front matter is that of `huggingface_hub`'s model cards. A licence is left to whoever publishes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from schemas.adapters import OF_SET
from schemas.specs import MethodSpec, ModelSpec
from steer_core.reports.adapter_worth import Pairs, claim, costs
from steer_core.reports.numbers import number, plural
from steer_core.reports.sections.adapter import trained

#: How each form is loaded.
_MERGED = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder, or its name on the hub
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```

```sh
vllm serve .
```"""
_PEFT = """```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
{where}
tokenizer = AutoTokenizer.from_pretrained(base{pinned})
model = AutoModelForCausalLM.from_pretrained(base{pinned}, dtype="{dtype}"{packed})
model = PeftModel.from_pretrained(model, ".")  # this folder, or its name on the hub
```"""
_VLLM = """```sh
vllm serve {served} --enable-lora --max-loras 2 --max-lora-rank {rank} --lora-modules {name}=.
```

Requests then name `{name}` as their model. `--max-loras` is one more than there are adapters: on a CPU, requests
without one would wear the last."""


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from.

    Attributes:
        bench: name of the bench.
        base: the model that wears the adapter.
        fingerprint: of its files.
        method: the method of the cell.
        label: of the part that wears the adapter.
        step: of the state that is worn.
        form: in which it is exported (`steer_core.adapters.export.FORMS`).
        settings: its PEFT settings.
        vllm_rank: least `max_lora_rank` of vLLM; None where it is not served as an adapter.
        adapters: rows of `adapters`, of the part; likewise the next three.
        log: rows of `training_log`.
        samples: rows of `training_samples`.
        trials: rows of `checkpoint_trials`.
        requests: rows of `requests`.
        goals: goals of the goal space, in order.
        train_probe: probe that is trained on.
        probe: probe that the figures are of.
        pairs: with and without the adapter on the probe; empty where that was not measured.
        unmeasured: why it was not.
        split: what the tables say of texts that stand in both, as a sentence; empty where nothing is known.
        digests: table -> digest of its rows.
        version: of this library.
    """

    bench: str
    base: ModelSpec
    fingerprint: str
    method: MethodSpec
    label: str
    step: int
    form: str
    settings: Mapping[str, Any]
    vllm_rank: int | None
    adapters: pl.DataFrame
    log: pl.DataFrame
    samples: pl.DataFrame
    trials: pl.DataFrame
    requests: pl.DataFrame
    goals: tuple[str, ...]
    train_probe: str
    probe: str
    pairs: Pairs = field(default_factory=dict)
    unmeasured: str = ""
    split: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    version: str = ""

    @property
    def state(self) -> dict[str, Any]:
        """The row of the state that is worn."""
        return self.adapters.filter(step=self.step).row(0, named=True)


def adapter_card(facts: CardFacts) -> str:
    """Text of `README.md`."""
    sections = [
        _matter(facts),
        f"# {facts.method.name}\n\n{_what(facts)}",
        "## What it is worth\n\n" + "\n\n".join(_worth(facts)),
        "## How it was made\n\n" + "\n\n".join(_made(facts)),
        "## Loading\n\n" + "\n\n".join(_loading(facts)),
        "## Where it comes from\n\n" + _lineage(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _matter(facts: CardFacts) -> str:
    from huggingface_hub import ModelCardData

    merged = facts.form == "merged"
    named = {}
    if facts.base.kind == "hub":
        named = {"base_model": facts.base.source, "base_model_relation": "finetune" if merged else "adapter"}
    data = ModelCardData(
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-generation",
        tags=["lora", "steering", "steerworks", *(["merged"] if merged else [])],
        **named,  # type: ignore[arg-type]  # whatever else stands in the front matter
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _what(facts: CardFacts) -> str:
    kind = "A checkpoint with a LoRA adapter in its weights" if facts.form == "merged" else "A LoRA adapter"
    goals = ", ".join(g.replace("_", " ") for g in facts.goals)
    said = f"{kind}, for {_base(facts)}. It is the adapter of method `{facts.method.name}` on bench `{facts.bench}`, "
    said += f"which asks for moves in {goals}; {_asked(facts)}"
    return f"{said} Written by Steerworks {facts.version}."


def _base(facts: CardFacts) -> str:
    match facts.base.kind:
        case "hub":
            return f"[{facts.base.source}](https://huggingface.co/{facts.base.source}) at `{facts.base.revision}`"
        case "embedded":
            return "the small model that ships with Steerworks"
        case "package":
            return f"the model in the Python package `{facts.base.source.removeprefix('package:')}`"
    return f"a model in a folder (fingerprint of its files: `{facts.fingerprint}`)"


def _asked(facts: CardFacts) -> str:
    strategies = [str(getattr(p, "strategy", "")) for p in facts.method.parts if p.kind == "prompt"]
    others = [p.kind for p in facts.method.parts if p.kind not in ("prompt", "adapter")]
    said = f"it is asked with prompt `{strategies[0]}`." if strategies else "it is asked for a plain rewrite."
    if others:
        said += (
            f" In the method it is worn together with a part of kind {', '.join(others)}, which is not in this folder."
        )
    return said


def _worth(facts: CardFacts) -> Iterator[str]:
    said = claim(facts.pairs)
    if not said:
        yield f"Nothing was measured: {facts.unmeasured or 'there is no answer with and without it on a probe'}."
        return
    yield said
    if found := costs(facts.pairs):
        yield " ".join(found)
    yield (
        f"Probe `{facts.probe}`; brackets are intervals, clustered by source text: 95 % for the error, wider for what "
        "else differs, so that all of it together is wrong in one card of twenty. Error is the distance to what was "
        "asked for in goal space, answers that are none at their worst."
    )
    if facts.split:
        yield facts.split


def _made(facts: CardFacts) -> Iterator[str]:
    row = facts.state
    yield " ".join(trained(facts.adapters, facts.log, facts.samples))
    if not row["recipe_hash"]:
        said = json.loads(row["recipe"]).get("base_model_name_or_path")
        if said and not str(said).startswith(("/", ".", "~")):
            yield f"It says of itself that it was trained on `{said}`."
        yield "What it was trained on is not known here."
        return
    texts = dict(facts.requests.select("request_id", "text_id").iter_rows())
    asked = facts.samples["request_id"].unique().to_list() if facts.samples.height else []
    of_set = sum(r.startswith(OF_SET) for r in asked)
    if of_set:
        yield (
            f"Trained on {plural(of_set, 'prompt')} of a set, none of which a profile of bench `{facts.bench}` asks "
            f"(hash of the data: `{row['data_hash']}`)."
        )
    elif asked:
        on = len({texts[r] for r in asked if r in texts})
        yield (
            f"Trained on {plural(len(asked), 'request')} on {plural(on, 'text')} of probe `{facts.train_probe}` of "
            f"bench `{facts.bench}` (hash of the data: `{row['data_hash']}`)."
        )
    yield from _picked(facts)
    recipe = json.dumps(_published(json.loads(row["recipe"])), indent=1, sort_keys=True, ensure_ascii=False)
    yield f"Recipe (hash: `{row['recipe_hash']}`):\n\n```json\n{recipe}\n```"


def _published(value: Any) -> Any:
    """Settings without the folders of the machine that they were used on: of a path its last name is left."""
    if isinstance(value, Mapping):
        return {name: _published(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_published(v) for v in value]
    return value.rpartition("/")[2] if isinstance(value, str) and value.startswith(("/", "~")) else value


def _picked(facts: CardFacts) -> Iterator[str]:
    tried = facts.trials.filter(step=facts.step) if facts.trials.height else facts.trials
    if facts.adapters.height > 1 and tried.height:
        error = number(float(tried["error"].to_numpy().mean()), 3)
        yield (
            f"Of {plural(facts.adapters.height, 'state')} this is {facts.state['label']}, the one with the least "
            f"error ({error}) on {plural(tried['text_id'].n_unique(), 'text')} that were kept aside; that it was "
            "picked there makes the figure too good, and the probe had no part in it."
        )


def _loading(facts: CardFacts) -> Iterator[str]:
    if facts.form == "merged":
        yield f"Nothing of PEFT is needed.\n\n{_MERGED}"
        return
    where, pinned = _address(facts)
    packed = f", quantization_config={facts.base.quantization!r}" if facts.base.quantization else ""
    yield _PEFT.format(where=where, pinned=pinned, dtype=facts.base.dtype, packed=packed)
    if facts.base.quantization:
        yield "The base was quantised as it says there. vLLM quantises in its own way: its answers were not measured."
        return
    if facts.vllm_rank is None:
        yield "vLLM does not serve this folder as an adapter as it stands: export it with `--as vllm` or `--as merged`."
        return
    served = f"{facts.base.source} --revision {facts.base.revision}" if facts.base.kind == "hub" else "BASE"
    yield _VLLM.format(served=served, rank=facts.vllm_rank, name=facts.method.name)


def _address(facts: CardFacts) -> tuple[str, str]:
    """Lines that say what `base` is, and the argument that pins it."""
    match facts.base.kind:
        case "hub":
            return f'\nbase = "{facts.base.source}"', f', revision="{facts.base.revision}"'
        case "embedded":
            return "\nfrom steer_core.models.embedded import weights_folder\n\nbase = weights_folder()", ""
    return '\nbase = "BASE"  # the folder of the base model', ""


def _lineage(facts: CardFacts) -> str:
    rows = [
        ("adapter (settings and weights)", facts.state["adapter"]),
        ("base model (fingerprint)", facts.fingerprint),
        ("method", facts.method.spec_hash),
        *((f"table `{name}`", digest) for name, digest in facts.digests.items()),
    ]
    lines = ["| what | digest |", "|---|---|", *(f"| {name} | `{digest}` |" for name, digest in rows)]
    return "\n".join(lines)
