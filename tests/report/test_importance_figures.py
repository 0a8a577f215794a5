"""What figures of importance draw against the frame they were given."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from jaxfin.evaluate.importance import Importance
from jaxfin.report.canvas import BLUE, save_figures
from jaxfin.report.importance_figures import (
    LONGEST,
    importance_figure,
    importance_map,
)


def frame_of(models, characteristics, seed=0):
    """Random shares that sum to one; a third of the characteristics has none."""
    rng = np.random.default_rng(seed)
    shares = rng.exponential(size=(characteristics, models)) ** 2
    shares[rng.random(shares.shape) < 1 / 3] = 0
    return pd.DataFrame(
        shares / shares.sum(axis=0),
        index=pd.Index([f"c{j}" for j in range(characteristics)]),
        columns=[f"model{m}" for m in range(models)],
    )


def names(axis):
    return [text.get_text() for text in axis.get_yticklabels()]


def texts(axis):
    return [text.get_text() for text in axis.texts]


def footnote(figure):
    return figure.get_supxlabel().replace("\n", " ")


def draw(figure):
    """Layout and drawing must raise no warning."""
    figure.draw_without_rendering()


@pytest.mark.parametrize("models", [1, 2, 3, 4, 9])
def test_bars_are_the_largest_shares_of_each_model(models):
    frame = frame_of(models, 40)
    figure = importance_figure(frame, top=15, conditions="of a small study")
    draw(figure)
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title(loc="left") for axis in shown] == list(frame)
    for axis, model in zip(shown, frame, strict=True):
        largest = frame[model].nlargest(15)
        assert names(axis) == list(largest.index)
        widths = [bar.get_width() for bar in axis.patches]
        np.testing.assert_allclose(widths, 100 * largest)
        # The largest is on top: the axis runs downwards.
        places = [bar.get_y() for bar in axis.patches]
        assert places == sorted(places) and axis.yaxis_inverted()
        assert to_hex(axis.patches[0].get_facecolor()) == BLUE.lower()
    assert "of a small study" in footnote(figure)
    assert "test rows" in footnote(figure)


def test_a_zero_share_has_no_bar_and_a_model_without_shares_says_so():
    frame = pd.DataFrame(
        {"ols3": [0.0, 0.75, 0.25], "none": np.nan}, index=["size", "value", "beta"]
    )
    figure = importance_figure(frame)
    draw(figure)
    assert names(figure.axes[0]) == ["value", "beta"]
    assert texts(figure.axes[1]) == ["n/a"] and not figure.axes[1].patches


def test_the_r2_at_stake_is_written_with_the_model():
    frame = frame_of(3, 5)
    of = {
        "model0": Importance("total", 0.28413, None, None),
        "model1": Importance("predictive", -0.0004, None, None),
        "model2": Importance("predictive", float("nan"), None, None),
    }
    bars = importance_figure(frame, importances=of)
    draw(bars)
    assert [axis.get_xlabel() for axis in bars.axes] == [
        "total R2 28.41%",
        "predictive R2 -0.04%",
        "predictive R2 n/a",
    ]
    assert "R2 with all characteristics" in footnote(bars)
    assert "R2 with all" not in footnote(importance_figure(frame))
    figure = importance_map(frame, importances=of)
    draw(figure)
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks[:2] == ["model0\ntotal\nR2 28.41%", "model1\npredictive\nR2 -0.04%"]


def test_ties_keep_the_order_of_the_frame():
    frame = pd.DataFrame({"a": [0.2, 0.3, 0.2, 0.3]}, index=list("zyxw"))
    assert names(importance_figure(frame).axes[0]) == ["y", "w", "z", "x"]


def test_long_names_are_cut():
    frame = pd.DataFrame({"a": [1.0]}, index=["return_volatility_over_sixty_months"])
    (name,) = names(importance_figure(frame).axes[0])
    assert len(name) == LONGEST and name.startswith("return_volatility")


def test_no_text_of_a_grid_overlaps_another():
    """Names of one panel end before the next panel's bars begin."""
    frame = frame_of(9, 60)
    frame.index = [f"characteristic_{j}x" for j in range(60)]
    figure = importance_figure(frame)
    draw(figure)
    boxes = [axis.get_tightbbox() for axis in figure.axes]
    for one, box in enumerate(boxes):
        for other in boxes[one + 1 :]:
            assert not box.overlaps(other)
    for axis in figure.axes:
        labels = [text.get_window_extent() for text in axis.get_yticklabels()]
        for above, below in zip(labels, labels[1:], strict=False):
            assert above.y0 >= below.y1 - 1  # pixels


def test_the_map_colours_ranks_within_models():
    frame = pd.DataFrame(
        {"a": [0.5, 0.4, 0.1, 0.0, 0.0], "b": [0, 0, 0, 0, 1.0], "none": np.nan},
        index=list("vwxyz"),
    )
    figure = importance_map(frame, conditions="of a small study")
    draw(figure)
    (axis,) = figure.axes
    drawn = axis.images[0].get_array()
    np.testing.assert_allclose(drawn[:, 0], [1, 0.75, 0.5, 0, 0])
    np.testing.assert_allclose(drawn[:, 1], [0, 0, 0, 0, 1])
    assert drawn.mask[:, 2].all() and not drawn.mask[:, :2].any()
    assert texts(axis) == ["n/a"] and axis.texts[0].get_position()[0] == 2
    assert names(axis) == list("vwxyz")
    assert [text.get_text() for text in axis.get_xticklabels()] == list(frame)
    assert "of a small study" in footnote(figure)


@pytest.mark.parametrize("figure", [importance_figure, importance_map])
def test_files_are_written(figure, tmp_path):
    save_figures(tmp_path, {"importance": figure(frame_of(2, 8))})
    assert (tmp_path / "importance.png").stat().st_size > 10_000


def test_matplotlib_is_imported_when_a_figure_is_asked_for():
    code = (
        "import sys, jaxfin.report.importance_figures as f; "
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
