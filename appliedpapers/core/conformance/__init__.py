"""The checks of the conformance suite, by theme; :mod:`appliedpapers.core.testing` runs them."""
