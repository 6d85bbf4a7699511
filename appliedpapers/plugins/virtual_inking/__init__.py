"""Virtual inking: the surgical cut surface on H&E slides (arXiv 2511.22131)."""
