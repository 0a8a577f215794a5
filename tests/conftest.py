"""Shared by several test files: a ragged panel, the table of methods, their fits."""

import dataclasses
import gc
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Almost all the time of these tests is compilation, and most of that goes into machine
# code better than tiny arrays need. XLA_FLAGS= (empty) tests the programs as they are
# shipped. A flag unknown to jaxlib ends the process: other versions may lack the last.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    * version("jaxlib").startswith("0.10."),
)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfin.data.panel import Panel, make_panel
from jaxfin.fit.compilation_cache import enable_compilation_cache
from jaxfin.fit.config import FitConfig
from jaxfin.fit.engine import network_method
from jaxfin.fit.method import Method
from jaxfin.methods.catalog import CATALOG
from jaxfin.models.network import Network, Phase
from jaxfin.windows import rolling_windows


def pytest_configure(config):
    """Programs compiled by an earlier test, or an earlier run, are read from disk."""
    if hasattr(config, "cache"):
        enable_compilation_cache(config.cache.mkdir("jax"))


PERIODS, SLOTS, CHARACTERISTICS, FACTORS, LOOKBACK = 48, 24, 4, 2, 4
TRAIN, VALID, TEST = 20, 8, 6


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the table every law is run on: a catalog name and a variant of it."""

    model: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    hyper: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def ordered_slots(self) -> bool:
        """Returns are read as a vector, one weight a slot: slots are no labels."""
        joint = self.model == "lstm_multi" and self.options.get("joint", True)
        return self.options.get("input") == "r" or joint

    @property
    def by_asset(self) -> bool:
        """A lane is of one asset, which it knows by its slot."""
        return "asset" in self.hyper

    @property
    def direct(self) -> bool:
        """Has no number of factors."""
        return CATALOG[self.model].factors is None

    def network(self, dtype=np.float64, factors=FACTORS):
        build = CATALOG[self.model].build
        factors = {} if self.direct else {"factors": factors}
        return build(dtype=dtype, **factors, **self.options)


UNITS, DAMPING = 3, 1.5  # no defaults: those differ by variant, and are larger
_SMALL = {"lookback": LOOKBACK, "hidden": (8,), "units": UNITS, "damping": DAMPING}
_STOCK = {"lookback": LOOKBACK, "units": (3, 2), "dense": 2}
_OWN = {"lookback": 3, "dropout": 0.0}
_MULTI = {"lookback": LOOKBACK, "units": (4, 3), "dense": 6, "dropout": 0.0}
_SERIES = {**_STOCK, "window": 10, "min_count": 5}
METHODS = {
    "seqlat-window": Row("seqlat", _SMALL),
    "seqlat-residual": Row("seqlat", {**_SMALL, "variant": "residual"}),
    "seqlat-batch-norm": Row("seqlat", {**_SMALL, "batch_norm": True}),
    "seqlat-dropout": Row("seqlat", _SMALL, {"dropout": 0.3}),
    "seqlat-causal": Row("seqlat", {**_SMALL, "variant": "causal"}),
    "seqlat-head": Row("seqlat", {**_SMALL, "head": "memory"}),
    "seqlat-r": Row("seqlat", {**_SMALL, "input": "r"}),
    "seqgat-window": Row("seqgat", _SMALL),
    "seqrat-window": Row("seqrat", _SMALL),
    "seqrat-causal-head": Row(
        "seqrat",
        {**_SMALL, "variant": "causal", "head": "memory", "activation": "identity"},
    ),
    "cae-0": Row("cae", {"depth": 0}),
    "cae-1": Row("cae", {"depth": 1}),
    "cae-2": Row("cae", {"depth": 2}),
    "cae-3": Row("cae", {"depth": 3}),
    "cae-batch-norm": Row("cae", {"depth": 1, "batch_norm": True}),
    "nn1-plain": Row("nn1", {"batch_norm": False, "huber": 2.0}),
    "nn2": Row("nn2"),
    "nn3-macro": Row("nn3", {"macro": True}),
    "nn4": Row("nn4"),
    "nn5": Row("nn5", {"batch_norm": False}),
    "lstm_capm": Row("lstm_capm", _SERIES),
    "lstm_capm-gru": Row("lstm_capm", {**_SERIES, "kind": "gru", "alpha": False}),
    "lstm_capm-rnn": Row("lstm_capm", {**_SERIES, "kind": "rnn", "min_count": None}),
    "lstm_capm-bilstm": Row("lstm_capm", {**_SERIES, "kind": "bilstm"}),
    "lstm_capm-attention": Row("lstm_capm", {**_SERIES, "kind": "attention"}),
    "lstm_capm-transformer": Row(
        "lstm_capm", {**_SERIES, "kind": "transformer", "units": (4, 4), "heads": 2}
    ),
    "lstm_capm-dense": Row(
        "lstm_capm", {**_SERIES, "kind": "dense", "units": (6, 4), "dense": 3}
    ),
    "lstm_capm-direct": Row("lstm_capm", {**_SERIES, "horizon": 3}),
    "lstm_capm-iterated": Row(
        "lstm_capm",
        {**_SERIES, "horizon": 2, "multistep": "iterated", "dense": 0, "halflife": 4.0},
    ),
    "transformer_mv": Row("transformer_mv", {**_OWN, "units": (4, 4), "heads": 2}),
    "lstm_mv-macro": Row(
        "lstm_mv", {**_OWN, "units": (3,), "macro": True, "reversal": False, "dense": 2}
    ),
    "lstm_mv-portfolio": Row(
        "lstm_mv",
        {
            **_OWN,
            "units": (3,),
            "spacing": 2,
            "industry": True,
            "loss": "portfolio",
            "covariance": "ledoit_wolf",
            "covariance_window": 4,
        },
    ),
    "bilstm": Row("bilstm", {"lookback": 3, "spacing": 2, "units": (3, 2)}),
    "dnn": Row("dnn", {"lookback": 2, "units": (4,), "dense": 3}),
    "lstm_lrp": Row(
        "lstm_lrp",
        {"lookback": 3, "units": (3,), "bias_factor": 0.5, "product": "prop"},
    ),
    "dnn_lrp": Row("dnn_lrp", {"lookback": 2, "units": (4,), "variant": "2017"}),
    "dnn_lrp-all": Row(
        "dnn_lrp",
        {
            "lookback": 2,
            "units": (4,),
            "reversal": True,
            "macro": True,
            "industry": True,
            "product": "half",
        },
    ),
    "lstm_lrp-abs": Row(
        "lstm_lrp", {"lookback": 2, "units": (3,), "dense": 2, "product": "abs"}
    ),
    "lstm_stock": Row("lstm_stock", _STOCK, {"asset": 9}),
    "lstm_multi": Row("lstm_multi", _MULTI),
    "lstm_multi-indicators": Row("lstm_multi", {**_MULTI, "features": "indicators"}),
    "lstm_multi-related": Row("lstm_multi", {**_MULTI, "features": "related"}),
    "lstm_multi-each": Row(
        "lstm_multi",
        {**_MULTI, "features": "all", "joint": False, "dense": 0},
        {"asset": 9},
    ),
}
CONFIG = FitConfig(seeds=2, max_epochs=5, patience=5, batch_periods=5, chunk_epochs=5)


_since_count = 0  # tests since memory maps were last counted


@pytest.fixture(autouse=True)
def few_memory_maps():
    """Drop compiled programs before there are more than the system can map.

    Each is several maps, Linux allows 65530 a process, and what fails then is a
    segmentation fault somewhere in the compiler. Programs are read from disk again.
    """
    global _since_count
    yield
    _since_count += 1
    maps = Path("/proc/self/maps")
    if _since_count % 10 == 0 and maps.exists():
        if maps.read_bytes().count(b"\n") > 25_000:
            jax.clear_caches()
            gc.collect()


class Fits:
    """Methods of the table, compiled once per session and shape."""

    def __init__(self):
        self._methods: dict[tuple[str, Any], Method] = {}

    def method(self, name: str, dtype=np.float64) -> Method:
        """A jitted `Method`: 5 epochs of 4 batches, 20 optimisation steps a phase."""
        if (name, dtype) not in self._methods:
            plain = network_method(
                METHODS[name].network(dtype),
                CONFIG,
                train_length=TRAIN,
                valid_length=VALID,
            )
            functions = plain._replace(explanation=None)
            jitted = Method(*(each and jax.jit(each) for each in functions))
            self._methods[name, dtype] = jitted
        return self._methods[name, dtype]

    def hyper(self, name: str, *, seed=0, learning_rate=0.01, l1=0.01):
        """One point of the grid as a lane reads it."""
        return {
            "seed": seed,
            "learning_rate": learning_rate,
            "l1": l1,
            **METHODS[name].hyper,
        }


def linear_network(dtype=np.float64):
    """r_{i,t+1} = z_{i,t}'w: the smallest network, for tests of the engine itself."""

    def init(key, panel, rows, hyper=None):
        width = panel.characteristics.shape[-1]
        weights = {"kernel": jax.random.normal(key, (width,), dtype)}
        return {"weights": weights, "statistics": {}}

    def forecast(params, panel, rows):
        return panel.characteristics[rows] @ params["weights"]["kernel"]

    def score(params, panel, rows):
        index = jnp.maximum(rows, 0)
        mask = panel.universe[index] & panel.observed[index] & (rows >= 0)[:, None]
        error = panel.excess_returns[index] - forecast(params, panel, index)
        count = jnp.maximum(jnp.sum(mask), 1)
        return jnp.sum(jnp.where(mask, error, 0) ** 2) / count

    def loss(params, key, panel, rows, hyper):
        penalty = jnp.mean(jnp.abs(params["weights"]["kernel"]))
        value = score(params, panel, rows) + hyper["l1"] * penalty
        return value, params["statistics"]

    return Network(
        prepare=lambda panel: panel,
        init=init,
        phases=(Phase(loss, score),),
        forecast=forecast,
        contemporaneous=None,
    )


