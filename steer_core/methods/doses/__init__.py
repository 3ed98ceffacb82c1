"""Doses: strengths of a vector that are tried on the training pool, fitted to a curve, and read backwards.

`trial` measures, `curve` fits, `inversion` says which strength a move takes, `policy` how much is asked for at all.
"""

from steer_core.methods.doses.inversion import DoseCurve, is_anchored
from steer_core.methods.doses.policy import Policy
from steer_core.methods.doses.trial import VERSION, Trial, measure_dose_response

__all__ = ["VERSION", "DoseCurve", "Policy", "Trial", "is_anchored", "measure_dose_response"]
