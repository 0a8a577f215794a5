"""Arithmetic of tables: what the papers printed must fire, what adds up must not."""

import numpy as np
import pytest
from scipy import stats

from jaxfin.audit.forensics import (
    PrintedTest,
    compounding,
    constant_costs,
    costs,
    p_value_sides,
    sharpe_p_value,
)
from jaxfin.evaluate.sharpe_tests import jobson_korkie
from jaxfin.portfolio.holding import LegSeries

# Paper 001, long-short Sharpe ratios for K = 1..6: value-weighted gross (table 4) and
# net (7), equal-weighted gross (3) and net (6).
TABLE_4 = {
    "OLS": [-0.94, -1.35, -0.77, -0.45, -0.23, -0.40],
    "IPCA": [-0.13, -0.05, 0.32, 0.58, 0.93, 1.02],
    "RF": [-0.17, -0.03, 0.26, 0.52, 0.77, 0.91],
    "NN": [-0.11, 0.14, 0.53, 0.74, 1.14, 1.37],
    "CAE": [-0.05, 0.21, 0.67, 0.92, 1.46, 1.45],
    "GAN": [-0.02, 0.26, 0.70, 1.03, 1.41, 1.57],
    "SeqRAT": [0.02, 0.31, 0.76, 1.10, 1.46, 1.60],
    "SeqGAT": [0.02, 0.35, 0.83, 1.17, 1.53, 1.79],
    "SeqLAT": [0.03, 0.34, 0.82, 1.23, 1.56, 1.83],
}
TABLE_7 = {
    "OLS": [-0.99, -1.40, -0.82, -0.50, -0.28, -0.45],
    "IPCA": [-0.20, -0.12, 0.25, 0.51, 0.86, 0.95],
    "RF": [-0.29, -0.15, 0.14, 0.40, 0.65, 0.79],
    "NN": [-0.25, 0, 0.39, 0.60, 1.00, 1.23],
    "CAE": [-0.21, 0.05, 0.51, 0.76, 1.30, 1.29],
    "GAN": [-0.20, 0.08, 0.52, 0.85, 1.23, 1.39],
    "SeqRAT": [-0.20, 0.09, 0.54, 0.88, 1.24, 1.38],
    "SeqGAT": [-0.22, 0.11, 0.59, 0.93, 1.29, 1.55],
    "SeqLAT": [-0.23, 0.08, 0.56, 0.97, 1.30, 1.57],
}
TABLE_3 = {
    "IPCA": [0.20, 0.46, 0.85, 1.25, 1.76, 1.65],
    "RF": [0.38, 0.48, 0.63, 0.79, 1.03, 1.01],
    "NN": [0.52, 0.78, 1.37, 1.71, 1.78, 1.86],
}
TABLE_6 = {
    "IPCA": [0.18, 0.40, 0.75, 1.10, 1.54, 1.45],
    "RF": [0.30, 0.38, 0.50, 0.63, 0.82, 0.81],
    "NN": [0.41, 0.60, 1.07, 1.33, 1.39, 1.45],
}
# Paper 002, table 5: annual returns 2015 to 2020 and the cumulative one, in percent.
PAPER_002 = {
    "Transformer": ([20.76, -9.95, 12.51, -19.02, 39.21, 50.78], 107.96),
    "LSTM": ([1.55, -1.28, -2.5, -28.71, 18.65, 23.61], 4.84),
    "SVR": ([8.94, -9.23, 7.97, -6.26, 45.12, 46.66], 53.02),
    "CSI800": ([14.91, -13.27, 15.16, -20.44, 31.75, 29.51], 48.10),
    "EW": ([36.9, -15.07, 0.44, -31.31, 27.44, 19.32], 21.99),
}


def printed(names):
    def one(years, total):
        annual = {str(2015 + k): value / 100 for k, value in enumerate(years)}
        return annual, total / 100

    return {name: one(*PAPER_002[name]) for name in names}


def test_annual_returns_of_paper_002_do_not_compound():
    found = compounding(printed(PAPER_002), tolerance=1e-3)
    assert found.verdict == "alarm"
    assert "SVR" in found.detail and "113.01%" in found.detail
    assert "53.02%" in found.detail and "3 of 5" in found.detail
    for name in PAPER_002:
        verdict = compounding(printed([name]), tolerance=1e-3).verdict
        assert verdict == ("pass" if name in ("Transformer", "EW") else "alarm"), name
    assert compounding({}).verdict == "not run"


def test_exact_annual_returns_compound():
    years = {"1": 0.1, "2": -0.5, "3": 0.2}
    assert compounding({"a": (years, 1.1 * 0.5 * 1.2 - 1)}).verdict == "pass"
    assert compounding({"a": (years, -0.35)}).verdict == "alarm"


def test_table_7_of_paper_001_is_table_4_less_a_constant():
    found = constant_costs(TABLE_4, TABLE_7)
    assert found.verdict == "alarm" and found.size == 1
    for told in ("OLS less 0.05", "CAE less 0.16", "SeqLAT less 0.26"):
        assert told in found.detail


def test_table_6_of_paper_001_is_table_3_times_a_constant():
    found = constant_costs(TABLE_3, TABLE_6)
    assert found.verdict == "alarm" and found.size == 1
    for told in ("IPCA times 0.88", "RF times 0.80", "NN times 0.78"):
        assert told in found.detail


