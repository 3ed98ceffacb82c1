"""Recipes, one module each: see `steer_core.adapters.recipe`."""
