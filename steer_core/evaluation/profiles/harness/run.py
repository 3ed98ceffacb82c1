"""Tasks of the harness, in one arm: each is loaded and run by itself, and what cannot be run is a row that says why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steer_core.evaluation.profiles.harness.catalogue import Catalogue
from steer_core.evaluation.profiles.harness.contained import contained
from steer_core.evaluation.profiles.harness.needs import HarnessRefusalError, harness
from steer_core.evaluation.profiles.harness.result import (
    SAMPLES,
    TASKS,
    HarnessResult,
    frame_of,
    missing_row,
    sample_rows,
    task_rows,
)
from steer_core.tables.errors import ConfigError

if TYPE_CHECKING:
    from steer_core.evaluation.profiles.harness.lm import EngineLM

#: The seven tasks that side effects on general ability are reported on.
DEFAULT_TASKS = ("boolq", "rte", "hellaswag", "winogrande", "arc_challenge", "arc_easy", "openbookqa")
#: Tasks that come with this package and need no network.
OWN_TASKS = Path(__file__).parent / "tasks"


def run_harness(
    tasks: Sequence[str],
    lm: EngineLM,
    *,
    limit: float | None = None,
    num_fewshot: int | None = None,
    task_folders: Sequence[Path] = (),
    task_data: Mapping[str, Path] | None = None,
    apply_chat_template: bool = False,
    fewshot_as_multiturn: bool = True,
    seed: int = 0,
    bootstrap_iters: int = 1000,
) -> HarnessResult:
    """Run tasks of the lm-evaluation-harness on an engine, in an arm.

    The environment is not scanned, no subprocess is started, and what tasks do to the process is undone
    (`contained.contained`). The arm's system prompt is set before contexts as the harness sets one.

    Args:
        tasks: names of tasks, groups or tags, each once; see `DEFAULT_TASKS`.
        lm: who answers.
        limit: documents of each task, or a share of them below 1; None: all.
        num_fewshot: examples before each question; None: as the task says. A task that sets 0 keeps it, as in the
            harness.
        task_folders: folders of YAML files, looked at before `OWN_TASKS` and the harness's own.
        task_data: task -> folder with its splits as files (`local.load_folder`), for data that cannot be reached.
        apply_chat_template: whether contexts go through the chat template.
        fewshot_as_multiturn: whether examples are turns of their own there.
        seed: of few-shot examples and of whatever tasks draw.
        bootstrap_iters: resamples for standard errors without a formula; 0: no standard errors.

    Raises:
        ConfigError: the harness is not installed, no task or one twice is named, a limit is none, or a folder is not
            there.
        SteerworksError: the engine fails; what a single task asks beyond it is a row instead.
    """
    _check(tasks, limit, num_fewshot, task_folders, task_data or {})
    harness()
    figures: list[dict[str, Any]] = []
    samples: list[dict[str, Any]] = []
    with contained(seed):
        catalogue = Catalogue([OWN_TASKS, *task_folders], task_data or {})
        for name in tasks:
            try:
                loaded = catalogue.load(name)
                own_figures, own_samples = _evaluated(
                    loaded,
                    lm,
                    limit=limit,
                    num_fewshot=num_fewshot,
                    chat=(apply_chat_template, fewshot_as_multiturn),
                    seed=seed,
                    bootstrap_iters=bootstrap_iters,
                )
            except Exception as error:  # modules of tasks raise whatever they like; engines are let through
                if error is lm.engine_error:
                    raise
                figures.append(missing_row(name, _reason(error), limit))
                continue
            figures += own_figures
            samples += own_samples
    return HarnessResult(
        tasks=frame_of(figures, TASKS),
        samples=frame_of(samples, SAMPLES),
        arm_id=lm.arm.arm_id,
        model=lm.engine.model_identity,
        execution=lm.engine.execution,
        harness=version("lm_eval"),
        seed=seed,
        system=lm.arm.system,
        chat=apply_chat_template,
    )


def _evaluated(
    loaded: Any,
    lm: EngineLM,
    *,
    limit: float | None,
    num_fewshot: int | None,
    chat: tuple[bool, bool],
    seed: int,
    bootstrap_iters: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `TASKS` and `SAMPLES` of what the catalogue loaded."""
    from lm_eval import evaluate

    flags = lm.flags and lm.engine.capabilities.greedy_flags
    for name, task in loaded["tasks"].items():
        if not flags and reads_flags(task):
            raise HarnessRefusalError(
                f"task {name!r} asks whether greedy decoding writes the continuation, and the "
                f"{lm.engine.capabilities.name} backend does not say which tokens are the likeliest; use transformers"
            )
        # as the harness's own entry has it: a task that says 0 keeps it
        if num_fewshot is not None and task.get_config("num_fewshot") != 0:
            task.set_config(key="num_fewshot", value=num_fewshot)
        elif task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    before, asked = (lm.counts.truncated, lm.counts.unaligned), lm.flags
    lm.flags = flags
    try:
        found = evaluate(
            lm=lm,
            task_dict=loaded,
            limit=limit,
            bootstrap_iters=bootstrap_iters,
            system_instruction=lm.arm.system,
            apply_chat_template=chat[0],
            fewshot_as_multiturn=chat[0] and chat[1],
        )
    finally:
        lm.flags = asked
    rows = [row for name, own in found["samples"].items() for row in sample_rows(name, own, flags)]
    shared = {
        "limit": limit,
        "n_truncated": lm.counts.truncated - before[0],
        "n_unaligned": lm.counts.unaligned - before[1],
    }
    return list(task_rows(found, loaded.get("groups", {}), rows, shared)), rows


def reads_flags(task: Any) -> bool:
    """Whether a task's metrics ask if greedy decoding writes a continuation."""
    metrics = {m["metric"] for m in task.get_config("metric_list") or ()}
    kind = task.get_config("output_type")
    return (kind == "loglikelihood" and metrics != {"perplexity"}) or (
        kind == "multiple_choice" and "exact_match" in metrics
    )


def _reason(error: Exception) -> str:
    if isinstance(error, HarnessRefusalError):
        return str(error)
    said = (str(error).splitlines() or [""])[0][:300]
    return f"it failed: {type(error).__name__}: {said}"


def _check(
    tasks: Sequence[str],
    limit: float | None,
    num_fewshot: int | None,
    folders: Sequence[Path],
    data: Mapping[str, Path],
) -> None:
    if isinstance(tasks, str) or not tasks or len(set(tasks)) < len(tasks):
        raise ConfigError(f"tasks = {tasks!r}: a list of names, one at least, and each once")
    if limit is not None and (limit <= 0 or (isinstance(limit, float) and limit >= 1)):
        raise ConfigError(f"limit = {limit!r}: a whole number of documents from 1 on, or a share below 1")
    if num_fewshot is not None and num_fewshot < 0:
        raise ConfigError(f"num_fewshot = {num_fewshot}: 0 or more examples")
    for folder in (*folders, *data.values()):
        if not Path(folder).is_dir():
            raise ConfigError(f"{folder} is no folder")
    if unknown := sorted(set(data) - set(tasks)):
        raise ConfigError(f"task_data is given for {', '.join(unknown)}, which is not among the tasks")
