"""The front door."""

import scipy  # noqa: F401
