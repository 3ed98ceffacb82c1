"""Intervals clustered by source text, paired contrasts, slopes, and what a probe can detect."""

from steer_core.statistics.bootstrap import Estimate, clustered_bootstrap, resample_counts
from steer_core.statistics.paired import PairedContrast, paired_contrast
from steer_core.statistics.power import smallest_effect
from steer_core.statistics.quantiles import weighted_quantiles
from steer_core.statistics.slope import SlopeEstimate, slope_through_origin

__all__ = [
    "Estimate",
    "PairedContrast",
    "SlopeEstimate",
    "clustered_bootstrap",
    "paired_contrast",
    "resample_counts",
    "slope_through_origin",
    "smallest_effect",
    "weighted_quantiles",
]
