"""The runs behind a paper's tables: models x K, and what every table reads off them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import pandas as pd

from jaxfin.evaluate.importance import Importance
from jaxfin.report.look_ahead import marked, warning
from jaxfin.report.paper_files import sentences

NO_FACTORS = "no K"  # column of models without latent factors
PORTFOLIOS = ("long_short", "long_only")
WEIGHTINGS = ("equal", "value")
Weighting = Literal["equal", "value"]
CHOICE = (
    "K of each model is chosen window by window, by the lowest validation score of "
    "that window, known at its first decision; trades between two K are not charged."
)


class Result(Protocol):
    """What is read of a run; see `paper_run`."""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Of `evaluate.judgement.judge`, with "fit" beside it."""

    @property
    def portfolios(self) -> pd.DataFrame:
        """Of `judge`: one row per decision date, weighting and portfolio."""

    @property
    def errors(self) -> pd.DataFrame:
        """Of `judge`: squared errors and squared returns by decision date."""

    @property
    def periods(self) -> pd.DataFrame:
        """By decision date, see `by_period`."""

    @property
    def importance(self) -> pd.DataFrame | None:
        """characteristic, drop and share, where they were measured."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The key "seconds" says where the time went."""


class Run(NamedTuple):
    """A run without its forecasts, which are many."""

    metrics: Mapping[str, Any]
    portfolios: pd.DataFrame
    errors: pd.DataFrame
    periods: pd.DataFrame
    importance: pd.DataFrame | None
    provenance: Mapping[str, Any]


def paper_run(result: Any) -> Run:
    """What the tables need of a `StudyResult`."""
    return Run(
        result.metrics,
        result.portfolios,
        result.errors,
        by_period(result.forecasts),
        result.importance,
        result.provenance,
    )


def by_period(forecasts: pd.DataFrame) -> pd.DataFrame:
    """What a forecast frame says of each decision date.

    Args:
      forecasts: of `run_directory.forecast_frame`.

    Returns:
      By date: window; universe, the equal-weighted mean realised excess return of all
      assets observed; 1, 2, .., that of each forecast quantile. NaN where none is.
    """
    dates = forecasts.groupby("date")
    means = forecasts.pivot_table(
        index="date", columns="quantile", values="realised", aggfunc="mean"
    )
    means = means.drop(columns=0, errors="ignore")
    first = pd.DataFrame(
        {"window": dates["window"].first(), "universe": dates["realised"].mean()}
    )
    return first.join(means)


class Missing(NamedTuple):
    """A cell of the grid without numbers."""

    reason: str  # one line
    failed: bool = True  # False: the model has no such K


Cell = tuple[str, int | None]  # model and K, None for a model without latent factors


