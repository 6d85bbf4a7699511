"""Variants of the tiny plugins with one seeded defect each, to prove that its check catches it."""
