"""A model that sees the future is marked in all that is written and printed of it."""

import contextlib
import io
import json

import pandas as pd
import pytest
from matplotlib.figure import Figure

from jaxfin.comparison import run_comparison
from jaxfin.config import StudyConfig
from jaxfin.data.simulate import simulate
from jaxfin.models.literal import LEAKY
from jaxfin.report.look_ahead import COLUMN, MARK
from jaxfin.study import load_study, run_study

pytestmark = pytest.mark.slow
DATA = {
    "design": "gkx2021a",
    "assets": 30,
    "periods": 60,
    "characteristics": 4,
    "exit_rate": 0.0,
}
SMALL = {"units": 3, "hidden": [4]}
CONTENT = {
    "model": "seqlat",
    "K": 2,
    "data": "simulated",
    "data_options": DATA,
    "windows": {"train": 24, "valid": 8, "test": 14},
    "fit": {"seeds": 1, "l1": [0.001], "max_epochs": 2, "batch_periods": 12},
    "portfolio": {"quantiles": 3, "mean_variance": True, "covariance_window": 6},
    "importance": True,
    "relevance": {"enabled": True},
    "validation": True,
}
TEXTS = {".md", ".tex", ".csv", ".json", ".txt"}


def drawn(patch, texts):
    """Let every figure leave its texts in a dictionary, by file name."""
    save = Figure.savefig

    def savefig(figure, path, **options):
        words = [text.get_text() for text in figure.findobj(match=_is_text)]
        texts[path.name] = " ".join(words)
        save(figure, path, **options)

    patch.setattr(Figure, "savefig", savefig)


def _is_text(artist):
    return hasattr(artist, "get_text")


@pytest.fixture(scope="module", params=["literal", "causal"])
def study(request, tmp_path_factory):
    """Variant, folder, result, texts of figures, what was printed."""
    folder, figures = tmp_path_factory.mktemp("run") / "here", {}
    options = {**SMALL, "variant": request.param}
    config = StudyConfig.from_dict({**CONTENT, "model_options": options})
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        drawn(patch, figures)
        with contextlib.redirect_stdout(printed):
            result = run_study(config, directory=folder)
    return request.param, folder, result, figures, printed.getvalue()


def test_every_file_of_a_leaky_study_says_so_and_none_of_a_careful_one(study):
    variant, folder, _, figures, _ = study
    leaky = variant == "literal"
    files = [path for path in folder.rglob("*") if "checkpoints" not in path.parts]
    texts = [path for path in files if path.suffix in TEXTS]
    assert {path.suffix for path in texts} == TEXTS and len(texts) > 15
    for path in texts:
        text = path.read_text("utf-8").lower()
        mark = "look_ahead" if path.name == "metrics.json" else "leaky"
        assert (mark in text) == leaky and (leaky or "leaky" not in text), path
    tables = [path for path in texts if path.suffix in (".md", ".tex")]
    for path in tables:  # in the caption: the reason too
        assert (LEAKY[:40] in path.read_text("utf-8")) == leaky, path
    pictures = {path.name for path in files if path.suffix == ".png"}
    assert pictures == set(figures) and len(pictures) >= 5
    for name, text in figures.items():
        flat = " ".join(text.split())  # captions are wrapped
        assert (f"{MARK}: seqlat sees the future ({LEAKY})" in flat) == leaky, name
    for path in files:
        if path.suffix == ".parquet":
            attributes = pd.read_parquet(path).attrs
            assert attributes == ({"look_ahead": LEAKY} if leaky else {}), path


def test_metrics_and_provenance_have_the_reason(study):
    variant, folder, result, _, _ = study
    for name in ("metrics", "provenance"):
        content = json.loads((folder / f"{name}.json").read_text())
        assert content.get("look_ahead") == (LEAKY if variant == "literal" else None)
    first = result.provenance["notes"][0]
    assert first.startswith(MARK) == (variant == "literal")


def test_it_is_printed_before_and_after(study):
    variant, _, _, _, printed = study
    lines = [line for line in printed.splitlines() if line.strip()]
    if variant == "literal":
        assert lines[0] == "loading data"
        assert lines[1].startswith(f"{MARK}: seqlat sees the future")
        assert printed.count(MARK) == 2 and "seqlat (leaky), K = 2" in printed
    else:
        assert "leaky" not in printed.lower()


def test_what_is_read_back_is_marked_too(study):
    variant, folder, result, _, _ = study
    read, leaky = load_study(folder), variant == "literal"
    assert ("look_ahead" in read.metrics) == leaky
    assert read.forecasts.attrs == result.forecasts.attrs
    assert set(read.tables) == set(result.tables)
    for each in (read, result):
        for name, table in each.tables.items():
            assert (COLUMN in table) == leaky, name
            assert not leaky or (table[COLUMN] == MARK).all()


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A market model with the exhibit as benchmark, on every page there is."""
    folder, figures = tmp_path_factory.mktemp("compared") / "here", {}
    literal = {"name": "seqlat", **SMALL, "variant": "literal"}
    config = StudyConfig.from_dict(
        {
            **CONTENT,
            "model": "capm",
            "K": None,
            "model_options": {"market": "mean", "window": 10, "min_count": 5},
            "importance": False,
            "relevance": {"enabled": False},
            "benchmarks": [
                {"name": "historical_mean"},
                {**literal, "label": "seqlat-literal"},
            ],
        }
    )
    dataset = simulate(**{**DATA, "characteristics": 6})
    with pytest.MonkeyPatch.context() as patch:
        drawn(patch, figures)
        found = run_comparison(config, dataset, directory=folder, quiet=True)
    return folder, found, figures


def test_a_leaky_benchmark_is_marked_beside_careful_models(compared):
    folder, found, figures = compared
    assert found.compared.labels["seqlat-literal"] == "seqlat literal (leaky)"
    assert found.compared.labels["capm"] == "capm"
    told = f"{MARK}: seqlat-literal sees the future ({LEAKY})."
    assert found.compared.conditions.startswith(told)
    pages = ["comparison.md", "sorts.md", "strategies.md"]
    for page in pages:
        text = (folder / page).read_text()
        assert told in text.split("\n\n")[1]
        assert "| seqlat literal (leaky)" in text
        assert f"seqlat-literal: {MARK}" in text  # among the notes
    own = set(found.study.tables)  # of the study itself, which is careful
    written = [p for p in (folder / "tables").iterdir() if p.stem not in own]
    assert len(written) > 30
    for path in written:
        text = path.read_text("utf-8")
        assert text.count("seqlat literal") == text.count("seqlat literal (leaky)")
        if path.suffix != ".csv":
            assert MARK in text, path
    compared_figures = [name for name in figures if name.startswith("figure")]
    assert len(compared_figures) >= 4
    for name in compared_figures:
        assert MARK in figures[name], name
        assert figures[name].count("seqlat literal") == figures[name].count(
            "seqlat literal (leaky)"
        )


def test_the_careful_study_of_a_comparison_is_not_marked(compared):
    folder, found, _ = compared
    assert "look_ahead" not in found.study.metrics
    for name in found.study.tables:
        assert MARK not in (folder / "tables" / f"{name}.md").read_text("utf-8")
    assert "look_ahead" in found.benchmarks["seqlat-literal"].metrics
