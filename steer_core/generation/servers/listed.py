"""LoRA adapters that a running vLLM lists (`GET /v1/models`): entries with a `parent`, the model that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.digest import digest_json
from steer_core.generation.adapters import Adapter
from steer_core.tables.errors import SteerworksError


def adapter_listed(models: Sequence[Mapping[str, Any]], model: str, name: str) -> Adapter:
    """An adapter that a server has, by its name.

    Its weights are not seen: its digest is of its name, of where the server has it from, and of its base.

    Args:
        models: what the server lists.
        model: what it calls the model that is asked.
        name: what it calls the adapter.

    Raises:
        SteerworksError: it lists no such adapter, or one of another model.
    """
    known = {str(m["id"]): m for m in models}
    if model not in known:
        raise SteerworksError(f"the server lists no model {model!r}, but {_names(known)}: name the model as it does")
    adapters = {n: m for n, m in known.items() if m.get("parent")}
    if name not in adapters:
        what = "a model of its own, and no adapter" if name in known else "not there"
        raise SteerworksError(
            f"adapter {name!r} is {what}: the server lists {_names(adapters)} as adapters. Give it one with "
            "`--lora-modules`, or at `/v1/load_lora_adapter`"
        )
    parent, root = str(adapters[name]["parent"]), str(adapters[name].get("root") or "")
    # a server may have several names for one model
    same = parent == model or (parent in known and known[parent].get("root") == known[model].get("root"))
    if not same:
        raise SteerworksError(f"adapter {name!r} is of model {parent!r}, and what is asked here is {model!r}")
    return Adapter(digest_json({"served": name, "root": root, "base": model}), Path(root), model, served=name)


def adapters_listed(models: Sequence[Mapping[str, Any]], model: str) -> list[Adapter]:
    """All adapters that a server has, by name.

    Args:
        models: what the server lists.
        model: what it calls the model that is asked.

    Raises:
        SteerworksError: it lists none, or one of another model, which may not be left out in silence.
    """
    names = sorted(str(m["id"]) for m in models if m.get("parent"))
    if not names:
        raise SteerworksError(
            "the server lists no adapter: give it some with `--lora-modules`, or at `/v1/load_lora_adapter`"
        )
    try:
        return [adapter_listed(models, model, name) for name in names]
    except SteerworksError as error:
        raise SteerworksError(
            f"not all that the server lists can be worn: {error}; name those that are wanted"
        ) from error


def _names(known: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, sorted(known))) or "none"
