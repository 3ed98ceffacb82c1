"""What a model is like apart from the request: characteristics of texts, and estimators from tables to figures."""

from steer_core.evaluation.profiles.family import Resources, UnigramTable
from steer_core.evaluation.profiles.profile import VERSION, describe_metrics, profile_stream, profile_texts
from steer_core.evaluation.profiles.summary import compare_profiles, summarise_profile

__all__ = [
    "VERSION",
    "Resources",
    "UnigramTable",
    "compare_profiles",
    "describe_metrics",
    "profile_stream",
    "profile_texts",
    "summarise_profile",
]
