"""Networks that forecast returns directly, against numpy and by what may move them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from conftest import CHARACTERISTICS, PERIODS, SLOTS, build_panel, scalars
from flax.traverse_util import flatten_dict, unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxfin.data.panel import make_panel
from jaxfin.errors import ConfigError
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import network_method
from jaxfin.fit.lanes import fitted_lanes, lane_grid, run_lanes
from jaxfin.fit.method import DIVERGED
from jaxfin.models import factor
from jaxfin.models.direct import PYRAMID, direct_network
from jaxfin.windows import rolling_windows, window_at

pytestmark = pytest.mark.usefixtures("x64")

TRAINING = np.arange(4, 24)
ROWS = np.array([2, -1, 7, 12, 10, 1, 30, 15, 22, 13])  # 10 has no return at all
EVERY = np.arange(PERIODS)
HYPER = {"l1": 0.3}
OPTIONS = {
    "nn1": {"depth": 1},
    "nn2-plain": {"depth": 2, "batch_norm": False, "l1_scale": 1.0},
    "nn3": {"depth": 3},
    "nn2-macro": {"depth": 2, "macro": True},
    "nn2-huber": {"depth": 2, "batch_norm": False, "huber": 0.8, "macro": True},
    "nn5": {"depth": 5},
}


@functools.cache
def compiled(name):
    """Network with each of its functions jitted once for all tests."""
    network = direct_network(**OPTIONS[name], dtype=jnp.float64)
    (phase,) = network.phases
    return network._replace(
        init=jax.jit(network.init),
        forecast=jax.jit(network.forecast),
        phases=(phase._replace(loss=jax.jit(phase.loss), score=jax.jit(phase.score)),),
    )


class Case:
    """A network with random weights and running moments on a panel."""

    def __init__(self, name, panel):
        self.options, self.panel = OPTIONS[name], panel
        self.network = compiled(name)
        (self.phase,) = self.network.phases
        self.inputs = self.network.prepare(panel)
        params = self.network.init(
            jax.random.key(0), self.inputs, jnp.asarray(TRAINING)
        )
        rng = np.random.default_rng(0)
        moments = [
            type(layer)(layer.mean + 0.3 * i + 0.1, layer.variance * (2 + i))
            for i, layer in enumerate(params["statistics"]["moments"])
        ]
        self.params = {
            "weights": jax.tree.map(
                lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape)),
                params["weights"],
            ),
            "statistics": {**params["statistics"], "moments": moments},
        }

    def loss(self, rows=ROWS, hyper=HYPER, weights=None):
        """Loss and statistics to carry on."""
        params = dict(self.params)
        if weights is not None:
            params["weights"] = weights
        rows, key = jnp.asarray(rows), jax.random.key(1)
        return self.phase.loss(params, key, self.inputs, rows, hyper)

    def score(self, rows=ROWS):
        padded = np.full(len(ROWS), -1)
        padded[: len(rows)] = rows
        return float(self.phase.score(self.params, self.inputs, jnp.asarray(padded)))

    def forecast(self, rows=EVERY):
        made = self.network.forecast(self.params, self.inputs, jnp.asarray(EVERY))
        return np.array(made)[rows]


def slow_predictors(case, row):
    """(N, P (1 + Q)) z of one row, from the panel."""
    panel = case.panel
    c = np.asarray(panel.characteristics[row])
    if not case.options.get("macro"):
        return c
    macro = np.asarray(panel.macro)
    mean, spread = macro[TRAINING].mean(axis=0), macro[TRAINING].std(axis=0)
    return oracles.interactions(c, (macro[row] - mean) / spread)


def slow_loss(case, rows, *, train):
    """Loss without noise and new running moments over the live cells of rows."""
    panel, scale = case.panel, slow_scale(case.panel)
    mask = np.asarray(panel.universe & panel.observed)
    rows = [row for row in rows if row >= 0]
    z = np.concatenate([slow_predictors(case, row)[mask[row]] for row in rows])
    r = np.concatenate(
        [np.asarray(panel.excess_returns[row])[mask[row]] for row in rows]
    )
    weights, moments = case.params["weights"], case.params["statistics"]["moments"]
    made, carried = oracles.multilayer(weights, z, moments, train=train)
    loss = oracles.huber(r / scale - made, case.options.get("huber")).mean()
    l1 = case.options.get("l1_scale", 100.0) * HYPER["l1"]
    penalty = l1 * oracles.mean_absolute_kernel(weights) if train else 0.0
    return loss + penalty, carried


def slow_scale(panel):
    mask = np.asarray(panel.universe & panel.observed)[TRAINING]
    return np.sqrt(np.mean(np.asarray(panel.excess_returns)[TRAINING][mask] ** 2))


@pytest.mark.parametrize("name", OPTIONS)
def test_loss_and_score_match_numpy(name, panel):
    one = Case(name, panel)
    value, statistics = one.loss()
    slow, moments = slow_loss(one, ROWS, train=True)
    np.testing.assert_allclose(value, slow, rtol=1e-11)
    np.testing.assert_allclose(one.score(), slow_loss(one, ROWS, train=False)[0])
    assert len(statistics["moments"]) == len(moments)
    for layer, by_hand in zip(statistics["moments"], moments, strict=True):
        np.testing.assert_allclose(layer.mean, by_hand[0], rtol=1e-11)
        np.testing.assert_allclose(layer.variance, by_hand[1], rtol=1e-11)
    assert value.dtype == statistics["return_scale"].dtype == jnp.float64


@pytest.mark.parametrize("name", OPTIONS)
def test_forecast_matches_numpy(name, panel):
    """Every asset of every row, the last one, whose return is not known yet, too."""
    one = Case(name, panel)
    made = one.forecast()
    assert made.shape == (PERIODS, SLOTS) and made.dtype == np.float64
    weights, moments = one.params["weights"], one.params["statistics"]["moments"]
    for row in (0, 10, 23, 36, PERIODS - 1):
        z = slow_predictors(one, row)
        slow, _ = oracles.multilayer(weights, z, moments, train=False)
        expected = slow_scale(panel) * slow
        np.testing.assert_allclose(made[row], expected, rtol=1e-10, atol=1e-13)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=25)
def test_loss_matches_numpy_whatever_is_live(seed):
    """Random universes, missing returns and rows; among them rows without a return."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        universe = rng.random((PERIODS, SLOTS)) < rng.uniform(0.1, 1)
        universe[:, 0] = True
        returns = rng.normal(0.01, 0.1, universe.shape)
        returns[~universe | (rng.random(universe.shape) < rng.uniform(0, 0.9))] = np.nan
        returns[TRAINING[0], 0] = 0.1
        panel = make_panel(
            rng.normal(size=(*universe.shape, CHARACTERISTICS)),
            returns,
            universe,
            macro=rng.normal(size=(PERIODS, 2)),
            dtype=np.float64,
        )
        rows = rng.integers(-1, PERIODS - 1, len(ROWS))
        rows[0] = TRAINING[0]
        for name in ("nn2-macro", "nn2-huber"):
            one = Case(name, panel)
            slow, _ = slow_loss(one, rows, train=True)
            np.testing.assert_allclose(one.loss(rows)[0], slow, rtol=1e-9)
            slow, _ = slow_loss(one, rows, train=False)
            np.testing.assert_allclose(one.score(rows), slow, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "observations"), [("nn2-macro", None), ("nn2-huber", 60)]
)
def test_gradient_matches_finite_differences(name, observations, panel, monkeypatch):
    """Without batch norm in blocks of two periods, the last one padded."""
    if observations is not None:
        monkeypatch.setattr(factor, "BLOCK_OBSERVATIONS", observations)
    one = Case(name, panel)
    one.phase = direct_network(**OPTIONS[name], dtype=jnp.float64).phases[0]

    def value(weights):
        return one.loss(weights=weights)[0]

    gradient = flatten_dict(jax.jit(jax.grad(value))(one.params["weights"]))
    value = jax.jit(value)
    flat = flatten_dict(one.params["weights"])
    rng = np.random.default_rng(8)
    for path, leaf in flat.items():
        along = rng.normal(size=leaf.shape)

        def at(step, path=path, along=along):
            moved = {**flat, path: flat[path] + step * along}
            return float(value(unflatten_dict(moved)))

        h = 1e-6
        numeric = 8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))
        exact = float(jnp.vdot(gradient[path], along))
        assert abs(exact) > 1e-7, path  # every weight matters
        np.testing.assert_allclose(
            exact, numeric / (12 * h), rtol=1e-5, atol=1e-8, err_msg=path
        )


