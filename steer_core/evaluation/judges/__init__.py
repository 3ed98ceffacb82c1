"""Judges of open answers: one that knows the ground truth, and language models with a rubric; and how good they are."""
