"""Which column of a table is what: options first, then the field's usual names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxfin.data.tables import Kind, Table, kinds, require
from jaxfin.errors import ConfigError, DataError, nearest

# Usual names in order of preference, in small letters without signs between them.
USUAL: Mapping[str, tuple[str, ...]] = {
    "date": (
        "date", "eom", "caldt", "mcaldt", "yyyymm", "yearmonth", "month", "datadate",
        "datetime", "timestamp", "dates", "time", "period", "day", "quarter", "year",
    ),
    "asset": (
        "asset", "assetid", "permno", "id", "gvkey", "stockid", "stock", "securityid",
        "isin", "cusip", "ticker", "tic", "symbol", "permco", "iid",
    ),
    "return": (
        "ret", "return", "returns", "retadj", "totalreturn", "retexc", "excret",
        "excessreturn", "xret", "exret",
    ),
    "size": ("me", "size", "mktcap", "marketcap", "marketequity", "marketvalue"),
    "risk_free": ("rf", "riskfree", "riskfreerate"),
    "sector": (
        "sector", "gicssector", "gics", "gsector", "industry", "ff49", "siccd", "sic",
    ),
    "delisting": ("dlret", "delistingreturn", "delistret", "delret"),
}  # fmt: skip
_FUTURE = ("fwd", "forward", "next", "lead", "future", "ahead", "tp1", "tplus")


class Columns(NamedTuple):
    """Names of columns; None = the table has none, or it is not used."""

    date: str
    asset: str
    returns: str | None  # earned over (t-1, t]; exactly one of the two is given
    next_returns: str | None  # earned over (t, t+1]
    size: str | None
    risk_free: str | None
    sector: str | None
    delisting: str | None
    characteristics: tuple[str, ...]
    available: str | None = None  # dates at which the figures of a row were public

    @property
    def target(self) -> str:
        """The column that returns are read from."""
        return self.returns if self.returns is not None else str(self.next_returns)

    @property
    def roles(self) -> dict[str, str]:
        """Option -> column of what is used beside the characteristics."""
        given = {
            "date": self.date,
            "asset": self.asset,
            "return": self.returns,
            "next_return": self.next_returns,
            "size": self.size,
            "risk_free": self.risk_free,
            "sector": self.sector,
            "delisting": self.delisting,
            "available": self.available,
        }
        return {option: name for option, name in given.items() if name is not None}


def plain(name: str) -> str:
    """Without case and signs: `Ret_Fwd1m` and `retfwd1m` are the same."""
    return "".join(letter for letter in str(name).lower() if letter.isalnum())


def from_the_future(name: str) -> bool:
    """Whether a name says return of a later period: never an input, whatever it is."""
    word = plain(name)
    later = any(sign in word for sign in _FUTURE) or "t+1" in str(name).lower()
    return word == "target" or ("ret" in word and later)


def is_excess(name: str) -> bool:
    """Whether a return's name says that the risk-free rate is taken off already."""
    word = plain(name)
    return "exc" in word or "xret" in word or "exret" in word


def recognise(
    table: Table,
    named: Mapping[str, str | None],
    characteristics: Sequence[str] | None,
    exclude: Sequence[str],
) -> tuple[Columns, list[str]]:
    """Columns of a table, those not named found by their usual names, and notes.

    Args:
      table: of rows (date, asset).
      named: option -> column or None, for the keys of `USUAL` and "next_return".
      characteristics: None = every numeric column that is nothing else.
      exclude: columns that are not read at all.

    Raises:
      ConfigError: options contradict each other.
      DataError: a named column is missing, no date, asset or return is found, or a
        column mixes numbers and text.
    """
    _refuse_contradictions(table, named, characteristics, exclude)
    taken = {name for name in named.values() if name is not None}
    taken |= {*exclude, *(characteristics or ())}
    free = [name for name in table.columns if name not in taken]
    found: dict[str, str | None] = dict(named)
    if named["return"] is None and named["next_return"] is None:
        found["next_return"] = _next_return(table, free)
    for option, usual in USUAL.items():
        if named[option] is None and not _settled(option, found):
            names = {plain(name): name for name in reversed(free)}
            found[option] = next((names[u] for u in usual if u in names), None)
    if found["return"] is None and found["next_return"] is None:
        raise _nothing_found(table, "return", "returns")
    for option in ("date", "asset"):
        if found[option] is None:
            what = {"date": "dates", "asset": "asset identifiers"}[option]
            raise _nothing_found(table, option, what)
    notes = []
    seen = [
        f"{option} = {name}"
        for option, name in found.items()
        if name is not None and named[option] is None
    ]
    if seen:
        notes.append(
            f"Recognised in {table.label}: {', '.join(seen)}; data.OPTION=COLUMN names "
            "another."
        )
    past = [name for name in free if plain(name) in USUAL["return"]]
    if named["next_return"] is None and found["next_return"] is not None and past:
        notes.append(
            f"Both {found['next_return']} (next period's return, which is used) and "
            f"{past[0]} (return of the period that ends) are there: data.return="
            f"{past[0]} uses the other."
        )
    columns, more = complete(table, found, characteristics, exclude)
    return columns, notes + more


