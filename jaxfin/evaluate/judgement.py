"""One study's forecasts judged: R2 family, sorts, costs, and the oracle where known."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from jaxfin.data.oracle import oracle_r2
from jaxfin.data.panel import Dataset, Panel, PanelLabels, simple_returns
from jaxfin.evaluate.accuracy import forecast_errors, rank_ic, rank_ic_summary
from jaxfin.evaluate.intervals import Bootstrap, r2_interval
from jaxfin.evaluate.r2 import (
    assert_within_bound,
    managed_fit,
    one_factor_fit,
    r2_by_label,
    r2_from_sums,
    r2_upper_bound,
    squared_error,
    squared_return,
)
from jaxfin.evaluate.strategies import (
    NO_SIZES,
    WEIGHTING,
    mean_variance_strategies,
    performance_row,
    strategy_metrics,
)
from jaxfin.evaluate.strategies import UNITS as STRATEGY_UNITS
from jaxfin.forecasts import Forecasts
from jaxfin.portfolio.config import PortfolioConfig as PortfolioConfig
from jaxfin.portfolio.holding import LegSeries, leg_series, long_short
from jaxfin.portfolio.sorts import leg_weights, quantile, quantile_count

UNITS = {
    "r2": "share of the uncentred sum of squares, 1 = perfect, 0 = a forecast of zero",
    "r2.total": "contemporaneous fit beta_t'f_{t+1}, not a forecast",
    "r2.predictive": "the forecast; of latent factor models beta_t'lambda_t, lambda_t "
    "the mean of the factors realised from the start of the window's training sample "
    "to t, with that window's parameters",
    "r2.*.r": "individual assets",
    "r2.*.x": "characteristic-managed portfolios (Z'Z)^+ Z'r, constant included",
    "r2_benchmark": "total: one factor, the equal-weighted mean of all assets, and "
    "beta 1; predictive: its mean over the panel's rows before t, for all assets",
    "r2_extended": "of models without factors: total R2 of one factor whose loadings "
    "are the forecasts, f_t the projection of the period's returns on them; an "
    "extension, no definition of these models",
    "r2_se": "standard error of r2: sd over stationary bootstrap draws of the scored "
    "periods, forecasts as given",
    "r2_seeds": "mean and sd (ddof=1) over single seeds, not ensembles; seeds share "
    "the batch order",
    "r2_bound": "mean over seeds of the R2 that no factors can exceed given the seed's "
    "betas; it does not bound the ensemble",
    "rank_ic": "Spearman correlation of forecast and realised return, per period",
    "forecast_errors": "cross-sectional errors of each scored period; mean, sd "
    "(ddof=1), skewness and median over periods. mae and rmse: unit of the returns; "
    "scaled_rmse: rmse / rmse of a forecast of zero; mdape: median of |error / "
    "return|; mape: its mean, of which only the median over periods is told, since "
    "returns near zero make any mean of it meaningless",
    "portfolios.*.mean": "per year, decimal, excess of the risk-free rate",
    "portfolios.*.volatility": "per year, decimal",
    "portfolios.*.sharpe": "annualised mean / sd (ddof=1)",
    "portfolios.*.sharpe_se": "of sharpe, annualised, robust to serial dependence; "
    "sharpe_net_se likewise",
    "portfolios.*.turnover": "units traded per period; opening trade counted, no 1/2",
    "portfolios.*.max_drawdown": "share of the peak of compounded gross excess returns",
    "oracle": "what the simulator's true betas and factors reach on the same rows; "
    "standard errors are of its level, not of a difference from a model; "
    "prevailing means start at the panel's first period",
    "portfolios.*.mean_net": "per year, decimal, after costs",
    "portfolios.*.sharpe_net": "annualised, of the net series",
    "portfolios.*.unpriced_share": "held asset-periods without a return",
    "fit.validation_score": "per window, mean squared error / mean square of training "
    "returns, of the fit beta_t'f_t where the model has factors, else of the forecast",
    "fit.selected": "per window, the hyperparameters with the lowest validation score",
    "sample.one_sided_periods": "scored periods in which ties leave a leg empty",
}


BOOTSTRAP = Bootstrap(seed=0, draws=999)


class Judgement(NamedTuple):
    """Numbers of one study; frames are indexed as their fields say."""

    metrics: dict[str, Any]  # nested, see UNITS
    r2_by_year: (
        pd.DataFrame
    )  # year of the realised return x (total_r, predictive_r, ..)
    portfolios: pd.DataFrame  # one row per decision date and portfolio
    # one row per scored decision: date, then total_r_sse, total_r_sst, ..: squared
    # errors of the ensemble and squared returns, summed over the cross-section
    errors: pd.DataFrame
    quantile: np.ndarray  # (R, N) bucket of each asset at each decision, 0 = none


def judge(dataset: Dataset, forecasts: Forecasts, config: PortfolioConfig) -> Judgement:
    """Judge out-of-sample forecasts on the rows whose return is realised.

    A row without any forecast (every lane of its window diverged) and a row without any
    observed return (such as the last, not realised yet) are not scored. In the first
    case the portfolio holds nothing, and the cost of closing it is not charged; in the
    second its weights' turnover is shown.

    With ``config.mean_variance`` also the strategies of `strategies`, scored in the
    same rows, and errors by period.

    Raises:
      BoundError: a member's total R2 exceeds least squares on its own betas.
      ConfigError, SolverError: see `mean_variance.mean_variance_weights`.
    """
    panel, labels = dataset.panel, dataset.labels
    rows = forecasts.rows
    universe = np.asarray(panel.universe)[rows]
    realised = (universe & np.asarray(panel.observed)[rows]).any(axis=1)
    has_forecast = ~np.isnan(forecasts.forecast[:, 0])
    scored = realised & has_forecast
    mask = universe & np.asarray(panel.observed)[rows] & scored[:, None]
    returns = np.asarray(panel.excess_returns)[rows]
    ends = labels.dates.append(
        labels.dates[-1:] + (labels.dates[-1] - labels.dates[-2])
    )
    years = np.asarray(pd.DatetimeIndex(ends).year)[rows + 1]

    sums = _error_sums(panel, forecasts, returns, mask, scored)
    metrics: dict[str, Any] = {
        "r2": _nested(
            {key: r2_from_sums(*pair) for key, pair in sums.ensemble.items()}
        ),
        "r2_se": _nested(
            {
                key: r2_interval(sse[scored], sst[scored], BOOTSTRAP).standard_error
                for key, (sse, sst) in sums.ensemble.items()
            }
        ),
        "r2_seeds": _nested(
            {key: _mean_sd(_member_r2(*pair)) for key, pair in sums.members.items()}
        ),
    }
    metrics["r2_benchmark"] = _benchmark(panel, forecasts, returns, mask, scored)
    if forecasts.fitted is None:
        metrics |= _extended(panel, forecasts, returns, mask, scored)
    if forecasts.least_squares_sse is not None:
        metrics["r2_bound"] = _bound(forecasts, sums, scored)
    ic = rank_ic_summary(rank_ic(forecasts.forecast, returns, mask))
    metrics["rank_ic"] = ic._asdict()

    count = config.quantiles or quantile_count(universe[0])
    buckets = np.asarray(
        jax.vmap(quantile, (0, 0, None))(
            jnp.asarray(forecasts.forecast), jnp.asarray(universe), count
        )
    )
    simple = simple_returns(panel, labels)
    series = _portfolios(simple, rows, buckets, count, config.cost)
    one_sided = ~((buckets == 1).any(axis=1) & (buckets == count).any(axis=1))
    metrics["portfolios"] = {
        weighting: NO_SIZES
        if legs is None
        else {
            name: performance_row(leg, labels.periods_per_year, scored)
            for name, leg in legs.items()
        }
        for weighting, legs in series.items()
    }
    units, every = UNITS, _named(series)
    errors_by_kind = forecast_errors(forecasts.forecast, returns, mask)
    metrics["forecast_errors"] = {
        kind: described._asdict() for kind, described in errors_by_kind.items()
    }
    if config.mean_variance:
        strategies = mean_variance_strategies(dataset, forecasts, config)
        metrics |= strategy_metrics(
            strategies, dataset, forecasts, scored, years, config
        )
        units = UNITS | STRATEGY_UNITS
        every |= {
            (WEIGHTING[name], name): made.series
            for name, made in strategies.items()
            if made is not None
        }
    if dataset.truth is not None:
        metrics["oracle"] = oracle_r2(dataset.truth, panel, rows[scored])
    metrics["sample"] = {
        "first_decision": str(labels.dates[rows[0]].date()),
        "last_decision": str(labels.dates[rows[-1]].date()),
        "scored_periods": int(scored.sum()),
        "periods_without_forecast": int((~has_forecast).sum()),
        "scored_asset_periods": int(mask.sum()),
        "quantiles": count,
        "one_sided_periods": int((scored & one_sided).sum()),
        "cost_per_unit_traded": config.cost,
        "risk_free": "subtracted"
        if labels.risk_free_known
        else "unknown, taken as zero",
    }
    metrics["units"] = units
    by_year = pd.DataFrame(
        {
            "_".join(key): r2_by_label(sse[scored], sst[scored], years[scored])
            for key, (sse, sst) in sums.ensemble.items()
        }
    ).astype(float)
    by_year.index.name = "year"
    errors = pd.DataFrame({"date": labels.dates[rows[scored]]})
    for key, pair in sums.ensemble.items():
        for name, values in zip(("sse", "sst"), pair, strict=True):
            errors["_".join((*key, name))] = values[scored]
    return Judgement(
        metrics, by_year, _series_frame(labels, rows, every, scored), errors, buckets
    )


def _benchmark(
    panel: Panel,
    forecasts: Forecasts,
    returns: np.ndarray,
    mask: np.ndarray,
    scored: np.ndarray,
) -> dict[str, dict[str, float]]:
    """R2 that needs no model: the equal-weighted market, and its mean before t."""
    seen = np.asarray(panel.universe & panel.observed)
    total = np.where(seen, np.asarray(panel.excess_returns, np.float64), 0).sum(axis=1)
    market = total / np.maximum(seen.sum(axis=1), 1)
    live = seen.any(axis=1)
    past = np.cumsum(np.where(live, market, 0)) - np.where(live, market, 0)
    before = np.maximum(np.cumsum(live) - live, 1)

    def same_for_all(series: np.ndarray) -> np.ndarray:
        return np.broadcast_to(series[forecasts.rows, None], mask.shape)

    fitted, forecast = same_for_all(market), same_for_all(past / before)
    one = forecasts._replace(
        fitted=fitted,
        member_fitted=fitted[None],
        forecast=forecast,
        member_forecast=forecast[None],
    )
    sums = _error_sums(panel, one, returns, mask, scored).ensemble
    return _nested({key: r2_from_sums(*pair) for key, pair in sums.items()})


def _extended(
    panel: Panel,
    forecasts: Forecasts,
    returns: np.ndarray,
    mask: np.ndarray,
    scored: np.ndarray,
) -> dict[str, Any]:
    """Total R2 of a model without factors by the labelled extension, and its errors."""
    fitted = one_factor_fit(forecasts.forecast, returns, mask)
    one = forecasts._replace(fitted=fitted, member_fitted=fitted[None])
    ensemble = _error_sums(panel, one, returns, mask, scored).ensemble
    sums = {key: pair for key, pair in ensemble.items() if key[0] == "total"}
    return {
        "r2_extended": _nested({k: r2_from_sums(*pair) for k, pair in sums.items()}),
        "r2_se_extended": _nested(
            {
                key: r2_interval(sse[scored], sst[scored], BOOTSTRAP).standard_error
                for key, (sse, sst) in sums.items()
            }
        ),
    }


class _Sums(NamedTuple):
    ensemble: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]  # sse (R,), sst (R,)
    members: dict[
        tuple[str, str], tuple[np.ndarray, np.ndarray]
    ]  # sse (S, R), sst (R,)


def _error_sums(
    panel: Panel,
    forecasts: Forecasts,
    returns: np.ndarray,
    mask: np.ndarray,
    scored: np.ndarray,
) -> _Sums:
    """Squared errors by row for total and predictive, r and x."""
    rows = forecasts.rows
    managed = np.asarray(panel.managed.returns, np.float64)[rows]
    row_mask = (np.asarray(panel.managed.observed)[rows] & scored)[:, None]
    sst_r = squared_return(returns, mask)
    sst_x = squared_return(managed, row_mask)
    ensemble, members = {}, {}
    kinds = {
        "total": (forecasts.fitted, forecasts.member_fitted),
        "predictive": (forecasts.forecast, forecasts.member_forecast),
    }
    for kind, (mean, single) in kinds.items():
        if mean is None or single is None:
            continue
        together = np.concatenate([mean[None], single])
        error_r = squared_error(returns, together, mask)
        # A row no member survived is outside the mask: any number will do there.
        fit_x = managed_fit(
            np.asarray(panel.characteristics)[rows], np.nan_to_num(together), mask
        )
        error_x = squared_error(managed, fit_x, row_mask)
        missing = np.isnan(together[:, :, 0]) & scored
        for side, error, sst in (("r", error_r, sst_r), ("x", error_x, sst_x)):
            error = np.where(missing, np.nan, error)
            ensemble[kind, side] = (error[0], sst)
            members[kind, side] = (error[1:], sst)
    return _Sums(ensemble, members)


def _member_r2(sse: np.ndarray, sst: np.ndarray) -> np.ndarray:
    """(S,) R2 of each member over the rows whose window it survived; NaN if none."""
    alive = ~np.isnan(sse)
    return np.array(
        [r2_from_sums(e[a], sst[a]) for e, a in zip(sse, alive, strict=True)], float
    )


def _bound(
    forecasts: Forecasts, sums: _Sums, scored: np.ndarray
) -> dict[str, dict[str, float]]:
    assert forecasts.least_squares_sse is not None
    sse, sst = sums.members["total", "r"]
    least = np.where(np.isnan(sse), np.nan, forecasts.least_squares_sse)
    least = np.where(scored, least, 0.0)
    bounds = []
    for member, (error, best) in enumerate(zip(sse, least, strict=True)):
        alive = ~np.isnan(error)
        if alive.any():
            bound = r2_upper_bound(best[alive], sst[alive])
            total = r2_from_sums(error[alive], sst[alive])
            assert_within_bound(total, bound, f"seed {member}")
            bounds.append(float(bound))
    return {"total": {"r": float(np.mean(bounds)) if bounds else float("nan")}}


def _mean_sd(values: np.ndarray) -> dict[str, float]:
    values = values[~np.isnan(values)]
    return {
        "mean": float(values.mean()) if values.size else float("nan"),
        "sd": float(values.std(ddof=1)) if values.size > 1 else float("nan"),
        "seeds": int(values.size),
    }


def _nested(flat: dict[tuple[str, str], Any]) -> dict[str, dict[str, Any]]:
    nested: dict[str, dict[str, Any]] = {}
    for (outer, inner), value in flat.items():
        nested.setdefault(outer, {})[inner] = (
            value if isinstance(value, dict) else float(value)
        )
    return nested


def _portfolios(
    panel: Panel, rows: np.ndarray, buckets: np.ndarray, count: int, cost: float
) -> dict[str, dict[str, LegSeries] | None]:
    """Long, short and long-short series per weighting; None where sizes are unknown."""
    taken = jnp.asarray(rows)
    market = (
        panel.asset[taken],
        panel.excess_returns[taken],
        panel.observed[taken],
        panel.risk_free[taken],
        cost,
    )
    result: dict[str, dict[str, LegSeries] | None] = {}
    for weighting in ("equal", "value"):
        if weighting == "value" and panel.size is None:
            result[weighting] = None
            continue

        def leg(which: int, weighting: Any = weighting) -> LegSeries:
            weights = jax.vmap(
                lambda bucket, size: leg_weights(
                    bucket, which, weighting=weighting, size=size
                )
            )(jnp.asarray(buckets), None if panel.size is None else panel.size[taken])
            return leg_series(weights, *market)

        long, short = leg(count), leg(1)
        result[weighting] = {
            "long_short": long_short(long, short),
            "long_only": long,
            "short_leg": short,
        }
    return result


def _named(
    series: dict[str, dict[str, LegSeries] | None],
) -> dict[tuple[str, str], LegSeries]:
    """By weighting and portfolio, without those that are not available."""
    return {
        (weighting, name): leg
        for weighting, legs in series.items()
        for name, leg in (legs or {}).items()
    }


def _series_frame(
    labels: PanelLabels,
    rows: np.ndarray,
    series: dict[tuple[str, str], LegSeries],
    scored: np.ndarray,
) -> pd.DataFrame:
    """Long frame of portfolio series; returns are NaN where not scored."""
    frames = []
    for (weighting, name), leg in series.items():
        frame = pd.DataFrame({k: np.asarray(v) for k, v in leg._asdict().items()})
        frame.loc[~scored, ["gross", "net", "unpriced"]] = np.nan
        frame.insert(0, "portfolio", name)
        frame.insert(0, "weighting", weighting)
        frame.insert(0, "date", labels.dates[rows])
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
