"""Tables of a small grid against numbers typed by hand; what lacks says why."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from jaxfin.evaluate.sharpe_tests import ledoit_wolf
from jaxfin.report.paper_files import PaperTable, frame, text, write_paper_tables
from jaxfin.report.paper_grid import Grid, Missing, by_period, strategy
from jaxfin.report.paper_page import write_paper
from jaxfin.report.paper_strategies import (
    BEST,
    correlations_table,
    quantiles_table,
    trials_table,
)
from jaxfin.report.paper_tables import (
    importance_table,
    odd_even_table,
    r2_table,
    seeds_table,
    sharpe_table,
    turnover_table,
    validation_table,
)
from jaxfin.report.paper_tests import r2_differences_table, sharpe_tests_table

NAN, PERIODS = math.nan, 60
NO_VALUE = "n/a: the panel has no market values"


def returns(seed, mean):
    """A series whose Sharpe ratio per period is known: mean over sd, ddof=1."""
    noise = np.random.default_rng(seed).normal(size=PERIODS)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return 0.05 * (noise + mean)


def leg(series, turnover):
    ratio = series.mean() / series.std(ddof=1) * np.sqrt(12)
    return {
        "sharpe": ratio,
        "sharpe_se": 0.15,
        "sharpe_net": ratio - 0.3 * turnover,
        "sharpe_net_se": 0.16,
        "turnover": turnover,
    }


def result(level, score, *, seed=0, mean=0.1, total=True, points=2, unscored=0):
    """A run with R2 of ``level`` per cent (total) and a tenth of it (predictive)."""
    long_short, long_only = returns(seed, mean), returns(seed + 100, mean / 2)
    share = level / 100
    seeds = {"mean": 0.9 * share, "sd": 0.02, "seeds": 2}
    kinds = ("total", "predictive") if total else ("predictive",)
    scale = {"total": 1, "predictive": 0.1}
    metrics = {
        "r2": {k: {"r": scale[k] * share, "x": 2 * scale[k] * share} for k in kinds},
        "r2_se": {k: {"r": 0.01, "x": 0.03} for k in kinds},
        "r2_seeds": {k: {"r": seeds, "x": {**seeds, "sd": None}} for k in kinds},
        "portfolios": {
            "equal": {
                "long_short": leg(long_short, 1.5),
                "long_only": leg(long_only, 0.5),
            },
            "value": NO_VALUE,
        },
        "sample": {
            "first_decision": "2000-01-31",
            "last_decision": "2004-12-31",
            "scored_periods": PERIODS - unscored,
            "cost_per_unit_traded": 0.003,
            "quantiles": 2,
            "risk_free": "subtracted",
        },
        "rank_ic": {"mean": 0.02, "t_statistic": 1.5},
        "r2_benchmark": {"total": {"r": 0.07, "x": 0.03}},
        "fit": {
            "windows": 2,
            "seeds": 2 if total else 1,
            "points": points,
            "validation_score": list(score) if np.ndim(score) else [score, score],
            "windows_without_forecast": 0,
        },
    }
    frames = [
        pd.DataFrame(
            {
                "date": pd.date_range("2000-01-31", periods=PERIODS, freq="ME"),
                "weighting": "equal",
                "portfolio": name,
                "gross": np.where(np.arange(PERIODS) < unscored, NAN, series),
                "net": series - 0.001,
            }
        )
        for name, series in (("long_short", long_short), ("long_only", long_only))
    ]
    dates = pd.date_range("2000-01-31", periods=PERIODS, freq="ME")
    periods = pd.DataFrame(
        {
            "window": np.repeat([0, 1], PERIODS // 2),
            "universe": returns(200, 0.1),
            1: returns(201, 0),
            2: returns(202, 0.2),
        },
        index=dates,
    )
    errors = pd.DataFrame({"date": dates})
    for kind in kinds:
        for side in ("r", "x"):
            errors[f"{kind}_{side}_sst"] = 1.0
            noise = np.random.default_rng(seed).uniform(-0.01, 0.01, PERIODS)
            level = 1 - scale[kind] * share
            errors[f"{kind}_{side}_sse"] = level + noise - noise.mean()
    return SimpleNamespace(
        errors=errors,
        periods=periods,
        metrics=metrics,
        portfolios=pd.concat(frames, ignore_index=True),
        importance=None,
        provenance={"seconds": {"compile": 1.0, "fit": 2.5}},
    )


@pytest.fixture(scope="module")
def grid():
    """Two models with K = 1, 2, one without K, a run that failed, one not there."""
    return Grid(
        {
            ("rf", None): result(5, 0.99, seed=1, mean=0.05, total=False, points=6),
            ("cae", 1): result(10, 0.9, seed=2),
            ("cae", 2): result(12, 0.8, seed=3, mean=0.3),
            ("seqlat", 1): result(11, 0.7, seed=4, mean=0.2),
            ("seqlat", 2): Missing("every lane diverged."),
            ("gan", None): Missing("not in this version", failed=False),
        },
        benchmark="seqlat",
        data="french",
        periods_per_year=12,
        reduced="Not at full settings (in parentheses): fit.seeds=2 (10).",
    )


def test_r2_by_model_and_k_with_errors(grid):
    table = r2_table(grid, "total")
    assert list(table.values) == ["no K", "K=1", "K=2"]
    assert table.values.index.tolist()[2:4] == [("cae", "r"), ("cae", "x")]
    assert table.values.loc[("cae", "r")].tolist()[1:] == pytest.approx([10, 12])
    assert table.values.loc[("cae", "x"), "K=2"] == pytest.approx(24)
    assert table.errors.loc[("cae", "x"), "K=2"] == pytest.approx(3)
    assert math.isnan(table.values.loc[("cae", "r"), "no K"])
    for missing in (("rf", "no K"), ("seqlat", "K=2"), ("gan", "no K")):
        assert math.isnan(table.values.loc[(missing[0], "r"), missing[1]])
    predictive = r2_table(grid, "predictive")
    assert predictive.values.loc[("rf", "r"), "no K"] == pytest.approx(0.5)
    assert text(predictive).loc[("cae", "r"), "K=2"] == "1.20 (1.00)"
    assert text(table).loc[("rf", "r"), "no K"] == "n/a"


def test_the_extension_fills_what_lacks_and_says_so(grid):
    run = grid.results["rf", None]
    extended = {"total": {"r": 0.31}}
    run = SimpleNamespace(
        **{**vars(run), "metrics": run.metrics | {"r2_extended": extended}}
    )
    other = Grid(
        {("rf", None): run, ("cae", 1): grid.results["cae", 1]}, "rf", "french", 12
    )
    table = r2_table(other, "total", extended=True)
    assert "extended" in table.title and "Extension" in table.note
    assert text(table).loc[("rf", "r"), "no K"] == "31.00"  # no error is given
    assert text(table).loc[("cae", "r"), "K=1"] == "10.00 (1.00)"
    careful = r2_table(other, "total")
    assert "xten" not in careful.title + careful.note
    assert text(careful).loc[("rf", "r"), "no K"] == "n/a"


def test_importance_is_read_off_the_runs_that_have_it(grid):
    run = grid.results["cae", 1]
    importance = pd.DataFrame(
        {"characteristic": ["a", "b"], "drop": [0.01, 0.03], "share": [0.25, 0.75]}
    )
    about = {"importance": {"statistic": "total", "r2": 0.1}}
    run = SimpleNamespace(
        **{**vars(run), "metrics": run.metrics | about, "importance": importance}
    )
    other = Grid(
        {("rf", None): grid.results["rf", None], ("cae", 1): run}, "rf", "french", 12
    )
    assert set(other.importances) == {"cae-K1"}
    assert other.importances["cae-K1"].base == 0.1
    table = importance_table(other)
    assert table.values["cae-K1"].to_dict() == {"b": 75.0, "a": 25.0}
    assert list(table.values.index) == ["b", "a"]
    assert grid.importances == {} and grid.characteristics == []


def test_captions_say_what_the_numbers_are_of(grid):
    caption = r2_table(grid, "total").caption
    for part in (
        "not a forecast",
        "french; decisions 2000-01-31 to 2004-12-31; 60 periods scored; 2 windows; "
        "1 to 2 seeds; 12 configurations tried",
        "fit.seeds=2 (10)",
        "seqlat-K2: every lane diverged.",
        "gan: not in this version.",
    ):
        assert part in caption
    assert r2_table(grid, "total").conditions == turnover_table(grid).conditions


def test_windows_without_forecast_are_told():
    run = result(10, 0.9)
    run.metrics["fit"] |= {
        "windows_without_forecast": 1,
        "validation_score": [0.9, None],
    }
    grid = Grid({("cae", 1): run, ("cae", 2): result(9, 0.95)}, "cae", "french", 12)
    assert "cae-K1: 1 of 2 windows without a forecast." in grid.conditions()
    # Where both have one, the better.
    assert grid.chosen("cae") == [("cae", 1), ("cae", 2)]


def test_seed_spread(grid):
    table = seeds_table(grid)
    cells = text(table)
    assert cells.loc[("total", "cae", "r"), "K=1"] == "9.00 (2.00)"
    assert cells.loc[("total", "cae", "x"), "K=1"] == "9.00"  # one seed has no sd
    assert table.error_name == "sd"
    assert "K=1 sd" in frame(table)


@pytest.mark.parametrize("net", [False, True])
def test_sharpe_ratios(grid, net):
    table = sharpe_table(grid, "equal", net=net)
    expected = 0.3 * np.sqrt(12) - (0.3 * 1.5 if net else 0)
    assert table.values.loc[("long_short", "cae"), "K=2"] == pytest.approx(expected)
    assert table.errors.loc[("long_short", "cae"), "K=2"] == (0.16 if net else 0.15)
    assert ("net of 30 bp per unit traded" in table.title) == net
    value = sharpe_table(grid, "value", net=net)
    assert value.values.isna().all(axis=None)
    assert f"Value weights {NO_VALUE}." in value.note


def test_turnover(grid):
    table = turnover_table(grid)
    assert table.values.loc[("equal", "long_only", "rf"), "no K"] == 0.5
    assert set(table.values.index.get_level_values("weights")) == {"equal"}
    assert "the panel has no market values" in table.note


def test_k_is_chosen_on_validation(grid):
    assert grid.chosen("cae") == [("cae", 2)] * 2
    assert grid.chosen("seqlat") == [("seqlat", 1)] * 2  # K = 2 failed
    assert grid.chosen("rf") == [("rf", None)] * 2
    assert grid.chosen("gan") == []
    table = validation_table(grid)
    assert table.values.loc["cae", ["K=1", "K=2"]].tolist() == pytest.approx([0.9, 0.8])
    assert table.values.loc["cae", "chosen"] == "cae-K2"
    assert text(table).loc["gan"].tolist() == ["n/a"] * 4


def test_k_is_chosen_window_by_window():
    """And the strategy is that of the K in force: nobody knows later scores."""
    runs = {
        ("cae", 1): result(10, (0.7, 0.9), seed=2),
        ("cae", 2): result(12, (0.8, None), seed=3, mean=0.3),
        ("cae", 3): result(12, (0.8, 0.8), seed=5, mean=0.2),
    }
    grid = Grid(runs, "cae", "french", 12)
    assert grid.chosen("cae") == [("cae", 1), ("cae", 3)]
    assert grid.choice("cae") == "cae-K1-3"
    series = grid.series("cae", "long_short")
    half = PERIODS // 2
    np.testing.assert_allclose(series[:half], returns(2, 0.1)[:half])
    np.testing.assert_allclose(series[half:], returns(5, 0.2)[half:])
    errors = grid.errors("cae")
    for part, cell in ((slice(0, half), ("cae", 1)), (slice(half, None), ("cae", 3))):
        expected = runs[cell].errors["total_r_sse"].to_numpy()[part]
        np.testing.assert_array_equal(errors["total_r_sse"][part], expected)


def test_differences_of_r2_are_paired(grid):
    table = r2_differences_table(grid)
    assert table.values.loc[("cae", "r"), "total"] == pytest.approx(11 - 12)
    assert table.values.loc[("rf", "r"), "predictive"] == pytest.approx(1.1 - 0.5)
    assert pd.isna(table.values.loc[("rf", "r"), "total"])
    assert 0 < table.errors.loc[("cae", "r"), "total"] < 0.3
    assert table.values.loc["gan"].isna().all(axis=None)


def test_what_quantiles_earn(grid):
    table = quantiles_table(grid).values
    year = 12 * 100
    assert table.loc["cae-K2", "2"] == pytest.approx(year * returns(202, 0.2).mean())
    assert table.loc["cae-K2", "universe"] == pytest.approx(year * 0.05 * 0.1)
    assert table.loc["rf", ["rank IC", "t"]].tolist() == [0.02, 1.5]
    assert table.loc["gan"].isna().all()


def test_what_a_forecast_frame_says_by_period():
    frame = pd.DataFrame(
        {
            "date": pd.to_datetime(["2000-01-31"] * 3 + ["2000-02-29"] * 2),
            "realised": [0.1, 0.3, NAN, 0.2, 0.4],
            "quantile": [1, 2, 2, 0, 0],
            "window": [0, 0, 0, 1, 1],
        }
    )
    found = by_period(frame)
    assert found["window"].tolist() == [0, 1]
    assert found["universe"].tolist() == pytest.approx([0.2, 0.3])
    assert found[2].tolist()[0] == pytest.approx(0.3) and pd.isna(found[2].iloc[1])
    assert list(found) == ["window", "universe", 1, 2]


def test_benchmark_against_the_others(grid):
    table = sharpe_tests_table(grid)
    assert table.values.index.tolist() == [
        (portfolio, model)
        for portfolio in ("long_short", "long_only")
        for model in ("rf", "cae", "gan")
    ]
    row = table.values.loc[("long_short", "cae")]
    one, two = returns(4, 0.2), returns(3, 0.3)
    # Jobson-Korkie-Memmel by hand, per period.
    rho = np.corrcoef(one, two)[0, 1]
    s1, s2 = 0.2, 0.3
    variance = (2 - 2 * rho + (s1**2 + s2**2 - 2 * s1 * s2 * rho**2) / 2) / PERIODS
    p = 1 - stats.norm.cdf((s1 - s2) / np.sqrt(variance))
    assert row["p JK-Memmel"] == pytest.approx(p) and p > 0.5
    assert row["p Ledoit-Wolf"] == pytest.approx(
        ledoit_wolf(one, two).p_one_sided, abs=0.05
    )
    assert row["run"] == "cae-K2" and row["net other"] < row["Sharpe other"]
    known = table.values["p Ledoit-Wolf"].dropna().sort_values()
    adjusted = table.values["Holm"].dropna().loc[known.index]
    assert adjusted.iloc[0] == pytest.approx(min(1, len(known) * known.iloc[0]))
    assert adjusted.is_monotonic_increasing and (adjusted >= known).all()
    assert row["Sharpe benchmark"] == pytest.approx(0.2 * np.sqrt(12))
    assert row["periods"] == PERIODS
    assert text(table).loc[("long_only", "gan")].tolist() == ["n/a"] * 11
    assert "seqlat-K1" in table.title


def test_only_common_periods_are_compared(grid):
    runs = {**grid.runs, ("rf", None): result(5, 0.9, seed=1, total=False, unscored=7)}
    fewer = Grid(runs, "seqlat", "french", 12)
    table = sharpe_tests_table(fewer).values
    assert table.loc[("long_short", "rf"), "periods"] == PERIODS - 7
    assert table.loc[("long_short", "cae"), "periods"] == PERIODS
    assert f"{PERIODS - 7} periods that all runs have" in correlations_table(fewer).note
    assert f"{PERIODS - 7} to {PERIODS} periods scored" in fewer.conditions()


def test_without_a_benchmark_nothing_is_tested(grid):
    table = sharpe_tests_table(Grid(dict(grid.runs), "gan", "french", 12))
    assert table.values["p JK-Memmel"].isna().all()
    assert "gan has no finished run." in table.note


def test_value_weights_that_are_not_available_leave_no_tests(grid):
    tested = sharpe_tests_table(grid, weighting="value")
    assert tested.values["p JK-Memmel"].isna().all()
    assert NO_VALUE in tested.note
    assert trials_table(grid, weighting="value").values["Sharpe"].isna().all()


def test_what_was_tried(grid):
    table = trials_table(grid).values
    ratios = np.array([0.05, 0.1, 0.3, 0.2])  # of the four runs, per period
    row = table.loc[("long_short", "cae")]
    assert row["configurations"] == 4 and row["trials"] == 4
    assert row["Sharpe"] == row["largest over K"] == pytest.approx(0.3 * np.sqrt(12))
    # Bailey and Lopez de Prado by hand.
    z = stats.norm.ppf
    hurdle = ratios.std(ddof=1) * (
        (1 - np.euler_gamma) * z(1 - 1 / 4) + np.euler_gamma * z(1 - 1 / (4 * np.e))
    )
    assert row["hurdle, own spread"] == pytest.approx(hurdle * np.sqrt(12))
    alone = hurdle / ratios.std(ddof=1) / np.sqrt(PERIODS)
    assert row["hurdle, independent"] == pytest.approx(alone * np.sqrt(12))
    hurdle = max(hurdle, alone)
    series = returns(3, 0.3)
    skew, kurtosis = stats.skew(series), stats.kurtosis(series, fisher=False)
    spread = np.sqrt(1 - skew * 0.3 + (kurtosis - 1) / 4 * 0.09)
    for column, benchmark in (("PSR", 0), ("DSR", hurdle)):
        score = (0.3 - benchmark) * np.sqrt(PERIODS - 1) / spread
        assert row[column] == pytest.approx(stats.norm.cdf(score))
    best = table.loc[("long_short", BEST)]
    assert best["run"] == "cae-K2" and best["configurations"] == 12
    assert table.loc[("long_short", "gan"), "configurations"] == 0
    assert pd.isna(table.loc[("long_short", "gan"), "run"])


def test_rank_correlations_of_chosen_runs(grid):
    table = correlations_table(grid).values
    assert list(table) == list(table.index) == ["rf", "cae-K2", "seqlat-K1"]
    expected = stats.spearmanr(returns(1, 0.05), returns(4, 0.2)).statistic
    assert table.loc["rf", "seqlat-K1"] == pytest.approx(expected)
    assert np.diag(table).tolist() == [1, 1, 1]


def test_odd_and_even_assets():
    runs = {
        ("odd", "odd"): result(10, 0.9),
        ("odd", "even"): result(20, 0.9),
        ("even", "even"): result(40, 0.9, mean=0.25),
    }
    table = odd_even_table(runs, data="french")
    assert list(table.values) == ["tested on odd", "tested on even"]
    assert table.values.loc[("total R2 (%)", "odd")].tolist() == pytest.approx([10, 20])
    assert text(table).loc[("total R2 (%)", "even")].tolist() == ["n/a", "40.00 (1.00)"]
    sharpe = table.values.loc[("Sharpe long_short", "even"), "tested on even"]
    assert sharpe == pytest.approx(0.25 * np.sqrt(12))


def test_strategy_series(grid):
    series = strategy(grid.results["cae", 2], "long_short", kind="net")
    np.testing.assert_allclose(series, returns(3, 0.3) - 0.001)
    assert series.index[0] == pd.Timestamp("2000-01-31")
    assert strategy(grid.results["cae", 2], "long_short", weighting="value").empty


def test_files_hold_the_tables_in_full(grid, tmp_path):
    tables = {
        "r2": r2_table(grid, "total"),
        "tests": sharpe_tests_table(grid),
        "scores": validation_table(grid),
    }
    write_paper_tables(tmp_path, tables)
    for name, table in tables.items():
        levels = list(range(table.values.index.nlevels))
        read = pd.read_csv(tmp_path / f"{name}.csv", index_col=levels)
        pd.testing.assert_frame_equal(read, frame(table), check_dtype=False, rtol=1e-9)
        page = (tmp_path / f"{name}.md").read_text("utf-8")
        source = (tmp_path / f"{name}.tex").read_text("utf-8")
        assert table.title in page and page.endswith(f"{table.caption}\n")
        body = source.split(r"\midrule")[1].split(r"\bottomrule")[0]
        cells = [line.split(" & ") for line in body.strip().splitlines()]
        assert len(cells) == len(table.values)
        shown = text(table)
        for row, (_, expected) in zip(cells, shown.iterrows(), strict=True):
            found = [cell.removesuffix(r" \\") for cell in row[len(levels) :]]
            assert found == [cell.replace("_", r"\_") for cell in expected]
    columns = list(pd.read_csv(tmp_path / "r2.csv"))
    assert columns[2:] == ["no K", "no K se", "K=1", "K=1 se", "K=2", "K=2 se"]


def test_words_and_numbers_are_printed_as_they_should():
    values = pd.DataFrame({"a": ["word", None], "b": [-0.001, NAN]})
    errors = pd.DataFrame({"a": [NAN, NAN], "b": [0.5, 0.5]})
    table = PaperTable("", values, "", "", errors, decimals={"a": 0, "b": 1})
    assert text(table).to_numpy().tolist() == [["word", "0.0 (0.5)"], ["n/a", "n/a"]]


def test_page_embeds_every_table_and_figure(grid, tmp_path):
    provenance = {"command": "python x.py", "commit": "abc", "versions": {"jax": "1"}}
    write_paper(
        tmp_path,
        grid,
        provenance,
        title="Paper",
        notes="## Differences\n\nNone.",
        odd_even={("odd", "odd"): result(10, 0.9)},
    )
    page = (tmp_path / "report.md").read_text("utf-8")
    for part in (
        "# Paper",
        "`python x.py`",
        "Commit abc",
        "jax 1",
        "4 runs of 4 models, 0.2 minutes",
        "## Differences",
        "fit.seeds=2 (10)",
        "seqlat-K2: every lane diverged.",
        *(f"## Table {number}: " for number in (1, 2, 3, 4, 5, 6, 7, 9)),
    ):
        assert part in page
    for path in (tmp_path / "figures").glob("*.png"):
        assert f"(figures/{path.name})" in page
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    written = list((tmp_path / "tables").glob("*.csv"))
    assert len(titles) == len(written)  # a heat map for its table, and the notes


def test_a_run_that_sees_the_future_is_marked_in_every_table(tmp_path):
    def leaky(*arguments, **options):
        run = result(*arguments, **options)
        run.metrics["look_ahead"] = "all months"
        return run

    runs = {
        ("cae", 1): result(10, 0.9, seed=2),
        ("seqlat", 1): leaky(30, 0.7, seed=4),
        ("seqlat", 2): Missing("every lane diverged."),
    }
    grid = Grid(runs, "seqlat", "french", 12)
    assert grid.models == ["cae", "seqlat (leaky)"]
    assert grid.benchmark == "seqlat (leaky)"
    halves = {("odd", "odd"): leaky(10, 0.9), ("odd", "even"): leaky(20, 0.9)}
    write_paper(tmp_path, grid, {}, title="P", odd_even=halves, halved="seqlat-K1")
    table = pd.read_csv(tmp_path / "tables" / "table9_odd_even.csv", index_col=[0, 1])
    assert table.loc[("total R2 (%)", "odd"), "tested on even"] == pytest.approx(20)
    told = "LEAKY: seqlat (leaky) sees the future (all months)"
    assert told in (tmp_path / "report.md").read_text("utf-8")
    for path in [tmp_path / "report.md", *(tmp_path / "tables").iterdir()]:
        text = path.read_text("utf-8")
        assert text.count("seqlat") == text.count("seqlat (leaky)") + text.count(
            "seqlat-K1 (leaky)"
        ), path
        assert path.suffix == ".csv" or "LEAKY" in text, path


def test_a_grid_without_any_result_is_written_too(tmp_path):
    grid = Grid({("cae", 1): Missing("no luck")}, "seqlat", "french", 12)
    write_paper(tmp_path, grid, {}, title="Paper")
    assert "cae-K1: no luck." in (tmp_path / "report.md").read_text("utf-8")
