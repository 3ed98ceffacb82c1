"""What a cluster has, before anything is asked of it; without joining it."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Mapping

from steer_core.tables.errors import ConfigError

#: Seconds that a head may take to answer.
PATIENCE = 5.0


def parse_wants(text: str) -> dict[str, float]:
    """`GPU=1` or `CPU=4,big=1` as resources.

    Raises:
        ConfigError: it is neither.
    """
    wants = {}
    for pair in text.split(","):
        name, _, amount = pair.strip().partition("=")
        try:
            wants[name.strip()] = float(amount or 1)
        except ValueError as error:
            raise ConfigError(f"resources of a worker are written as GPU=1 or CPU=4,big=1, not {text!r}") from error
    return wants


def fits(wanted: Mapping[str, float], node: Mapping[str, float]) -> int:
    """How many workers that want so much find place on a node."""
    return int(min((node.get(name, 0.0) // amount for name, amount in wanted.items() if amount > 0), default=1))


def check_dashboard(address: str, wanted: Mapping[str, float]) -> None:
    """Ask the dashboard for live nodes: that it answers says nothing, it does so with none behind it.

    Args:
        address: `http://HOST:8265`.
        wanted: resources that one step takes.

    Raises:
        ConfigError: nobody answers, or no live node has so much; in one line.
    """
    url = f"{address.rstrip('/')}/api/v0/nodes?limit=10000"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"Ray's dashboard does not answer at {address} ({getattr(error, 'reason', error)}): start the cluster, or "
            "set RAY_ADDRESS to its dashboard, http://HOST:8265"
        ) from error
    check_nodes([n["resources_total"] for n in nodes if n["state"] == "ALIVE"], wanted, address)


def check_nodes(alive: list[dict[str, float]], wanted: Mapping[str, float], address: str) -> int:
    """How many workers find place.

    Raises:
        ConfigError: none does.
    """
    places = sum(fits(wanted, node) for node in alive)
    if not places:
        asked = ", ".join(f"{name}={amount:g}" for name, amount in wanted.items())
        having = "; ".join(_shown(node) for node in alive)
        raise ConfigError(
            f"the Ray cluster at {address} has {len(alive)} live nodes, and none of them {asked}"
            + (f" (they have {having})" if having else "")
        )
    return places


def _shown(node: Mapping[str, float]) -> str:
    own = {k: v for k, v in node.items() if not k.startswith(("node:", "memory", "object_store"))}
    return ", ".join(f"{k}={v:g}" for k, v in sorted(own.items())) or "nothing"


def check_head(address: str) -> None:
    """Whether something listens at a head's port: Ray itself would try for a minute.

    Raises:
        ConfigError: nothing does.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Ray head answers at {address} ({error}): start one with `ray start --head`, or name another with "
            "--ray HOST:6379"
        ) from error
