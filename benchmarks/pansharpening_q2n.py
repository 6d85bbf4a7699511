"""Q2n of a 218-band block: the algebra written out pixel by pixel, and one matrix product with signs.

    OMP_NUM_THREADS=1 python benchmarks/pansharpening_q2n.py

One process, one thread, blocks of 32 x 32 pixels, 218 bands in a product of dimension 256. The two take
turns, so that a busy machine slows both; figures are medians of process time. The largest difference between
their indices is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np

from appliedpapers.plugins.pansharpening.q2n import BLOCK, q2n_of

GOAL = 20


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the product of hypercomplex numbers, shape ``(N, pixels)``, by halving."""
    if len(a) == 1:
        return a * b
    half = len(a) // 2
    upper = product(a[:half], b[:half]) - product(conjugate(b[half:]), a[half:])
    lower = product(conjugate(a[:half]), conjugate(b[half:])) + product(b[:half], conjugate(a[half:]))
    return np.concatenate([upper, lower])


def conjugate(a: np.ndarray) -> np.ndarray:
    """Return the conjugate."""
    return np.concatenate([a[:1], -a[1:]])


def literal(reference: np.ndarray, other: np.ndarray) -> float:
    """Return Q2n of one block as its definition reads."""
    bands, pixels = reference.shape
    order = 1 << max(bands - 1, 0).bit_length()
    x, y = np.zeros((order, pixels)), np.zeros((order, pixels))
    x[:bands], y[:bands] = reference, other
    mean, spread = x.mean(axis=1, keepdims=True), x.std(axis=1, ddof=1, keepdims=True)
    spread[spread == 0] = 1e-10
    x, y = (x - mean) / spread + 1, conjugate((y - mean) / spread + 1)
    first, second = x.mean(axis=1), y.mean(axis=1)
    scale = pixels / (pixels - 1)
    covariance = scale * (product(x, y).mean(axis=1) - product(first, second))
    one, two = first @ first, second @ second
    variance = scale * ((x**2).sum(axis=0).mean() - one + (y**2).sum(axis=0).mean() - two)
    return float(np.linalg.norm(covariance) * 2 * np.sqrt(one * two) / (one + two) * 2 / variance)


def timed(function: Callable[[], float]) -> tuple[float, float]:
    """Return the seconds of process time that a call takes, and what it returns."""
    start = time.process_time()
    value = function()
    return time.process_time() - start, value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bands", type=int, default=218)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    truth = 1000 * random.uniform(0.2, 1, (options.bands, BLOCK * BLOCK))
    other = np.round(truth * (1 + 0.1 * random.standard_normal(truth.shape)))
    truth = np.round(truth)
    q2n_of(truth, other)  # the table of signs is made once a dimension
    slow, fast, apart = [], [], 0.0
    for _ in range(options.repeats):
        seconds, expected = timed(lambda: literal(truth, other))
        slow.append(seconds)
        seconds, found = timed(lambda: q2n_of(truth, other))
        fast.append(seconds)
        apart = max(apart, abs(found - expected))
    before, after = statistics.median(slow), statistics.median(fast)
    print(f"recursion {before:.3f} s, one product {after:.4f} s a block of {options.bands} bands")
    print(f"{before / after:.0f} times faster (goal {GOAL}); the indices differ by {apart:.1e} (goal 1e-7)")
    print(
        json.dumps({"recursion_s": before, "product_s": after, "ratio": before / after, "difference": apart})
    )


if __name__ == "__main__":
    main()
