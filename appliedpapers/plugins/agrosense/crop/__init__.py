"""Task ``crop``: a ranked list of crops with trustworthy probabilities, or an honest "outside"."""
