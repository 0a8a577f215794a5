"""The audit of any function: leaks planted in places no test is named after."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import linear_network
from scipy import stats

from jaxfin.audit import check, check_network
from jaxfin.audit.perturbation import POISONS, added_rows, poisoned, truncation
from jaxfin.audit.timing import KNOWN, REALISED, field_arrays
from jaxfin.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("x64")

CUTS = (5, 12, 13, 14, 30, 46)


def verdicts(certificate):
    return {found.test: found.verdict for found in certificate.findings}


# Leaks planted by hand: (function, field that carries them, whether it can be traced).
def shifted_characteristic(panel):
    """The signal of t is stored in row t - 1."""
    z = panel.characteristics[..., 1]
    return jnp.concatenate([z[1:], z[-1:]]) * panel.universe


def ranked_over_time(panel):
    """Each asset against its own history, of which it knows the end."""
    ranks = stats.rankdata(np.asarray(panel.characteristics[..., 0]), axis=0)
    return ranks / len(ranks) - 0.5


def expanding_mean(panel):
    """Of returns up to t, row t included: that one is earned after t."""
    seen = panel.universe & panel.observed
    total = jnp.cumsum(jnp.where(seen, panel.excess_returns, 0), axis=0)
    return total / jnp.maximum(jnp.cumsum(seen, axis=0), 1)


def careful_mean(panel):
    mean = expanding_mean(panel)
    return jnp.concatenate([jnp.zeros_like(mean[:1]), mean[:-1]])


def trailing_frame(panel):
    """The same in pandas, missing returns left out."""
    seen = np.asarray(panel.universe & panel.observed)
    frame = pd.DataFrame(np.where(seen, np.asarray(panel.excess_returns), np.nan))
    return frame.shift().rolling(6, min_periods=1).mean().fillna(0).to_numpy()


PLANTED = {
    "shifted characteristic": (shifted_characteristic, "characteristics", 1),
    "ranking over time": (ranked_over_time, "characteristics", 1),
    "expanding mean with its own return": (expanding_mean, "excess_returns", 0),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_leaks_are_found(name, panel):
    forecast, field, lead = PLANTED[name]
    made = check(forecast, panel, name=name, decisions=CUTS)
    assert made.verdict == "leak" and not made.passed
    found = made.finding("poisoned future (noise)")
    assert (found.verdict, found.field) == ("leak", field)
    assert found.row in made.decisions and found.period == found.row + lead
    assert 0 < found.size < np.inf
    assert made.finding("truncated at t").verdict == "leak"
    assert name in made.markdown and "**leak**" in made.markdown
    if made.dependence is None:
        assert "black box" in made.scope
        return
    assert made.finding("dependence").verdict == "leak"
    assert made.dependence.paths[0].field == field
    assert forecast.__name__ in made.dependence.paths[0].source
    assert made.finding("Jacobian").period == made.finding("Jacobian").row + lead


@pytest.mark.parametrize("forecast", [careful_mean, trailing_frame])
def test_careful_functions_pass(forecast, panel):
    made = check(forecast, panel, decisions=CUTS)
    assert made.passed, made.markdown
    assert set(verdicts(made).values()) == {"pass"}
    assert (made.dependence is None) == (forecast is trailing_frame)


def test_pytorch_is_a_black_box(panel):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(4, 1, dtype=torch.float64)

    def forecast(panel):
        inputs = torch.from_numpy(np.array(panel.characteristics))
        with torch.no_grad():
            return layer(inputs)[..., 0].numpy()

    def leaky(panel):
        inputs = torch.from_numpy(np.array(panel.characteristics))
        with torch.no_grad():
            return layer(inputs - inputs.mean(dim=0))[..., 0].numpy()

    assert check(forecast, panel, decisions=CUTS).passed
    made = check(leaky, panel, decisions=CUTS)
    assert made.verdict == "leak" and "cannot be traced" in made.scope


def test_what_a_leak_needs_to_show_is_told_apart(panel):
    """NaN times zero, and a path that no value goes along."""

    def times_zero(panel):
        z = panel.characteristics[..., 0]
        lead = jnp.concatenate([z[1:], z[-1:]])
        return z + 0.0 * lead

    proven = check(times_zero, panel, decisions=CUTS)
    assert proven.finding("poisoned future (nan)").verdict == "leak"
    assert proven.verdict == "pass"
    outside = check(times_zero, panel, decisions=CUTS, traceable=False)
    assert outside.verdict == "undetermined"

    def back_and_forth(panel):
        z = panel.characteristics[..., 0]
        lead = jnp.concatenate([z[1:], z[-1:]])
        return jnp.where(lead > jnp.inf, lead, z)

    made = check(back_and_forth, panel, decisions=CUTS)
    assert made.finding("dependence").verdict == "leak"
    assert made.verdict == "undetermined" and not made.passed


def test_a_batch_over_assets_is_found(panel):
    def forecast(panel):
        z = panel.characteristics[..., 0]
        return z - z.mean(axis=1, keepdims=True)

    made = check(forecast, panel, decisions=CUTS)
    assert verdicts(made).pop("dead assets added") == "leak"

    def live(panel):
        z, count = panel.characteristics[..., 0], panel.universe.sum(axis=1)
        total = jnp.where(panel.universe, z, 0).sum(axis=1)
        return z - (total / count)[:, None]

    assert check(live, panel, decisions=CUTS).passed


def test_a_batch_over_rows_is_found(panel):
    network = linear_network()
    params = network.init(jax.random.key(0), panel, jnp.arange(5))
    made = check_network(network, params, panel, decisions=CUTS)
    assert made.passed and made.dependence.verdict == "pass"

    def in_training_mode(params, inputs, rows):
        made = network.forecast(params, inputs, rows)
        return (made - made.mean()) / made.std()

    leaky = network._replace(forecast=in_training_mode)
    made = check_network(leaky, params, panel, decisions=CUTS)
    assert made.verdict == "leak"
    assert made.finding("rows alone").verdict == "leak"
    assert "in_training_mode" in made.dependence.paths[0].source


def test_a_forecast_of_something_else_says_nothing(panel):
    copy = np.asarray(panel.characteristics[..., 0])
    made = check(lambda _: copy, panel, decisions=CUTS)
    assert made.finding("moves with the panel").verdict == "undetermined"
    assert made.verdict == "undetermined"


def test_refusals_are_no_verdict(panel):
    def refuses(panel):
        z = np.asarray(panel.characteristics[..., 0])
        if np.isnan(z).any() or z.shape != (48, 24):
            raise ValueError("this shape\nand no other")
        return z

    made = check(refuses, panel, decisions=CUTS)
    assert verdicts(made)["poisoned future (nan)"] == "not run"
    assert verdicts(made)["truncated at t"] == "not run"
    assert "ValueError: this shape)" in made.finding("truncated at t").detail
    assert made.passed


def test_who_refuses_everything_is_not_cleared(panel):
    clean = np.asarray(panel.characteristics)

    def picky(panel):
        if not np.array_equal(panel.characteristics, clean):
            raise ValueError("not these numbers")
        return clean[..., 0]

    made = check(picky, panel, decisions=CUTS)
    assert verdicts(made)["poisoned future (noise)"] == "not run"
    assert made.verdict == "undetermined" and not made.passed


def test_errors_say_what_to_do(panel):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="fix its seeds"):
        check(lambda panel: rng.normal(size=panel.universe.shape), panel)
    with pytest.raises(DataError, match=r"shape \(48,\), the panel \(48, 24\)"):
        check(lambda panel: np.asarray(panel.risk_free), panel)
    with pytest.raises(ConfigError, match="row 48 is not in the panel"):
        check(careful_mean, panel, decisions=(48,))
    with pytest.raises(ConfigError, match="none among 48 periods"):
        check(careful_mean, panel, decisions=())
    with pytest.raises(jax.errors.TracerArrayConversionError):
        check(trailing_frame, panel, decisions=(5,), traceable=True)
    short = panel._replace(macro=panel.macro[:-1])
    with pytest.raises(DataError, match="macro has shape"):
        check(careful_mean, short)


@pytest.mark.parametrize("kind", POISONS)
def test_poison_ruins_all_that_is_later_and_nothing_else(kind, panel):
    t = 20
    clean, dirty = field_arrays(panel), field_arrays(poisoned(panel, t, kind))
    assert set(clean) == {*KNOWN, *REALISED}
    for name, array in clean.items():
        start = t if name in REALISED else t + 1
        np.testing.assert_array_equal(array[:start], dirty[name][:start])
        if (array.dtype.kind == "f") == (kind != "masks"):
            assert (array[start:] != dirty[name][start:]).all()
        else:
            np.testing.assert_array_equal(array, dirty[name])
        assert array.dtype == dirty[name].dtype
    alone = field_arrays(poisoned(panel, t, kind, only="universe", until=t + 2))
    changed = [
        name
        for name in clean
        if not np.array_equal(
            clean[name], alone[name], equal_nan=clean[name].dtype.kind == "f"
        )
    ]
    assert changed == (["universe"] if kind == "masks" else [])


def test_truncated_panels_end_with_a_return_to_come(panel):
    seen = []

    def forecast(panel):
        seen.append(panel)
        return np.asarray(panel.characteristics[..., 0])

    truncation(forecast, panel, decisions=[7], clean=forecast(panel))
    short = seen[-1]
    assert short.universe.shape == (8, 24)
    assert not np.any(short.observed[7]) and not np.any(short.excess_returns[7])
    assert not np.any(short.managed.observed[7])
    np.testing.assert_array_equal(short.observed[:7], panel.observed[:7])


def test_dead_assets_are_dead(panel):
    seen = []

    def forecast(panel):
        seen.append(panel)
        return np.asarray(panel.characteristics[..., 0])

    added_rows(forecast, panel, clean=forecast(panel))
    more = seen[-1]
    assert more.universe.shape == (48, 27) and more.characteristics.shape == (48, 27, 4)
    assert not np.any(more.universe[:, 24:]) and not np.any(more.observed[:, 24:])
    assert len(np.unique(more.asset[:, 24:])) == 3
    assert more.macro.shape == panel.macro.shape
