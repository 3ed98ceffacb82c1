"""A sensor for what turns up in watched folders: the code locations are loaded again, and new cells are launched.

Partitions are those of the moment in which a location was loaded (`settings.registry`): a model that turned up since is
one of its partitions once the location is loaded again. The webserver does that when it is asked.
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from schemas.specs import BenchSpec
from steer_assets.io import table_url
from steer_assets.partitions import Cell, valid_cells
from steer_assets.settings import config_folders, registry, storage_root, webserver_url
from steer_assets.status import State, status_of
from steer_assets.submitting import checked, is_admitted, submissions_of
from steer_core.evaluation.submissions import admit
from steer_core.registry import load_registry
from steer_core.registry_arrivals import ADAPTER_CONFIG, ELSEWHERE
from steer_core.tables.errors import SteerworksError
from steer_core.tables.files import write_bytes
from steer_core.tables.snapshot import table_exists

#: What is written beside a submission that is not taken.
PROBLEMS = "problems.txt"
#: Seconds that the webserver may take to load all locations again.
PATIENCE = 120.0
_RELOAD = """mutation { reloadWorkspace { __typename ... on PythonError { message } ... on UnauthorizedError { message }
  ... on Workspace { locationEntries { name locationOrLoadError { __typename ... on PythonError { message } } } } } }"""


def arrivals_sensor(bench: BenchSpec, job: dg.UnresolvedAssetJobDefinition, name: str) -> dg.SensorDefinition:
    """One run for each possible cell of what turned up and has no page; off until switched on."""
    # assets are built with sensors beside them
    from steer_assets.assets import nodes_of

    @dg.sensor(
        job=job,
        name=name,
        minimum_interval_seconds=30,
        description=f"Looks at the folders and lists that bench {bench.name} watches; loads the code locations again "
        "where a model or an adapter turned up (STEERWORKS_WEBSERVER), and launches its cells",
    )
    def sensor(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        said = admit_all(bench, context.log.info)
        now = load_registry(config_folders())
        for line in now.refused.get(bench.name, ()):
            context.log.info("not taken: %s", line)
        here = set(registry().arrived.get(bench.name, ()))
        there = set(now.arrived.get(bench.name, ())) if bench.name in now.benches else set()
        if here != there:
            return dg.SkipReason(_load_again(sorted(there - here), sorted(here - there)))
        nodes, root = nodes_of(bench), storage_root()
        due = [c for c in arrived_cells(bench) if status_of(c, nodes, root).state is not State.CURRENT]
        requests = [dg.RunRequest(run_key=_key(c), partition_key=c.key) for c in due]
        return requests or dg.SkipReason(_quiet((*said, *now.refused.get(bench.name, ()))))

    return sensor


def _key(cell: Cell) -> str:
    """What a cell's answers follow from, as far as it may change under one name: each of it is launched once."""
    parts = [cell.key, cell.method.spec_hash, cell.model.identity]
    for part in cell.method.parts:
        path = getattr(part, "options", {}).get("path") or getattr(part, "folder", None)
        with contextlib.suppress(OSError):
            stat = Path(str(path)).stat()
            parts.append(f"{stat.st_size}-{stat.st_mtime_ns}")
    return ":".join(parts)


def admit_all(bench: BenchSpec, log: Callable[[str], object]) -> tuple[str, ...]:
    """Take the submissions that can be; of the others a file beside them says why not.

    Nothing is looked at before there is a probe.

    Returns:
        A line for each that is not taken.
    """
    if bench.watch.submissions is None or not table_exists(table_url(storage_root(), bench.name, "requests", None)):
        return ()
    refused = []
    try:
        folders = submissions_of(bench)
    except SteerworksError as error:
        return (str(error),)
    for folder in (f for f in folders if not is_admitted(f)):
        found = checked(bench, folder)
        problems = folder / PROBLEMS
        if found.problems:
            refused.append(f"submission {folder.name}: {'; '.join(found.problems)}")
            write_bytes(str(problems), "\n".join([*found.problems, ""]).encode())
            continue
        problems.unlink(missing_ok=True)
        admit(found)
        log(f"submission {folder.name} is admitted{': ' if found.notes else ''}{'; '.join(found.notes)}")
    return tuple(refused)


def arrived_cells(bench: BenchSpec) -> list[Cell]:
    """Possible cells of what turned up, and the controls that they are held against; an adapter's, on its base model.

    An adapter that names a model of the bench is not tried on others: its cells there can be asked for by hand.
    """
    arrived = set(registry().arrived.get(bench.name, ()))
    cells = [c for c in valid_cells(bench) if c.method.name not in arrived or c.model.name in _bases(c, bench)]
    worn = {c.model.name for c in cells if c.method.name in arrived}
    return [c for c in cells if arrived & {c.model.name, c.method.name} or (c.method.control and c.model.name in worn)]


def _bases(cell: Cell, bench: BenchSpec) -> set[str]:
    """Models of the bench that the adapter of a cell says it is of; all of them where it names none of these."""
    folder = next((p.folder for p in cell.method.of_kind("adapter") if getattr(p, "folder", None)), None)
    if folder is None:
        # answers from elsewhere are of no model that is here
        return {ELSEWHERE}
    try:
        settings = json.loads((Path(folder) / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        base = str(settings.get("base_model_name_or_path") or "")
    except (OSError, ValueError):
        # its own run says what is wrong with it
        base = ""
    models = {name: registry().model(name).source for name in bench.models}
    same = {name for name, source in models.items() if base and source.rstrip("/") == base.rstrip("/")}
    return same or set(models)


def _load_again(new: list[str], gone: list[str]) -> str:
    said = "; ".join(
        f"{what}: {', '.join(names)}" for what, names in (("turned up", new), ("no longer there", gone)) if names
    )
    address = webserver_url()
    if not address:
        return f"{said}. Reload the code locations, or set STEERWORKS_WEBSERVER to Dagster's address: it is done here"
    request = urllib.request.Request(
        f"{address}/graphql", json.dumps({"query": _RELOAD}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        found = json.load(answer)
    workspace = (found.get("data") or {}).get("reloadWorkspace") or {}
    wrong = [
        f"{e['name']}: {e['locationOrLoadError']['message'].strip()[-600:]}"
        for e in workspace.get("locationEntries", ())
        if (e["locationOrLoadError"] or {}).get("__typename") == "PythonError"
    ]
    if workspace.get("__typename") != "Workspace" or wrong:
        raise SteerworksError(f"{said}, and loading again failed: {'; '.join(wrong) or json.dumps(found)[:600]}")
    return f"{said}. The code locations were loaded again"


def _quiet(refused: tuple[str, ...]) -> str:
    return "nothing new" + (f"; not taken: {'; '.join(refused)}" if refused else "")