def test_dropout_acts_in_the_loss_and_not_in_the_score(panel):
    one = Case("nn3", panel)

    def value(key, rate):
        hyper = {**HYPER, "dropout": jnp.asarray(rate)}
        rows = jnp.asarray(ROWS)
        return float(one.phase.loss(one.params, key, one.inputs, rows, hyper)[0])

    keys = jax.random.split(jax.random.key(0), 2)
    np.testing.assert_allclose(value(keys[0], 0.0), one.loss()[0], rtol=1e-12)
    assert value(keys[0], 0.3) != value(keys[1], 0.3)
    assert value(keys[0], 0.3) == value(keys[0], 0.3)


@pytest.mark.parametrize("depth", range(1, 6))
@pytest.mark.parametrize("macro", [False, True])
def test_layers_are_those_of_the_paper(depth, macro, panel):
    network = direct_network(depth, macro=macro, dtype=jnp.float32)

    def init(panel):
        inputs = network.prepare(panel)
        return network.init(jax.random.key(0), inputs, jnp.asarray(TRAINING))

    flat = flatten_dict(jax.eval_shape(init, panel)["weights"])
    width = CHARACTERISTICS * (3 if macro else 1)  # two macro series
    widths = (width, *(32, 16, 8, 4, 2)[:depth], 1)
    assert PYRAMID == (32, 16, 8, 4, 2)
    kernels = [leaf.shape for path, leaf in flat.items() if path[-1] == "kernel"]
    assert sorted(kernels) == sorted(zip(widths[:-1], widths[1:], strict=True))
    biases = [leaf.shape for path, leaf in flat.items() if path[-1] == "bias"]
    assert biases == [(1,)]  # of the output: batch norm takes others out again
    scales = [leaf.shape for path, leaf in flat.items() if path[-1] == "scale"]
    assert sorted(scales) == sorted((w,) for w in widths[1:-1])
    assert {leaf.dtype for leaf in flat.values()} == {jnp.dtype("float32")}
    assert network.lookback == 1 and network.contemporaneous is None


