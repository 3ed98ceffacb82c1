"""When nodes follow by themselves: once a node before them has really changed, or their code has."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg


def follows(*, all_cells: bool = False, besides: Sequence[dg.AssetKey] = ()) -> dg.AutomationCondition:
    """Run when a dependency's data version or the code version changed.

    Dagster's `eager` fires on every new materialization, also on one that says "unchanged"; this one looks at the data
    version. Switched on with the automation sensor of the code location.

    Args:
        all_cells: the node reads every cell that is there; those that are not must not hold it back.
        besides: dependencies whose change alone starts nothing: with other requests, scores wait for their answers,
            which are asked of a model, and come with the schedule.
    """
    changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    if besides:
        changed = changed.ignore(dg.AssetSelection.assets(*besides))
    eager = dg.AutomationCondition.eager().replace("any_deps_updated", changed)
    if all_cells:
        eager = eager.without(~dg.AutomationCondition.any_deps_missing())
    code = dg.AutomationCondition.code_version_changed().since_last_handled()
    condition: dg.AutomationCondition = (eager | code).with_label("follows_changes")
    return condition


def follow_sensor(location: str) -> dg.AutomationConditionSensorDefinition:
    """Launches what follows, in one location; off until switched on."""
    return dg.AutomationConditionSensorDefinition(
        f"follow_changes_{location}",
        target=dg.AssetSelection.all(),
        description="Launches scores, pages and tables once something before them has really changed; "
        "never what calls a model: that is asked for, or scheduled",
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
