"""Hyperspectral pansharpening: rho-PNN, R-PNN and the classical methods that keep them honest."""
