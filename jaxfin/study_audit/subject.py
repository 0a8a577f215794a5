"""What is audited: a finished run, read back with its data, windows and fits."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxfin.checkpoint import Checkpoints
from jaxfin.config import StudyConfig
from jaxfin.data.panel import Dataset, fingerprint
from jaxfin.data.sources import load_dataset
from jaxfin.errors import ConfigError, DataError
from jaxfin.fit.method import ACTIVE
from jaxfin.fit.runner import Fits, Lanes, Model, study_lanes
from jaxfin.forecasts import Forecasts, Selection, selected_forecasts
from jaxfin.methods.catalog import build_model
from jaxfin.outcome import StudyResult, load_study
from jaxfin.sample import halves, study_windows, tuning_windows
from jaxfin.windows import Windows

# Fits, selection and forecasts of some windows, and the place of one among them.
Refitted = tuple[Fits, Selection, Forecasts, int]


@dataclasses.dataclass(frozen=True)
class Subject:
    """A study as its audit sees it.

    Attributes:
      folder: of the run.
      result: what it left.
      dataset: read again, of all assets.
      window: the one that is fitted again.
      read: the data set was read from what the configuration names, not handed over.
    """

    folder: Path
    result: StudyResult
    dataset: Dataset
    window: int
    read: bool = True

    @property
    def config(self) -> StudyConfig:
        """Of the run."""
        return self.result.config

    @cached_property
    def windows(self) -> Windows:
        """All of them, numpy."""
        made = study_windows(self.config, self.dataset)
        return Windows(*(np.asarray(field) for field in made))

    @cached_property
    def model(self) -> Model:
        """As the run built it."""
        config = self.config
        return build_model(
            config.model, factors=config.K, options=config.model_options
        )[0]

    @cached_property
    def tested(self) -> Dataset:
        """What forecasts are judged on."""
        return halves(self.config, self.dataset)[1]

    @cached_property
    def pooled(self) -> np.ndarray | None:
        """Which windows choose for which, see `sample.tuning_windows`."""
        return tuning_windows(self.config, self.tested, self.windows)

    @cached_property
    def fits(self) -> Fits | None:
        """Every lane as it was saved; None where the run has no checkpoint of its own.

        Studies of several K share one training, whose state is not told apart here.
        """
        lanes = self.lanes(self.dataset, self.windows)
        state = _saved(self.folder, lanes)
        return None if state is None else _fits(lanes, state)

    @cached_property
    def selected(self) -> tuple[Selection, Forecasts] | None:
        """Selection and forecasts of the saved lanes, made again."""
        if self.fits is None:
            return None
        return self.select(self.fits, self.tested, self.windows, self.pooled)

    @cached_property
    def in_force(self) -> Refitted:
        """The saved lanes of all windows, or the window's, fitted now if none are."""
        if self.fits is None or self.selected is None:
            return self.refitted(self.dataset, self.window)
        return self.fits, *self.selected, self.window

    def lanes(self, dataset: Dataset, windows: Windows) -> Lanes:
        """Of the study's training half."""
        trained = halves(self.config, dataset)[0]
        return study_lanes(self.model, trained, windows, self.config.fit)

    def chosen(self, number: int) -> np.ndarray:
        """A window, those whose validation samples choose for it, and warm starts."""
        own = np.arange(0 if self.config.fit.warm_start else number, number + 1)
        if self.pooled is None:
            return own
        return np.union1d(own, np.flatnonzero(self.pooled[number]))

    def fitted_at(self, number: int) -> int:
        """The row by which all is known that a window is fitted and chosen with."""
        return int(np.max(self.windows.valid_stop[self.chosen(number)]))

    @property
    def horizon(self) -> int:
        """How many periods before its return is over a forecast is made."""
        asked = self.config.model_options.get("horizon", 1)
        return asked if isinstance(asked, int) else 1

    def windows_of(self, chosen: np.ndarray) -> Windows:
        """Some of the windows."""
        return Windows(*(field[chosen] for field in self.windows))

    def pooled_among(self, chosen: np.ndarray) -> np.ndarray | None:
        """Which of some windows choose for which; those fitted along choose freely."""
        if self.pooled is None:
            return None
        pooled = self.pooled[np.ix_(chosen, chosen)]
        pooled[pooled.sum(axis=1) == 0] = True
        return pooled

    def refitted(self, dataset: Dataset, number: int) -> Refitted:
        """One window fitted, selected and forecast by the study's own functions.

        Args:
          dataset: the study's, or a change of it.
          number: of the window.

        Returns:
          Fits, selection and forecasts of that window, and of those whose validation
          samples choose for it; and the place of the window among them.
        """
        chosen = self.chosen(number)
        pooled = self.pooled_among(chosen)
        windows = self.windows_of(chosen)
        lanes = self.lanes(dataset, windows)
        state = None
        for update in lanes.run(jax.random.key(self.config.seed)):
            state = update.state
        fits = _fits(lanes, state)
        tested = halves(self.config, dataset)[1]
        made = self.select(fits, tested, windows, pooled)
        return fits, *made, int(np.flatnonzero(chosen == number)[0])

    def select(
        self,
        fits: Fits,
        tested: Dataset,
        windows: Windows,
        pooled: np.ndarray | None,
    ) -> tuple[Selection, Forecasts]:
        """Selection and forecasts by the study's own function."""
        return selected_forecasts(
            fits.method, tested.panel, windows, fits.grid, fits.fitted, pooled
        )

    def date(self, row: int) -> str:
        """Of the end of a row's period."""
        dates = self.dataset.labels.dates
        return f"{dates[row]:%Y-%m-%d}" if row < len(dates) else "after the last date"


def subject_of(
    folder: Path, dataset: Dataset | None = None, window: int | None = None
) -> Subject:
    """Read a finished run and its data again.

    Args:
      folder: of the run.
      dataset: that the run was given; None reads what its configuration names.
      window: to be fitted again; None is the middle one.

    Raises:
      ConfigError: there is no such window.
      DataError: no finished run, or its data are not what they were.
    """
    result = load_study(folder)
    given = dataset is not None
    if dataset is None:
        dataset = load_dataset(result.config.data, result.config.data_options)
    digest, before = fingerprint(dataset.panel), result.provenance.get("data_sha256")
    if digest != before:
        raise DataError(
            f"{folder}: its data have changed since (sha256 {str(before)[:12]}, now "
            f"{digest[:12]}): restore them, or give the data set it was run on."
        )
    windows = study_windows(result.config, dataset)
    count = len(np.asarray(windows.train_start))
    number = count // 2 if window is None else window
    if not 0 <= number < count:
        raise ConfigError(f"window={number}: the study has {count}, from 0.")
    return Subject(folder, result, dataset, number, read=not given)


def _saved(folder: Path, lanes: Lanes) -> Any:
    place = folder / "checkpoints"
    if not place.is_dir():
        return None
    checkpoints = Checkpoints(place)
    try:
        found = checkpoints.load_latest(lanes.empty())
    finally:
        checkpoints.close()
    if found is None or (np.asarray(found[1].status) == ACTIVE).any():
        return None
    return found[1]


def _fits(lanes: Lanes, state: Any) -> Fits:
    return Fits(lanes.grid, lanes.method, lanes.fitted(state))
