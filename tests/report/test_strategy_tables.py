"""Tables and figure of strategies against numbers typed by hand."""

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from jaxfin.report.columns import DECIMALS
from jaxfin.report.strategy_figures import strategies_figure
from jaxfin.report.strategy_tables import strategy_note, strategy_tables
from jaxfin.report.tables import markdown, read_tables, write_tables

NAN = float("nan")
NAMES = ["forecast", "minimum_variance", "equal_weighted", "cap_weighted"]


def strategy(gap):
    return {
        "periods": 18,
        "mean": 0.1,
        "volatility": 0.2,
        "sharpe": 0.5,
        "mean_net": 0.08,
        "sharpe_net": 0.4,
        "turnover": 0.75,
        "max_drawdown": 0.3,
        "skewness": -0.2,
        "hit_share": 0.6,
        "unpriced_share": 0.0,
        "sharpe_se": 0.11,
        "sharpe_net_se": 0.12,
        "cumulative_gross": 0.32,
        "annualised_gross": 0.2,
        "wealth_gross": 1.32,
        "cumulative_net": 0.21,
        "annualised_net": 0.135,
        "wealth_net": 1.21,
        "years": {
            "2015": {"periods": 12, "gross": 0.1, "net": 0.05},
            "2016": {"periods": 6, "gross": 0.2, "net": 0.152},
        },
        "holdings": {"min": 4, "q25": 8.5, "median": 10, "q75": 12, "max": 29},
        "largest_gap": gap,
    }


def errors(mean):
    return {"mean": mean, "sd": 0.02, "skewness": 1.5, "median": 0.09}


@pytest.fixture
def metrics():
    return {
        "strategies": {
            "forecast": strategy(2e-15),
            "minimum_variance": strategy(3e-14),
            "equal_weighted": strategy(None),  # NaN in a file
            "cap_weighted": "n/a: the panel has no market values",
        },
        "mean_variance": {
            "risk_aversion": 3.0,
            "covariance": "ledoit_wolf",
            "covariance_window": 12,
            "upper": 0.1,
            "eligible": {"min": 90, "q25": 95, "median": 100, "q75": 105, "max": 110},
            "asset_periods": 2000,
            "without_forecast": 7,
            "without_history": 30,
            "periods_without_position": 1,
        },
        "forecast_errors": {
            "mae": errors(0.09),
            "rmse": errors(0.1286),
            "scaled_rmse": errors(1.002),
            "mdape": errors(1.1),
            "mape": {"mean": None, "sd": None, "skewness": None, "median": 1.4},
        },
    }


def test_performance_in_per_cent(metrics):
    table = strategy_tables(metrics)["strategies"]
    assert list(table.index) == NAMES
    own = table.loc["forecast"]
    assert own["raw net % p.a."] == 13.5 and own["cumulative net %"] == 21
    assert own["cumulative gross %"] == 32 and own["final wealth net"] == 1.21
    assert own["Sharpe net"] == 0.4 and own["max drawdown %"] == 30
    assert own["turnover"] == 0.75 and own["periods"] == 18
    assert table.loc["cap_weighted"].isna().all()
    assert set(table) <= set(DECIMALS)


def test_years_stand_above_what_they_compound_to(metrics):
    table = strategy_tables(metrics)["strategy_years"]
    assert table.index.tolist() == [
        (kind, year)
        for kind in ("gross", "net")
        for year in ("2015", "2016", "cumulative")
    ]
    assert list(table) == ["periods", *NAMES]
    np.testing.assert_allclose(table.loc["gross", "forecast"], [10, 20, 32])
    np.testing.assert_allclose(table.loc["net", "forecast"], [5, 15.2, 21])
    assert table["periods"].tolist() == [12, 6, 18] * 2
    assert table["cap_weighted"].isna().all()


def test_years_of_nothing_scored(metrics):
    metrics["strategies"] = {
        "forecast": strategy(0.0) | {"years": {}, "cumulative_net": None},
        "cap_weighted": "n/a: why",
    }
    table = strategy_tables(metrics)["strategy_years"]
    assert [year for _, year in table.index] == ["cumulative"] * 2
    assert np.isnan(table.loc[("net", "cumulative"), "forecast"])


