"""The runs behind a paper's tables: models x K, and what every table reads off them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import pandas as pd

from jaxfin.evaluate.importance import Importance
from jaxfin.report.paper_files import sentences

NO_FACTORS = "no K"  # column of models without latent factors
PORTFOLIOS = ("long_short", "long_only")
WEIGHTINGS = ("equal", "value")
Weighting = Literal["equal", "value"]
CHOICE = (
    "K of each model: lowest validation score, mean over windows. Later windows "
    "validate on periods that earlier ones test on: nobody knew this K at the start."
)


class Result(Protocol):
    """What is read of a run; a `study.StudyResult` has it."""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """Of `evaluate.judgement.judge`, with "fit" beside it."""

    @property
    def portfolios(self) -> pd.DataFrame:
        """Of `judge`: one row per decision date, weighting and portfolio."""

    @property
    def importance(self) -> pd.DataFrame | None:
        """characteristic, drop and share, where they were measured."""

    @property
    def provenance(self) -> Mapping[str, Any]:
        """The key "seconds" says where the time went."""


class Missing(NamedTuple):
    """A cell of the grid without numbers."""

    reason: str  # one line
    failed: bool = True  # False: the model has no such K


Cell = tuple[str, int | None]  # model and K, None for a model without latent factors


@dataclasses.dataclass(frozen=True)
class Grid:
    """The runs of a paper's grid, in the order of its tables.

    Attributes:
      runs: (model, K) -> result, or why there is none.
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

    def chosen(self, model: str) -> Cell | None:
        """The model's run at the K with the lowest `validation_score`; ties: least K.

        A K with a window without forecast is chosen only if every K has one; None if
        the model has no finished run.
        """
        cells = [cell for cell in self.results if cell[0] == model]
        return min(
            cells, key=lambda c: (self.validation_score(c), c[1] or 0), default=None
        )

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
        return sentences(self.sample(), self.reduced, self.gaps())

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
