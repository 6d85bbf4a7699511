"""Abnormal ageing and early failure prediction for lasers and LEDs (arXiv 2211.02847)."""
