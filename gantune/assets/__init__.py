"""The built-in models and the built-in data sets."""

MODELS = ("mini", "mini-writer")
