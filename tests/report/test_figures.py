"""Numbers, curves and tables of the report, without a browser."""

import json

import matplotlib.image
import numpy as np
import pytest

from harness.claims.report import figures
from harness.claims.report.exhibits import pictures, tables
from harness.claims.report.runs import Run, to_show
from harness.claims.report.scatter import scatter


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([75.631, 0.2], "75.63"),
        ([0.7664999], "0.7665"),
        ([466.99], "467.0"),
        ([100024.4], "100,024"),
        ([2.222e-6], "2.22e\N{MINUS SIGN}06"),
        ([-3.14159], "\N{MINUS SIGN}3.142"),
        ([0.0], "0.00"),
        ([-0.0001, 12.0], "0.00"),
        ([float("nan")], "nan"),
        ([None], figures.NOTHING),
    ],
)
def test_numbers_are_written_with_four_digits_and_no_negative_zero(values, shown):
    assert figures.written(values[0], figures.places(values)) == shown


def test_signs_spreads_and_intervals():
    assert figures.written(2.5, 1, sign=True) == "+2.5"
    assert figures.written(-0.001, 1, sign=True) == "0.0"
    assert figures.spread(0.0004, 2) == "<0.01"
    assert figures.spread(0.0, 2) == "0.00"
    assert figures.spread(None, 2) is None
    assert figures.interval([-1, 2], 1, sign=True) == "\N{MINUS SIGN}1.0 to +2.0"
    assert figures.interval(None, 1) is None


def row(effect, interval=None, least=None):
    return {"effect": effect, "interval": interval, "least": least}


def test_a_forest_has_one_axis_unless_sizes_are_too_different():
    (axis,) = figures.forest([[row(10.0, [8.0, 12.0], 5.0), row(0.0, ["nan", 1.0])], [row(None)]])
    # From zero to 12, with a tenth of that on either side.
    assert axis["range"] == pytest.approx([-1.2, 13.2])
    first, control, nothing = axis["marks"]
    assert (first["effect"], first["interval"], first["least"]) == (10.0, [8.0, 12.0], 5.0)
    assert (control["effect"], control["interval"], control["least"]) == (0.0, None, None)
    assert nothing["effect"] is None
    assert [one["effect_text"] for one in axis["rows"]] == ["+10.00", "0.00", figures.NOTHING]
    assert axis["rows"][0]["interval_text"] == "+8.00 to +12.00"
    large, small = figures.forest([[row(100.0)], [row(0.5)]])
    assert large["range"] == pytest.approx([-10, 110])
    assert small["range"] == pytest.approx([-0.05, 0.55])
    assert figures.forest([[row(None)]])[0]["range"] == [-1.0, 1.0]


def write_rows(folder, rows):
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(r) for r in rows) + '\n{"step": 3, "a')
    return folder


