"""Contrast and preference data: what behaviors are defined by, fitted on and tested with."""

from steer_core.corpus.contrasts.build import VERSION, Written, build_contrasts, source_digests
from steer_core.corpus.contrasts.records import Contrasts

__all__ = ["VERSION", "Contrasts", "Written", "build_contrasts", "source_digests"]
