"""The built-in model and the built-in data sets."""

MODELS = ("mini",)
