"""Every model with all data: what fits runs as a tiny run, what does not is refused in one line."""

import json
import re

import pytest

from common.errors import UserError
from harness.config.check import errors_in_composed
from harness.config.compose import composed, options
from harness.config.load import load_checked
from tests.cli.quire import call, quire, read
from tests.matrix.miniatures import small_form  # noqa: F401 - a fixture
from tests.matrix.pairs import DATA, EXPERIMENTS, FILE, PAIRS, TOO_SMALL, Pair, matrix, refusal
from tests.tiers import full

AGAIN = "python -m tests.matrix.pairs, then python docs/fill.py"
REFUSED = [pair for pair in PAIRS if refusal(pair)]
RUNS = [pair for pair in PAIRS if pair not in REFUSED and pair not in TOO_SMALL]
# Options of one DataModule and one kind of data, of which one stands for all here.
ALIKE = {"heads", "heads_asymmetric", "heads_large", "patterns", "glyphs", "shapes_pretrain", "ffhq", "celeba"}
ALIKE |= {"hmdb51", "k100", "ssv2_full", "ucf101"}
# The pairs of the experiments themselves, and of tests/*/test_paper_scale.py.
ELSEWHERE = {Pair("uosr", "shapes"), Pair("u_tuning", "digits_shifted"), Pair("neural_dependency", "shapes_closed")}
ELSEWHERE |= {Pair("dvdp", "scenes"), Pair("geod", "heads_diverse"), Pair("clip_fsar", "actors")}
ELSEWHERE |= {Pair("mini_clip", "actor_stills"), Pair("label_features", "scenes"), Pair("clip_fsar", "ssv2_small")}
TRAINED = [pair for pair in RUNS if pair.data not in ALIKE and pair not in ELSEWHERE]
# One of each kind that is new: other splits, no label network, another normalization.
FAST = {Pair("neural_dependency", "digits"), Pair("dvdp", "picture_folder"), Pair("u_tuning", "vtab")}
CASES = [*[pair for pair in TRAINED if pair in FAST], *full(*[(pair,) for pair in TRAINED if pair not in FAST])]


def name(pair):
    return f"{pair.model}-{pair.data}"


def test_the_page_has_every_model_and_all_data():
    assert json.loads(FILE.read_text()) == {"experiments": EXPERIMENTS, "matrix": matrix()}, (
        f"docs/data_matrix.json is stale: {AGAIN}"
    )
    assert set(options("model")) <= set(EXPERIMENTS)
    assert {pair.data for pair in RUNS} == set(DATA)
    assert {pair.model for pair in RUNS} == set(EXPERIMENTS)


@pytest.mark.parametrize("model", EXPERIMENTS)
def test_what_fits_passes_the_check(model):
    for pair in RUNS:
        if pair.model == model:
            assert errors_in_composed(composed(pair.overrides), pair.overrides) == [], pair


def refused_by_command_line(pair):
    with pytest.raises(UserError) as caught:
        load_checked(pair.overrides)
    (line,) = caught.value.lines
    assert line == f"command line: data: {refusal(pair)}"


@pytest.mark.parametrize("pair", [pair for pair in REFUSED if pair.data in {"actors", "scenes"}], ids=name)
def test_what_does_not_fit_is_one_line(pair):
    refused_by_command_line(pair)


@pytest.mark.full
@pytest.mark.parametrize("model", EXPERIMENTS)
def test_what_does_not_fit_is_one_line_everywhere(model):
    for pair in REFUSED:
        if pair.model == model:
            refused_by_command_line(pair)


def test_a_refusal_names_data_that_fit_and_exits_with_2(tmp_path):
    done = call("experiment=geod_ffhq256", "data=picture_folder", f"runs={tmp_path}")
    assert done.returncode == 2
    told = "picture_folder offers no cameras (model.poses.kind=labels or discriminator.pose_conditioned=true)"
    assert done.stderr.startswith(
        f"error: command line: data: {told}, which model=geod_eg3d needs; data that fit: eg3d"
    )
    assert len(done.stderr.splitlines()) == 1


def test_data_that_would_fit_with_another_value_are_named_with_it():
    with pytest.raises(UserError) as caught:
        load_checked(["experiment=uosr", "model.objective=oe", "data=cifar100"])
    (line,) = caught.value.lines
    fitting = re.findall("data that fit: (.*)", line)[0].split(", ")
    assert fitting == ["cifar100 with data.outliers=true", "shapes"]
    assert load_checked(["experiment=uosr", "model.objective=oe", "data=cifar100", "data.outliers=true"])


@pytest.mark.parametrize("pair", sorted(TOO_SMALL), ids=name)
def test_what_is_too_small_is_one_line_of_the_models_own(pair, tmp_path):
    done = quire(*pair.overrides, "debug=tiny", f"runs={tmp_path}")
    assert done.returncode == 2
    assert "has to be a multiple of" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """One folder for all, so that what several pairs take weights from is run once."""
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("pair", CASES, ids=name)
def test_what_fits_runs(pair, small_form, runs):  # noqa: F811 - a fixture
    done = quire(*pair.overrides, *small_form(pair), f"runs={runs}")
    assert done.returncode == 0, done.stdout + done.stderr
    folders = (runs / pair.experiment).glob("*/lock.json")
    (folder,) = [lock.parent for lock in folders if pair.overrides[1] in read(lock)["overrides"]]
    metrics = read(folder / "result.json")["metrics"]
    assert any(key.startswith("test/") for key in metrics) or pair.model == "geod_ir"
