"""Tables against numbers typed by hand; what is missing reads n/a."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from jaxfin.evaluate.performance import Performance
from jaxfin.report.latex import latex
from jaxfin.report.tables import (
    conditions,
    console_tables,
    markdown,
    portfolio_table,
    r2_by_year_table,
    r2_table,
    study_tables,
    write_tables,
)

NAN = float("nan")


def leg(mean):
    return {
        "periods": 120,
        "mean": mean,
        "volatility": 0.2,
        "sharpe": 0.617,
        "mean_net": 0.05,
        "sharpe_net": 0.25,
        "turnover": 2.5,
        "max_drawdown": 0.345,
        "skewness": -0.21,
        "hit_share": 0.55,
        "unpriced_share": 0.0125,
        "sharpe_se": 0.11,
        "sharpe_net_se": 0.12,
    }


@pytest.fixture
def metrics():
    seeds = {"mean": 0.39, "sd": 0.0125, "seeds": 5}
    return {
        "r2": {
            "total": {"r": 0.4012, "x": 0.9},
            "predictive": {"r": 0.0123, "x": -1e-6},
        },
        "r2_se": {
            "total": {"r": 0.015, "x": 0.02},
            "predictive": {"r": 0.004, "x": NAN},
        },
        "r2_seeds": {
            "total": {"r": seeds, "x": seeds},
            "predictive": {"r": {"mean": 0.01, "sd": NAN, "seeds": 1}, "x": seeds},
        },
        "r2_bound": {"total": {"r": 0.44}},
        "rank_ic": {"mean": 0.0512, "sd": 0.1, "t_statistic": 4.12, "periods": 120},
        "portfolios": {
            "equal": {
                "long_short": leg(0.1234),
                "long_only": leg(0.1),
                "short_leg": leg(-0.0234),
            },
            "value": "n/a: the panel has no market values",
        },
        "sample": {
            "first_decision": "1999-01-31",
            "last_decision": "2009-01-31",
            "scored_periods": 120,
            "periods_without_forecast": 0,
            "scored_asset_periods": 9000,
            "quantiles": 10,
            "cost_per_unit_traded": 0.003,
            "risk_free": "subtracted",
        },
        "fit": {
            "model": "cae",
            "K": 3,
            "windows": 10,
            "lanes": 100,
            "seeds": 5,
            "points": 2,
            "diverged": 0,
            "windows_without_forecast": 0,
            "mean_epochs": 31.5,
        },
    }


ORACLE = {
    "r2_total": 0.41,
    "r2_total_fitted": 0.43,
    "r2_predictive": 0.025,
    "r2_predictive_prevailing": 0.022,
    "r2_predictive_se": 0.01,
    "r2_predictive_prevailing_se": 0.011,
}


def printed(metrics, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(console_tables(metrics, data="gkx2021a-0"))
    return console.file.getvalue()


def test_r2_in_per_cent(metrics):
    table = r2_table(metrics)
    assert list(table.index) == ["total r", "total x", "predictive r", "predictive x"]
    assert list(table) == [
        *("ensemble", "ensemble se", "seed mean", "seed sd", "bound")
    ]
    assert table.loc["total r"].tolist() == pytest.approx([40.12, 1.5, 39, 1.25, 44])
    assert table.loc["predictive r", "ensemble"] == pytest.approx(1.23)
    assert table.loc["predictive r", "seed mean"] == pytest.approx(1.0)
    assert np.isnan(table.loc["predictive r", "seed sd"])
    assert table["bound"].isna().tolist() == [False, True, True, True]


def test_oracle_columns_follow_its_keys(metrics):
    table = r2_table(metrics | {"oracle": ORACLE})
    assert [column for column in table if column.startswith("oracle")] == [
        "oracle",
        "oracle fitted",
        "oracle prevailing",
        "oracle se",
        "oracle prevailing se",
    ]
    assert table.loc["total r", ["oracle", "oracle fitted"]].tolist() == [41.0, 43.0]
    assert table.loc["predictive r", "oracle"] == pytest.approx(2.5)
    assert table.loc["predictive r", "oracle prevailing se"] == pytest.approx(1.1)
    assert table.loc[["total x", "predictive x"], "oracle"].isna().all()
    assert np.isnan(table.loc["total r", "oracle se"])


def test_method_without_factors_has_no_total_r2(metrics):
    for key in ("r2", "r2_se", "r2_seeds"):
        del metrics[key]["total"]
    del metrics["r2_bound"]
    table = r2_table(metrics)
    assert table.loc[["total r", "total x"]].isna().all(axis=None)
    assert table.loc["predictive r", "ensemble"] == pytest.approx(1.23)
    assert "| total r      |      n/a |" in markdown(table)


def test_portfolios_have_every_measure_and_units(metrics):
    assert set(leg(0.1)) == {*Performance._fields, "sharpe_se", "sharpe_net_se"}
    table = portfolio_table(metrics)
    assert table.index.tolist() == [
        (weighting, portfolio)
        for weighting in ("equal", "value")
        for portfolio in ("long_short", "long_only", "short_leg")
    ]
    assert table.loc[("equal", "long_short")].to_dict() == pytest.approx(
        {
            "mean % p.a.": 12.34,
            "volatility % p.a.": 20.0,
            "Sharpe gross": 0.617,
            "Sharpe net": 0.25,
            "turnover": 2.5,
            "max drawdown %": 34.5,
            "mean net % p.a.": 5.0,
            "skewness": -0.21,
            "hit share %": 55.0,
            "unpriced %": 1.25,
            "periods": 120,
            "Sharpe gross se": 0.11,
            "Sharpe net se": 0.12,
        }
    )
    assert table.loc[("equal", "short_leg"), "mean % p.a."] == pytest.approx(-2.34)
    assert table.loc["value"].isna().all(axis=None)


def test_value_weighted_numbers_are_shown_where_there_are_sizes(metrics):
    metrics["portfolios"]["value"] = metrics["portfolios"]["equal"]
    assert (
        portfolio_table(metrics)
        .loc["value"]
        .equals(portfolio_table(metrics).loc["equal"])
    )
    assert "value long short" in printed(metrics)


def test_r2_by_year_in_per_cent():
    years = pd.Index([1999, 2000], name="year")
    by_year = pd.DataFrame(
        {"total_r": [0.4, NAN], "predictive_x": [0.01, -0.02]}, years
    )
    table = r2_by_year_table(by_year)
    assert list(table) == ["total r %", "predictive x %"]
    assert list(by_year) == ["total_r", "predictive_x"]
    assert markdown(table) == (
        "| year | total r % | predictive x % |\n"
        "| ---- | --------: | -------------: |\n"
        "| 1999 |     40.00 |           1.00 |\n"
        "| 2000 |       n/a |          -2.00 |\n"
    )


def test_markdown_rounds_aligns_and_has_no_negative_zero(metrics):
    lines = markdown(r2_table(metrics)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[-1] == (
        "| predictive x |     0.00 |         n/a |     39.00 |    1.25 |   n/a |"
    )
    row = markdown(portfolio_table(metrics)).splitlines()[2].split("|")
    assert [cell.strip() for cell in row[1:-1]] == [
        *("equal", "long_short", "12.3", "20.0", "0.62", "0.25", "2.50", "34.5"),
        *("5.0", "-0.21", "55.0", "1.25", "120", "0.11", "0.12"),
    ]


def test_files_hold_the_tables(metrics, tmp_path):
    by_year = pd.DataFrame({"total_r": [0.4]}, pd.Index([1999], name="year"))
    tables = study_tables(metrics, by_year)
    write_tables(tmp_path / "tables", tables, caption="what it is of")
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        f"{name}.{suffix}"
        for name in ("r2", "portfolios", "r2_by_year")
        for suffix in ("md", "csv", "tex")
    }
    text = (tmp_path / "tables" / "portfolios.md").read_text("utf-8")
    assert text == markdown(tables["portfolios"]) + "\nwhat it is of\n"
    csv = (tmp_path / "tables" / "portfolios.csv").read_text("utf-8")
    assert "value,long_only" + 13 * ",n/a" in csv.splitlines()
    read = pd.read_csv(tmp_path / "tables" / "portfolios.csv", index_col=[0, 1])
    pd.testing.assert_frame_equal(read, tables["portfolios"])


def test_conditions_in_one_line(metrics):
    assert conditions(metrics, data="panel") == (
        "panel; cae, K = 3; 10 windows, 5 seeds, 2 grid points; "
        "decisions 1999-01-31 to 2009-01-31, 120 scored"
    )
    metrics["fit"] |= {
        "K": None,
        "seeds": 1,
        "diverged": 7,
        "windows_without_forecast": 1,
    }
    metrics["sample"]["risk_free"] = "unknown, taken as zero"
    assert conditions(metrics, data="panel") == (
        "panel; cae, K = n/a; 10 windows, 1 seed, 2 grid points; "
        "decisions 1999-01-31 to 2009-01-31, 120 scored; "
        "7 of 100 lanes diverged; 1 window not forecast; "
        "risk-free rate unknown, taken as zero"
    )


@pytest.mark.parametrize("oracle", [{}, {"oracle": ORACLE}])
def test_console_fits_a_narrow_terminal(metrics, oracle):
    text = printed(metrics | oracle)
    assert "\u2026" not in text  # nothing was cut off
    flat = " ".join(text.split())
    assert "not a forecast" in flat
    assert "predictive r 1.23 (0.40) 1.00 n/a n/a" in flat
    assert "equal long short 12.3 20.0 0.62 (0.11) 0.25 (0.12) 2.50" in flat
    assert "value weighted n/a n/a n/a n/a n/a" in flat
    assert "Value weighted n/a: the panel has no market values." in flat
    assert "net of 30 bp" in flat
    assert "Rank IC 0.051, t = 4.12 over 120 periods" in flat
    assert ("2.50 (1.00)" in flat) == bool(oracle)


def test_console_shows_what_is_not_available(metrics):
    metrics["rank_ic"] |= {"mean": NAN, "t_statistic": NAN, "periods": 0}
    assert "Rank IC n/a, t = n/a over 0 periods" in " ".join(printed(metrics).split())


def test_latex_has_the_cells_of_the_table_escaped():
    source = latex([["", "R2, %", "a_b"], ["total & r", "1.5", "n/a"]], 1, "50% of {x}")
    lines = source.splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}" and lines[-1] == r"\end{tabular}"
    assert lines[2] == r" & R2, \% & a\_b \\"
    assert lines[4] == r"total \& r & 1.5 & n/a \\"
    assert r"\multicolumn{3}" in lines[6] and r"50\% of \{x\}" in lines[6]
