"""What a paper's figures draw against what they were given."""

import numpy as np
import pandas as pd
import pytest
from test_paper_tables import NAN, result

from jaxfin.report.paper_figures import correlation_figure, r2_by_factors
from jaxfin.report.paper_grid import Grid, Missing


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


@pytest.fixture(scope="module")
def grid():
    return Grid(
        {
            ("rf", None): result(5, 0.99, total=False),
            ("cae", 1): result(10, 0.9),
            ("cae", 3): result(12, 0.8),
            ("seqlat", 1): Missing("every lane diverged"),
            ("seqlat", 3): result(30, 0.8),
        },
        "seqlat",
        "french",
        12,
    )


def lines(axis):
    """Model -> (K, R2, height of the error bars)."""
    found = {}
    for container in axis.containers:
        line, _, (bars,) = container.lines
        ends = np.array([path.vertices[:, 1] for path in bars.get_paths() if len(path)])
        x, y = line.get_data()
        found[container.get_label()] = (np.round(x), y, np.ptp(ends, axis=1) / 2)
    return found


def test_r2_lines_and_bars(grid):
    figure = r2_by_factors(grid, "total")
    figure.canvas.draw()
    drawn = lines(figure.axes[0])
    assert set(drawn) == {"cae", "seqlat"}  # rf has no total R2
    factors, values, bars = drawn["cae"]
    assert factors.tolist() == [0, 1, 3]
    np.testing.assert_allclose(values, [NAN, 10, 12])
    np.testing.assert_allclose(bars, [NAN, 1, 1])
    np.testing.assert_allclose(lines(figure.axes[1])["seqlat"][1], [NAN, NAN, 60])
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert ticks == ["no K", "1", "3"]
    assert "french" in figure.get_supxlabel()


def test_a_model_without_k_is_a_point(grid):
    figure = r2_by_factors(grid, "predictive")
    figure.canvas.draw()
    factors, values, _ = lines(figure.axes[0])["rf"]
    np.testing.assert_allclose(values, [0.5, NAN, NAN])
    assert factors[0] == 0
    assert len(figure.legends[0].get_texts()) == 3


def test_without_numbers_there_is_no_panel():
    grid = Grid({("rf", None): result(5, 0.99, total=False)}, "rf", "french", 12)
    figure = r2_by_factors(grid, "total")
    figure.canvas.draw()
    assert texts(figure) == ["n/a", "n/a"]


def test_heat_map_shows_every_number():
    names = ["rf", "cae-K2"]
    matrix = pd.DataFrame([[1, -0.456], [-0.456, NAN]], names, names)
    figure = correlation_figure(matrix, note="of two", conditions="french")
    figure.canvas.draw()
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.texts] == ["1.00", "-0.46", "-0.46", "n/a"]
    image = axis.images[0]
    assert image.get_clim() == (-1, 1)
    np.testing.assert_allclose(image.get_array().filled(NAN), matrix)
    assert [tick.get_text() for tick in axis.get_yticklabels()] == names
    assert figure.get_supxlabel() == "of two\nfrench"


def test_heat_map_of_nothing():
    figure = correlation_figure(pd.DataFrame())
    figure.canvas.draw()
    assert texts(figure) == ["n/a"]
