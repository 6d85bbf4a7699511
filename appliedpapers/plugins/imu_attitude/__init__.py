"""Orientation from an inertial measurement unit without a magnetometer (arXiv 2302.06037 and 2203.17024)."""
