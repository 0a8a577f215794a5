"""Law 3: which slot an asset sits in, and how many slots are empty, is no information.

Float64, 20 optimisation steps, 1e-9. Dropout draws its noise by slot, so a network
trained with it is compared from the same parameters on.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import CHARACTERISTICS, METHODS, SLOTS, build_panel, scalars

from jaxfin.windows import window_at

ADDED = 5


def permuted(arrays, order):
    """The same assets in other slots."""
    return {
        name: value[:, order] if value.shape[1:2] == (SLOTS,) else value
        for name, value in arrays.items()
    }


def with_empty_slots(arrays):
    """Slots nobody may hold, at the front, in the middle and at the end, full of junk.

    The new columns are live nowhere; what their characteristics and sizes say is noise.
    """
    rng = np.random.default_rng(9)
    where = [0, 0, 7, SLOTS, SLOTS]
    assert len(where) == ADDED
    wider = {}
    for name, value in arrays.items():
        if value.shape[1:2] == (SLOTS,):
            junk = {
                "universe": False,
                "asset": -1,
                "excess_returns": np.nan,
                "size": 1e6,
                "industry": True,
            }.get(name)
            if junk is None:
                junk = rng.normal(size=(len(value), ADDED, CHARACTERISTICS))
            elif name == "size":
                junk = rng.lognormal(size=(len(value), ADDED))
            value = np.insert(value, where, junk, axis=1)
        wider[name] = value
    kept = np.insert(np.ones(SLOTS, bool), where, False)
    return wider, kept


@pytest.fixture
def method_name(method_name):
    """Rows of the table to which slots are labels."""
    if METHODS[method_name].ordered_slots:
        pytest.skip("reads returns as a vector with a weight a slot: a balanced panel")
    return method_name


@pytest.fixture(scope="module")
def order():
    return np.random.default_rng(2).permutation(SLOTS)


@pytest.fixture(scope="module")
def relabelled(arrays, order):
    return build_panel(permuted(arrays, order))


@pytest.fixture(scope="module")
def widened(arrays):
    wider, kept = with_empty_slots(arrays)
    return build_panel(wider), kept


@pytest.fixture(scope="module")
def window(windows):
    return scalars(window_at(windows, 1))


ROWS = np.arange(34, 40)


def outcome(method, fitted, panel):
    """Forecasts and fitted returns of the test rows."""
    rows = jnp.asarray(ROWS)
    forecast = method.forecast(fitted, panel, rows)
    if method.contemporaneous is None:
        return (np.asarray(forecast),)
    betas, factors = method.contemporaneous(fitted, panel, rows)
    explained = jnp.einsum("tnk,tk->tn", betas, factors)
    return np.asarray(forecast), np.asarray(explained)


def of_slot(name, number, tree):
    """Hyperparameters or statistics of a lane whose asset sits in another slot."""
    if not METHODS[name].by_asset:
        return tree
    return {**tree, "asset": np.int32(number)}


def assert_equal_up_to_rounding(one, other):
    for a, b in zip(one, other, strict=True):
        assert np.abs(b).max() > 1e-6  # something is being compared
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_permuting_slots_permutes_forecasts(
    method_name, fits, panel, relabelled, order, window, x64
):
    method, hyper = fits.method(method_name), fits.hyper(method_name)
    key = jax.random.key(0)
    fitted = method.fit(key, panel, window, hyper)
    refitted = fitted
    if "dropout" not in hyper:
        place = np.flatnonzero(order == hyper.get("asset", 0))[0]
        moved = of_slot(method_name, place, hyper)
        refitted = method.fit(key, relabelled, window, moved)
        np.testing.assert_allclose(
            refitted.info.history, fitted.info.history, rtol=1e-9
        )
    here = outcome(method, fitted, panel)
    there = outcome(method, refitted, relabelled)
    assert_equal_up_to_rounding(there, [side[:, order] for side in here])


def test_adding_slots_nobody_may_hold_changes_no_forecast(
    method_name, fits, panel, widened, window, x64
):
    wider, kept = widened
    method, hyper = fits.method(method_name), fits.hyper(method_name)
    fitted = method.fit(jax.random.key(0), panel, window, hyper)
    place = np.flatnonzero(kept)[hyper.get("asset", 0)]
    statistics = of_slot(method_name, place, fitted.params["statistics"])
    moved = fitted._replace(params={**fitted.params, "statistics": statistics})
    here, there = outcome(method, fitted, panel), outcome(method, moved, wider)
    assert_equal_up_to_rounding([side[:, kept] for side in there], here)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method_name", ["seqlat-window", "cae-2", "cae-batch-norm", "nn2"]
)
def test_adding_slots_nobody_may_hold_changes_no_fit(
    method_name, fits, panel, widened, window, x64
):
    wider, _ = widened
    method, hyper = fits.method(method_name), fits.hyper(method_name)
    fitted = method.fit(jax.random.key(0), panel, window, hyper)
    refitted = method.fit(jax.random.key(0), wider, window, hyper)
    leaves = zip(jax.tree.leaves(fitted), jax.tree.leaves(refitted), strict=True)
    for one, other in leaves:
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_the_table_knows_which_rows_draw_noise():
    assert [n for n, r in METHODS.items() if "dropout" in r.hyper] == ["seqlat-dropout"]


def test_the_table_knows_to_which_rows_slots_are_no_labels():
    ordered = [name for name, row in METHODS.items() if row.ordered_slots]
    assert ordered == [
        "seqlat-r",
        "lstm_multi",
        "lstm_multi-indicators",
        "lstm_multi-related",
    ]
