"""Simulated designs: their construction, their truth, and what the truth scores."""

import numpy as np
import pytest

from jaxfin.data.oracle import oracle_r2
from jaxfin.data.panel import fingerprint
from jaxfin.data.simulate import simulate
from jaxfin.errors import ConfigError

BALANCED = {"exit_rate": 0, "missing": 0}


@pytest.fixture(scope="module", params=["gkx2021a", "gkx2021b", "gkx2021null"])
def unbalanced(request):
    return simulate(
        request.param,
        seed=4,
        assets=60,
        periods=150,
        characteristics=4,
        exit_rate=0.03,
        vacancy=3,
        missing=0.05,
    )


def design_betas(name, c):
    """The published betas, written asset by asset."""
    betas = np.zeros((*c.shape[:2], 3))
    for t, n in np.ndindex(c.shape[:2]):
        c1, c2, c3 = c[t, n, :3]
        if "gkx2021b" in name:
            betas[t, n] = c1**2, 2 * c1 * c2, 0.6 * np.sign(c3)
        else:
            betas[t, n] = 1.2 * c1, c2, 0.8 * c3
    return betas


def test_truth_is_the_published_function_of_the_ranks_in_the_panel(unbalanced):
    panel, truth = unbalanced.panel, unbalanced.truth
    betas = design_betas(unbalanced.name, np.asarray(panel.characteristics, float))
    np.testing.assert_allclose(truth.betas, betas, atol=1e-6)
    mean = 0.0 if "gkx2021null" in unbalanced.name else 0.03
    np.testing.assert_allclose(
        truth.expected, (truth.betas * mean).sum(axis=-1), atol=1e-15
    )
    systematic = (truth.betas * truth.factors[:, None, :]).sum(axis=-1)
    np.testing.assert_allclose(truth.systematic, systematic, atol=1e-15)
    assert truth.factors.shape == (151, 3)
    assert {array.dtype for array in truth[:4]} == {np.dtype("float64")}
    assert truth.filtered is None
    outside = ~np.asarray(panel.universe)
    assert (truth.betas[outside] == 0).all() and (truth.expected[outside] == 0).all()


def test_characteristics_are_ranks_over_the_live_universe(unbalanced):
    universe = np.asarray(unbalanced.panel.universe)
    scaled = np.asarray(unbalanced.panel.characteristics)
    for t in (0, 70, 150):
        live = universe[t].sum()
        expected = 2 * np.arange(1, live + 1) / (live + 1) - 1
        for p in range(4):
            ranks = np.sort(scaled[t, universe[t], p])
            np.testing.assert_allclose(ranks, expected, atol=1e-6)


def test_slots_are_reused_by_new_assets_and_ids_never_come_back(unbalanced):
    asset, universe = (np.asarray(x) for x in unbalanced.panel[4:1:-2])
    np.testing.assert_array_equal(asset >= 0, universe)
    ids = np.unique(asset[universe])
    np.testing.assert_array_equal(ids, np.arange(len(unbalanced.labels.assets)))
    for identifier in ids:
        rows, slots = np.nonzero(asset == identifier)
        assert len(set(slots)) == 1
        np.testing.assert_array_equal(rows, np.arange(rows[0], rows[-1] + 1))
    handed_over = (asset[1:] != asset[:-1]) & universe[1:] & universe[:-1]
    assert handed_over.any(), "no slot passes straight from one asset to the next"
    assert (~universe).any(axis=0).any(), "no slot is ever empty"


def test_a_newcomer_does_not_inherit_the_path_of_its_slot():
    panel = simulate(
        "gkx2021a", assets=80, periods=200, characteristics=3, exit_rate=0.1, vacancy=0
    ).panel
    c, asset = np.asarray(panel.characteristics), np.asarray(panel.asset)
    same = asset[1:] == asset[:-1]

    def correlation(where):
        return np.corrcoef(c[1:][where].ravel(), c[:-1][where].ravel())[0, 1]

    assert correlation(same) > 0.9
    assert abs(correlation(~same)) < 4 / np.sqrt(3 * (~same).sum())


def test_rates_of_leaving_and_missing_are_as_asked(unbalanced):
    asset, universe = (np.asarray(x) for x in unbalanced.panel[4:1:-2])
    at_risk = universe[:-1].sum()
    leaves = ((asset[1:] != asset[:-1]) & universe[:-1]).sum()
    assert abs(leaves / at_risk - 0.03) < 4 * np.sqrt(0.03 * 0.97 / at_risk)
    observed = np.asarray(unbalanced.panel.observed)
    missing = 1 - observed[:-1][universe[:-1]].mean()
    assert abs(missing - 0.05) < 4 * np.sqrt(0.05 * 0.95 / at_risk)
    assert not (observed & ~universe).any()


def test_sample_starts_in_the_steady_state():
    """1 / (1 + exit_rate * vacancy) of the slots are live from the first row on."""
    slots = 4000
    panel = simulate(
        "gkx2021a",
        assets=slots,
        periods=12,
        characteristics=3,
        exit_rate=0.2,
        vacancy=5,
    ).panel
    share = np.asarray(panel.universe).mean(axis=1)
    assert (np.abs(share - 0.5) < 4 * np.sqrt(0.25 / slots)).all()


