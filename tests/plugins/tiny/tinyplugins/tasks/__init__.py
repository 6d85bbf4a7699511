"""Two tasks: arrays in cells, and many output rows for a group."""
