"""SteerLM (Dong et al. 2023; Wang et al. 2024): models that write as labels ask, and models that read labels off.

* `labels`, `conversation`, `encoding`: conversations with labels as text and as tokens, and which tokens carry loss
* `losses`, `ordinal`, `beta`, `weights`: what is trained on
* `sources`: trees, rated answers and preference pairs from local files
* `attribute_model`, `attribute_training`, `calibration`: labels of a text, and how far they are right
* `asking`, `hindsight`, `demonstrations`, `annotating`, `noting`: the recipe's prompts, rows, answers, labels and books
* `weighting`, `distilling`, `iteration`: an iteration of SteerLM 2.0
* `fidelity`: what was asked for against what was measured
"""
