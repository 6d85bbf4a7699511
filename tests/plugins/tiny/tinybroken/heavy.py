"""A configuration that drags a heavy library along."""

import pandas  # noqa: F401
from tinyplugins.rows.config import RowsConfig

HeavyConfig = RowsConfig
