"""Georeferenced rasters: reading by window and band, pairs on nested grids, tiles, whole output files."""
