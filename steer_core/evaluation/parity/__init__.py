"""Published numbers as claims: a file a family, each recomputed from the same inputs or named with what it lacks."""

from steer_core.evaluation.parity.claim import CellTable, Claim, File, Printed, Supplies, check_claims, printed

__all__ = ["CellTable", "Claim", "File", "Printed", "Supplies", "check_claims", "printed"]
