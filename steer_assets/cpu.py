"""Code location `cpu`: tables, scores and pages."""

import dagster as dg

from steer_assets.assets import CPU
from steer_assets.build import build_definitions

defs = build_definitions(CPU, dg.multiprocess_executor.configured({"max_concurrent": 2}), jobs=False)
