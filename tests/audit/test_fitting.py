"""Fits that see the future: windows that reach too far, a choice made on test rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import scalars
from sklearn.linear_model import Ridge

from jaxfin.audit import check_fit
from jaxfin.errors import ConfigError, DataError
from jaxfin.windows import window_at

pytestmark = pytest.mark.usefixtures("x64")

PENALTIES = (0.1, 100.0, 1e4)
TRAIN, VALID, TEST = slice(0, 20), slice(20, 28), slice(28, 34)


def ridge(panel, judged):
    """Coefficients on training rows and the penalty that judges best on other rows."""

    def sample(rows):
        mask = np.asarray(panel.universe & panel.observed)[rows]
        z = np.asarray(panel.characteristics)[rows][mask]
        return z, np.asarray(panel.excess_returns)[rows][mask]

    fits = [Ridge(alpha=penalty).fit(*sample(TRAIN)) for penalty in PENALTIES]
    scores = [fit.score(*sample(judged)) for fit in fits]
    best = int(np.argmax(scores))
    return {"coefficients": fits[best].coef_, "score": scores[best], "penalty": best}


def test_careful_selection_passes(panel):
    made = check_fit(lambda panel: ridge(panel, VALID), panel, VALID.stop)
    assert made.passed, made.markdown
    assert made.finding("reads up to the decision").verdict == "pass"


def test_selection_on_test_rows_is_found(panel):
    made = check_fit(
        lambda panel: ridge(panel, TEST), panel, VALID.stop, name="chosen on test"
    )
    assert made.verdict == "leak"
    found = made.finding("poisoned future (noise)")
    assert (found.field, found.row) == ("characteristics", VALID.stop)
    assert found.size > 0 and "chosen on test" in made.markdown
    assert made.finding("poisoned future (masks)").field in ("universe", "observed")


@pytest.mark.parametrize("late", [0, 1])
def test_a_network_fits_on_its_window_alone(late, panel, fits, windows):
    """One row late is one return that is realised after the first forecast."""
    window = window_at(windows, 1)
    method, hyper = fits.method("cae-1"), fits.hyper("cae-1")
    late_by = {
        name: getattr(window, name) + late for name in ("valid_start", "valid_stop")
    }
    shifted = scalars(window._replace(**late_by))

    def fit(panel):
        return method.fit(jax.random.key(0), panel, shifted, hyper)

    made = check_fit(fit, panel, int(window.valid_stop))
    assert made.passed == (not late), made.markdown


def test_a_fit_that_refuses_ruined_data_is_found_all_the_same(panel):
    """It reads one row too many, and checks that returns are possible ones."""

    def mean(panel):
        returns = np.asarray(panel.excess_returns)
        if not np.abs(returns).max() < 1 or not np.asarray(panel.universe)[-1].any():
            raise DataError("impossible returns")
        return returns[: VALID.stop + 1].mean()

    made = check_fit(mean, panel, VALID.stop)
    assert made.finding("poisoned future (noise)").verdict == "not run"
    assert made.finding("future in reverse order").verdict == "leak"


def test_a_fit_that_refuses_every_change_is_no_pass(panel):
    whole = np.asarray(panel.excess_returns).tobytes()

    def suspicious(panel):
        if np.asarray(panel.excess_returns).tobytes() != whole:
            raise DataError("not the panel it knows")
        return 1.0

    made = check_fit(suspicious, panel, VALID.stop)
    assert made.verdict == "undetermined"


def test_errors_say_what_to_do(panel):
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="fix the seeds"):
        check_fit(lambda panel: rng.normal(), panel, 5)
    with pytest.raises(ConfigError, match="t=48"):
        check_fit(lambda panel: panel.macro.mean(), panel, 48)
    with pytest.raises(DataError, match="return its numbers"):
        check_fit(lambda panel: Ridge(), panel, 5)
    copy = jnp.asarray(1.0)
    assert check_fit(lambda panel: copy, panel, 5).verdict == "undetermined"
