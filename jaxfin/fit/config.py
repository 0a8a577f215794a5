"""How lanes are trained."""

from __future__ import annotations

import dataclasses

from jaxfin.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """How lanes are trained; the grid is the product of the three tuples.

    Attributes:
      seeds: independent initialisations averaged into the ensemble.
      learning_rate: of Adam.
      l1: weight on mean |kernel entry|, relative to a loss near 1.
      dropout: rates in the beta network's hidden layers; () for none at all.
      max_epochs: passes over the training rows at most.
      patience: epochs without a better validation score before a lane stops.
      batch_periods: periods in a minibatch; an epoch's batches are of equal size.
      warm_start: a window's lanes begin where those of the window before ended, and
        windows are fitted one after the other. Networks only.
      tuning: calendar years; the grid's point is chosen on validation samples that lie
        in the latest of them that is over, and held until the next. () chooses in every
        window on its own sample.
      plateau: epochs without a better validation score after which a lane's learning
        rate is multiplied by ``plateau_factor``, counted anew after each cut; None
        never cuts it.
      plateau_factor: between 0 and 1.
      min_learning_rate: no cut goes below it.
      clip: largest norm of a step's gradient over all weights of a lane, or None.
      chunk_epochs: epochs per call of the compiled program.
      memory_gb: budget that caps the lanes trained at once; None = 60% of the device.
    """

    seeds: int = 3
    learning_rate: tuple[float, ...] = (0.01,)
    l1: tuple[float, ...] = (0.1, 1.0)
    dropout: tuple[float, ...] = ()
    max_epochs: int = 100
    patience: int = 10
    batch_periods: int = 16
    warm_start: bool = False
    tuning: tuple[int, ...] = ()
    plateau: int | None = None
    plateau_factor: float = 0.5
    min_learning_rate: float = 1e-5
    clip: float | None = None
    chunk_epochs: int = 10
    memory_gb: float | None = None

    def __post_init__(self) -> None:
        """Reject values no fit can use; a single number is a grid of one."""
        for name in ("learning_rate", "l1", "dropout"):
            if isinstance(getattr(self, name), int | float):
                object.__setattr__(self, name, (getattr(self, name),))
        for name in (
            "seeds",
            "max_epochs",
            "patience",
            "batch_periods",
            "chunk_epochs",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"fit.{name}={getattr(self, name)}: must be at least 1."
                )
        if self.plateau is not None and self.plateau < 1:
            raise ConfigError(f"fit.plateau={self.plateau}: at least 1, or null.")
        if not 0 < self.plateau_factor < 1:
            raise ConfigError(
                f"fit.plateau_factor={self.plateau_factor}: between 0 and 1."
            )
        if self.min_learning_rate < 0:
            raise ConfigError(
                f"fit.min_learning_rate={self.min_learning_rate}: at least 0."
            )
        for name in ("memory_gb", "clip"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"fit.{name}={value}: must be positive.")
        bounds = {
            "learning_rate": (0.0, 10.0),
            "l1": (0.0, 1e6),
            "dropout": (0.0, 0.99),
        }
        for name, (low, high) in bounds.items():
            values = getattr(self, name)
            if not values and name != "dropout":
                raise ConfigError(f"fit.{name} is empty: give at least one value.")
            for value in values:
                if not low <= value <= high or (name == "learning_rate" and value == 0):
                    raise ConfigError(
                        f"fit.{name}={value}: must lie between {low} and {high}."
                    )
