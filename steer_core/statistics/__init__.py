"""Intervals clustered by source text, paired contrasts, slopes within texts, ranks, many tests, and power."""

from steer_core.statistics.auroc import auroc, auroc_interval
from steer_core.statistics.best_of import Pool, best_of_curve, expected_best
from steer_core.statistics.bootstrap import clustered_estimates, expanded_interval, resample_counts
from steer_core.statistics.clustered import Estimate, clustered_mean, clustered_share, ratio_interval
from steer_core.statistics.multiple import exchange_p, holm
from steer_core.statistics.order import concordance
from steer_core.statistics.paired import PairedContrast, paired_contrast
from steer_core.statistics.power import smallest_effect, smallest_listener
from steer_core.statistics.quantiles import weighted_quantiles
from steer_core.statistics.ranks import LEVEL, least_controls, rank_p
from steer_core.statistics.slope import SlopeEstimate, slope_within

__all__ = [
    "LEVEL",
    "Estimate",
    "PairedContrast",
    "Pool",
    "SlopeEstimate",
    "auroc",
    "auroc_interval",
    "best_of_curve",
    "clustered_estimates",
    "clustered_mean",
    "clustered_share",
    "concordance",
    "exchange_p",
    "expanded_interval",
    "expected_best",
    "holm",
    "least_controls",
    "paired_contrast",
    "rank_p",
    "ratio_interval",
    "resample_counts",
    "slope_within",
    "smallest_effect",
    "smallest_listener",
    "weighted_quantiles",
]
