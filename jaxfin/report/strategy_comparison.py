"""Mean-variance portfolios of several models: the tables of paper 002."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from jaxfin.data.panel import Dataset
from jaxfin.evaluate.utility import compare_utility
from jaxfin.report.canvas import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SMALL,
    footnote,
    label,
    panels,
    save_figures,
)
from jaxfin.report.comparison_page import write_page
from jaxfin.report.contender import Contender
from jaxfin.report.paper_files import PaperTable, text, write_paper_tables
from jaxfin.report.strategy_inputs import (
    industries_figure,
    settings_table,
    variable_table,
)
from jaxfin.report.tables import markdown
from jaxfin.windows import Windows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = Mapping[str, Any]

PAGE = "strategies.md"
# Strategies without a model, as every study has them: name -> what they are called.
_PLAIN = {
    "historical_mean": "mean-variance, historical mean",
    "minimum_variance": "minimum variance",
    "equal_weighted": "equal-weighted universe",
    "cap_weighted": "cap-weighted universe",
}
_FIGURES = {
    "figure5_industries": "table2_variables",
    "figure6_strategies": "table5_performance",
}
_STYLES = (BLUE, ORANGE, GREEN, GREY)


def write_strategy_comparison(
    folder: Path,
    results: Mapping[str, Contender],
    dataset: Dataset,
    windows: Windows,
    provenance: Mapping[str, Any],
    *,
    title: str,
    conditions: str,
    notes: Sequence[str] = (),
) -> None:
    """Write strategies.md with its tables and figure.

    Args:
      folder: of the study.
      results: by label, the study that the others are compared with first.
      dataset: that all were run on. windows: of all.
      provenance: of the study.
      title: of the page. conditions: what all numbers are of.
      notes: what a reader must know about data and models.
    """
    metrics = {name: result.metrics for name, result in results.items()}
    configs = {name: result.config for name, result in results.items()}
    trained = slice(int(windows.train_start[0]), int(windows.train_stop[0]))
    tables = {
        "table2_variables": variable_table(dataset, trained, conditions),
        "table3_settings": settings_table(configs, metrics, conditions),
        **strategy_comparison_tables(
            results, dataset.labels.periods_per_year, conditions
        ),
    }
    decided = int(windows.test_start[0])
    drawn = {
        "figure5_industries": industries_figure(dataset, decided, conditions),
        "figure6_strategies": strategy_wealth(metrics, conditions),
    }
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    write_paper_tables(folder / "tables", tables)
    save_figures(folder / "figures", figures)
    parts = [f"# {title}", conditions]
    parts += ["\n".join(f"- {note}" for note in notes)] if notes else []
    for name, table in tables.items():
        parts += [f"## {table.title}", markdown(text(table)), table.note]
        parts += [
            f"![{figure}](figures/{figure}.png)"
            for figure in figures
            if _FIGURES[figure] == name
        ]
    write_page(folder / PAGE, parts, provenance)


def strategy_comparison_tables(
    results: Mapping[str, Contender], periods_per_year: int, conditions: str
) -> dict[str, PaperTable]:
    """Every table of results by file name."""
    metrics = {name: result.metrics for name, result in results.items()}
    return {
        "table4_errors": _errors(metrics, conditions),
        "table5_performance": _performance(metrics, conditions),
        "table5_utility": _utility(results, periods_per_year, conditions),
        "table5_years": _years(metrics, conditions),
        "table6_holdings": _holdings(metrics, conditions),
    }


def _rows(results: Mapping[str, Metrics]) -> dict[str, dict[str, Any]]:
    """What each strategy reached, the models' first; absent where not available."""
    rows = {name: result["strategies"]["forecast"] for name, result in results.items()}
    first = next(iter(results.values()))["strategies"]
    return rows | {
        called: first[name]
        for name, called in _PLAIN.items()
        if not isinstance(first.get(name, ""), str)
    }


def _errors(results: Mapping[str, Metrics], conditions: str) -> PaperTable:
    rows = {}
    for name, result in results.items():
        errors = result["forecast_errors"]
        rows[name] = {
            "RMSE mean": errors["rmse"]["mean"],
            "RMSE sd": errors["rmse"]["sd"],
            "RMSE skewness": errors["rmse"]["skewness"],
            "RMSE / zero's": errors["scaled_rmse"]["mean"],
            "MdAPE median": errors["mdape"]["median"],
            "MAPE median": errors["mape"]["median"],
            "predictive R2 (%)": 100 * result["r2"]["predictive"]["r"],
        }
    values = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    note = (
        "Cross-sectional errors of a period, over periods. RMSE / zero's: relative to "
        "a forecast of zero. The paper's mean MAPE divides by returns near zero and is "
        "not shown."
    )
    return PaperTable("Table 4. Forecast errors", values, note, conditions, decimals=3)


