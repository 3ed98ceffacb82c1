"""Code location `gpu`: whatever calls a model, and the schedule that asks for it."""

from steer_assets.assets import GPU
from steer_assets.build import build_definitions
from steer_assets.compute import gpu_executor

defs = build_definitions(GPU, gpu_executor(), jobs=True)
