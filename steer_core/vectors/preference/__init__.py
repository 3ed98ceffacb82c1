"""Vectors trained on preference pairs: one cached pass below the layer, then gradients to the vector alone.

`encoding` makes token ids of pairs, `layout` lays them out in batches, `passes` runs parts of a model, `capture` keeps
what lies below a layer, `trunk` runs what lies above it, `objectives` says what is minimised, `training` steps and
keeps the best epoch, `fitting` makes fits of it.
"""