@pytest.mark.parametrize("name", ["nn1", "nn2-plain", "nn5"])
def test_zero_weights_score_one_and_the_bias_alone_is_a_mean(name, panel):
    """Units: mean squared error over the mean square of training returns."""
    one = Case(name, panel)
    zero = jax.tree.map(jnp.zeros_like, one.params["weights"])
    np.testing.assert_allclose(one.loss(TRAINING, weights=zero)[0], 1, rtol=1e-12)
    constant = {**zero, "output": {**zero["output"], "bias": jnp.asarray([0.25])}}
    one.params["weights"] = constant
    np.testing.assert_allclose(one.forecast(), 0.25 * slow_scale(panel), rtol=1e-12)


@pytest.mark.parametrize("name", ["nn3", "nn2-huber"])
def test_scale_of_returns_leaves_the_loss_and_scales_the_forecast(name, arrays, panel):
    scale = 37.0
    returns = {"excess_returns": scale * arrays["excess_returns"]}
    here, there = Case(name, panel), Case(name, build_panel({**arrays, **returns}))
    np.testing.assert_allclose(there.loss()[0], here.loss()[0], rtol=1e-9)
    np.testing.assert_allclose(there.forecast(), scale * here.forecast(), rtol=1e-9)


def test_units_of_macro_series_do_not_matter(arrays, panel):
    """Each is standardised over training rows; a constant one is left centred."""
    here = Case("nn2-macro", panel)
    there = Case("nn2-macro", build_panel({**arrays, "macro": 5 - 3 * arrays["macro"]}))
    flat = flatten_dict(here.params["weights"])
    first = np.array(flat["layers_0", "kernel"])
    first[CHARACTERISTICS:] *= -1
    flat["layers_0", "kernel"] = jnp.asarray(first)
    there.params["weights"] = unflatten_dict(flat)
    np.testing.assert_allclose(there.forecast(), here.forecast(), rtol=1e-9)
    constant = np.array(arrays["macro"])
    constant[:, 1] = 0.7
    level = Case("nn2-macro", build_panel({**arrays, "macro": constant}))
    assert level.params["statistics"]["macro_scale"][1] == 1
    assert np.isfinite(level.loss()[0]) and np.isfinite(level.forecast()).all()


