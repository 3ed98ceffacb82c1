"""How well a trait can be read off activations."""

from __future__ import annotations

from schemas.contract import Contract, column


class Detections(Contract, table="detections", key=("concept", "layer", "read", "direction")):
    """A direction at a layer, on examples that were in no fit: can it tell them apart, and is it as sure as right?"""

    concept: str = column(description="Behavior")
    layer: int = column(ge=0, description="0-based decoder layer; the residual stream after it")
    read: str = column(description="Positions that are read, their mean")
    direction: str = column(
        isin=["mean_difference", "discriminant"], description="`discriminant`: under the inverse common covariance"
    )
    fitted_auroc: float = column(
        ge=0.0, le=1.0, description="AUROC on the fitted examples, each by a direction without its fold: to choose by"
    )
    auroc: float = column(ge=0.0, le=1.0, description="Chance that an example of the trait lies above one without")
    low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by pair; .5 is chance")
    high: float = column(nullable=True, description="Upper end")
    balanced_accuracy: float = column(ge=0.0, le=1.0, description="Mean of both classes' accuracies at the threshold")
    balanced_low: float = column(nullable=True, description="Lower end of its 95 % interval, clustered by pair")
    balanced_high: float = column(nullable=True, description="Upper end")
    threshold: float = column(nullable=True, description="Score from which the trait is likelier than not")
    calibration_error: float = column(
        ge=0.0,
        le=1.0,
        description="Expected calibration error, ten bins of equal mass; grows by chance with few examples",
    )
    brier: float = column(
        ge=0.0, le=1.0, description="Mean squared distance of probability and label; .25 says nothing"
    )
    n_fitted: int = column(ge=0, description="Examples that the direction was fitted on")
    n_tested: int = column(ge=0, description="Examples behind the figures")
