"""A light configuration."""

from tinyplugins.rows.config import RowsConfig

DoorConfig = RowsConfig
