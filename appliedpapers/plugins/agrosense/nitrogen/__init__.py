"""Task ``nitrogen``: total nitrogen of soil from bands or spectra, with an interval."""
