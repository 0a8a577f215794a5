"""NNAR against numpy, statsmodels and scikit-learn, and R's BFGS in plain loops."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from market_panels import (
    assert_blind,
    assert_carried,
    labels_of,
    lanes_of,
    market_panel,
    outcome,
)
from sklearn.neural_network import MLPRegressor
from statsmodels.regression.linear_model import yule_walker

from jaxfin.errors import ConfigError
from jaxfin.fit.method import DIVERGED, EXHAUSTED, Fitted
from jaxfin.methods.nnar import nnar_capm
from jaxfin.methods.nnar_nets import (
    fitted_nets,
    hidden_units,
    largest_order,
    market_forecast,
    yule_walker_order,
)
from jaxfin.methods.quasi_newton import minimise

pytestmark = pytest.mark.usefixtures("x64")
SMALL = {"nets": 3, "max_steps": 8, "window": 12}
fit_nets = jax.jit(
    fitted_nets, static_argnames=("lags", "most", "units", "nets", "max_steps")
)


def vmmin(objective, start, max_steps, absolute, relative):
    """R's variable metric method, one problem, with its matrix."""
    b, n = start.copy(), len(start)
    lowest, g = objective(b)
    steps = count = last = 1
    matrix = np.eye(n)
    while True:
        if last == count:
            matrix = np.eye(n)
        old, old_g = b.copy(), g.copy()
        t = -matrix @ g
        slope, same = t @ g, False
        if slope < 0:
            length, accepted = 1.0, False
            while not (same or accepted):
                b = old + length * t
                same = bool(np.all(10 + old == 10 + b))
                if not same:
                    value, new_g = objective(b)
                    accepted = value <= lowest + slope * length * 1e-4
                    length *= 1 if accepted else 0.2
            fall = abs(value - lowest)
            helped = value > absolute and fall > relative * (abs(lowest) + relative)
            lowest = value if accepted else lowest
            if helped and not same:
                g, count, steps = new_g, count + 1, steps + 1
                t, c = length * t, g - old_g
                d1 = t @ c
                if d1 > 0:
                    x = matrix @ c
                    d2 = 1 + x @ c / d1
                    terms = d2 * np.outer(t, t) - np.outer(t, x) - np.outer(x, t)
                    matrix = matrix + terms / d1
                else:
                    last = count
            elif last == count:
                break
            else:
                last = count
        elif last == count:
            break
        else:
            last = count
        if steps >= max_steps:
            break
        if count - last > 2 * n:
            last = count
    return b, lowest, steps


def rosenbrock(x):
    return 1 + jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@pytest.mark.parametrize("max_steps", [2, 25, 300])
def test_bfgs_is_that_of_r(max_steps):
    starts = np.random.default_rng(0).normal(size=(5, 4))
    slopes = jax.jit(jax.value_and_grad(rosenbrock))
    made = minimise(
        jax.vmap(jax.value_and_grad(rosenbrock)),
        jnp.asarray(starts),
        sizes=jnp.full(5, 4),
        max_steps=max_steps,
    )
    for s, start in enumerate(starts):
        point, value, steps = vmmin(
            lambda x: tuple(map(np.asarray, slopes(x))), start, max_steps, 1e-4, 1e-8
        )
        assert int(made.steps[s]) == steps
        assert bool(made.converged[s]) == (steps < max_steps)
        np.testing.assert_allclose(made.value[s], value, rtol=1e-5)
        # Rounding grows on the way: by as much as the valley is flat.
        np.testing.assert_allclose(made.point[s], point, rtol=1e-3)


def test_bfgs_ends_where_there_is_no_number():
    made = minimise(
        jax.vmap(jax.value_and_grad(lambda x: jnp.sum(jnp.sqrt(x)))),
        jnp.array([[-1.0], [jnp.nan], [4.0]]),
        sizes=jnp.ones(3),
        max_steps=9,
    )
    assert np.isnan(made.value[:2]).all() and np.isfinite(made.value[2])
    assert not made.converged[:2].any()


def series(n, seed=0, ar=(0.5, 0, -0.3)):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n + 50)
    for t in range(3, n + 50):
        x[t] += sum(a * x[t - 1 - i] for i, a in enumerate(ar))
    return 0.01 + 0.02 * x[50:]


@pytest.mark.parametrize("n", [12, 60, 400])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_order_is_that_of_yule_walker_and_aic(n, seed):
    values = series(n, seed)
    most = min(n - 1, int(10 * np.log10(n)))
    assert largest_order(n) == most
    criteria = []
    for order in range(most + 1):
        variance = np.var(values)
        if order:
            with warnings.catch_warnings():  # of what it will return one day
                warnings.simplefilter("ignore", FutureWarning)
                _, sigma = yule_walker(values.copy(), order, method="mle")
            variance = sigma**2
        criteria.append(n * np.log(variance) + 2 * order)
    padded = jnp.asarray(np.r_[values, np.full(30, np.nan)])
    for longest in (most, most + 6):
        made = yule_walker_order(padded, jnp.asarray(n), longest)
        assert int(made) == int(np.argmin(criteria))


