"""AgroSense: soil photos, soil tests and spectra to crop, fertiliser and nitrogen advice."""