def test_measured_costs_are_not_constant():
    rng = np.random.default_rng(0)
    gross = {name: np.asarray(row) for name, row in TABLE_4.items()}
    drag = {name: rng.uniform(0.1, 0.3, 6) for name in gross}
    net = {name: (row - drag[name]).round(2) for name, row in gross.items()}
    assert constant_costs(gross, net).verdict == "pass"
    # No costs at all, few columns, missing columns: nothing to say.
    assert constant_costs(gross, gross).verdict == "pass"
    assert constant_costs({"a": [1, 2, 3]}, {"a": [0, 1, 2]}).verdict == "not run"
    holes = {"a": [1, 2, 3, np.nan]}
    assert constant_costs(holes, {"a": [0, 1, 2, 3]}).verdict == "not run"
    # A cost of the size of the rounding is a constant by accident.
    small = {name: row - 0.02 for name, row in gross.items()}
    assert constant_costs(gross, small).verdict == "pass"


def leg(gross, turnover, cost, dtype=np.float32):
    gross, turnover = np.asarray(gross, dtype), np.asarray(turnover, dtype)
    held = np.full(len(gross), 5)
    return LegSeries(gross, turnover, gross - dtype(cost) * turnover, held, 0 * held)


def test_net_is_gross_less_cost_times_turnover():
    rng = np.random.default_rng(1)
    gross, turnover = rng.normal(0, 0.05, (2, 60))
    turnover = 2 + abs(turnover)
    honest = leg(gross, turnover, 0.003)
    hidden = honest._replace(net=np.where(np.arange(60) % 7 == 0, np.nan, honest.net))
    assert costs({"a": honest, "b": hidden}, 0.003).verdict == "pass"
    assert costs({"a": honest}, 0.002).verdict == "alarm"
    net = honest.net.copy()
    net[30] = honest.gross[30]  # one period without its cost
    found = costs({"a": honest, "late": honest._replace(net=net)}, 0.003)
    assert found.verdict == "alarm" and "late" in found.detail
    assert costs({}, 0.003).verdict == "not run"


def test_turnover_that_never_varies_is_an_alarm():
    gross = np.random.default_rng(2).normal(0, 0.05, 60)
    assumed = np.full(60, 1.3)
    assumed[0] = 2  # the opening trade
    assert costs({"a": leg(gross, assumed, 0.003)}, 0.003).verdict == "alarm"
    kept = np.zeros(60)
    kept[0] = 1
    assert costs({"a": leg(gross, kept, 0.003)}, 0.003).verdict == "pass"
    short = leg(gross[:8], assumed[:8], 0.003)
    assert costs({"a": short}, 0.003).verdict == "pass"


def test_p_of_paper_001_is_on_the_wrong_side():
    # Table 5: SeqLAT 3.03 against SeqGAT 2.87, one-sided p = .518.
    found = p_value_sides({"SeqGAT": PrintedTest(3.03 - 2.87, 0.518, "greater")})
    assert found.verdict == "alarm" and "0.518" in found.detail
    right = {"a": PrintedTest(0.16, 0.482, "greater")}
    assert p_value_sides(right).verdict == "pass"
    assert p_value_sides({"a": PrintedTest(0.16, 0.518, "less")}).verdict == "pass"
    assert p_value_sides({"a": PrintedTest(0.16, 0.482, "less")}).verdict == "alarm"
    assert p_value_sides({"a": PrintedTest(0.001, 0.5, "greater")}).verdict == "pass"


@pytest.mark.parametrize("statistic", [-2.3, -0.1, 0.0, 0.4, 3.1])
def test_p_values_of_scipy_pass(statistic):
    def two(p_one):
        p = 2 * stats.norm.sf(abs(statistic))
        return PrintedTest(statistic, round(p, 3), "two-sided", round(p_one, 3))

    upper, lower = stats.norm.sf(statistic), stats.norm.cdf(statistic)
    tests = {
        "greater": PrintedTest(statistic, upper, "greater"),
        "less": PrintedTest(statistic, lower, "less"),
        "two-sided, upper": two(upper),
        "two-sided, lower": two(lower),
        "alone": PrintedTest(statistic, 0.3, "two-sided"),
        "missing": PrintedTest(float("nan"), float("nan"), "greater"),
    }
    assert p_value_sides(tests).verdict == "pass"
    assert p_value_sides({"m": tests["missing"]}).verdict == "not run"
    wrong = PrintedTest(statistic, 0.9 * upper, "two-sided", upper)
    found = p_value_sides({"x": wrong})
    assert found.verdict == ("pass" if upper < 1e-2 else "alarm")
    assert p_value_sides({"x": PrintedTest(1.0, 1.2, "greater")}).verdict == "alarm"


def test_p_values_of_paper_001_are_too_large():
    def p(other, value, rho=0.0):
        return sharpe_p_value(
            3.03, other, value, periods=240, periods_per_year=12, correlation=rho
        )

    found = p(2.40, 0.131)
    assert found.verdict == "alarm"
    assert found.size == pytest.approx(0.041, abs=5e-4)
    assert p(2.56, 0.443).verdict == "alarm"
    assert p(-0.07, 0.004).verdict == "alarm"
    assert p(2.56, 0.0, 0.8).size == pytest.approx(0.004, abs=5e-4)
    assert p(2.40, 0.04).verdict == p(2.40, 0.06).verdict == "pass"
    assert p(3.20, 0.6).verdict == "not run"


def test_sharpe_p_value_is_that_of_the_test():
    rng = np.random.default_rng(3)
    first, second = rng.multivariate_normal([0.8, 0.2], [[1, 0.4], [0.4, 1]], 120).T
    made = jobson_korkie(first, second)
    ratios = [np.mean(x) / np.std(x, ddof=1) * 12**0.5 for x in (first, second)]
    found = sharpe_p_value(
        *ratios,
        made.p_one_sided,
        periods=120,
        periods_per_year=12,
        correlation=made.correlation,
    )
    assert found.verdict == "pass"
    assert found.size == pytest.approx(made.p_one_sided, rel=1e-9)
