"""The experiments of GeoD from the command line: tiny twins, resume, two processes, samples and meshes."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.cli.quire import assert_same_run, call, checkpoint, kill_when_rows, only_folder, quire, read
from tests.cli.test_dvdp import SMALL as DVDP
from tests.tiers import full

FEW = ("model.evaluation.samples=16", "model.evaluation.validation_samples=8")
NETWORKS = (
    "model.triplane.channel_max=16",
    "model.triplane.rays.depth_samples=8",
    "model.discriminator.channel_max=16",
)
NOW = ("model.guidance.start_kimg=0", "model.guidance.end_kimg=0")
SMALL = ("debug=tiny", *FEW, *NETWORKS, *NOW, "data.train_size=256", "data.test_size=128")


# The networks that are needed first, of a few heads.
NEEDED = {"geod_ir": "model.ir_init", "geod_oracle": "model.evaluation.oracle"}
NEEDED |= {"geod_features": "model.evaluation.features"}
HEADS = "data.train_size=64 data.test_size=32"
# This one makes all that it needs itself, as its file says.
FROM_NOTHING = "geod_shuffled"


def small_needs(experiment):
    names = [name for name in NEEDED if name != "geod_ir" or experiment == "geod"]
    return [f"{NEEDED[name]}='run:experiment={name} {HEADS}'" for name in names]


@pytest.fixture(scope="module")
def finished(shared_run):
    """A finished `geod`, and the networks that it needs."""
    return shared_run("experiment=geod", *SMALL, *small_needs("geod"))


@pytest.mark.parametrize("experiment", ["geod", "geod_joint", *full("geod_base", FROM_NOTHING, "geod_untrained")])
def test_the_tiny_twin_of_every_experiment_that_runs_here(experiment, finished, tmp_path):
    runs = finished.runs
    if experiment != "geod":
        runs = tmp_path
        needs = [] if experiment == FROM_NOTHING else small_needs(experiment)
        if needs:
            finished.copy(runs, *NEEDED)
        done = quire(f"experiment={experiment}", *SMALL, *needs, f"runs={runs}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert {path.name for path in runs.iterdir() if path.name[0] != "."} == {experiment, *NEEDED}
        assert all(only_folder(runs, name) for name in NEEDED)
    folder = only_folder(runs, experiment)
    metrics = read(folder / "result.json")["metrics"]
    expected = {
        "oracle_mad",
        "specificity",
        "specificity_inside",
        "fd",
        "reprojection",
        "mean_shape_error",
        "mean_shape_mad",
        "flat_mad",
    }
    assert metrics.keys() >= {f"test/{name}" for name in expected}
    assert metrics["test/images_seen"] == 6 * 16
    assert ("test/ir_mad" in metrics) == (experiment != "geod_base")
    pictures = {path.name for path in (folder / "pictures").iterdir()}
    assert pictures >= {"samples.png", "real.png", "turntable.gif"}
    assert ("reading.png" in pictures) == (experiment != "geod_base")
    with Image.open(folder / "pictures" / "turntable.gif") as turning:
        assert turning.n_frames == 24
    assert len(checkpoint(folder, "best.ckpt")["optimizer_states"]) == (3 if experiment == "geod_joint" else 2)
    rows = (folder / "metrics.jsonl").read_text()
    assert ("train/guidance" in rows) == (experiment != "geod_base")


def test_what_geod_needs_is_made_once(finished):
    assert read(finished.folder("geod_oracle") / "result.json")["metrics"]["test/mad"] > 0
    assert read(finished.folder("geod_features") / "result.json")["metrics"]["test/acc"] > 0
    folder = finished.folder("geod_ir")
    metrics = read(folder / "result.json")["metrics"]
    assert metrics["test/ir_mad"] > 0
    assert metrics["test/mean_shape_mad"] > 20
    assert (folder / "pictures" / "reading.png").is_file()


@pytest.mark.full
def test_killed_and_started_again_three_optimizers_go_on_as_they_were(tmp_path):
    bare = ("model.evaluation.oracle=null", "model.evaluation.features=null")
    words = ("experiment=geod_joint", *SMALL, *bare, "callbacks.resume.every_seconds=0")
    assert quire(*words, f"runs={tmp_path / 'straight'}").returncode == 0
    broken = tmp_path / "broken"
    kill_when_rows(words, "geod_joint", broken, (3, 9))
    assert quire(*words, f"runs={broken}").returncode == 0
    straight, resumed = (only_folder(tmp_path / name, "geod_joint") for name in ("straight", "broken"))
    assert_same_run(straight, resumed)
    assert len(checkpoint(resumed)["optimizer_states"]) == 3


@pytest.mark.full
def test_mixed_precision_learns_the_same(tmp_path):
    bare = ("model.evaluation.oracle=null", "model.evaluation.features=null", "model.nvs.kind=warp")
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        words = (
            "experiment=geod_joint",
            *SMALL,
            *bare,
            f"hardware.precision={precision}",
            f"runs={tmp_path}/{precision}",
        )
        done = quire(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = only_folder(tmp_path / precision, "geod_joint")
        rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        found[precision] = next(row for row in reversed(rows) if "train/g_loss" in row)
    whole, mixed = found.values()
    for name in ("ir_loss", "guidance", "novel_view", "g_loss", "d_loss"):
        assert mixed[f"train/{name}"] == pytest.approx(whole[f"train/{name}"], rel=0.15, abs=0.05), name


@pytest.mark.full
def test_two_processes_are_one_with_the_same_global_batch(tmp_path):
    bare = ("model.evaluation.oracle=null", "model.evaluation.features=null", "model.discriminator.mbstd_group_size=1")
    words = ("experiment=geod_joint", *SMALL, *bare, "trainer.max_epochs=1")
    found = {}
    for hardware in ("cpu", "ddp_cpu"):
        runs = tmp_path / hardware
        done = quire(*words, f"hardware={hardware}", f"runs={runs}")
        assert done.returncode == 0, done.stdout + done.stderr
        folder = only_folder(runs, "geod_joint")
        found[hardware] = checkpoint(folder)["state_dict"]
        assert read(folder / "result.json")["metrics"]["test/images_seen"] == 3 * 16
    one, two = found["cpu"], found["ddp_cpu"]
    # Latents and poses are those of one draw, but places along rays are each process's own.
    counted = [name for name in one if "seen" in name]
    assert all(one[name] == two[name] for name in counted)
    shift = [(one[name] - two[name]).abs().max().item() for name in one if one[name].is_floating_point()]
    assert max(shift) < 0.1
    reader = [name for name in one if name.startswith("inverse_renderer")]
    assert max((one[name] - two[name]).abs().max().item() for name in reader) < 5e-3


def test_samples_and_their_meshes(finished, tmp_path):
    finished.copy(tmp_path, "geod")
    folder = only_folder(tmp_path, "geod")
    done = quire("mode=sample", f"run={folder}", "n=3", "seed=5")
    assert done.returncode == 0, done.stderr
    place = folder / "samples" / "count-3_seed-5"
    assert len(list(place.glob("0*.png"))) == 3
    done = quire("mode=sample", f"run={folder}", "n=2", "mesh=true", "seed=6")
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "samples" / "count-2_seed-6_mesh-true").glob("0*.ply"))) == 2
    wrong = call("mode=sample", f"run={folder}", "mesh=maybe")
    assert wrong.returncode == 2
    assert "mesh: is 'maybe', should be true or false" in wrong.stderr
    steps = call("mode=sample", f"run={folder}", "steps=5", "seed=9")
    assert steps.returncode == 2
    assert "steps: no such option" in steps.stderr


def test_what_has_no_surfaces_says_so(shared_run):
    folder = shared_run("experiment=dvdp", *DVDP).folder("dvdp")
    done = call("mode=sample", f"run={folder}", "n=2", "mesh=true")
    assert done.returncode == 2
    assert "mesh: no such option" in done.stderr


def test_a_mesh_is_read_back(tmp_path):
    from harness.cli.ply import write_ply

    vertices = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    triangles, colours = np.int32([[0, 1, 2], [0, 2, 3]]), np.uint8([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]])
    write_ply(tmp_path / "one.ply", vertices, triangles, colours)
    content = (tmp_path / "one.ply").read_bytes()
    head, _, body = content.partition(b"end_header\n")
    assert b"element vertex 4" in head
    assert b"element face 2" in head
    points = np.frombuffer(body[: 4 * 15], [("place", "<f4", 3), ("colour", "u1", 3)])
    assert np.array_equal(points["place"], vertices)
    assert np.array_equal(points["colour"], colours)
    faces = np.frombuffer(body[4 * 15 :], [("count", "u1"), ("corners", "<i4", 3)])
    assert np.array_equal(faces["corners"], triangles)
    assert set(faces["count"]) == {3}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model.guidance.gama_end=1",), "gamma_end"),
        (("model.guidance.kind=normals",), "normal"),
        (("data.families=[cube]",), "cube"),
        (("model.ir_init=nowhere.ckpt", "model.evaluation.oracle=null"), "ir_init: no file nowhere.ckpt"),
        (("model.evaluation.oracle=nowhere.ckpt", "model.ir_init=null"), "evaluation.oracle: no file nowhere.ckpt"),
    ],
)
def test_typos_and_missing_files_get_one_line(words, expected, tmp_path):
    done = call("experiment=geod", *SMALL, "model.evaluation.features=null", *words, f"runs={tmp_path}")
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
