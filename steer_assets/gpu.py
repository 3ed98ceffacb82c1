"""Code location `gpu`: the cells, from plans to page, and the schedule that asks for them."""

from steer_assets.build import build_definitions
from steer_assets.compute import gpu_executor

defs = build_definitions(gpu_executor(), location="gpu", shared=False)
