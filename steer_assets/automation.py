"""When tables follow by themselves: once a table before them has really changed, or their code has."""

from __future__ import annotations

import dagster as dg


def follows() -> dg.AutomationCondition:
    """Run when a dependency's data version or the code version changed.

    Dagster's `eager` fires on every new materialization, also on one that says "unchanged"; this one looks at the data
    version. Switched on with the automation sensor of the code location.
    """
    changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    eager = dg.AutomationCondition.eager().replace("any_deps_updated", changed)
    code = dg.AutomationCondition.code_version_changed().since_last_handled()
    condition: dg.AutomationCondition = (eager | code).with_label("follows_changes")
    return condition
