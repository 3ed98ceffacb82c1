"""The explorer's server: views of `steer_core.explorer` for this machine alone, and what they link to."""
