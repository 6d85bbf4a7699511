"""Networks that look at images: the one home of timm and torchvision.

| module | holds |
|---|---|
| ``guard`` | how torchvision and timm are imported, also where torchvision's compiled part cannot load |
| ``preprocess`` | from uint8 pixels to what a network takes: resize, crop, mean and std |
| ``networks`` | timm networks by name, with weights that are random, from a file, or from a package |
| ``lite0`` | the default encoder's weights, from a package, under timm's names |
| ``encoders`` | frozen encoders: features of many images in bounded memory, each independent of the others |

Decoding files is ``appliedpapers.core.images``, which needs pillow alone.
"""