def test_curves_are_means_at_common_steps(tmp_path):
    long = write_rows(tmp_path / "long", [{"step": s, "val/a": s, "epoch": s // 2, "note": "text"} for s in range(4)])
    short = write_rows(tmp_path / "short", [{"step": s, "val/a": s + 2} for s in range(3)])
    bad = write_rows(
        tmp_path / "bad", [{"step": 0, "val/a": "nan"}, {"step": 1, "val/a": "inf"}, {"step": 2, "val/a": 5}]
    )
    apart = write_rows(tmp_path / "apart", [{"step": 77, "val/a": 1.0}])
    arms = {"whole": [long, short], "bad": [bad], "apart": [long, apart], "none": [tmp_path / "nowhere"]}
    (figure,) = figures.curves(arms, None)
    whole, broken, split = figure["curves"]
    assert figure["metric"] == "val/a"
    assert [whole[key] for key in ("x", "mean", "low", "high")] == [[0, 1, 2], [1, 2, 3], [0, 1, 2], [2, 3, 4]]
    assert whole["epoch"] == [0, 0, 1]
    assert whole["last"] == "3.000 (2.000 to 4.000)"
    assert (broken["mean"], broken["gaps"]) == ([None, None, 5.0], 2)
    assert (split["apart"], split["runs"], split["arm"]) == (True, 1, 2)


def test_long_curves_are_thinned_and_keep_their_end(tmp_path):
    folder = write_rows(tmp_path / "run", [{"step": s, "train/loss": 1.0} for s in range(1500)])
    (figure,) = figures.curves({"arm": [folder]}, ["train/loss", "never/logged"])
    (curve,) = figure["curves"]
    assert (len(curve["x"]), curve["x"][-1], curve["every"]) == (500, 1499, 3)


def run(folder, seed, status="done"):
    folder.mkdir(exist_ok=True)
    return Run(seed, str(folder), status, folder, {}, {})


def test_failed_runs_are_shown_only_where_none_is_done(tmp_path):
    done, failed = run(tmp_path / "a", 0), run(tmp_path / "b", 1, "failed")
    assert to_show({"x": [failed, done], "y": [failed]}) == {"x": [done], "y": [failed]}


def write_table(folder, rows, columns=("name", "acc", "note")):
    (folder / "tables").mkdir(parents=True)
    (folder / "tables" / "t.json").write_text(json.dumps({"columns": columns, "rows": rows}))


def test_tables_are_averaged_where_they_are_alike(tmp_path):
    runs = [run(tmp_path / str(seed), seed) for seed in range(2)]
    write_table(runs[0].path, [["a", "70.00", "x"], ["b", 1.5, 3]])
    write_table(runs[1].path, [["a", "71.01", "y"], ["b", 2.5, 3]])
    (table,) = tables({"arm": runs})
    assert table["rows"] == [
        [("a", False), ("70.50", False), ("x", True)],
        [("b", False), ("2.000", False), ("3", False)],
    ]
    assert table["columns"] == [("name", False), ("acc", True), ("note", False)]
    assert (table["note"], table["one_seed"]) == ("mean of seeds 0, 1", 0)


def test_tables_that_are_not_alike_are_the_first_seeds(tmp_path):
    runs = [run(tmp_path / str(seed), seed) for seed in range(2)]
    write_table(runs[0].path, [["a", 1.0, "x"]])
    write_table(runs[1].path, [["other", 3.0, "x"]])
    (table,) = tables({"arm": runs})
    assert table["rows"] == [[("a", False), ("1.000", False), ("x", False)]]
    assert table["note"] == "seed 0 only; the tables of seeds 0, 1 are not alike"


def test_large_pictures_are_made_smaller(tmp_path):
    only = run(tmp_path / "run", 0)
    (only.path / "pictures").mkdir()
    noise = np.random.default_rng(0).random((1200, 2000, 3))
    matplotlib.image.imsave(only.path / "pictures" / "big.png", noise)
    ((cell,),) = [picture["cells"] for picture in pictures({"arm": [only]})]
    assert cell["image"]["reduced"]
    assert cell["image"]["address"].startswith("data:image/webp;base64,")
    assert len(cell["image"]["address"]) < 2_500_000
    assert (cell["image"]["width"], cell["image"]["height"]) == (2000, 1200)


def test_the_scatter_is_logarithmic_and_gives_zero_a_place():
    told = {
        "scatter": {"x": "cost/tuner", "y": "test/acc"},
        "arms": {
            name: {"cost": {"tuner": x}, "metrics": {"test/acc": {"mean": y, "interval": [y - 1, y + 1]}}}
            for name, x, y in (("linear", 0, 60.0), ("small", 1000, 70.0), ("large", 100_000, 80.0))
        },
    }
    told["arms"]["unfinished"] = {"cost": {}, "metrics": {}}
    shown = [{"name": name, "color": i} for i, name in enumerate(told["arms"])]
    drawn = scatter(told, shown)
    by_name = {point["name"]: point for point in drawn["points"]}
    assert list(by_name) == ["linear", "small", "large"]
    # Zero stands a decade to the left of the smallest, whose decade is 1e3.
    assert [by_name[name]["at"] for name in by_name] == [100.0, 1000, 100_000]
    assert drawn["columns"] == [(100.0, "0"), (1e3, "1000"), (1e4, "1e4"), (1e5, "1e5")]
    assert drawn["titles"] == ["tuner", "acc"]
    assert by_name["small"]["text"] == "70.00 at 1,000"
    assert by_name["small"]["interval_text"] == "69.00 to 71.00"
    del told["arms"]["linear"]
    assert scatter(told, shown)["columns"][0] == (1e3, "1000")
    assert scatter({"arms": told["arms"]}, shown) is None
    assert scatter(told | {"arms": {}}, shown) is None