@pytest.mark.parametrize("name", ["nn2-macro", "nn2-huber", "nn5"])
def test_nothing_known_later_moves_a_forecast_or_a_parameter(name, panel):
    """Law 1 for this network: NaN and flipped masks in all that t does not know."""
    clean = Case(name, panel)

    def ruined(field, start):
        array = getattr(panel, field)
        later = (EVERY >= start).reshape(-1, *[1] * (array.ndim - 1))
        return array ^ later if array.dtype == bool else jnp.where(later, np.nan, array)

    def poisoned(t):
        known = {f: ruined(f, t + 1) for f in ("characteristics", "universe", "macro")}
        after = {f: ruined(f, t) for f in ("excess_returns", "observed")}
        return Case(name, panel._replace(**known, **after))

    for t in (24, 36, PERIODS - 1):
        dirty = poisoned(t)  # fitted on rows below 24
        for one, other in zip(
            jax.tree.leaves(clean.params), jax.tree.leaves(dirty.params), strict=True
        ):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        past = TRAINING[:10]
        assert clean.loss(past)[0] == dirty.loss(past)[0]
        made = dirty.forecast()
        assert made[: t + 1].tobytes() == clean.forecast()[: t + 1].tobytes()
        assert np.isnan(made[t + 1 :]).all()
    # What it does know moves it: its own characteristics, the returns it is fitted on.
    assert not np.array_equal(
        poisoned(23).params["statistics"]["return_scale"],
        clean.params["statistics"]["return_scale"],
    )


@pytest.mark.parametrize("name", ["nn2-plain", "nn3"])
def test_missing_returns_are_never_read(name, panel):
    """NaN where nothing was observed reaches no loss, no slope and no moment."""
    mask = panel.universe & panel.observed
    ruined = panel._replace(
        excess_returns=jnp.where(mask, panel.excess_returns, jnp.nan)
    )
    assert np.isnan(ruined.excess_returns[TRAINING]).any()
    results = []
    for one in (Case(name, panel), Case(name, ruined)):
        slope = jax.jit(
            jax.grad(lambda w, one=one: one.loss(TRAINING, weights=w), has_aux=True)
        )(one.params["weights"])
        results.append(jax.tree.leaves((slope, one.params, one.forecast())))
    for a, b in zip(*results, strict=True):
        assert np.isfinite(b).all()
        np.testing.assert_array_equal(a, b)


def test_batch_norm_reads_live_training_cells_only(panel):
    """Characteristics of a cell that does not count move no moment and no loss."""
    mask = np.asarray(panel.universe & panel.observed)
    junk = jnp.where(mask[..., None], panel.characteristics, 50.0)
    clean = Case("nn3", panel)
    dirty = Case("nn3", panel._replace(characteristics=junk))
    for one, other in zip(
        jax.tree.leaves(clean.loss()), jax.tree.leaves(dirty.loss()), strict=True
    ):
        np.testing.assert_allclose(other, one, rtol=1e-12)
    # Scores and forecasts leave the moments alone and a row does not see the others.
    count = mask.sum(axis=1)
    rows = ROWS[(ROWS >= 0) & (count[ROWS] > 0)]
    single = [clean.score(np.array([row])) for row in rows]
    np.testing.assert_allclose(
        clean.score(rows), np.average(single, weights=count[rows]), rtol=1e-12
    )
    assert count[10] == 0 and np.isnan(clean.score(np.array([10])))
    some = clean.network.forecast(clean.params, clean.inputs, jnp.asarray([30, 7]))
    np.testing.assert_allclose(some, clean.forecast([30, 7]), rtol=1e-12)


