"""Four plugins that fit in milliseconds: rows, scenes with files, streams, and two tasks in one."""
