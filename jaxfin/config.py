"""What determines a study's numbers, as plain dataclasses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, get_type_hints

import pandas as pd

from jaxfin.data.subsets import Subset
from jaxfin.errors import ConfigError
from jaxfin.evaluate.judgement import PortfolioConfig
from jaxfin.evaluate.relevance_config import RelevanceConfig
from jaxfin.fit.config import FitConfig
from jaxfin.options import checked

# The precision of a study -> JAX's matmul precision.
PRECISIONS: Mapping[str, str] = {"full": "highest", "fast": "default"}


@dataclasses.dataclass(frozen=True)
class WindowsConfig:
    """Splits of the sample.

    Rolling ones by length, or with ``train_end`` and ``valid_end`` a single one by
    date, fitted once. Dates are of returns: a period belongs where its return is
    realised, so that no training return is of a later day than ``train_end``.

    Attributes:
      train, valid, test, expanding, embargo: in periods, see
        `windows.rolling_windows`; but for the embargo of no account in a split by date.
      start: date of the first return trained on; None is the first there is. Lookbacks
        may reach behind it.
      end: date of the last return tested; None is the last there is, and the forecast
        of the one to come.
      first_test: date of the first return tested; None is the earliest possible.
      train_end, valid_end: dates of the last returns of a single split's training and
        validation samples.
    """

    train: int = 240
    valid: int = 48
    test: int = 12
    expanding: bool = False
    embargo: int = 0
    start: str | None = None
    end: str | None = None
    first_test: str | None = None
    train_end: str | None = None
    valid_end: str | None = None

    def __post_init__(self) -> None:
        """Reject half a split, and what is no date."""
        if (self.train_end is None) != (self.valid_end is None):
            raise ConfigError(
                "windows.train_end and windows.valid_end go together: give both dates."
            )
        if self.train_end is not None and self.first_test is not None:
            raise ConfigError(
                "windows.first_test is of rolling windows: leave it, or "
                "windows.train_end and windows.valid_end, out."
            )
        for name in ("start", "end", "first_test", "train_end", "valid_end"):
            value = getattr(self, name)
            try:
                if value is not None:
                    pd.Timestamp(value)
            except ValueError as error:
                raise ConfigError(
                    f"windows.{name}={value}: no date, write it as 2018-12-31."
                ) from error


@dataclasses.dataclass(frozen=True)
class AssetsConfig:
    """Halves of the universe by parity of identifiers; see `data.subsets.subset`.

    Attributes:
      train: assets that models are fitted and selected on.
      test: assets that are forecast and judged.
    """

    train: Subset = "all"
    test: Subset = "all"


@dataclasses.dataclass(frozen=True)
class StudyConfig:
    """All that determines a study's numbers.

    Attributes:
      model: a name of `methods.catalog.CATALOG`.
      K: latent factors; None is the model's default.
      model_options: keywords of the model's factory, such as ``{"lookback": 24}``.
      data: a name of `data.sources.SOURCES`; ignored if a dataset is given.
      data_options: keywords of the source.
      assets, windows, fit, portfolio: see their classes.
      importance: also measure the R2 lost without each characteristic, see
        `evaluate.importance`.
      relevance: also trace the forecasts of the top quantile back to variables.
      paths: periods ahead of iterated forecasts and of the shrinkage of means with
        them, see `evaluate.iterated`; 0 for none. Of models that can.
      validation: also forecast validation rows, to be shown beside test rows.
      benchmarks: models the study's is compared with, forecast by forecast, each a
        name of the catalog and its options, ``{"name": "capm", "market": "mean"}``,
        and a "label" if it is to be called otherwise;
        see `jaxfin.comparison`.
      precision: of float32 products on accelerators: "full" keeps float32 (three
        passes where the hardware has none), "fast" lets the device choose (TF32 or
        bfloat16). Without effect on a CPU.
      seed: of the study: batch order and the seeds of all lanes follow from it.
    """

    model: str = "seqlat"
    K: int | None = None
    model_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    data: str = "french"
    data_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    assets: AssetsConfig = AssetsConfig()
    windows: WindowsConfig = WindowsConfig()
    fit: FitConfig = FitConfig()
    portfolio: PortfolioConfig = PortfolioConfig()
    importance: bool = False
    relevance: RelevanceConfig = RelevanceConfig()
    paths: int = 0
    validation: bool = False
    benchmarks: tuple[Mapping[str, Any], ...] = ()
    precision: Literal["full", "fast"] = "full"
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject a seed no random key can hold, and steps into the past."""
        if self.paths < 0:
            raise ConfigError(f"paths={self.paths}: periods ahead, at least 0.")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed={self.seed}: between 0 and {2**31 - 1}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, lists for tuples: what config.yaml holds."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> StudyConfig:
        """Inverse of `to_dict`; an unknown key is an error naming the nearest one."""
        return _from_dict(StudyConfig, content, "")


def _from_dict(kind: Any, content: Mapping[str, Any], prefix: str) -> Any:
    hints = get_type_hints(kind)
    plain = {
        name: _from_dict(hints[name], value, f"{prefix}{name}.")
        if dataclasses.is_dataclass(hints.get(name)) and isinstance(value, Mapping)
        else value
        for name, value in content.items()
    }
    return kind(**checked(plain, hints, prefix=prefix))
