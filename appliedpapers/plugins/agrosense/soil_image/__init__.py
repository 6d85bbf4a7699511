"""Task ``soil-image``: the soil class of a photo."""
