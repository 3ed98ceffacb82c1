"""Active inheritance (Shimabucoro et al. 2024): a model is tuned on those of its answers that have what is wanted."""
