"""Query-Kontext: the model and its training."""
