"""Language models: what is known of one before it is loaded, and loading it."""

from steer_core.models.info import ModelInfo, describe_model, model_folder
from steer_core.models.loading import LoadedModel, load_model

__all__ = ["LoadedModel", "ModelInfo", "describe_model", "load_model", "model_folder"]
