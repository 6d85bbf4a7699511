"""What one does with any plugin: run, track, report, score, serve."""
