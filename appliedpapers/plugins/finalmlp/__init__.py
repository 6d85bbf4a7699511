"""FinalMLP: click-through-rate prediction with two gated MLP streams (arXiv 2304.00902)."""