def test_holdings_and_what_there_was_to_choose_from(metrics):
    table = strategy_tables(metrics)["holdings"]
    assert list(table.index) == [*NAMES, "assets to choose from"]
    own = table.loc["minimum_variance"].tolist()
    assert own == pytest.approx([4, 8.5, 10, 12, 29, 30])
    assert table.loc["assets to choose from"].tolist()[:5] == [90, 95, 100, 105, 110]
    assert table["largest gap (1e-15)"].isna().tolist() == [False] * 2 + [True] * 3


def test_errors_in_per_cent_but_no_mean_of_mape(metrics):
    table = strategy_tables(metrics)["forecast_errors"]
    assert table.loc["RMSE"].tolist() == pytest.approx([12.86, 2, 1.5, 9])
    assert table.iloc[4].isna().tolist() == [True, True, True, False]
    assert table.iloc[4]["median"] == pytest.approx(140)
    rows = markdown(table).splitlines()
    assert {line.count("|") for line in rows} == {6}  # no cell holds a pipe


def test_no_strategies_no_tables():
    assert strategy_tables({"portfolios": {}}) == {}


def test_files_read_back_are_the_tables(metrics, tmp_path):
    tables = strategy_tables(metrics)
    write_tables(tmp_path, tables)
    read = read_tables(tmp_path)
    assert read.keys() == tables.keys()
    for name, table in tables.items():
        pd.testing.assert_frame_equal(read[name], table, check_dtype=False)


def test_note_says_how_they_were_made(metrics):
    note = strategy_note(metrics)
    for part in (
        "risk aversion 3, ledoit-wolf covariance of the last 12 periods",
        "weights up to 0.1; largest duality gap 3e-14.",
        "history or forecast: 37 of 2000 asset-periods; periods without a position: 1",
        "Cap weighted n/a: the panel has no market values.",
        "forecasts 12.86%, 1.002 of that of zero",
    ):
        assert part in note


def test_console_fits_a_narrow_terminal(metrics):
    from jaxfin.report.tables import _console_strategies

    console = Console(file=io.StringIO(), width=80)
    for part in _console_strategies(metrics):
        console.print(part)
    text = console.file.getvalue()
    assert "\u2026" not in text
    flat = " ".join(text.split())
    assert "minimum variance 13.5 0.50 (0.11) 0.40 (0.12) 0.75 10" in flat
    assert "cap weighted" not in flat and "Cap weighted n/a" in flat
    assert _console_strategies({}) == []


def series(portfolio, net):
    return pd.DataFrame(
        {
            "date": pd.date_range("2000-01-31", periods=len(net), freq="ME"),
            "weighting": "mean_variance",
            "portfolio": portfolio,
            "gross": NAN,
            "net": net,
        }
    )


def test_figure_draws_raw_wealth_booked_at_the_next_decision():
    frame = pd.concat(
        [
            series("forecast", [0.09, NAN, -0.52, NAN]),
            series("minimum_variance", [0.1, 0.1, -1.2, 0.1]),
            series("long_short", [0.9, 0.9, 0.9, 0.9]),
            series("cap_weighted", [NAN] * 4),
        ]
    )
    dates = pd.date_range("2000-01-31", periods=5, freq="ME")
    rate = pd.Series([0.01, 0.5, 0.02, 0.0, 0.7], dates)
    figure = strategies_figure(frame, rate, conditions="of a small study")
    figure.canvas.draw()
    (axis,) = figure.axes
    lines = {drawn.get_label(): drawn for drawn in axis.lines}
    np.testing.assert_allclose(lines["forecast"].get_ydata(), [1, 1.1, NAN, 0.55, NAN])
    assert lines["forecast"].get_xdata().astype("datetime64[D]").astype(str)[0] == (
        "2000-01-31"
    )
    ruined = lines["minimum_variance"].get_ydata()
    np.testing.assert_allclose(ruined, [1, 1.11, 1.11 * 1.6, NAN, NAN])
    legend = [text.get_text() for text in axis.get_legend().get_texts()]
    assert legend == ["forecast", "minimum variance"] and axis.get_yscale() == "log"
    assert "of a small study" in figure.get_supxlabel()


def test_figure_without_any_strategy():
    figure = strategies_figure(series("long_short", [0.1]), pd.Series(dtype=float))
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].texts] == ["n/a"]