def _performance(results: Mapping[str, Metrics], conditions: str) -> PaperTable:
    rows = {
        name: {
            "cumulative net (%)": 100 * own["cumulative_net"],
            "annualised net (%)": 100 * own["annualised_net"],
            "Sharpe gross": own["sharpe"],
            "Sharpe net": own["sharpe_net"],
            "Sharpe net se": own["sharpe_net_se"],
            "volatility (% p.a.)": 100 * own["volatility"],
            "max drawdown (%)": 100 * own["max_drawdown"],
            "turnover": own["turnover"],
        }
        for name, own in _rows(results).items()
    }
    values = pd.DataFrame.from_dict(rows, orient="index").rename_axis("portfolio")
    note = (
        "Models: mean-variance portfolios of their forecasts. Cumulative and "
        "annualised returns include the risk-free rate, Sharpe ratios do not."
    )
    return PaperTable("Table 5. Portfolios", values, note, conditions)


def _utility(
    results: Mapping[str, Contender], periods_per_year: int, conditions: str
) -> PaperTable:
    """What an investor with the strategies' risk aversion got out of each."""
    first = next(iter(results.values()))
    net = {
        name: _net(result.portfolios, "forecast") for name, result in results.items()
    }
    net |= {
        called: _net(first.portfolios, name)
        for name, called in _PLAIN.items()
        if called in _rows({name: first.metrics})
    }
    together = pd.DataFrame(net)  # by date
    aversion = first.metrics["mean_variance"]["risk_aversion"]
    made = compare_utility(
        {str(name): together[name].to_numpy() for name in together},
        aversion,
        periods_per_year,
    )
    rows = {
        name: {
            "utility (% p.a.)": 100 * own.annual,
            "se": 100 * own.standard_error,
            "less the first's (% p.a.)": 100 * own.difference,
            "t": own.statistic,
        }
        for name, own in made.items()
    }
    values = pd.DataFrame.from_dict(rows, orient="index").rename_axis("portfolio")
    note = (
        f"Net excess returns r with utility r - {aversion / 2:g} r^2 a period. "
        "Standard errors and t are Newey-West; each t is of one comparison alone."
    )
    return PaperTable("Table 5, realised utility", values, note, conditions)


def _net(portfolios: pd.DataFrame, name: str) -> pd.Series:
    own = portfolios[portfolios["portfolio"] == name]
    return own.set_index("date")["net"]


def _years(results: Mapping[str, Metrics], conditions: str) -> PaperTable:
    values = pd.DataFrame(
        {
            name: {year: 100 * entry["net"] for year, entry in own["years"].items()}
            for name, own in _rows(results).items()
        }
    ).rename_axis("year")
    note = (
        "Returns net of costs in per cent, by year of the realised return; they "
        "compound to the cumulative return, which is checked."
    )
    return PaperTable("Table 5, by year", values, note, conditions, decimals=1)


def _holdings(results: Mapping[str, Metrics], conditions: str) -> PaperTable:
    values = pd.DataFrame.from_dict(
        {name: own["holdings"] for name, own in _rows(results).items()},
        orient="index",
    ).rename_axis("portfolio")
    note = (
        "Assets held, over decisions. Few of them follow from a covariance of few "
        "periods and weights that may not be negative, whatever the forecasts."
    )
    return PaperTable(
        "Table 6. Holdings", values.astype(float), note, conditions, decimals=1
    )


def strategy_wealth(results: Mapping[str, Metrics], conditions: str) -> Figure:
    """Wealth of each portfolio, net of costs, raw returns by year compounded."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, (axis,) = panels("Figure 6. Wealth of 1 invested, net", count=1)
    handles, names = [], []
    for number, (name, own) in enumerate(_rows(results).items()):
        years = [int(year) for year in own["years"]]
        growth = np.cumprod([1 + entry["net"] for entry in own["years"].values()])
        (line,) = axis.plot(
            [years[0] - 1, *years],
            [1.0, *growth],
            color=_STYLES[number % len(_STYLES)],
            ls="-" if number < len(results) else (0, (4, 1.5)),
            lw=1.3,
        )
        handles.append(line)
        names.append(name)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    label(axis, "End of each calendar year, log scale", "")
    axis.legend(handles, names, frameon=False, fontsize=SMALL, loc="upper left")
    footnote(figure, "Dashed: portfolios without a model.", conditions)
    return figure
