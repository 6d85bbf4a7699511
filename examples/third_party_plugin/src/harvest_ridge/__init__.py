"""Harvest ridge: ridge regression on the rows of a CSV."""
