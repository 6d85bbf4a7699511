"""One script a claim: what the product says of itself, measured; see README.md."""
