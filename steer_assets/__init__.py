"""The Dagster layer. Thin: an asset reads tables, calls one function of `steer_core`, returns a table."""
