"""Estimators, one file each: what evidence they take (`NEEDS`), what applies their fits (`OPERATOR`), and `fit`."""
