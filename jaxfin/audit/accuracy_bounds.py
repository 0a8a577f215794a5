"""Whether an R2 and the share of signs forecast can be of the same forecasts."""

from __future__ import annotations

import numpy as np

from jaxfin.audit.finding import Finding
from jaxfin.audit.r2_bounds import FEWEST, Estimate, percent, period_ratio, pooled_r2
from jaxfin.evaluate.ceiling import implied_accuracy


def accuracy_and_r2(
    accuracy: Estimate,
    r2: Estimate,
    *,
    r2_scaled: Estimate | None = None,
    constant: float = 0.5,
    of: str = "forecasts",
) -> Finding:
    """Directional accuracy beside the one that an R2 implies under normality.

    implied = 1/2 + arcsin(sqrt(R2)) / pi;   edge = accuracy - 1/2

    Alarm: too low, if R2 - 2 se is positive and the edge is below half the one implied
    by it; too high, if the edge is above twice the one implied by R2 + 2 se and
    ``constant`` is beaten; each by more than 3 standard errors of the accuracy. Half
    and twice: with Student-t(3) noise, noise of varying scale or a constant forecast
    the edge of a true conditional mean is 1 to 1.7 times the implied one (400,000
    draws, R2 .001 to .5), and a few large forecasts in fat tails take some of it away.

    Args:
      accuracy: share of signs forecast. r2: against zero.
      r2_scaled: of the forecast times the best constant, its squared uncentred
        correlation with the return: a forecast too large has a low R2 and good signs.
        Printed tables do not have it: the R2 itself is then taken.
      constant: accuracy of the best forecast that never changes sign.
      of: what is forecast, for the name.

    Source: Sheppard (1899); protocols 12.3.1.
    """
    test = f"accuracy and R2, {of}"
    if not np.isfinite([accuracy.value, r2.value]).all():
        return Finding(test, "not run", "no forecast has a return")
    scaled = r2 if r2_scaled is None else r2_scaled
    least = implied_accuracy(max(r2.value - 2 * r2.standard_error, 0)) - 0.5
    high = np.clip(scaled.value + 2 * scaled.standard_error, 0, 1)
    most = implied_accuracy(float(high)) - 0.5
    margin, edge = 3 * accuracy.standard_error, accuracy.value - 0.5
    low = least > 0 and edge < least / 2 - margin
    ceiling = max(2 * most, constant - 0.5)
    wrong = low or edge > ceiling + margin
    implied = implied_accuracy(max(r2.value, 0))
    detail = (
        f"directional accuracy {percent(accuracy.value)} (standard error "
        f"{percent(accuracy.standard_error)}), R2 {percent(r2.value)} implies "
        f"{percent(implied)} under normality; without a change of sign "
        f"{percent(constant)}"
    )
    if wrong:
        detail += f"; too {'low' if low else 'high'} for it"
    return Finding(
        test, "alarm" if wrong else "pass", detail, size=accuracy.value - implied
    )


def panel_accuracy(
    realised: np.ndarray, forecast: np.ndarray, mask: np.ndarray, *, of: str
) -> Finding:
    """`accuracy_and_r2` of forecasts at hand, (R, N) or one column of a series.

    A return or forecast of exactly 0 has no sign and counts one half, as if a coin were
    tossed for it: a forecast of zero has an R2 of 0 and an accuracy of 1/2.
    """
    r, f = np.where(mask, realised, 0.0), np.where(mask, forecast, 0.0)
    if mask.any(axis=1).sum() < FEWEST:
        return Finding(
            f"accuracy and R2, {of}", "not run", f"fewer than {FEWEST} periods"
        )
    count = mask.sum(axis=1)
    agreement = np.where(mask, np.sign(r) * np.sign(f), 0)  # 1, 0 or -1
    hits = (count + agreement.sum(axis=1)) / 2
    drift = np.where(mask, np.sign(r), 0).sum() / count.sum()
    square = np.sum(f**2)
    best = np.sum(r * f) / square if square > 0 else 0.0
    return accuracy_and_r2(
        period_ratio(hits, count),
        pooled_r2(r, f, mask),
        r2_scaled=pooled_r2(r, best * f, mask),
        constant=float((1 + abs(drift)) / 2),
        of=of,
    )
