import json
import os

import numpy as np
import pytest
import torch

from lightning_modules.uosr.evaluate import main
from lightning_modules.uosr.histogram import uncertainty_histogram
from lightning_modules.uosr.score_file import FEW_SHOT, PLAIN, UCF_HMDB_OVERLAP, read_score_file, write_score_file
from lightning_modules.uosr.scores.few_shot import DEFAULTS, FewShot
from lightning_modules.uosr.scores.stored_few_shot import few_shot_arrays
from lightning_modules.uosr.table import HEADER, printed_name, table_rows
from lightning_modules.uosr.unified_metrics import mean_over_tries, unified_metrics
from tests.cli.quire import python
from tests.uosr.toy import toy


def _plain(path, ood_label=None):
    rng = np.random.default_rng(0)
    label = np.zeros(50, int) if ood_label is None else ood_label
    arrays = {
        "ind_unctt": rng.random(80),
        "ood_unctt": rng.random(len(label)) + 0.3,
        "ind_pred": rng.integers(3, size=80),
        "ood_pred": np.zeros(len(label), int),
        "ind_label": rng.integers(2, size=80),
        "ood_label": label,
    }
    write_score_file(path, arrays)
    return arrays


def _run(*arguments):
    return python("-m", "lightning_modules.uosr.evaluate", *arguments, COLUMNS=80)


def test_official_files_survive_a_round_trip(tmp_path):
    arrays = _plain(tmp_path / "plain.npz")
    file = read_score_file(tmp_path / "plain.npz")
    assert not file.few_shot
    assert set(file.arrays) == set(PLAIN)
    for name, array in arrays.items():
        assert np.array_equal(file.arrays[name], array)
    # Accuracy recomputed from the file.
    assert file.correct().mean() == (arrays["ind_pred"] == arrays["ind_label"]).mean()


def test_evaluate_prints_the_table_and_writes_the_numbers(tmp_path):
    arrays = _plain(tmp_path / "softmax.npz")
    done = _run(tmp_path / "softmax.npz", "--out", tmp_path / "all.json")
    assert done.returncode == 0, done.stderr
    expected = unified_metrics(arrays["ind_unctt"], arrays["ind_pred"] == arrays["ind_label"], arrays["ood_unctt"])
    for cell in table_rows({"softmax": expected})[0]:
        assert cell in done.stdout
    for column in HEADER:
        assert column in done.stdout
    assert json.loads((tmp_path / "all.json").read_text())["softmax"] == pytest.approx(expected)


