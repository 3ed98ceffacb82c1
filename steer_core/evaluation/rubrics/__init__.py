"""What judges are asked: one module a rubric, found by its name."""