@dataclasses.dataclass(frozen=True)
class Grid:
    """The runs of a paper's grid, in the order of its tables.

    Attributes:
      runs: (model, K) -> result, or why there is none. A model that sees the future
        is called so in the grid: "seqlat (leaky)".
      benchmark: the paper's own model, which the others are tested against.
      data: name of the data set.
      periods_per_year: 12 for monthly returns.
      reduced: sentence on what was made smaller than in the paper; "" if nothing.
    """

    runs: Mapping[Cell, Result | Missing]
    benchmark: str
    data: str
    periods_per_year: int
    reduced: str = ""

    def __post_init__(self) -> None:
        """Mark what sees the future, before any table takes a name from here."""
        called = {model: model for model, _ in self.runs}
        for (model, _), run in self.results.items():
            if run.metrics.get("look_ahead"):
                called[model] = marked(model, run.metrics)
        runs = {(called[model], k): run for (model, k), run in self.runs.items()}
        object.__setattr__(self, "runs", runs)
        benchmark = called.get(self.benchmark, self.benchmark)
        object.__setattr__(self, "benchmark", benchmark)

    @property
    def models(self) -> list[str]:
        """Names in order of first appearance."""
        return list(dict.fromkeys(model for model, _ in self.runs))

    @property
    def results(self) -> dict[Cell, Result]:
        """The runs that have numbers."""
        return {
            cell: run for cell, run in self.runs.items() if not isinstance(run, Missing)
        }

    @property
    def columns(self) -> dict[int | None, str]:
        """K -> heading of its column: models without K first, then K rising."""
        found = {factors for _, factors in self.runs}
        heads: dict[int | None, str] = {None: NO_FACTORS} if None in found else {}
        return heads | {k: f"K={k}" for k in sorted(found - {None})}  # type: ignore[type-var]

    def number(self, cell: Cell, *path: str) -> float:
        """A number of a run's metrics; NaN where the run or the number is missing."""
        found: Any = self.results.get(cell)
        found = None if found is None else found.metrics
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return float(found) if isinstance(found, int | float) else math.nan

    def validation_score(self, cell: Cell) -> float:
        """Mean over windows of the selected points' validation scores.

        Squared error / mean square of training returns, lower is better. It compares
        the K of one model, not models: what is scored differs between them.

        Returns:
          Infinity if a window has no forecast, NaN if the run is missing.
        """
        run = self.results.get(cell)
        if run is None:
            return math.nan
        scores = run.metrics["fit"]["validation_score"]
        finite = [s for s in scores if s is not None and math.isfinite(s)]
        whole = len(finite) == len(scores) > 0
        return sum(finite) / len(finite) if whole else math.inf

    def chosen(self, model: str) -> list[Cell]:
        """The model's run with the lowest validation score, one per window.

        Ties go to the least K; a K without forecast in the window is chosen only if
        every K lacks one. Empty if the model has no finished run.
        """
        cells = [cell for cell in self.results if cell[0] == model]
        if not cells:
            return []
        scores = {
            cell: [
                score if score is not None and math.isfinite(score) else math.inf
                for score in self.results[cell].metrics["fit"]["validation_score"]
            ]
            for cell in cells
        }
        return [
            min(cells, key=lambda cell: (scores[cell][window], cell[1] or 0))
            for window in range(len(scores[cells[0]]))
        ]

    def choice(self, model: str) -> str:
        """The chosen runs in words: rf, cae-K2, or cae-K2-3 if it differs."""
        cells = self.chosen(model)
        if not cells:
            return ""
        counts = sorted({factors or 0 for _, factors in cells})
        if cells[0][1] is None:
            return model
        return f"{model}-K{'-'.join(map(str, counts))}"

    def series(
        self,
        model: str,
        portfolio: str,
        *,
        weighting: str = "equal",
        kind: str = "gross",
    ) -> pd.Series:
        """`strategy` of the model's chosen runs, laid end to end; empty if none."""
        return self.laid(
            model,
            lambda run: strategy(run, portfolio, weighting=weighting, kind=kind),
        )

    def errors(self, model: str) -> pd.DataFrame:
        """Squared errors by date of the model's chosen runs."""
        return self.laid(model, lambda run: run.errors.set_index("date"))

    def periods(self, model: str) -> pd.DataFrame:
        """`by_period` of the model's chosen runs."""
        return self.laid(model, lambda run: run.periods)

    def laid(self, model: str, made: Callable[[Result], Any]) -> Any:
        """Series or frames by date of the model's chosen runs, laid end to end."""
        pieces = []
        for window, cell in enumerate(self.chosen(model)):
            run = self.results[cell]
            part = made(run)
            dates = run.periods.index[run.periods["window"] == window]
            pieces.append(part.loc[part.index.isin(dates)])
        return pd.concat(pieces) if pieces else pd.Series(dtype=float)

    @property
    def importances(self) -> dict[str, Importance]:
        """Name of a run -> importance of its characteristics, where it was measured."""
        return {
            run_name(*cell): Importance(
                run.metrics["importance"]["statistic"],
                run.metrics["importance"]["r2"],
                run.importance["drop"].to_numpy(float),
                run.importance["share"].to_numpy(float),
            )
            for cell, run in self.results.items()
            if run.importance is not None
        }

    @property
    def characteristics(self) -> list[str]:
        """Names of the characteristics, where importance was measured."""
        frames = [run.importance for run in self.results.values()]
        return next((list(f["characteristic"]) for f in frames if f is not None), [])

    def conditions(self) -> str:
        """What the numbers are of, what was reduced and what lacks; for captions."""
        return sentences(self.leaks(), self.sample(), self.reduced, self.gaps())

    def leaks(self) -> str:
        """Which models see the future, and how; "" if none."""
        return warning({model: run.metrics for (model, _), run in self.results.items()})

    def sample(self) -> str:
        """Data, periods, windows, seeds, configurations tried, in one line.

        Counts that differ between runs are given as a range.
        """
        samples = [run.metrics["sample"] for run in self.results.values()]
        fits = [run.metrics["fit"] for run in self.results.values()]
        parts = [self.data]
        if samples:
            tried = sum(fit["points"] for fit in fits)
            first = min(sample["first_decision"] for sample in samples)
            last = max(sample["last_decision"] for sample in samples)
            parts += [
                f"decisions {first} to {last}",
                f"{_span([s['scored_periods'] for s in samples], 'period')} scored",
                _span([fit["windows"] for fit in fits], "window"),
                _span([fit["seeds"] for fit in fits], "seed"),
                f"{_span([tried], 'configuration')} tried (grid points x models x K)",
            ]
            parts.append(_span([s["quantiles"] for s in samples], "quantile"))
            rates = {str(sample["risk_free"]) for sample in samples}
            if rates != {"subtracted"}:
                parts.append(f"risk-free rate {', '.join(sorted(rates))}")
        return "; ".join(parts) + "."

    def gaps(self) -> str:
        """Which cells are n/a or rest on part of the sample, and why; "" if none."""
        reasons = {
            cell: run.reason
            for cell, run in self.runs.items()
            if isinstance(run, Missing)
        }
        for cell, run in self.results.items():
            fit = run.metrics["fit"]
            if fit["windows_without_forecast"]:
                reasons[cell] = (
                    f"{fit['windows_without_forecast']} of {fit['windows']} windows "
                    "without a forecast"
                )
        grouped: dict[str, list[str]] = {}
        for cell, reason in reasons.items():
            grouped.setdefault(reason.rstrip("."), []).append(run_name(*cell))
        return " ".join(f"{', '.join(c)}: {reason}." for reason, c in grouped.items())

    def unavailable(self, weighting: str) -> str:
        """Why a weighting is n/a, if it is; else ""."""
        reasons = {
            reason
            for run in self.results.values()
            if isinstance(reason := run.metrics["portfolios"].get(weighting), str)
        }
        name = weighting.capitalize()
        return " ".join(f"{name} weights {reason}." for reason in sorted(reasons))


def strategy(
    result: Result, portfolio: str, *, weighting: str = "equal", kind: str = "gross"
) -> pd.Series:
    """(R,) excess returns per period by decision date, decimal; NaN where not scored.

    Empty where the weighting is not available.

    Args:
      result: of a run.
      portfolio: long_short, long_only or short_leg.
      weighting: equal or value.
      kind: gross or net of costs.
    """
    frame = result.portfolios
    rows = (frame["weighting"] == weighting) & (frame["portfolio"] == portfolio)
    series = frame.loc[rows].set_index("date")[kind].astype(float)
    return series.rename(None)


def run_name(model: str, factors: int | None) -> str:
    """Name of a run and of its directory: seqlat-K3, or rf for a model without K."""
    return model if factors is None else f"{model}-K{factors}"


def _span(counts: Sequence[int], noun: str) -> str:
    """Smallest and largest count: "1 to 3 seeds"."""
    low, high = min(counts), max(counts)
    return f"{'' if low == high else f'{low} to '}{high} {noun}{'s' * (high != 1)}"
