"""A causal filter that streams."""
