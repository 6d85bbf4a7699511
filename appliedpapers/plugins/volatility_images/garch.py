"""GARCH(1,1) on returns of a few seconds, fitted by the ``arch`` library and summed over the window."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from appliedpapers.plugins.volatility_images.market import Floats, Ints, Session

UNIT = 1e4
"""Returns are fitted in units of 1e-4: at 1e-5 the optimiser stops at once and says nothing."""
_PERSISTENT = 1 - 1e-9


@dataclass(frozen=True)
class Garch:
    """A fitted GARCH(1,1).

    Attributes:
        omega: Constant, squared units of 1e-4.
        alpha: Weight of the last squared return.
        beta: Weight of the last variance.
        step: Seconds of a return.
        converged: Whether the optimiser says so.
    """

    omega: float
    alpha: float
    beta: float
    step: int
    converged: bool

    @classmethod
    def fit(cls, sessions: Sequence[Session], step: int) -> Garch:
        """Fit to returns of ``step`` seconds of all sessions, one after the other."""
        from arch import arch_model

        parts = [_aggregated(one, step) for one in sessions]
        returns = UNIT * np.concatenate(parts)
        if returns.std() == 0:
            return cls(0.0, 0.0, 0.0, step, converged=False)
        with warnings.catch_warnings():
            # what it warns of, that it did not converge, is asked for and reported
            warnings.simplefilter("ignore")
            model = arch_model(returns, mean="Zero", vol="GARCH", p=1, q=1, rescale=False)
            found = model.fit(disp="off", show_warning=False)
        omega, alpha, beta = (float(found.params[name]) for name in ("omega", "alpha[1]", "beta[1]"))
        return cls(omega, alpha, beta, step, converged=found.convergence_flag == 0)

    def forecast(self, session: Session, anchors: Ints, window: int) -> Floats:
        """Return the root of the expected sum of squared returns of the next window, in return units.

        The variance is filtered forward along the returns that end at each anchor: only what is known counts.
        """
        steps = max(round(window / self.step), 1)
        long_run = self.omega / max(1 - self.alpha - self.beta, 1 - _PERSISTENT)
        persistence = min(self.alpha + self.beta, _PERSISTENT)
        total = (1 - persistence**steps) / (1 - persistence)
        out = np.empty(len(anchors))
        for shift in range(self.step):
            chosen = np.flatnonzero(anchors % self.step == shift)
            if not len(chosen):
                continue
            returns = UNIT * _aggregated(session, self.step, shift)
            # the returns that end at the anchor, and the variance of the one after them
            ahead = self._filtered(returns, long_run)[(anchors[chosen] - shift) // self.step]
            out[chosen] = steps * long_run + total * (ahead - long_run)
        scaled = np.maximum(out, 0.0) * (window / (steps * self.step))
        return np.asarray(np.sqrt(scaled) / UNIT)

    def _filtered(self, returns: Floats, first: float) -> Floats:
        """Return the variance of each return given those before, and of the one after the last."""
        variance = np.empty(len(returns) + 1)
        now = first if np.isfinite(first) and first < 1e6 else float(np.mean(returns**2))
        for number, square in enumerate((returns**2).tolist()):
            variance[number] = now
            now = self.omega + self.alpha * square + self.beta * now
        variance[-1] = now
        return variance


def _aggregated(session: Session, step: int, shift: int = 0) -> Floats:
    """Return sums of ``step`` returns, the first of them of the seconds ``shift .. shift + step - 1``."""
    count = (len(session) - shift) // step
    own = session.returns[shift : shift + count * step]
    return np.asarray(own.reshape(count, step).sum(axis=1))
