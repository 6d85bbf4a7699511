"""Varifocal-Net: chromosome types and polarity, and karyotypes from them."""
