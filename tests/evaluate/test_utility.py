"""Realised utility and its differences against statsmodels and hand-typed numbers."""

import numpy as np
import pytest
import statsmodels.api as sm

from jaxfin.evaluate.forecast_tests import newey_west_lags
from jaxfin.evaluate.utility import compare_utility, quadratic_utility


def test_by_hand():
    made = quadratic_utility([0.1, -0.2, np.nan], 3.0)
    np.testing.assert_allclose(made, [0.1 - 0.015, -0.2 - 0.06, np.nan])
    made = compare_utility({"a": [0.1, -0.1], "b": [0.0, 0.0]}, 2.0, 12)
    assert made["a"].annual == pytest.approx(-0.12)
    assert made["b"].difference == pytest.approx(0.12)
    assert made["a"].difference == 0 and np.isnan(made["a"].statistic)


def test_errors_are_those_of_statsmodels():
    rng = np.random.default_rng(1)
    first, second = rng.normal(0.01, 0.05, (2, 200))
    second[[3, 80]] = np.nan
    made = compare_utility({"first": first, "second": second}, 4.0, 12)["second"]
    utility = second - 2 * second**2
    difference = utility - (first - 2 * first**2)
    for series, annual, error in (
        (utility, made.annual, made.standard_error),
        (difference, made.difference, made.difference / made.statistic),
    ):
        known = series[~np.isnan(series)]
        fit = sm.OLS(known, np.ones(len(known))).fit(
            cov_type="HAC", cov_kwds={"maxlags": newey_west_lags(len(known))}
        )
        np.testing.assert_allclose(annual, 12 * fit.params[0])
        np.testing.assert_allclose(error, 12 * fit.bse[0])
