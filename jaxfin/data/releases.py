"""When a reported figure may be used: lags from the period it refers to.

A row of a file may hold figures dated by the period they describe (a fiscal year's
book value in the row of its last month), which nobody knew at the end of that month.
Following Gu, Kelly and Xiu (2020, section 2.1), a return of month t+1 is forecast with
monthly figures of month t, quarterly figures of month t-3 and annual figures of month
t-5 at the latest: 1, 4 and 6 months before the month of the return, hence 0, 3 and 5
rows before the row of the decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jaxfin.data.slots import Layout
from jaxfin.errors import ConfigError, DataError, nearest

LAGS = {"monthly": 1, "quarterly": 4, "annual": 6}  # months before the return's month
SERVES = {"monthly": 1, "quarterly": 3, "annual": 12}  # months until the next figure
FOLDER = Path(__file__).resolve().parents[2] / "conf" / "characteristics"


def frequencies(
    given: str | Mapping[str, str], characteristics: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Characteristic -> annual, quarterly or monthly, for those of the table; notes.

    Args:
      given: the mapping itself, or the name of a YAML file in conf/characteristics or
        the path of one. A list may name more characteristics than the table has, a
        mapping may not. Names are compared without case.
      characteristics: of the table; what is not listed is point in time already.

    Raises:
      ConfigError: an unknown list, frequency or characteristic, or none in common.
    """
    plain = given if isinstance(given, Mapping) else _listed(given)
    listed = {str(name): str(frequency) for name, frequency in plain.items()}
    for name, frequency in listed.items():
        if frequency not in LAGS:
            raise ConfigError(
                f"data.release_lags: {name} is {frequency!r}: one of {', '.join(LAGS)}."
            )
    known = {str(name).lower(): name for name in characteristics}
    if isinstance(given, Mapping):
        for name in listed:
            if name.lower() not in known:
                raise ConfigError(
                    f"data.release_lags: {name} is not a characteristic: "
                    f"{nearest(name, map(str, characteristics))}"
                )
    found = {
        known[name.lower()]: frequency
        for name, frequency in listed.items()
        if name.lower() in known
    }
    if not found:
        raise ConfigError(
            f"data.release_lags={given} has none of the characteristics "
            f"({', '.join(map(str, characteristics[:5]))}, ...): list them by name."
        )
    others = [str(name) for name in characteristics if name not in found]
    counts = ", ".join(
        f"{list(found.values()).count(kind)} {kind} ({lag - 1} rows)"
        for kind, lag in LAGS.items()
    )
    notes = [f"Release lags: {counts}."]
    if others:
        notes.append(
            f"Without a release lag, taken as known at their date: {', '.join(others)}."
        )
    return found, notes


def rows_waited(
    given: str | Mapping[str, str] | None, characteristics: Sequence[str]
) -> dict[str, int]:
    """Rows between a figure's own and the first that uses it, 0 without a lag.

    Args, raises: as `frequencies`; None: no lags.
    """
    found = {} if given is None else frequencies(given, characteristics)[0]
    return {name: LAGS[found.get(name, "monthly")] - 1 for name in characteristics}


def lagged(values: np.ndarray, frequency: str, where: Layout) -> np.ndarray:
    """(n,) figures known at each row, NaN where there is none; see `served_by`."""
    served = served_by(values, frequency, where)
    return np.where(served < 0, np.nan, values[served]).astype(values.dtype)


def served_by(values: np.ndarray, frequency: str, where: Layout) -> np.ndarray:
    """(n,) the row whose figure is used at each row, -1 for none.

    Row t takes the asset's latest figure of rows t-L+1 and before, L of `LAGS`, no
    older than the period that a figure serves for (`SERVES`): an annual figure is used
    from 5 rows after its own for 12 rows, then it is missing. Rows are periods of the
    calendar: where the asset has no row, it has no figure, and neither another asset's
    figures nor those before its first row are ever used.

    A figure of December stands in the rows of May to April (L = 6), a forecast from
    May on being of June's return.
    """
    own = np.where(np.isnan(values), -1, np.arange(len(values)))
    dense = np.full(where.held.shape, -1)
    dense[where.period, where.slot] = own
    known = np.full_like(dense, -1)
    first = LAGS[frequency] - 1
    for age in range(first, first + SERVES[frequency]):
        now = known[age:]
        then = slice(0, max(0, len(dense) - age))
        usable = (now < 0) & (where.held[age:] == where.held[then])
        np.copyto(now, dense[then], where=usable)
    return known[where.period, where.slot]


def _listed(given: str) -> dict[Any, Any]:
    named = FOLDER / f"{given}.yaml"
    path = named if named.is_file() else Path(given).expanduser()
    if not path.is_file():
        known = [file.stem for file in FOLDER.glob("*.yaml")]
        raise ConfigError(
            f"data.release_lags={given} is neither a list in conf/characteristics nor "
            f"a YAML file: {nearest(given, known)}"
        )
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())[:160]
        raise DataError(f"{path.name} cannot be read as YAML: {said}.") from error
    if not isinstance(content, dict) or not content:
        raise ConfigError(
            f"{path.name}: expected lines such as 'bm: annual', a characteristic and "
            "its frequency."
        )
    return content
