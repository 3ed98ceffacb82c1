"""What the commands of `steerworks` do, one function each; `__main__` has their arguments."""
