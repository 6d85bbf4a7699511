"""Entries."""

from __future__ import annotations

from appliedpapers.nn.registry import Entry

ENTRIES: tuple[Entry, ...] = ()