def test_leaving_earns_a_last_return(unbalanced):
    asset, universe = (np.asarray(x) for x in unbalanced.panel[4:1:-2])
    last = np.zeros(universe.shape, bool)
    last[:-2] = (asset[1:-1] != asset[:-2]) & universe[:-2]
    assert np.asarray(unbalanced.panel.observed)[last].mean() > 0.8


def test_residual_is_a_tenth_of_a_raw_t5(unbalanced):
    panel, truth = unbalanced.panel, unbalanced.truth
    observed = np.asarray(panel.observed)
    error = (np.asarray(panel.excess_returns, float) - truth.systematic)[observed]
    # The fourth moment of t5 is 25: the mean of squares has variance (25 - 25/9) / n.
    se = np.sqrt((25 - 25 / 9) / error.size)
    assert abs((error**2).mean() / 0.01 - 5 / 3) < 5 * se
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)


def test_last_row_is_forecast_and_not_scored(unbalanced):
    panel = unbalanced.panel
    assert panel.excess_returns.shape == (151, 60)
    observed = np.asarray(panel.observed)
    assert not observed[-1].any() and observed[:-1].any(axis=1).all()
    assert bool(panel.universe[-1].any())
    assert float(np.abs(np.asarray(panel.factors)[-1]).max()) == 0
    assert np.isfinite(unbalanced.truth.factors).all()


def test_labels_and_market_factor(unbalanced):
    labels, panel = unbalanced.labels, unbalanced.panel
    assert (
        str(labels.dates[0].date()) == "1990-01-31" and labels.dates.is_month_end.all()
    )
    assert len(labels.dates) == 151
    assert labels.characteristics == ("c1", "c2", "c3", "c4")
    assert labels.factors == ("MktRF",) and labels.risk_free_known
    observed = np.asarray(panel.observed)
    market = [
        np.asarray(panel.excess_returns)[t, observed[t]].mean() for t in range(150)
    ]
    np.testing.assert_allclose(np.asarray(panel.factors)[:-1, 0], market, atol=1e-6)
    assert panel.size is None


def test_seed_decides_everything():
    small = {"assets": 10, "periods": 20, "characteristics": 3}
    first, again, other = (simulate("gkx2021a", seed=s, **small) for s in (1, 1, 2))
    assert fingerprint(first.panel) == fingerprint(again.panel)
    assert fingerprint(first.panel) != fingerprint(other.panel)
    for a, b in zip(first.truth, again.truth, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("design", "factors", "returns"),
    [
        ("gkx2021a", (0.08479744, -0.09388249, -0.14253986), -0.029128693),
        ("gkx2021b", (0.08479744, -0.09388249, -0.14253986), 0.351570211),
        ("gkx2021null", (0.05479744, -0.12388249, -0.17253986), -0.029128695),
    ],
)
def test_random_streams_are_those_of_the_first_version(design, factors, returns):
    """Typed in from the version that knew these three designs only."""
    dataset = simulate(
        design,
        seed=5,
        assets=12,
        periods=20,
        characteristics=4,
        exit_rate=0.1,
        vacancy=2.0,
        missing=0.1,
    )
    panel, truth = dataset.panel, dataset.truth
    np.testing.assert_allclose(truth.factors[-1], factors, atol=1e-8)
    found = np.asarray(panel.excess_returns, float)[7].sum()
    assert found == pytest.approx(returns, abs=1e-6)
    assert int(panel.observed.sum()) == 182 and int(panel.asset.sum()) == 2920


def test_oracle_matches_loops(unbalanced):
    panel, truth = unbalanced.panel, unbalanced.truth
    mask = np.asarray(panel.universe & panel.observed)
    returns = np.asarray(panel.excess_returns, float)
    rows = np.arange(100, 151)  # the last one has no return and must not count
    total = total_fitted = predictive = prevailing = square = 0.0
    for t in rows[:-1]:
        r, beta = returns[t, mask[t]], truth.betas[t, mask[t]]
        square += r @ r
        total += ((r - beta @ truth.factors[t]) ** 2).sum()
        best = np.linalg.lstsq(beta, r, rcond=None)[0]
        total_fitted += ((r - beta @ best) ** 2).sum()
        predictive += ((r - truth.expected[t, mask[t]]) ** 2).sum()
        prevailing += ((r - beta @ truth.factors[:t].mean(axis=0)) ** 2).sum()
    scores = oracle_r2(truth, panel, rows)
    expected = {
        "r2_total": 1 - total / square,
        "r2_total_fitted": 1 - total_fitted / square,
        "r2_predictive": 1 - predictive / square,
        "r2_predictive_prevailing": 1 - prevailing / square,
    }
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value, abs=1e-10)
    assert scores["r2_total_fitted"] >= scores["r2_total"]
    assert scores == oracle_r2(truth, panel, slice(100, None))


