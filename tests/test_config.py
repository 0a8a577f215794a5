"""Settings: round trips, and messages that name the key, the value and the remedy."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest
import yaml

from jaxfin.config import AssetsConfig, StudyConfig, WindowsConfig
from jaxfin.data.sources import SOURCES, load_dataset
from jaxfin.errors import ConfigError, JaxfinError, nearest
from jaxfin.evaluate.judgement import PortfolioConfig
from jaxfin.evaluate.relevance_config import RelevanceConfig
from jaxfin.fit.config import FitConfig
from jaxfin.methods.catalog import CATALOG, build_model
from jaxfin.options import checked, keyword_hints

NAN = float("nan")
EVERYTHING = StudyConfig(
    model="cae",
    K=3,
    model_options={"depth": 1, "batch_norm": True},
    data="simulated",
    data_options={"assets": 30},
    windows=WindowsConfig(
        40,
        10,
        6,
        True,
        1,
        start="2000-01-01",
        end="2020-01-31",
        train_end="2010-12-31",
        valid_end="2012-12-31",
    ),
    relevance=RelevanceConfig(
        True, 0.01, 1.0, "2017", "prop", groups={"Risk": ["beta"]}
    ),
    fit=FitConfig(
        seeds=2,
        learning_rate=(0.01, 0.02),
        l1=(0.0,),
        dropout=(0.1, 0.3),
        max_epochs=7,
        patience=2,
        batch_periods=8,
        warm_start=True,
        tuning=(2014, 2017),
        plateau=3,
        plateau_factor=0.3,
        min_learning_rate=1e-4,
        clip=2.0,
        chunk_epochs=3,
        memory_gb=1.5,
    ),
    portfolio=PortfolioConfig(
        quantiles=4,
        cost=0.001,
        mean_variance=True,
        risk_aversion=5.0,
        covariance="ledoit_wolf",
        covariance_window=24,
        upper=0.1,
    ),
    assets=AssetsConfig("odd", "even"),
    importance=True,
    paths=4,
    validation=True,
    benchmarks=({"name": "capm", "market": "mean"}, {"name": "lstm_stock"}),
    precision="fast",
    seed=9,
)


WALK_FORWARD = StudyConfig(windows=WindowsConfig(first_test="2010-01-01"))


@pytest.mark.parametrize("config", [StudyConfig(), EVERYTHING, WALK_FORWARD])
def test_settings_survive_a_trip_through_yaml_and_json(config):
    plain = config.to_dict()
    assert StudyConfig.from_dict(plain) == config
    assert StudyConfig.from_dict(json.loads(json.dumps(plain))) == config
    assert StudyConfig.from_dict(yaml.safe_load(yaml.safe_dump(plain))) == config
    assert StudyConfig.from_dict(plain).to_dict() == plain


def test_every_setting_of_the_round_trip_differs_from_its_default():
    def flat(tree, prefix=""):
        for key, value in tree.items():
            if isinstance(value, dict) and value:
                yield from flat(value, f"{prefix}{key}.")
            else:
                yield prefix + key, value

    default, everything = (
        dict(flat(StudyConfig().to_dict())),
        dict(flat(EVERYTHING.to_dict())),
    )
    same = {key for key in default if everything.get(key) == default[key]}
    assert same == {"windows.first_test"}  # which is WALK_FORWARD's


def test_plain_settings_hold_nothing_but_plain_values():
    def walk(value):
        if isinstance(value, dict):
            assert all(isinstance(key, str) for key in value)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        else:
            assert value is None or type(value) in (str, int, float, bool)

    walk(EVERYTHING.to_dict())


def test_left_out_settings_take_their_defaults():
    config = StudyConfig.from_dict({"K": 2, "fit": {"seeds": 1}})
    assert config == StudyConfig(K=2, fit=FitConfig(seeds=1))
    assert StudyConfig.from_dict({}) == StudyConfig()


def test_lists_become_tuples_and_a_number_a_grid_of_one():
    config = StudyConfig.from_dict({"fit": {"l1": [0.1, 1], "dropout": []}})
    assert config.fit.l1 == (0.1, 1) and config.fit.dropout == ()
    assert StudyConfig.from_dict({"fit": {"l1": 0.1}}).fit.l1 == (0.1,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"modle": "cae"}, "modle is unknown: did you mean 'model'?"),
        ({"k": 3}, "k is unknown"),
        ({"fit": {"learning_rates": [0.1]}}, "fit.learning_rates.*'learning_rate'"),
        ({"windows": {"tran": 3}}, r"windows\.tran is unknown.*'train'"),
        ({"portfolio": {"costs": 0.1}}, r"portfolio\.costs is unknown.*'cost'"),
        ({"fit": {"seeds": 2.5}}, r"fit\.seeds=2\.5: expected a whole number"),
        ({"fit": {"seeds": True}}, r"fit\.seeds=True: expected a whole number"),
        ({"fit": {"l1": "x"}}, r"fit\.l1=x: expected a list, each item a number"),
        ({"fit": {"l1": ["x"]}}, r"fit\.l1=\['x'\]: expected a list"),
        ({"fit": {"memory_gb": "8"}}, r"fit\.memory_gb=8: expected a number or null"),
        ({"windows": {"expanding": 1}}, r"windows\.expanding=1: expected true or f"),
        ({"model": 3}, "model=3: expected a word"),
        ({"K": "six"}, "K=six: expected a whole number or null"),
        ({"windows": None}, "windows=None"),
        ({"fit": [1]}, r"fit=\[1\]"),
        ({"model_options": "depth"}, "model_options=depth"),
        # Ranges are the business of each part, and reached from here too.
        ({"fit": {"seeds": 0}}, r"fit\.seeds=0"),
        ({"portfolio": {"quantiles": 1}}, r"portfolio\.quantiles=1"),
        ({"portfolio": {"cost": 1.5}}, r"portfolio\.cost=1\.5"),
        ({"portfolio": {"cost": -0.1}}, r"portfolio\.cost=-0\.1"),
        ({"portfolio": {"risk_aversion": -1}}, r"portfolio\.risk_aversion=-1: .* 0 on"),
        ({"portfolio": {"risk_aversion": NAN}}, r"portfolio\.risk_aversion=nan"),
        ({"portfolio": {"covariance": "lw"}}, r"portfolio\.covariance=lw"),
        ({"portfolio": {"covariance_window": 1}}, r"portfolio\.covariance_window=1"),
        ({"portfolio": {"upper": 0}}, r"portfolio\.upper=0: a share"),
        ({"portfolio": {"upper": 1.5}}, r"portfolio\.upper=1\.5"),
        ({"portfolio": {"mean_variance": 1}}, r"portfolio\.mean_variance=1: expected"),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it(content, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig.from_dict(content)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        ({"train_end": "2010-12-31"}, "go together: give both dates"),
        (
            {"train_end": "2010", "valid_end": "2011", "first_test": "2012"},
            "windows.first_test is of rolling windows",
        ),
        ({"start": "2010-13-01"}, "windows.start=2010-13-01: no date"),
        ({"start": 2010}, "windows.start=2010: expected a word or null"),
    ],
)
def test_a_wrong_date_is_an_error_that_names_it(windows, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig.from_dict({"windows": windows})


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        StudyConfig().seed = 1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ("saqlat", {}, "model=saqlat is unknown: did you mean 'seqlat'?"),
        ("cae", {"dept": 1}, r"model\.dept is unknown: did you mean 'depth'"),
        ("cae", {"depth": 1.5}, r"model\.depth=1\.5: expected a whole number"),
        ("cae", {"depth": 9}, r"model\.depth=9"),
        ("cae", {"factors": 2}, r"model\.factors is unknown"),
        ("seqlat", {"variant": "leaky"}, r"model\.variant=leaky: expected one of win"),
        ("seqlat", {"hidden": [1.5]}, r"model\.hidden=\[1\.5\]: expected a list, each"),
        ("seqlat", {"units": 2.0}, r"model\.units=2\.0: expected a whole number or n"),
        ("seqlat", {"dtype": "x"}, r"model\.dtype is unknown"),
    ],
)
def test_a_wrong_model_is_an_error_that_names_it(arguments, options, message):
    with pytest.raises(ConfigError, match=message):
        build_model(arguments, options=options)


def test_a_model_without_k_takes_its_own():
    for name, entry in CATALOG.items():
        assert build_model(name)[1] == entry.factors
        if entry.factors is None:
            with pytest.raises(ConfigError, match="no latent factors, leave K out"):
                build_model(name, factors=2)
        elif name == "gan":
            with pytest.raises(ConfigError, match="one factor, its SDF"):
                build_model(name, factors=2)
        else:
            assert build_model(name, factors=2)[1] == 2
    network, _ = build_model("seqlat", options={"lookback": 7, "hidden": [4, 4]})
    assert network.lookback == 7


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("frensh", {}, "data=frensh is unknown: did you mean 'french'"),
        ("simulated", {"asset": 9}, r"data\.asset is unknown: did you mean 'assets'"),
        ("simulated", {"assets": 9.5}, r"data\.assets=9\.5: expected a whole number"),
        ("simulated", {"design": "gkx"}, "gkx"),
    ],
)
def test_a_wrong_source_is_an_error_that_names_it(name, options, message):
    with pytest.raises(ConfigError, match=message):
        load_dataset(name, options)


def test_a_source_needs_no_option():
    assert load_dataset("simulated", {"assets": 9}).name


def test_every_source_and_model_states_the_type_of_its_options():
    for hints in [
        *(keyword_hints(source) for source in SOURCES.values()),
        *(entry.options for entry in CATALOG.values()),
    ]:
        assert Any not in hints.values()


HINTS = {
    "whole": int,
    "number": float,
    "maybe": float | None,
    "word": str,
    "switch": bool,
    "choice": Literal["a", "b"],
    "widths": Sequence[int],
    "grid": tuple[float, ...],
    "table": Mapping[str, Any],
    "anything": Any,
}


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("whole", [0, -3], [1.0, "1", True, None, [1]]),
        ("number", [0, 1.5], ["1", True, None, [1.0]]),
        ("maybe", [None, 2, 2.5], ["x", False]),
        ("word", ["", "x"], [1, None, ["x"]]),
        ("switch", [True, False], [0, 1, "true", None]),
        ("choice", ["a", "b"], ["c", None, 1]),
        ("widths", [(), [1, 2], (3,)], [1.5, "12", [1.5], [True], True]),
        ("grid", [(), [1, 2.5]], ["0.1", ["x"], None]),
        ("table", [{}, {"a": 1}], [[("a", 1)], None, "a"]),
        ("anything", [None, 1, "x", [1]], []),
    ],
)
def test_values_are_checked_against_type_hints(name, good, bad):
    for value in good:
        expected = tuple(value) if isinstance(value, list) else value
        assert checked({name: value}, HINTS) == {name: expected}
    for value in bad:
        with pytest.raises(ConfigError, match=rf"fit\.{name}="):
            checked({name: value}, HINTS, prefix="fit.")


def test_nearest_names_one_or_lists_all():
    known = {"train", "valid", "test"}
    assert nearest("trian", known) == "did you mean 'train'?"
    assert nearest("zzzz", known) == "known: test, train, valid"
    assert issubclass(ConfigError, JaxfinError)
