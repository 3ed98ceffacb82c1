"""Probes: draw requests that cover the goal space evenly."""

from steer_core.probes.draw import VERSION, Probe, draw_probes
from steer_core.probes.weights import DensityWeights, density_weights

__all__ = ["VERSION", "DensityWeights", "Probe", "density_weights", "draw_probes"]