def test_a_bad_file_is_one_line_and_exit_code_2(tmp_path):
    np.savez(tmp_path / "bad.npz", ind_unctt=np.zeros(3), ood_unctt=np.zeros(2))
    done = _run(tmp_path / "bad.npz")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no ind_pred, ood_pred, ind_label, ood_label" in done.stderr


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npz", None, "there is no such file"),
        ("text.npz", b"hello", "not an .npz file"),
        ("empty.npz", b"", "not an .npz file"),
        ("pickle.npz", "object", "not an .npz file of plain arrays"),
        ("single.npy", "array", "not an .npz file"),
        ("uneven.npz", "uneven", "different lengths: ind_unctt 3, ind_pred 4"),
        ("tries.npz", "tries", "different numbers of tries"),
        ("nan.npz", "nan", "1 of 2 scores are not a number"),
    ],
)
def test_every_bad_file_is_named_in_one_line(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "object":
        np.savez(path, **{key: np.array([object()], dtype=object) for key in PLAIN})
    elif content == "array":
        np.save(path, np.zeros(3))
    elif content == "uneven":
        lengths = dict.fromkeys(PLAIN, 3) | {"ind_pred": 4}
        np.savez(path, **{key: np.zeros(length) for key, length in lengths.items()})
    elif content == "tries":
        np.savez(path, **{key: np.zeros((2, 3)) for key in FEW_SHOT} | {"d_train": np.zeros((5, 3))})
    elif content == "nan":
        np.savez(path, **{key: np.zeros(1) for key in PLAIN} | {"ood_unctt": np.array([np.nan])})
    assert main([str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert str(path) in error or content == "nan"
    assert error.count("\n") == 1


def test_classes_that_both_data_sets_have_are_left_out(tmp_path, capsys):
    # 51 classes of 30 test videos each: 8 of them are UCF101's too.
    _plain(tmp_path / "hmdb.npz", np.arange(1530) % 51)
    overlap = ",".join(map(str, UCF_HMDB_OVERLAP))
    assert main([str(tmp_path / "hmdb.npz"), "--drop-ood-labels", overlap]) == 0
    printed = capsys.readouterr().out
    assert "left out 240 of 1530 unknown samples, 1290 remain" in printed
    assert "+ 1290" in printed
    kept = read_score_file(tmp_path / "hmdb.npz").without_ood_labels(UCF_HMDB_OVERLAP).arrays
    assert len(kept["ood_unctt"]) == len(kept["ood_pred"]) == 1290
    assert not np.isin(kept["ood_label"], UCF_HMDB_OVERLAP).any()


@pytest.fixture
def few_shot_file(tmp_path):
    few_shot = FewShot(toy().train, toy().pool, 5)
    arrays = few_shot_arrays(few_shot, toy().known, toy().ood)
    write_score_file(tmp_path / "fs.npz", arrays)
    return tmp_path / "fs.npz", arrays


@pytest.mark.parametrize("transductive", [False, True])
def test_few_shot_rows_are_those_of_the_module(tmp_path, few_shot_file, transductive):
    path, _ = few_shot_file
    flags = ["--transductive"] if transductive else []
    assert main([str(path), "--beta", "0.5", "--out", str(tmp_path / "rows.json"), *flags]) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    few_shot = FewShot(toy().train, toy().pool, 5, DEFAULTS | {"beta": 0.5, "transductive": transductive})
    known, ood = few_shot.scores(toy().known, toy().ood)
    for name in ("fs_knn", "fs_knn_plus_s", "fs_knn_times_s", "sirc", "fs_knns"):
        expected = mean_over_tries(known[name], toy().known.correct(), ood[name])
        assert rows[f"fs: {printed_name(name)}"] == pytest.approx(expected, abs=1e-9), name


def test_an_official_few_shot_file_says_what_it_lacks(tmp_path, few_shot_file, capsys):
    _, arrays = few_shot_file
    official = {name: arrays[name] for name in FEW_SHOT}
    write_score_file(tmp_path / "official.npz", official)
    assert main([str(tmp_path / "official.npz")]) == 2
    assert "no ind_pred, ind_label" in capsys.readouterr().err
    labels = {name: arrays[name] for name in ("ind_pred", "ind_label", "ood_pred", "ood_label")}
    write_score_file(tmp_path / "labels.npz", labels | {"ind_unctt": arrays["msp_in"], "ood_unctt": arrays["msp_ood"]})
    given = [str(tmp_path / "official.npz"), "--labels", str(tmp_path / "labels.npz")]
    assert main(given) == 0
    printed = capsys.readouterr().out
    assert "need --transductive" in printed
    assert "official: FS-KNN " in printed
    assert "official: FS-KNNS" not in printed
    assert "KNN and SSD cannot be computed" in printed
    assert main([*given, "--transductive", "--drop-ood-labels", "3"]) == 0
    printed = capsys.readouterr().out
    assert "official: FS-KNNS" in printed
    assert "+ 300" in printed


def test_printed_names_and_counts():
    metrics = unified_metrics([0.1, 0.2, 0.9], [True, True, True], [0.5])
    (row,) = table_rows({"fs_knns_5shot": metrics})
    assert row[0] == "FS-KNNS, 5-shot"
    assert row[-1] == "3 + 0 + 1"
    assert row[HEADER.index("InC/InW")] == "-"
    assert (printed_name("msp"), printed_name("something")) == ("SoftMax (MSP)", "something")


def test_histogram_shows_the_three_kinds():
    inc, inw, ood = torch.linspace(0, 1, 50), torch.linspace(1, 2, 20), torch.tensor([])
    figure = uncertainty_histogram(inc, inw, ood, "SoftMax (MSP)")
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["InC (accept), n = 50", "InW (reject), n = 20", "OoD (reject), n = 0"]
    outline = axes.patches[1]
    values, edges, _ = outline.get_data()
    assert (values * np.diff(edges)).sum() == pytest.approx(1)
    uncertainty_histogram([0.5], [0.5], [np.inf], "one value").savefig(os.devnull, format="png")
