"""Code location `cpu`: what all cells of a bench share, and the leaderboard."""

import dagster as dg

from steer_assets.build import build_definitions

defs = build_definitions(dg.in_process_executor, location="cpu", cells=False)
