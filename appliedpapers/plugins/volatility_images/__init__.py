"""volatility-images: short-term volatility from images of order flow (after arXiv 2304.02472)."""