def ragged_arrays(seed=0, periods=PERIODS, slots=SLOTS):
    """Arguments of `make_panel`: assets come and go, slots are reused, data is missing.

    Two rows have no return at all, one has fewer assets than characteristics, the last
    has no return yet. Returns have two factors, so that there is something to learn.
    """
    rng = np.random.default_rng(seed)
    universe = np.empty((periods, slots), bool)
    asset = np.full((periods, slots), -1)
    universe[0] = rng.random(slots) < 0.8
    asset[0, universe[0]] = np.arange(universe[0].sum())
    for t in range(1, periods):
        stays = universe[t - 1] & (rng.random(slots) < 0.95)
        enters = ~universe[t - 1] & (rng.random(slots) < 0.2)
        universe[t] = stays | enters
        asset[t, stays] = asset[t - 1, stays]
        asset[t, enters] = asset[:t].max() + 1 + np.arange(enters.sum())
    universe[15, 3:] = False
    shape = (periods, slots)
    characteristics = rng.normal(size=(*shape, CHARACTERISTICS))
    factors = rng.normal(0.02, 0.1, (periods, FACTORS))
    excess = np.einsum("tnk,tk->tn", characteristics[..., :FACTORS], factors)
    excess += rng.normal(0, 0.1, shape)
    excess[~universe | (rng.random(shape) < 0.1)] = np.nan
    excess[[10, 36, periods - 1]] = np.nan
    characteristics[rng.random(characteristics.shape) < 0.05] = np.nan
    return {
        "characteristics": characteristics,
        "excess_returns": excess,
        "universe": universe,
        "asset": asset,
        "size": np.where(rng.random(shape) < 0.1, np.nan, rng.lognormal(size=shape)),
        "risk_free": rng.uniform(0, 0.005, periods),
        "macro": rng.normal(size=(periods, 2)),
        "factors": np.append(factors[:-1, :1], [[np.nan]], axis=0),
        "industry": rng.integers(0, 4, shape)[..., None] == np.arange(3),
    }


