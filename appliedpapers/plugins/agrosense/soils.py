"""The seven soil classes, and how they shift soil variables. Standard library only."""

from __future__ import annotations

SOILS = ("alluvial", "arid", "black", "laterite", "mountain", "red", "yellow")
"""Soil classes in the order of every array of probabilities."""
