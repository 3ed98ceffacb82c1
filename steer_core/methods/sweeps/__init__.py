"""Behaviors swept over the strengths of a vector part: which arms there are, their controls, and what they cost."""