def build_panel(arrays, dtype=np.float64) -> Panel:
    """`make_panel` in the precision asked for."""
    with jax.enable_x64(dtype == np.float64):
        return make_panel(**arrays, dtype=dtype)


@pytest.fixture(scope="session")
def arrays():
    return ragged_arrays()


@pytest.fixture(scope="session")
def panel(arrays):
    """The ragged panel in float64."""
    return build_panel(arrays)


@pytest.fixture(scope="session")
def panel32(arrays):
    """The ragged panel in the precision that is shipped."""
    return build_panel(arrays, np.float32)


@pytest.fixture(scope="session")
def windows():
    """Four windows, the last one short: tests 28-33, 34-39, 40-45 and 46-47."""
    return rolling_windows(PERIODS, train=TRAIN, valid=VALID, test=TEST)


@pytest.fixture(scope="session")
def fits():
    return Fits()


QUICK = ("seqlat-window", "cae-1")  # enough for a first look, without ``-m slow``
_PARAMS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in METHODS
]


@pytest.fixture(params=_PARAMS)
def method_name(request):
    """Every row of the table, one after the other."""
    return request.param


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def scalars(window):
    """One window's fields as device integers, so that windows share a program."""
    return type(window)(*(jnp.asarray(field, jnp.int32) for field in window))
