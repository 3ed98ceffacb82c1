"""The scorers, one file each: a frozen dataclass and `build(**options)`. A new goal is a new file here."""
