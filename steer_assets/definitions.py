"""Everything in one location, for the command line and a laptop: one process, weights loaded once."""

import dagster as dg

from steer_assets.build import build_definitions

defs = build_definitions(dg.in_process_executor, location="everything")
