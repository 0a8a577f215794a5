"""The packaged panel against the file it is made from."""

import numpy as np
import pandas as pd
import pytest
from linearmodels.datasets import french as library

from jaxfin.data import packaged
from jaxfin.data.characteristics import price_characteristics
from jaxfin.data.packaged import french
from jaxfin.data.panel import fingerprint
from jaxfin.errors import DataError


@pytest.fixture(scope="module")
def table():
    return library.load()


@pytest.fixture(scope="module")
def dataset():
    return french()


def test_file_has_no_missing_values_or_codes(table):
    numbers = table.drop(columns="dates")
    assert not table.isna().any().any()
    assert (numbers > -0.9).all().all()


def test_shapes_dates_and_labels(dataset, table):
    labels = dataset.labels
    assert dataset.panel.characteristics.shape == (len(table) - 35, 30, 19)
    assert labels.dates[0] == pd.Timestamp("1951-12-31")
    assert labels.dates[-1] == pd.Timestamp("2017-03-31")
    assert labels.dates.is_month_end.all()
    assert labels.assets == tuple(table.columns[6:])
    assert labels.factors == ("MktRF", "SMB", "HML", "Mom")
    assert len(labels.characteristics) == 19
    assert labels.periods_per_year == 12 and labels.risk_free_known
    assert dataset.panel.size is None and dataset.truth is None
    assert bool(dataset.panel.universe.all())


def test_row_earns_the_next_month_in_excess_of_its_rate(dataset, table):
    """January 2000 is row 577 of 784: its return is that of February."""
    t = dataset.labels.dates.get_loc("2000-01-31")
    february = table[table["dates"] == "2000-02-01"].iloc[0]
    portfolios = february[list(dataset.labels.assets)].to_numpy(float)
    np.testing.assert_allclose(
        dataset.panel.excess_returns[t], portfolios - february["RF"], rtol=1e-6
    )
    factors = february[["MktRF", "SMB", "HML", "Mom"]].to_numpy(float)
    np.testing.assert_allclose(dataset.panel.factors[t], factors, rtol=1e-6)
    np.testing.assert_allclose(dataset.panel.risk_free[t], february["RF"], rtol=1e-6)


def test_every_row_but_the_last_is_realised(dataset, table):
    observed = np.asarray(dataset.panel.observed)
    assert observed[:-1].all() and not observed[-1].any()
    assert (np.asarray(dataset.panel.factors)[-1] == 0).all()
    last, before = np.asarray(dataset.panel.risk_free)[[-1, -2]]
    assert last == before == np.float32(table["RF"].iloc[-1])


def test_characteristics_are_ranks_of_what_the_month_knew(dataset, table):
    t = dataset.labels.dates.get_loc("1987-09-30")
    known = table[table["dates"] <= "1987-09-01"].set_index("dates")
    raw, names = price_characteristics(
        known[list(dataset.labels.assets)], known["MktRF"] + known["RF"], known["RF"]
    )
    # betasq is left out: its ranks repeat those of beta.
    kept = [k for k, name in enumerate(names) if name != "betasq"]
    assert tuple(names[k] for k in kept) == dataset.labels.characteristics
    ranks = pd.DataFrame(raw[-1][:, kept]).rank().to_numpy()
    np.testing.assert_allclose(
        dataset.panel.characteristics[t], 2 * ranks / 31 - 1, atol=1e-6
    )


def test_future_never_reaches_earlier_rows(dataset, table, monkeypatch):
    t = dataset.labels.dates.get_loc("1990-12-31")
    changed = table.copy()
    later = changed["dates"] > "1990-12-01"
    columns = changed.columns.drop("dates")
    changed.loc[later, columns] = changed.loc[later, columns] * -0.5 + 0.3
    monkeypatch.setattr(packaged.french_library, "load", lambda: changed)
    after = french().panel
    before = dataset.panel
    np.testing.assert_array_equal(
        after.characteristics[: t + 1], before.characteristics[: t + 1]
    )
    for name in ("excess_returns", "factors", "risk_free"):
        a, b = getattr(after, name), getattr(before, name)
        np.testing.assert_array_equal(a[:t], b[:t])
        assert (np.asarray(a[t]) != np.asarray(b[t])).any()
    np.testing.assert_array_equal(after.managed.returns[:t], before.managed.returns[:t])


def test_notes_say_what_a_user_must_know(dataset):
    notes = " ".join(dataset.notes)
    for words in ("first 35 months", "1951-11", "overlap", "portfolios", "not scored"):
        assert words in notes


def test_the_same_data_every_time(dataset):
    assert fingerprint(french().panel) == fingerprint(dataset.panel)


def test_a_damaged_file_is_refused(table, monkeypatch):
    coded = table.copy()
    coded.loc[100, "Hlth"] = -99.99
    monkeypatch.setattr(packaged.french_library, "load", lambda: coded)
    with pytest.raises(DataError, match=r"-99.99 for 'Hlth' in 1957-05"):
        french()
    monkeypatch.setattr(packaged.french_library, "load", lambda: table.drop(index=50))
    with pytest.raises(DataError, match="818 rows for 819 months"):
        french()
