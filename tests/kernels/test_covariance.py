"""Forms of a covariance matrix against numpy and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from jaxfin.kernels.covariance import (
    Covariance,
    dense_covariance,
    factor_model,
    largest_eigenvalue,
    ledoit_wolf,
    product,
    sample_covariance,
    variances,
)


def matrix(covariance):
    width = variances(covariance).shape[0]
    return np.asarray(jax.vmap(lambda v: product(covariance, v))(jnp.eye(width)))


@pytest.fixture
def sample(x64):
    return jnp.asarray(np.random.default_rng(0).normal(size=(12, 30)) @ np.eye(30))


def test_sample_covariance_is_that_of_numpy(sample):
    expected = np.cov(sample, rowvar=False)
    made = sample_covariance(sample)
    np.testing.assert_allclose(matrix(made), expected, atol=1e-14)
    np.testing.assert_allclose(variances(made), np.diag(expected), atol=1e-14)
    largest = np.linalg.eigvalsh(expected)[-1]
    np.testing.assert_allclose(largest_eigenvalue(made), largest)
    ridged = matrix(sample_covariance(sample, ridge=0.3))
    np.testing.assert_allclose(ridged, expected + 0.3 * np.eye(30), atol=1e-14)
    assert sample_covariance(sample, ridge=-0.3).indefinite


def test_ledoit_wolf_is_that_of_scikit_learn(sample):
    for rows in (sample, sample[:, :3], sample[:3], sample * 1e-3):
        expected = LedoitWolf().fit(np.asarray(rows)).covariance_
        np.testing.assert_allclose(matrix(ledoit_wolf(rows)), expected, rtol=1e-10)
    mask = np.arange(30) % 3 > 0
    ruined = jnp.where(mask, sample, jnp.nan)
    made = ledoit_wolf(ruined, jnp.asarray(mask))
    expected = LedoitWolf().fit(np.asarray(sample)[:, mask]).covariance_
    kept = Covariance(made.factor[:, mask], made.diagonal[mask])
    np.testing.assert_allclose(matrix(kept), expected, rtol=1e-10)
    constant = ledoit_wolf(jnp.ones((4, 3)))
    np.testing.assert_array_equal(matrix(constant), 0)


def test_factor_model(sample):
    loading, own = sample[:3].T, jnp.abs(sample[5])
    middle = sample[:4, :3].T @ sample[:4, :3]
    made = factor_model(loading, middle, own)
    expected = loading @ middle @ loading.T + np.diag(own)
    np.testing.assert_allclose(matrix(made), expected, atol=1e-12)
    assert not made.indefinite
    singular = jnp.outer(loading[0], loading[0])
    made = factor_model(loading, singular, own)
    expected = loading @ singular @ loading.T + np.diag(own)
    np.testing.assert_allclose(matrix(made), expected, atol=1e-10)
    assert not made.indefinite
    assert factor_model(loading, -middle, own).indefinite
    assert factor_model(loading, middle, -own).indefinite


def test_dense_covariance_is_checked(sample):
    singular = np.cov(sample, rowvar=False)
    made = dense_covariance(jnp.asarray(singular))
    assert not made.indefinite
    np.testing.assert_allclose(matrix(made), singular, atol=1e-14)
    assert largest_eigenvalue(made) >= np.linalg.eigvalsh(singular)[-1]
    assert dense_covariance(jnp.asarray(singular - 1e-6 * np.eye(30))).indefinite
