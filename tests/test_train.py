"""What the command line refuses before Hydra starts, and the files it reads."""

import importlib
from pathlib import Path

import pytest
import yaml

from jaxfin.comparison import benchmark_studies
from jaxfin.config import StudyConfig
from jaxfin.errors import ConfigError, JaxfinError
from jaxfin.methods.catalog import CATALOG, build_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def train():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "experiments"))  # as if it were the program
        yield importlib.import_module("train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=seqlot"], "model=seqlot is unknown: did you mean 'seqlat'"),
        (["model=seqlat", "model.depth=2"], "it is an option of model=cae"),
        (["fit.sedes=2"], r"fit\.sedes is unknown.*did you mean 'fit.seeds'"),
        (["--resume"], "settings have no dashes: resume=true"),
        (["K=1,2"], "add -m to run them all"),
        (["-m", "K=1,x"], "job K=x: K=x: expected a whole number"),
        (["-m", "K=0,1"], "job K=0: K=0: must be at least 1"),
        (["=3"], "has no name"),
    ],
)
def test_what_cannot_run_is_refused(train, arguments, message):
    with pytest.raises(ConfigError, match=message):
        train.check_overrides(arguments)


def test_what_can_run_is_not(train, tmp_path):
    train.check_overrides(["-m", "model=cae,seqrat", "K=1,2", "fit=fast"])
    train.check_overrides(["data=panel", "data.return=ret", "fit=paper"])
    folder = tmp_path / "new" / "run"
    train.check_overrides([f"hydra.run.dir={folder}", "model=seqgat"])
    assert folder.is_dir()


def test_a_run_directory_that_cannot_be_is_refused(train, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxfinError, match="part of the path is a file"):
        train.check_overrides([f"hydra.run.dir={tmp_path / 'file' / 'run'}"])


def test_every_model_and_fit_has_a_configuration_that_is_sound():
    names = {path.stem for path in (ROOT / "conf" / "model").glob("*.yaml")}
    assert names == set(CATALOG)
    for name in names:
        options = yaml.safe_load((ROOT / "conf" / "model" / f"{name}.yaml").read_text())
        options = options.get("model", options)  # of one that also chooses data
        assert options.pop("name") == name
        entry = CATALOG[name]
        assert set(options) == set(entry.options)
        for option, value in options.items():
            if str(value).startswith("${"):  # the study's
                group, _, key = value[2:-1].partition(".")
                options[option] = getattr(getattr(StudyConfig(), group), key)
        factors = None if entry.factors in (None, 1) else 2  # gan has one
        build_model(name, factors=factors, options=options)
    for path in (ROOT / "conf" / "fit").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        fit = StudyConfig.from_dict({"fit": content}).fit
        assert set(content) == set(vars(fit)), path


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "sized").glob("*.yaml")))
def test_what_a_fit_means_for_one_model_is_sound(train, path):
    model, _, fit = path.stem.rpartition("-")
    with train.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        composed = train.compose("config", [f"model={model}", f"fit={fit}"])
    study = train.study_configs(composed)
    stocks = model in ("lstm_capm", "lstm_multi", "lstm_stock")
    assert study.data == ("sp500" if stocks else "french")
    assert study.portfolio.mean_variance == model.endswith("_mv")
    content = yaml.safe_load(path.read_text())
    for name, value in content["fit"].items():
        kept = getattr(study.fit, name)
        assert (list(kept) if isinstance(kept, tuple) else kept) == value
    for name, value in content.get("model", {}).items():
        assert study.model_options[name] == value
    for label, rival in benchmark_studies(study).items():
        build_model(rival.model, options=rival.model_options)
        assert label.startswith(rival.model)
