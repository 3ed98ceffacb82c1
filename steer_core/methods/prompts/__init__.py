"""One file a prompt strategy; each has `build(setting, **options) -> Method`. A file's name is the strategy's name."""
