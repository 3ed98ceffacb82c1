"""Who is not looking is told: a message for a run that failed, and for one with a red check.

`STEERWORKS_WEBHOOK` takes a POST with JSON whose `text` is what Slack, Mattermost and the like show. Failed runs are
also mailed, by Dagster's own means, where `STEERWORKS_MAIL_TO` and the like are set.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Sequence

import dagster as dg

from steer_assets.settings import pages_url
from steer_core.reports.numbers import plural

#: Seconds that a webhook may take.
PATIENCE = 10.0
#: Times that it is told, and seconds in between: within the minute that a tick may take.
ATTEMPTS, PAUSE = 3, 5.0
#: Failures that are written out; of more, how many there are.
SHOWN = 10
_MAIL = ("STEERWORKS_MAIL_FROM", "STEERWORKS_MAIL_PASSWORD", "STEERWORKS_MAIL_TO")


def alert_sensors(location: str) -> list[dg.SensorDefinition]:
    """Sensors over the runs of all locations; off until switched on."""
    settings = {
        "monitor_all_code_locations": True,
        "minimum_interval_seconds": 30,
        "default_status": dg.DefaultSensorStatus.STOPPED,
    }

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name=f"alert_red_checks_{location}",
        description="Tells STEERWORKS_WEBHOOK of runs that came out with a red check",
        **settings,
    )
    def red(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
        return _tell(context, "came out with", red_checks(context.instance, context.dagster_run.run_id))

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.FAILURE,
        name=f"alert_failures_{location}",
        description="Tells STEERWORKS_WEBHOOK of runs that failed",
        **settings,
    )
    def failed(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
        run = context.dagster_run.run_id
        said = [*failures(context.instance, run), *red_checks(context.instance, run)]
        return _tell(context, "failed with", said or ["no word of any step: its process is gone"])

    return [red, failed, *_mail(location)]


def red_checks(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Checks of a run that did not pass, a line each."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    found = [r.event_log_entry.dagster_event.asset_check_evaluation_data for r in records]
    red = [e for e in found if not e.passed]
    return [f"red check {e.check_name} of {e.asset_key.to_user_string()}: {_figures(e.metadata)}" for e in red]


def failures(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """Steps of a run that failed, a line each."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    lines = []
    for event in (r.event_log_entry.dagster_event for r in records):
        data = event.step_failure_data
        said = data.user_failure_data.description if data.user_failure_data else None
        # an error that follows from another's has the cause at the end
        lines.append(f"{event.step_key}: {(said or str(data.error.message if data.error else '')).strip()[:600]}")
    return lines


def _figures(metadata: dict[str, dg.MetadataValue]) -> str:
    shown = [f"{name} {value.value}" for name, value in metadata.items() if isinstance(value.value, str | int | float)]
    return ", ".join(shown)[:600] or "see its metadata"


def _tell(context: dg.RunStatusSensorContext, came: str, lines: Sequence[str]) -> dg.SkipReason | None:
    if not lines:
        return None
    address = os.environ.get("STEERWORKS_WEBHOOK")
    if not address:
        return dg.SkipReason("set STEERWORKS_WEBHOOK to where a message is to go: " + "; ".join(lines[:SHOWN]))
    run = context.dagster_run
    cell = run.tags.get("dagster/partition", "")
    title = f"{run.job_name}{f' of {cell}' if cell else ''} {came} {plural(len(lines), 'finding')}"
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    message = {
        "text": "\n".join([title, *lines[:SHOWN], *more, f"Pages: {pages_url()}"]),
        "run": run.run_id,
        "job": run.job_name,
        "cell": cell,
        "findings": list(lines),
    }
    request = urllib.request.Request(
        address, json.dumps(message).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    # a tick that fails is shown, and not repeated: Dagster goes on to the next run
    for attempt in range(ATTEMPTS):
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE):
                return None
        except OSError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(PAUSE)
    return None


def _mail(location: str) -> list[dg.SensorDefinition]:
    if not all(os.environ.get(name) for name in _MAIL):
        return []
    sender, password, to = (os.environ[name] for name in _MAIL)
    return [
        dg.make_email_on_run_failure_sensor(
            email_from=sender,
            email_password=password,
            email_to=[address.strip() for address in to.split(",")],
            smtp_host=os.environ.get("STEERWORKS_MAIL_HOST", f"smtp.{sender.partition('@')[2]}"),
            name=f"mail_failures_{location}",
            monitor_all_code_locations=True,
        )
    ]
