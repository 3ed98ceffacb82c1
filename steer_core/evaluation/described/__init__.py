"""A behavior from a sentence: opposite instructions, questions, answers under both, and what is kept of them.

Persona vectors (Chen et al. 2025, arXiv:2507.21509), with every answer kept as a row, every filter tried before it is
used, and templates where no strong model is there to write the instructions.
"""

from steer_core.evaluation.described.answers import write_answers
from steer_core.evaluation.described.filtering import filter_answers
from steer_core.evaluation.described.prompts import export_prompts, make_prompts

#: Bumped when the same behavior and models give other rows.
VERSION = "3"

__all__ = ["VERSION", "export_prompts", "filter_answers", "make_prompts", "write_answers"]