def test_oracle_reads_no_factor_of_the_row_or_later(unbalanced):
    truth = unbalanced.truth
    poisoned = truth._replace(factors=truth.factors.copy())
    poisoned.factors[60:] = np.nan
    kept = "r2_predictive_prevailing"
    rows = slice(50, 61)
    after = oracle_r2(poisoned, unbalanced.panel, rows)
    assert after[kept] == oracle_r2(truth, unbalanced.panel, rows)[kept]
    rows = slice(50, 62)
    assert np.isnan(oracle_r2(poisoned, unbalanced.panel, rows)[kept])


def test_null_design_has_nothing_to_predict():
    dataset = simulate(
        "gkx2021null", seed=1, assets=100, periods=600, characteristics=3, **BALANCED
    )
    scores = oracle_r2(dataset.truth, dataset.panel)
    assert scores["r2_predictive"] == 0 and scores["r2_predictive_se"] == 0
    assert (
        scores["r2_predictive_prevailing"] < 2 * scores["r2_predictive_prevailing_se"]
    )
    mean = dataset.truth.factors.mean(axis=0)
    assert (np.abs(mean) < 4 * np.hypot(0.1, 0.01) / np.sqrt(601)).all()


@pytest.mark.parametrize("design", ["gkx2021a", "gkx2021b"])
def test_long_balanced_panel_scores_the_population_r2(design):
    """Closed form, with E f^2 = mu^2 + .1^2 + .01^2 and the moments of ranks.

    Characteristics are independent and symmetric, so cross terms vanish.
    """
    slots, periods = 100, 3000
    dataset = simulate(
        design, seed=2, assets=slots, periods=periods, characteristics=3, **BALANCED
    )
    rank = 2 * np.arange(1, slots + 1) / (slots + 1) - 1
    second, fourth = (rank**2).mean(), (rank**4).mean()
    beta_square = {
        "gkx2021a": (1.2**2 + 1 + 0.8**2) * second,
        "gkx2021b": fourth + 4 * second**2 + 0.36,
    }[design]
    systematic = beta_square * (0.03**2 + 0.1**2 + 0.01**2)
    square = systematic + 0.01 * 5 / 3
    scores = oracle_r2(dataset.truth, dataset.panel)
    # Total R2 of 60 periods has an sd near .028 (200 draws), hence .004 of 3000.
    assert scores["r2_total"] == pytest.approx(systematic / square, abs=0.012)
    expected = beta_square * 0.03**2 / square
    for name in ("r2_predictive", "r2_predictive_prevailing"):
        assert abs(scores[name] - expected) < 3 * scores[f"{name}_se"] + 0.001


@pytest.mark.slow
@pytest.mark.parametrize(
    ("design", "published"),
    [
        ("gkx2021a", (0.401, 0.410, 0.031, 0.029)),
        ("gkx2021b", (0.396, 0.405, 0.031, 0.028)),
    ],
)
@pytest.mark.parametrize("universe", [BALANCED, {}], ids=["balanced", "default"])
def test_oracle_scores_of_the_published_design(design, published, universe):
    """Means over draws, last third of 180 periods, of an independent implementation.

    The reference values are means of 200 draws in numpy with other random numbers; only
    the first three characteristics matter, so three are drawn. Entry, exit and missing
    returns leave the scores where they are.
    """
    draws = 40
    scores = np.empty((draws, 6))
    for seed in range(draws):
        dataset = simulate(design, seed=seed, characteristics=3, **universe)
        scores[seed] = list(
            oracle_r2(dataset.truth, dataset.panel, slice(120, 180)).values()
        )
    mean, sd = scores.mean(axis=0), scores.std(axis=0, ddof=1)
    se = sd[:4] * np.sqrt(1 / draws + 1 / 200)
    assert (np.abs(mean[:4] - published) < 3 * se + 0.0005).all(), (mean, se)
    # The standard errors a single panel reports are the spread over panels.
    np.testing.assert_allclose(mean[4:], sd[2:4], rtol=0.35)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"design": "gkx2021c"}, "did you mean 'gkx2021[ab]'"),
        ({"assets": 1}, "assets=1: needs at least 2"),
        ({"periods": 0}, "periods=0"),
        ({"characteristics": 2}, "characteristics=2: needs at least 3"),
        ({"vacancy": -1.0}, "vacancy=-1.0"),
        ({"exit_rate": 1.0}, r"exit_rate=1.0: a probability in \[0, 1\)"),
        ({"missing": np.nan}, "missing=nan"),
        ({"persistence": 1.0}, r"persistence=1.0: a probability in \[0, 1\)"),
        ({"innovation": -0.1}, "innovation=-0.1: needs at least 0"),
    ],
)
def test_settings_out_of_range_are_named(setting, message):
    with pytest.raises(ConfigError, match=message):
        simulate(**{"design": "gkx2021a"} | setting)


def test_oracle_needs_periods():
    dataset = simulate("gkx2021a", assets=5, periods=4, characteristics=3, **BALANCED)
    with pytest.raises(ConfigError, match="1 of the rows"):
        oracle_r2(dataset.truth, dataset.panel, slice(3, 5))
