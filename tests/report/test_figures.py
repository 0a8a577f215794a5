"""What figures draw against what they were given."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from jaxfin.fit.method import DIVERGED, EXHAUSTED, STOPPED
from jaxfin.report.canvas import save_figures
from jaxfin.report.figures import (
    MOST_FAINT,
    cumulative_legs,
    learning_curves,
    partial_years,
    r2_by_year,
)

NAN = np.nan


def line(axis, label):
    return next(drawn for drawn in axis.lines if drawn.get_label() == label)


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def footnote(figure):
    return figure.get_supxlabel().replace("\n", " ")


def faint(axis):
    return next(c for c in axis.collections if isinstance(c, LineCollection))


def draw(figure):
    """Layout and drawing must raise no warning."""
    figure.canvas.draw()


@pytest.fixture
def fits():
    """Two windows, three lanes; what is not selected would stand out."""
    history = np.full((2, 3, 6, 2), NAN)
    history[0, 0, :4] = np.array([[1.2, 1.0, 0.8, 0.7], [1.1, 1.0, 0.9, 0.95]]).T
    history[1, 1, :2] = np.array([[1.4, 1.2], [1.3, 1.1]]).T
    history[1, 2, :3] = np.array([[1.0, 0.6, 0.5], [0.9, 0.8, 0.85]]).T
    history[0, 1, :] = 50.0
    history[0, 2, :2] = [[2.0, 2.0], [np.inf, NAN]]
    status = np.array([[STOPPED, STOPPED, DIVERGED], [STOPPED, EXHAUSTED, STOPPED]])
    selected = np.array([[True, False, True], [False, True, True]])
    return history, status, selected


def test_learning_curves_draw_the_selected_lanes(fits):
    figure = learning_curves(*fits, conditions="of a small study")
    draw(figure)
    train, valid = figure.axes
    # Three lanes live; from epoch 4 on fewer than half of them are.
    np.testing.assert_allclose(
        line(train, "median").get_ydata(), [1.2, 1.0, (0.8 + 0.5) / 2, NAN]
    )
    np.testing.assert_allclose(
        line(valid, "median").get_ydata(), [1.1, 1.0, (0.9 + 0.85) / 2, NAN]
    )
    np.testing.assert_array_equal(line(train, "median").get_xdata(), [1, 2, 3, 4])
    np.testing.assert_array_equal(line(train, "fit of zero").get_ydata(), [1, 1])
    lanes = sorted(path.vertices[0, 1] for path in faint(train).get_paths())
    assert lanes == pytest.approx([1.0, 1.2, 1.4])
    assert train.get_ylim() == valid.get_ylim()
    assert 1.3 < train.get_ylim()[1] < 2
    assert (
        "selected: 4 (2 stopped early, 1 reached max_epochs, 1 diverged)"
        in footnote(figure)
    )
    assert "of a small study" in footnote(figure)


def test_learning_curves_quartiles(fits):
    train = learning_curves(*fits).axes[0]
    band = next(c for c in train.collections if not isinstance(c, LineCollection))
    first = band.get_paths()[0].vertices
    at_one = first[first[:, 0] == 1, 1]
    # Of 1.0, 1.2, 1.4 the quartiles are 1.1 and 1.3.
    assert (at_one.min(), at_one.max()) == pytest.approx((1.1, 1.3))


def test_learning_curves_of_one_lane_and_one_epoch():
    history = np.array([[[[0.9, 0.95], [NAN, NAN]]]])
    figure = learning_curves(history, np.array([[STOPPED]]), np.array([[True]]))
    draw(figure)
    assert line(figure.axes[1], "median").get_ydata().tolist() == [0.95]
    assert line(figure.axes[1], "median").get_marker() == "o"


def test_of_many_lanes_some_are_drawn_and_all_counted():
    history = np.random.default_rng(0).uniform(0.5, 1.5, (1, 3 * MOST_FAINT, 2, 2))
    everything = np.ones((1, 3 * MOST_FAINT), bool)
    figure = learning_curves(history, STOPPED * everything, everything)
    draw(figure)
    train, _ = figure.axes
    assert len(faint(train).get_paths()) == MOST_FAINT
    np.testing.assert_allclose(
        line(train, "median").get_ydata(), np.median(history[0, :, :, 0], axis=0)
    )
    assert f"faint: {MOST_FAINT} of {3 * MOST_FAINT} single" in footnote(figure)


@pytest.mark.parametrize("chosen", [True, False])
def test_learning_curves_without_any_lane(chosen):
    history = np.full((1, 1, 3, 2), NAN)
    figure = learning_curves(history, np.array([[DIVERGED]]), np.array([[chosen]]))
    draw(figure)
    assert texts(figure) == ["n/a", "n/a"]
    assert ("1 diverged" if chosen else "0 (none)") in footnote(figure)


def series(gross, net=None, weighting="equal", portfolio="long_short"):
    gross = np.asarray(gross, float)
    return pd.DataFrame(
        {
            "date": pd.date_range("2000-01-31", periods=len(gross), freq="ME"),
            "weighting": weighting,
            "portfolio": portfolio,
            "gross": gross,
            "net": gross - 0.01 if net is None else net,
        }
    )


def test_legs_accumulate_logs_and_book_at_the_next_decision():
    frame = pd.concat(
        [
            series([0.1, -0.5, NAN]),
            series([0.2, 0.0, NAN], portfolio="long_only"),
            series([0.3, 0.3, NAN], portfolio="short_leg"),
            series([0.9, 0.9, NAN], weighting="value"),
        ],
        ignore_index=True,
    )
    figure = cumulative_legs(frame, conditions="of a small study")
    draw(figure)
    (axis,) = figure.axes
    gross = line(axis, "long_short gross")
    np.testing.assert_allclose(
        gross.get_ydata(), [0, np.log(1.1), np.log(1.1 * 0.5), NAN]
    )
    # The last line is one period, as long as the one before, after the last decision.
    assert gross.get_xdata().astype("datetime64[D]").astype(str).tolist() == [
        *("2000-01-31", "2000-02-29", "2000-03-31", "2000-05-01")
    ]
    np.testing.assert_allclose(
        line(axis, "long_short net").get_ydata(),
        [0, np.log(1.09), np.log(1.09 * 0.49), NAN],
    )
    np.testing.assert_allclose(
        line(axis, "short_leg gross").get_ydata()[:3], [0, np.log(1.3), 2 * np.log(1.3)]
    )
    entries = [text.get_text() for text in axis.get_legend().get_texts()]
    assert entries == [
        "long minus short, gross",
        "long minus short, net",
        "long leg, gross",
        "short leg, as if held, gross",
    ]
    assert not any(drawn.get_label() == "short_leg net" for drawn in axis.lines)
    assert "of a small study" in footnote(figure)


def test_gap_earns_nothing_and_ruin_ends_the_line():
    figure = cumulative_legs(series([0.1, NAN, 0.1, -1.2, 0.1]))
    draw(figure)
    np.testing.assert_allclose(
        line(figure.axes[0], "long_short gross").get_ydata(),
        [0, np.log(1.1), NAN, np.log(1.21), NAN, NAN],
    )


@pytest.mark.parametrize(
    "frame", [series([0.1], net=NAN), series([0.1]).drop(columns="net")]
)
def test_one_period_without_net(frame):
    figure = cumulative_legs(frame)
    draw(figure)
    assert line(figure.axes[0], "long_short gross").get_ydata()[1] == np.log(1.1)
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == [
        "long minus short, gross"
    ]


@pytest.mark.parametrize(
    "frame", [series([0.1, 0.2], weighting="value"), series([NAN])]
)
def test_legs_not_available(frame):
    figure = cumulative_legs(frame)
    draw(figure)
    assert texts(figure) == ["n/a"]


def heights(axis):
    return [[bar.get_height() for bar in group] for group in axis.containers]


def test_bars_are_r2_in_per_cent():
    by_year = pd.DataFrame(
        {
            "total_r": [0.4, NAN],
            "total_x": [0.9, 0.8],
            "predictive_r": [0.01, -0.02],
            "predictive_x": [0.05, 0.1],
        },
        pd.Index([1999, 2000], name="year"),
    )
    figure = r2_by_year(by_year, conditions="of a small study")
    draw(figure)
    total, predictive = figure.axes
    np.testing.assert_allclose(heights(total), [[40, NAN], [90, 80]])
    np.testing.assert_allclose(heights(predictive), [[1, -2], [5, 10]])
    middles = [bar.get_x() + bar.get_width() for bar in total.containers[0]]
    np.testing.assert_allclose(middles, [1999, 2000])
    assert "not a forecast" in total.get_title(loc="left")
    assert "of a small study" in footnote(figure)


def test_years_scored_in_part_are_hatched_and_named():
    by_year = pd.DataFrame({"total_r": [0.4, 0.3, 0.2]}, [1999, 2000, 2001])
    figure = r2_by_year(by_year, partial=[1999, 2001], conditions="small")
    draw(figure)
    hatches = [bar.get_hatch() for bar in figure.axes[0].containers[0]]
    assert [bool(hatch) for hatch in hatches] == [True, False, True]
    assert "scored in part: 1999, 2001." in footnote(figure)
    assert "in part" not in footnote(r2_by_year(by_year))


def test_partial_years_are_those_of_the_realised_return():
    gross = np.full(26, 0.1)  # decisions 2000-01 to 2002-02, returns one period later
    gross[[5, 25]] = NAN  # 2000-07 is not scored, the last is not realised yet
    frame = pd.concat([series(gross), series(gross, portfolio="long_only")])
    assert partial_years(frame, 12) == [2000, 2002]
    assert partial_years(frame.iloc[:0], 12) == []


def test_one_year_without_total_r2():
    by_year = pd.DataFrame({"predictive_r": [0.01], "predictive_x": [NAN]}, [1999])
    figure = r2_by_year(by_year)
    draw(figure)
    assert [t.get_text() for t in figure.axes[0].texts] == ["n/a"]
    np.testing.assert_allclose(heights(figure.axes[1]), [[1], [NAN]])


def test_no_year_at_all():
    figure = r2_by_year(pd.DataFrame({"total_r": []}, pd.Index([], dtype=int)))
    draw(figure)
    assert texts(figure) == ["n/a", "n/a"]


def test_saved_as_png(fits, tmp_path):
    save_figures(tmp_path / "figures", {"learning_curves": learning_curves(*fits)})
    data = (tmp_path / "figures" / "learning_curves.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width = int.from_bytes(data[16:20], "big")
    assert width == pytest.approx(7.2 * 150, abs=1)


def test_matplotlib_waits_for_the_first_figure():
    check = (
        "import sys, jaxfin.report.figures as figures, pandas as pd\n"
        "assert 'matplotlib' not in sys.modules\n"
        "figures.r2_by_year(pd.DataFrame({'total_r': [0.1]}, [2000]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
