"""The Dagster layer. Thin: an asset reads tables, calls one function of `steer_core`, returns a table."""

import warnings

import dagster as dg

# the features used here are pinned with the version; a user can do nothing about these
for _category in (dg.BetaWarning, dg.PreviewWarning):
    warnings.filterwarnings("ignore", category=_category)
