"""Estimators, one file each: `NEEDS` says what evidence it takes, `fit` turns evidence into numbers."""
