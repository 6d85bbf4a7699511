"""Applied Papers: applied machine-learning papers as plugins that run on your own data."""

__version__ = "0.1.0"
