"""``python -m appliedpapers`` is the command ``apps``."""

from appliedpapers.cli import main

main()