@pytest.mark.parametrize("name", ["nn3", "nn2-huber"])
def test_slots_are_labels(name, arrays, panel):
    """Permuting slots permutes forecasts; empty slots full of junk change nothing."""
    one = Case(name, panel)
    order = np.random.default_rng(2).permutation(SLOTS)
    by_slot = {k: v for k, v in arrays.items() if v.shape[1:2] == (SLOTS,)}
    moved = {k: v[:, order] for k, v in by_slot.items()}
    permuted = Case(name, build_panel({**arrays, **moved}))
    np.testing.assert_allclose(permuted.forecast(), one.forecast()[:, order], rtol=1e-9)
    np.testing.assert_allclose(permuted.loss()[0], one.loss()[0], rtol=1e-9)
    where = [0, 7, SLOTS]
    empty = {"universe": False, "asset": -1, "excess_returns": np.nan, "size": 1e6}
    empty |= {"characteristics": 7.0, "industry": True}
    wider = {k: np.insert(v, where, empty[k], axis=1) for k, v in by_slot.items()}
    widened = Case(name, build_panel({**arrays, **wider}))
    kept = np.insert(np.ones(SLOTS, bool), where, False)
    np.testing.assert_allclose(widened.forecast()[:, kept], one.forecast(), rtol=1e-9)
    np.testing.assert_allclose(widened.loss()[0], one.loss()[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "model.depth=0: NN1 to NN5 have depth 1 to 5"),
        ({"depth": 6}, "model.depth=6"),
        ({"depth": True}, "model.depth=True"),
        ({"huber": 0.0}, "model.huber=0.0: must be positive"),
        ({"huber": -1.0}, "model.huber=-1.0"),
        ({"huber": float("nan")}, "model.huber=nan"),
        ({"huber": float("inf")}, "model.huber=inf"),
    ],
)
def test_out_of_range_is_an_error_that_names_it(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        direct_network(**options)
    assert "\n" not in str(caught.value)


def test_interactions_need_a_macro_series(arrays, panel):
    bare = build_panel({**arrays, "macro": None})
    with pytest.raises(ConfigError, match=r"model\.macro=true needs macro series"):
        direct_network(macro=True).check(bare)
    direct_network(macro=True).check(panel)
    direct_network().check(bare)


def signal(seed=0, periods=72, slots=40):
    """r = .06 c_1 + .06 c_2 x + noise, a panel of the shipped precision."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(size=(periods, slots, 3))
    ranks = raw.argsort(axis=1).argsort(axis=1)
    c = 2 * (ranks + 1) / (slots + 1) - 1
    x = rng.normal(size=(periods, 1))
    expected = 0.06 * c[..., 0] + 0.06 * c[..., 1] * x
    returns = expected + rng.normal(0, 0.1, expected.shape)
    universe = rng.random(expected.shape) < 0.9
    returns[~universe | (rng.random(expected.shape) < 0.05)] = np.nan
    returns[-1] = np.nan
    return make_panel(raw, returns, universe, macro=x), expected


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"batch_norm": False, "huber": 4.0}])
def test_a_fit_learns_a_signal_that_interacts_with_the_macro_state(options):
    """Out of sample it beats zero and comes near the truth; without macro it cannot."""
    with jax.enable_x64(False):
        panel, expected = signal()
        windows = rolling_windows(72, train=40, valid=12, test=20)
        config = FitConfig(
            seeds=2, l1=(0.001,), max_epochs=60, batch_periods=10, chunk_epochs=20
        )
        mask = np.asarray(panel.universe & panel.observed)[52:72]
        returns = np.asarray(panel.excess_returns)[52:72]

        def r2(forecast):
            error = np.where(mask, returns - forecast, 0)
            return 1 - np.sum(error**2) / np.sum(np.where(mask, returns, 0) ** 2)

        scores = []
        for macro in (True, False):
            network = direct_network(1, macro=macro, **options)
            grid = lane_grid(config)
            *_, last = run_lanes(
                network, panel, windows, grid, config, key=jax.random.key(0)
            )
            assert (last.status != DIVERGED).all()
            fitted = fitted_lanes(network, panel, windows, config, last.state)
            method = network_method(network, config, train_length=40, valid_length=12)
            rows = jnp.arange(52, 72)
            made = [
                method.forecast(
                    jax.tree.map(lambda leaf, s=s: leaf[0, s], fitted), panel, rows
                )
                for s in range(2)
            ]
            assert made[0].dtype == jnp.float32
            scores.append(r2(np.mean(made, axis=0)))
        truth = r2(expected[52:72])
        assert 0.6 * truth < scores[0] < truth + 0.02
        assert 0 < scores[1] < 0.6 * truth


def test_a_lane_equals_the_fit_alone(panel, windows):
    """Two learning rates and two seeds together, five epochs of four batches."""
    config = FitConfig(
        seeds=2,
        learning_rate=(0.01, 0.003),
        l1=(0.0001,),
        max_epochs=5,
        patience=5,
        batch_periods=5,
        chunk_epochs=5,
    )
    network = direct_network(2, macro=True, dtype=np.float64)
    grid = lane_grid(config, np.float64)
    *_, last = run_lanes(network, panel, windows, grid, config, key=jax.random.key(7))
    together = fitted_lanes(network, panel, windows, config, last.state)
    method = network_method(network, config, train_length=20, valid_length=8)
    fit = jax.jit(method.fit)
    for lane in range(grid.lanes):
        hyper = {name: values[lane] for name, values in grid.hypers.items()}
        window = scalars(window_at(windows, 1))
        alone = fit(jax.random.key(7), panel, window, hyper)
        for one, other in zip(
            jax.tree.leaves(together), jax.tree.leaves(alone), strict=True
        ):
            np.testing.assert_allclose(one[1, lane], other, rtol=1e-9, atol=1e-9)
