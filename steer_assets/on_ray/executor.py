"""The gpu location's executor on Ray: each step is a job of the cluster, by dagster-ray.

Four things are done otherwise than there, each of which was seen to go wrong (docs/decisions/0035): a step's process
dies with its supervisor, a job that was stopped is a failure, a head that is away for good is one too, and what one
step asks for is not asked for the next.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.executor.step_delegating import CheckStepHealthResult

#: Seconds without an answer after which a head is taken for lost. Workers give up after 60 themselves: not before.
GRACE = 90.0
#: Seconds between two looks at a step's job.
LOOK_EVERY = 5


def ray_executor() -> dg.ExecutorDefinition:
    """Steps as Ray jobs at `RAY_ADDRESS` (the dashboard's), with this process' settings."""
    from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
    from dagster._core.execution.retries import RetryMode
    from dagster._core.executor.step_delegating import StepDelegatingExecutor
    from dagster_ray.core.executor import _RAY_EXECUTOR_CONFIG_SCHEMA, RayExecutorConfig

    @dg.executor(
        name="ray", config_schema=_RAY_EXECUTOR_CONFIG_SCHEMA, requirements=multiple_process_executor_requirements()
    )
    def executor(init: Any) -> StepDelegatingExecutor:
        from ray.job_submission import JobSubmissionClient

        from steer_assets.on_ray.preflight import check_dashboard

        config = RayExecutorConfig(**init.executor_config["ray"])
        check_dashboard(str(config.address), {})
        handler = step_handler(JobSubmissionClient(config.address), config)
        return StepDelegatingExecutor(
            handler,
            retries=RetryMode.from_config(init.executor_config["retries"]),
            check_step_health_interval_seconds=LOOK_EVERY,
            should_verify_step=True,
        )

    passed = [name for name in os.environ if name.startswith(("STEERWORKS_", "FSSPEC_", "AWS_", "HF_", "OMP_"))]
    settings = {"address": {"env": "RAY_ADDRESS"}, "env_vars": sorted({"DAGSTER_HOME", *passed})}
    return executor.configured({"ray": settings}, name="ray")


def step_handler(client: Any, config: Any, clock: Any = time.monotonic) -> Any:
    """dagster-ray's handler of steps, more careful.

    Args:
        client: Ray's `JobSubmissionClient`.
        config: dagster-ray's settings of an executor; resources are the steps' own.
        clock: seconds.
    """
    from dagster._core.executor.step_delegating import CheckStepHealthResult
    from dagster_ray.core.executor import RayStepHandler
    from ray.job_submission import JobStatus

    class Handler(RayStepHandler):
        """Launches steps, and tells those that will never end."""

        def __init__(self) -> None:
            super().__init__(
                client=client,
                env_vars=config.env_vars,
                runtime_env=config.runtime_env,
                num_cpus=None,
                num_gpus=None,
                memory=None,
                resources=None,
            )
            self.silent: dict[str, float] = {}
            self.over: set[str] = set()
            submit = client.submit_job
            # with a shell between them, a supervisor that dies takes the shell along, and the step writes on
            client.submit_job = lambda entrypoint, **rest: submit(entrypoint=f"exec {entrypoint}", **rest)

        def launch_step(self, step_handler_context: Any) -> Any:
            # upstream adds to it, step by step
            self.resources = {}
            yield from super().launch_step(step_handler_context)

        def check_step_health(self, step_handler_context: Any) -> CheckStepHealthResult:
            job = self._get_ray_job_submission_id(step_handler_context)
            try:
                found = super().check_step_health(step_handler_context)
            except OSError as error:
                since = self.silent.setdefault(job, clock())
                if clock() - since < GRACE:
                    raise
                return CheckStepHealthResult.unhealthy(
                    f"Ray's head has not answered for {GRACE:.0f} s about job {job} ({type(error).__name__}): start it "
                    "again, then the run; what was written stands in the journal"
                )
            self.silent.pop(job, None)
            if not found.is_healthy:
                return found
            status = self.client.get_job_status(job)
            if status == JobStatus.STOPPED:
                return CheckStepHealthResult.unhealthy(f"Ray job {job} was stopped by somebody")
            if status == JobStatus.SUCCEEDED:
                # its last event may not have been read yet
                if job in self.over:
                    return CheckStepHealthResult.unhealthy(f"Ray job {job} has ended without a word of its step")
                self.over.add(job)
            return found

    return Handler()
