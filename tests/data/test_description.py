"""Raw characteristics described period by period, against pandas on a long table."""

import numpy as np
import pandas as pd

from jaxfin.data.description import describe
from jaxfin.data.packaged import french
from jaxfin.data.panel import Description


def test_every_period_is_described_by_itself():
    rng = np.random.default_rng(0)
    shape = (40, 7, 3)
    values = rng.normal(size=shape) * 10.0 ** np.arange(3)
    values[rng.random(shape) < 0.3] = np.nan
    values[5, :, 1] = np.nan  # known of nobody
    universe = rng.random(shape[:2]) < 0.7
    universe[:, 0] = True
    made = describe(values, universe)
    named = {"known": "count", "mean": "mean", "smallest": "min"}
    named |= {"median": "median", "largest": "max"}
    for t in range(shape[0]):
        own = pd.DataFrame(values[t][universe[t]])
        for field, statistic in named.items():
            expected = own.agg(statistic).to_numpy(float)
            if field == "known":
                expected = expected / len(own)
            np.testing.assert_allclose(getattr(made, field)[t], expected, err_msg=field)
        np.testing.assert_allclose(made.sd[t], own.std(ddof=0))
    assert np.isnan(made.mean[5, 1]) and made.known[5, 1] == 0
    later = values.copy()
    later[20:] = 1e6
    again = describe(later, universe)
    for name in Description._fields:
        np.testing.assert_array_equal(
            getattr(made, name)[:20], getattr(again, name)[:20]
        )


def test_data_sets_tell_raw_units():
    dataset = french()
    made = dataset.description
    momentum = list(dataset.labels.characteristics).index("mom12m")
    assert made.mean.shape == (len(dataset.labels.dates), 19)
    assert 0.05 < made.mean[:, momentum].mean() < 0.25  # a year's return, no rank
