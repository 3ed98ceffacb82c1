"""The front door: what `import steer_core` offers, in plain Python arguments. One idea a file."""