def test_sizes_are_those_of_r():
    assert [largest_order(n) for n in (1, 2, 10, 100, 999, 1000, 2520)] == [
        1, 1, 9, 20, 29, 30, 34,
    ]  # fmt: skip
    # round(1), round(1.5), round(2), round(2.5), .. and protocols' round(8)
    assert [hidden_units(p) for p in (1, 2, 3, 4, 5, 6, 15)] == [1, 2, 2, 2, 3, 4, 8]


def passes(nets, past):
    """Forward passes of every network in numpy, (M, p) past values, lag 1 first."""
    hidden, output = np.asarray(nets.hidden), np.asarray(nets.output)
    lags = past.shape[1]
    total = 0
    for s in range(len(hidden)):
        inside = past @ hidden[s, :, 1 : 1 + lags].T + hidden[s, :, 0]
        total = total + 1 / (1 + np.exp(-inside)) @ output[s, 1:] + output[s, 0]
    return total / len(hidden)


def fit_of(values, *, lags=None, most=None, nets=4, max_steps=100):
    most = most or lags or largest_order(len(values))
    return fit_nets(
        jax.random.key(1),
        jnp.asarray(values),
        jnp.asarray(len(values)),
        lags=lags,
        most=most,
        units=hidden_units(most),
        nets=nets,
        max_steps=max_steps,
    )


def design(values, p):
    """Standardised lags and targets, within the values."""
    x = (values - values.mean()) / values.std(ddof=1)
    past = np.stack([x[p - lag : len(x) - lag] for lag in range(1, p + 1)], axis=1)
    return past, x[p:]


def test_lags_chosen_and_lags_given_are_the_same_networks():
    """What is not in use changes nothing: one program serves every order."""
    values = series(150)
    chosen, steps, _ = fit_of(values, max_steps=12)
    p = int(chosen.lags)
    k = hidden_units(p)
    given, given_steps, _ = fit_of(values, lags=p, max_steps=12)
    assert 1 < p < largest_order(150) and steps == given_steps == 12
    np.testing.assert_allclose(
        chosen.hidden[:, :k, : p + 1], given.hidden, rtol=1e-6, atol=1e-9
    )
    np.testing.assert_allclose(chosen.output[:, : k + 1], given.output, rtol=1e-6)
    assert not chosen.hidden[:, k:].any() and not chosen.hidden[:, :, p + 1 :].any()


def test_training_is_bfgs_of_r_on_the_sum_of_squares():
    values = series(80)
    past, target = design(values, 3)

    def error(weights):
        hidden, output = weights[:8].reshape(2, 4), weights[8:]
        inside = past @ hidden[:, 1:].T + hidden[:, 0]
        made = output[0] + jax.nn.sigmoid(inside) @ output[1:]
        return jnp.sum((made - target) ** 2)

    slopes = jax.jit(jax.value_and_grad(error))
    begin, _, _ = fit_of(values, lags=3, max_steps=1)
    assert np.abs(begin.hidden).max() <= 0.7 and np.ptp(np.asarray(begin.hidden)) > 1
    made, _, converged = fit_of(values, lags=3, max_steps=15)
    for s in range(4):
        start = np.r_[np.ravel(begin.hidden[s]), begin.output[s]]
        point, _, _ = vmmin(
            lambda x: tuple(map(np.asarray, slopes(x))), start, 15, 1e-4, 1e-8
        )
        np.testing.assert_allclose(
            np.r_[np.ravel(made.hidden[s]), made.output[s]], point, rtol=1e-5, atol=1e-7
        )
    assert not converged


def test_training_gets_as_far_as_scikit_learn():
    """The stand-in of nnet; weights differ, what they explain does not by much."""
    values = series(600)
    past, target = design(values, 3)
    made, _, _ = fit_of(values, lags=3, nets=10)
    mine = passes(made, past)
    others = []
    for seed in range(10):
        net = MLPRegressor(
            hidden_layer_sizes=(2,),
            activation="logistic",
            solver="lbfgs",
            alpha=0,
            max_iter=2000,
            random_state=seed,
        )
        others.append(net.fit(past, target).predict(past))
    theirs = np.mean(others, axis=0)
    error, other = (np.mean((fit - target) ** 2) for fit in (mine, theirs))
    assert error == pytest.approx(other, rel=0.02)
    assert np.corrcoef(mine, theirs)[0, 1] > 0.97


