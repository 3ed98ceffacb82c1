"""Code location `cpu`: tables, scores and pages; they follow what changed when automation is switched on."""

import dagster as dg

from steer_assets.assets import CPU
from steer_assets.build import build_definitions

defs = build_definitions(CPU, dg.multiprocess_executor.configured({"max_concurrent": 2}), jobs=False)