def complete(
    table: Table,
    found: Mapping[str, str | None],
    characteristics: Sequence[str] | None,
    exclude: Sequence[str] = (),
) -> tuple[Columns, list[str]]:
    """Columns with their characteristics, and what is left out and why.

    Raises:
      ConfigError: a characteristic is the return being forecast, or named like one.
      DataError: a column mixes numbers and text, or no characteristic is left.
    """
    roles = {option: name for option, name in found.items() if name is not None}
    notes: list[str] = []
    if characteristics is None:
        rest = [c for c in table.columns if c not in {*roles.values(), *exclude}]
        kept, notes = _numeric(table, rest)
    else:
        kept = list(characteristics)
    for name in kept:
        if name == found["next_return"] or from_the_future(name):
            raise ConfigError(
                f"characteristic {name!r} is the return being forecast, or named like "
                "one, and not known at its date: remove it from the characteristics."
            )
    if not kept:
        raise DataError(
            f"{table.label}: no numeric characteristic beside "
            f"{', '.join(map(str, roles.values()))}: add one, or convert text columns "
            "to numbers."
        )
    columns = Columns(
        date=roles["date"],
        asset=roles["asset"],
        returns=found["return"],
        next_returns=found["next_return"],
        size=found["size"],
        risk_free=found["risk_free"],
        sector=found["sector"],
        delisting=found["delisting"],
        characteristics=tuple(kept),
        available=found.get("available"),
    )
    return columns, notes


def _numeric(table: Table, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The columns that may be characteristics, and notes on the others."""
    aside: dict[str, list[str]] = {"future": [], "key": [], "text": [], "date": []}
    candidates = []
    for name in names:
        if from_the_future(name):
            aside["future"].append(name)
        elif plain(name) in {*USUAL["date"], *USUAL["asset"], *USUAL["delisting"]}:
            aside["key"].append(name)
        elif not plain(name) or str(name).startswith(("Unnamed: ", "__index_level_")):
            aside["key"].append(name)
        else:
            candidates.append(name)
    held: dict[str, Kind] = kinds(table, candidates)
    for name, kind in held.items():
        if kind != "number":
            aside[kind].append(name)
    reasons = {
        "future": "a return of a later period, by its name",
        "key": "another date, identifier, row number or delisting return",
        "text": "text",
        "date": "dates",
    }
    notes = [
        f"Left out of the characteristics ({reasons[why]}): "
        f"{', '.join(repr(str(name)) for name in which)}."
        for why, which in aside.items()
        if which
    ]
    return [name for name, kind in held.items() if kind == "number"], notes


def _next_return(table: Table, free: Sequence[str]) -> str | None:
    """The one-period return of the future, if names leave no doubt which it is."""
    candidates = [name for name in free if from_the_future(name)]
    one = [name for name in candidates if not _horizon(name).strip("1")]
    if len(one) > 1:
        raise ConfigError(
            f"{table.label}: {' and '.join(one)} all look like the next period's "
            f"return: choose one, data.next_return={one[0]}."
        )
    return one[0] if one else None


def _horizon(name: str) -> str:
    return "".join(letter for letter in str(name) if letter.isdigit())


def _settled(option: str, found: Mapping[str, str | None]) -> bool:
    """One target is enough, and a next-period return has its delisting in it."""
    return option in ("return", "delisting") and found["next_return"] is not None


def _refuse_contradictions(
    table: Table,
    named: Mapping[str, str | None],
    characteristics: Sequence[str] | None,
    exclude: Sequence[str],
) -> None:
    require(table, {f"data.{option}": name for option, name in named.items()})
    lists = {"characteristics": list(characteristics or ()), "exclude": list(exclude)}
    for option, names in lists.items():
        for column in names:
            require(table, {f"data.{option}": column})
            if names.count(column) > 1:
                raise ConfigError(f"data.{option} names {column} twice: remove one.")
    if named["return"] is not None and named["next_return"] is not None:
        raise ConfigError(
            f"data.return={named['return']} and data.next_return="
            f"{named['next_return']}: name one, the other follows from it."
        )
    if named["delisting"] is not None and named["next_return"] is not None:
        raise ConfigError(
            f"data.delisting={named['delisting']} and data.next_return="
            f"{named['next_return']}: delisting returns compound with data.return, a "
            "next-period return holds them already."
        )
    uses: dict[str, str] = {}
    for option, name in named.items():
        if name is not None and uses.setdefault(name, option) != option:
            raise ConfigError(
                f"data.{uses[name]}={name} and data.{option}={name}: a column is one "
                "of them."
            )
    for name in characteristics or ():
        if name in uses and uses[name] not in ("return", "next_return"):
            raise ConfigError(
                f"data.{uses[name]}={name} is also in data.characteristics: remove it "
                "there, or save a copy of the column under another name."
            )
    for name in exclude:
        other = uses.get(name)
        if name in (characteristics or ()):
            other = "characteristics"
        if other is not None:
            raise ConfigError(
                f"data.exclude names {name}, and so does data.{other}: choose one."
            )


def _nothing_found(table: Table, option: str, what: str) -> DataError:
    usual = USUAL[option]
    close = nearest(usual[0], [str(name) for name in table.columns])
    return DataError(
        f"{table.label} has no column named like {what} ({', '.join(usual[:6])}, ...): "
        f"name it, data.{option}=COLUMN; {close}"
    )
