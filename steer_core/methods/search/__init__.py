"""Search for the setting of a vector: proposed by a sampler, measured on items to choose by, told on others."""

from steer_core.methods.search.measuring import Measured, Measurer, validation_items
from steer_core.methods.search.report import Searched, search, tell
from steer_core.methods.search.space import Setting, Space
from steer_core.methods.search.study import Objective, Study

__all__ = [
    "Measured",
    "Measurer",
    "Objective",
    "Searched",
    "Setting",
    "Space",
    "Study",
    "search",
    "tell",
    "validation_items",
]