@pytest.mark.parametrize("horizon", [1, 3])
def test_forecasts_are_forward_passes_fed_back(horizon):
    values = series(90)
    nets, _, _ = fit_of(values[:60], lags=3, max_steps=10)
    rows = np.arange(55, 90)
    both = jax.tree.map(lambda leaf: leaf[None], nets)
    made = market_forecast(
        both, jnp.asarray(values)[:, None], jnp.asarray(rows), horizon
    )
    mean, scale = values[:60].mean(), values[:60].std(ddof=1)
    x = (values - mean) / scale
    for place, t in enumerate(rows):
        past = list(x[: t - horizon + 1])
        for _ in range(horizon):
            past.append(passes(nets, np.array([past[:-4:-1]]))[0])
        wanted = mean + scale * past[-1]
        assert float(made[place, 0]) == pytest.approx(wanted, rel=1e-9)
    early = market_forecast(both, jnp.asarray(values)[:, None], jnp.arange(6), horizon)
    assert np.isnan(early[:, 0]).tolist() == [t - horizon < 2 for t in range(6)]


@pytest.mark.parametrize(("horizon", "factors"), [(1, 1), (3, 2)])
def test_the_estimator_trains_on_training_rows_and_carries(horizon, factors):
    panel = market_panel()
    estimator = nnar_capm(**SMALL, horizon=horizon, observed=factors)
    info, made, market = outcome(estimator, panel)
    assert info.status == EXHAUSTED and int(info.epochs) == 8
    assert_carried(panel, made, market, window=12, horizon=horizon)
    # Nothing before or after the training rows 6 to 25 reaches the weights.
    outside = (np.arange(48) < 6) | (np.arange(48) >= 26)
    other = panel._replace(
        factors=jnp.where(outside[:, None], -panel.factors, panel.factors)
    )
    lanes = lanes_of(estimator, panel)
    method, split = (
        lanes.method,
        jax.tree.map(lambda x: jnp.asarray(x[1]), lanes.windows),
    )
    first, second = (
        jax.jit(method.fit)(jax.random.key(3), each, split, {"seed": 0}).params
        for each in (panel, other)
    )
    jax.tree.map(np.testing.assert_array_equal, first, second)
    values = np.asarray(panel.factors)[:, :factors]
    np.testing.assert_allclose(first["mean"], values[6:26].mean(axis=0))
    np.testing.assert_allclose(first["scale"], values[6:26].std(axis=0, ddof=1))
    rows = jnp.arange(26, 34)
    valid = method.factor_forecast(Fitted(first, None), panel, rows)
    error = ((values[26:34] - np.asarray(valid)) ** 2).mean(axis=0)
    score = np.mean(error / (values[6:26] ** 2).mean(axis=0))
    assert float(info.best_score) == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize("horizon", [1, 3])
def test_nothing_later_moves_a_bit(horizon):
    assert_blind(nnar_capm(**SMALL, horizon=horizon, observed=2), horizon)


def test_windows_share_a_program_and_seeds_are_not_lanes():
    """It averages networks already."""
    lanes = lanes_of(nnar_capm(**SMALL), market_panel(dtype=np.float32), seeds=2)
    *_, last = lanes.run(jax.random.key(3))
    scores = np.asarray(last.state.info.best_score)
    assert last.compilations == 1 and len(np.unique(scores)) == scores.size == 4
    alone = outcome(nnar_capm(**SMALL), market_panel(dtype=np.float32), seeds=2)
    assert float(alone[0].best_score) == pytest.approx(float(scores[1, 0]), rel=1e-6)


def test_what_cannot_be_trained_has_no_forecast():
    panel = market_panel(factors=1)
    flat = panel._replace(factors=0 * panel.factors + 0.01)
    for estimator, data in (
        (nnar_capm(**SMALL), flat),
        (nnar_capm(**SMALL, lags=19), panel),
    ):
        info, _, market = outcome(estimator, data)
        assert info.status == DIVERGED and np.isnan(market).all()


def test_settings_out_of_range_are_refused():
    panel = market_panel()
    for name in ("lags", "nets", "max_steps"):
        with pytest.raises(ConfigError, match=f"model.{name}=0"):
            nnar_capm(**{name: 0})
    with pytest.raises(ConfigError, match="model.observed=3"):
        nnar_capm(observed=3).examine(panel, labels_of(panel))
    with pytest.raises(ConfigError, match="model.lags=47.*46 or fewer"):
        nnar_capm(lags=47).examine(panel, labels_of(panel))
    assert "p by AIC" in nnar_capm().examine(panel, labels_of(panel))[0]
    assert "p = 4" in nnar_capm(lags=4).examine(panel, labels_of(panel))[0]
