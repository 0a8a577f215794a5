"""The laws for models that are fitted in one piece, see `jaxfin.fit.estimator`.

Law 1 goes through fit and forecast together: a host method leaves its forecasts behind,
so that what it made for row t is compared after all that is known only later is ruined.
"""

import inspect
from typing import Any, Literal, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import METHODS, SLOTS, build_panel, scalars
from estimator_table import ESTIMATORS, lanes_of
from test_law1_poison import POISONS, assert_same_bits, poisoned_arrays, poisoned_device
from test_law3_relabel import permuted, with_empty_slots

from jaxfin.fit.method import DIVERGED, Method
from jaxfin.methods.catalog import CATALOG
from jaxfin.windows import window_at


@pytest.fixture(params=ESTIMATORS)
def row(request):
    return ESTIMATORS[request.param]


_compiled: dict[Any, Method] = {}  # of a row and a precision, for panels of any shape


def method_of(row, lanes):
    """What a study of these lanes runs, jitted once where it is no host's."""
    if lanes.estimator.host_fit is not None:
        return lanes.method
    key = id(row), jnp.result_type(float)
    if key not in _compiled:
        functions = lanes.method._replace(explanation=None)
        _compiled[key] = Method(*(each and jax.jit(each) for each in functions))
    return _compiled[key]


def outcome(row, panel, window=1):
    """Diagnostics, forecasts and contemporaneous fits of every lane of one window."""
    lanes = lanes_of(row, panel)
    split = scalars(window_at(lanes.windows, window))
    rows = jnp.arange(int(split.test_start), int(split.test_stop))
    method = method_of(row, lanes)
    infos, forecasts, fits = [], [], []
    for lane in range(lanes.grid.lanes):
        hyper = {name: values[lane] for name, values in lanes.grid.hypers.items()}
        fitted = method.fit(jax.random.key(3), panel, split, hyper)
        infos.append(fitted.info)
        forecasts.append(np.asarray(method.forecast(fitted, panel, rows)))
        if method.contemporaneous is not None:
            betas, factors = method.contemporaneous(fitted, panel, rows)
            fits.append(np.einsum("tnk,tk->tn", betas, factors))
    return infos, np.stack(forecasts), np.stack(fits) if fits else None


def test_every_catalog_name_has_a_row_in_one_of_the_tables():
    networks = {row.model for row in METHODS.values()}
    estimators = {row.model for row in ESTIMATORS.values()}
    assert not networks & estimators
    assert networks | estimators == set(CATALOG)


def test_every_option_value_that_changes_a_model_has_a_row():
    """Models of one factory share its options: one row of any of them will do.

    So do the network of the market and that of a stock, and the kinds of network that
    `lstm_multi` has too.
    """

    def factory(model):
        build = CATALOG["lstm_capm" if model == "lstm_stock" else model].build
        return getattr(build, "func", build)

    options = {
        (factory(row.model), key, repr(value))
        for row in (*METHODS.values(), *ESTIMATORS.values())
        for key, value in row.options.items()
    }
    # An exhibit breaks the laws: what the audit makes of it is in audit/verdicts.md.
    options.add((factory("seqlat"), "variant", "'literal'"))
    depths = {(factory("cae"), "depth", repr(depth)) for depth in range(4)}
    assert depths <= options
    for model, entry in CATALOG.items():
        keywords = inspect.signature(factory(model)).parameters
        for name, hint in entry.options.items():
            if get_origin(hint) is Literal or hint is bool:
                values = {True, False} if hint is bool else {*get_args(hint)}
                shared = model == "lstm_multi" and name == "kind"
                for value in values - {keywords[name].default}:
                    own = factory("lstm_capm" if shared else model)
                    row = (own, name, repr(value))
                    assert row in options, f"{model}: {name}={value}"


def test_what_is_known_later_moves_nothing(row, arrays, panel, x64):
    infos, forecasts, fits = outcome(row, panel)
    assert np.isfinite(forecasts[:, np.asarray(panel.universe)[34:40]]).all()
    for kind in POISONS:
        for t in (34, 36, 39):
            ruined = (
                build_panel(poisoned_arrays(arrays, t))
                if kind == "rebuilt"
                else poisoned_device(panel, t)
            )
            dirty_infos, dirty, dirty_fits = outcome(row, ruined)
            assert_same_bits(infos, dirty_infos)
            live = np.asarray(panel.universe)[34 : t + 1]
            known = t + 1 - 34
            assert_same_bits(forecasts[:, :known][:, live], dirty[:, :known][:, live])
            if fits is not None:  # row t - 1 was realised at t
                live, known = live[:-1], known - 1
                assert_same_bits(
                    fits[:, :known][:, live], dirty_fits[:, :known][:, live]
                )


def test_the_last_return_a_fit_may_see_moves_it(row, arrays, panel, x64):
    """Or the test before could not fail."""
    infos, forecasts, _ = outcome(row, panel)
    moved = build_panel(poisoned_arrays(arrays, 33))
    dirty_infos, dirty, _ = outcome(row, moved)
    assert not np.array_equal(infos[0].best_score, dirty_infos[0].best_score)


def test_lanes_of_a_study_equal_each_alone(row, panel, x64):
    lanes = lanes_of(row, panel)
    *_, last = lanes.run(jax.random.key(3))
    assert (last.status != DIVERGED).all()
    fitted = lanes.fitted(last.state)
    scores = np.asarray(fitted.info.best_score)
    infos, forecasts, _ = outcome(row, panel, window=1)
    if lanes.grid.lanes > 1:
        assert len(np.unique(scores[1])) == lanes.grid.lanes
    rows = jnp.arange(34, 40)
    for lane, info in enumerate(infos):
        assert scores[1, lane] == pytest.approx(float(info.best_score), rel=1e-6)
        one = jax.tree.map(lambda leaf, lane=lane: leaf[1, lane], fitted)
        made = method_of(row, lanes).forecast(one, panel, rows)
        # What is kept is float32.
        np.testing.assert_allclose(made, forecasts[lane], rtol=1e-4, atol=1e-6)


def test_a_killed_run_goes_on_to_the_same_bits(row, panel32):
    lanes = lanes_of(row, panel32)
    key = jax.random.key(3)
    states = []
    for update in lanes.run(key):
        states.append(jax.tree.map(np.array, update.state))
    assert len(states) == 4
    like = lanes.empty()
    jax.tree.map(lambda a, b: np.testing.assert_(a.dtype == b.dtype), like, states[0])
    resumed = list(lanes.run(key, jax.tree.map(jnp.asarray, states[1])))
    assert len(resumed) == 2
    assert_same_bits(resumed[-1].state, states[-1])
    assert list(lanes.run(key, states[-1])) == []


def test_slots_are_labels(row, arrays, panel, x64):
    _, forecasts, fits = outcome(row, panel)
    order = np.random.default_rng(2).permutation(SLOTS)
    wider, kept = with_empty_slots(arrays)
    live = np.asarray(panel.universe)[34:40]
    for changed, back in (
        (build_panel(permuted(arrays, order)), np.argsort(order)),
        (build_panel(wider), np.flatnonzero(kept)),
    ):
        _, moved, moved_fits = outcome(row, changed)
        for one, other in ((forecasts, moved), (fits, moved_fits)):
            if one is not None:
                np.testing.assert_allclose(
                    other[..., back][:, live], one[:, live], rtol=1e-7, atol=1e-9
                )
