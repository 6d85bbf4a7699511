"""FreTS: frequency-domain MLPs for time-series forecasting (arXiv 2311.06184)."""
