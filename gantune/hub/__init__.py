"""Models, tokenizers and adapters, from disk or the Hub and back, with their model cards."""
