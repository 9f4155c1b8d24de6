"""The experiments of LinkGAN from the command line: tiny twins, resume, two processes, samples, bad input."""

import pytest

from tests.cli.quire import assert_same_run, call, checkpoint, kill_when_rows, only_folder, quire, read
from tests.tiers import full

FEW = ("model.evaluation.samples=16", "model.evaluation.validation_samples=16", "model.evaluation.batch_size=16")
SMALL = ("debug=tiny", *FEW, "data.train_size=128", "data.test_size=64", "data.val_size=32")
# Runs that are needed first, of a few images.
WORLD = "data.train_size=128 data.test_size=64 data.val_size=32"


def small_needs(name):
    base, features = ("linkgan_base", "linkgan_features")
    if "objects" in name:
        base, features = "linkgan_objects_base", "linkgan_objects_features"
    segmenter = f"run:experiment=linkgan_objects_segmenter {WORLD}"
    needs = [f"model.evaluation.features='run:experiment={features} {WORLD}'"]
    own = [*needs, f"model.segmenter.path='{segmenter}'"] if "objects" in name else needs
    if name.endswith("base"):
        return own
    words = " ".join([WORLD, *FEW, "model.evaluation.features=null"])
    return [*own, f"model.init_from='run:experiment={base} {words}'"]


# A start without a base: networks that have learned nothing are linked.
LINKED = (
    "experiment=linkgan_base",
    *SMALL,
    "model.link.lambda_in=15",
    "model.link.lambda_out=15",
    "model.evaluation.features=null",
)


@pytest.fixture(scope="module")
def finished(shared_run):
    """A finished `linkgan`, and the runs that it needs."""
    return shared_run("experiment=linkgan", *SMALL, *small_needs("linkgan"))


def test_the_tiny_twin_links_what_the_base_has_learned(finished):
    folder, base = finished.folder("linkgan"), finished.folder("linkgan_base")
    metrics = read(folder / "result.json")["metrics"]
    expected = {"leak_in", "leak_out", "hold", "diversity", "fd", "fd_edited", "psd_error", "edit_mse_inside"}
    assert metrics.keys() >= {f"test/{name}" for name in expected}
    # Two epochs of three batches.
    assert metrics["test/images_seen"] == 6 * 16
    pictures = {path.name for path in (folder / "pictures").iterdir()}
    assert pictures >= {"samples.png", "edits.png", "real.png", "training_samples.png", "training_edits.png"}
    linked, before = checkpoint(folder, "best.ckpt")["state_dict"], checkpoint(base, "best.ckpt")["state_dict"]
    assert linked.keys() == before.keys()
    assert linked["average.images_seen"] == 2 * before["average.images_seen"]
    assert "train/link_loss" in (folder / "metrics.jsonl").read_text()
    assert "train/link_loss" not in (base / "metrics.jsonl").read_text()


@pytest.mark.parametrize("experiment", full("linkgan_quadrants", "linkgan_objects"))
def test_the_tiny_twin_of_other_regions(experiment, tmp_path):
    done = quire(f"experiment={experiment}", *SMALL, *small_needs(experiment), f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    metrics = read(only_folder(tmp_path, experiment) / "result.json")["metrics"]
    assert metrics["test/leak_in"] > 0
    assert metrics["test/fd_edited"] > 0
    assert ("test/hold_top_left" in metrics) == (experiment == "linkgan_quadrants")
    if experiment == "linkgan_objects":
        # The base makes one of its own, as its file says.
        results = [read(path) for path in (tmp_path / "linkgan_objects_segmenter").glob("*/result.json")]
        assert len(results) == 2
        assert all(result["metrics"]["test/acc"] > 50 for result in results)


def test_killed_between_two_regularized_steps_it_continues_as_it_was(tmp_path):
    words = (*LINKED, "model.link.interval=4", "callbacks.resume.every_seconds=0")
    assert quire(*words, f"runs={tmp_path / 'straight'}").returncode == 0
    kill_when_rows(words, "linkgan_base", tmp_path / "broken", (4,))
    assert quire(*words, f"runs={tmp_path / 'broken'}").returncode == 0
    straight, resumed = (only_folder(tmp_path / name, "linkgan_base") for name in ("straight", "broken"))
    assert_same_run(straight, resumed)
    assert len(checkpoint(resumed)["optimizer_states"]) == 2


def test_two_processes_are_one_with_the_same_global_batch(tmp_path):
    found = {}
    for hardware in ("cpu", "ddp_cpu"):
        runs = tmp_path / hardware
        done = quire(*LINKED, "trainer.max_epochs=1", f"hardware={hardware}", f"runs={runs}")
        assert done.returncode == 0, done.stdout + done.stderr
        folder = only_folder(runs, "linkgan_base")
        found[hardware] = checkpoint(folder)["state_dict"], read(folder / "result.json")["metrics"]
    (one, metrics), (two, others) = found["cpu"], found["ddp_cpu"]
    assert all(one[name] == two[name] for name in one if "seen" in name)
    # Noise, groups of the discriminator and means are those of the global batch: rounding is all that is left, and what
    # Adam makes of it where a gradient is nearly zero.
    shifts = {name: (one[name] - two[name]).abs() for name in one if one[name].is_floating_point()}
    assert max(shift.mean() for shift in shifts.values()) < 1e-3
    for name in ("leak_in", "leak_out", "hold", "diversity"):
        assert others[f"test/{name}"] == pytest.approx(metrics[f"test/{name}"], rel=0.02), name


@pytest.mark.full
def test_mixed_precision_learns_the_same(tmp_path):
    found = []
    for precision in ("32-true", "bf16-mixed"):
        runs = tmp_path / precision
        done = quire(*LINKED, f"hardware.precision={precision}", f"runs={runs}")
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(read(only_folder(runs, "linkgan_base") / "result.json")["metrics"])
    for name in ("leak_in", "leak_out", "hold"):
        assert found[1][f"test/{name}"] == pytest.approx(found[0][f"test/{name}"], rel=0.15), name


def test_samples_of_an_edit(finished, tmp_path):
    finished.copy(tmp_path, "linkgan")
    folder = only_folder(tmp_path, "linkgan")
    done = quire("mode=sample", f"run={folder}", "n=3", "seed=5", "sample.resample=eyes")
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "samples").glob("*/0*.png"))) == 3
    wrong = call("mode=sample", f"run={folder}", "n=3", "seed=6", "sample.resample=eye")
    assert wrong.returncode == 2
    assert "no link 'eye' - did you mean eyes" in wrong.stderr


def test_costs_count_the_lazy_passes():
    def gflops(*words):
        done = call("experiment=linkgan_base", "debug=tiny", "mode=cost", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        (line,) = [line for line in done.stdout.splitlines() if "GFLOPs" in line]
        return float(line.split("│")[2])

    links = ("model.link.lambda_in=1", "model.link.lambda_out=1")
    base, linked = gflops(), gflops(*links)
    assert linked > 1.2 * base
    assert gflops("model.regularization.r1_gamma=0") < base
    assert gflops("model.regularization.path_length_weight=0") < base
    assert gflops(*links, "model.link.adversarial_on_perturbed=false") < linked


FACE = "+model.links.face={{axes:[0.5,0.75],region:{{classes:[{}]}}}}"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model.links.eyes.axes=[0.0,1.5]",), "model.links.eyes.axes is [0.0, 1.5], should be within 0 to 1"),
        (("+model.links.mouth={axes:[0.2,0.4],region:mouth}",), "groups of axes cannot overlap"),
        (("model.links.eyes.region=[0.5,0.5,0.5,0.5]",), "no pixel of images of 16 x 16"),
        (("model.links.eyes.region=eyse",), "no region 'eyse' - did you mean eyes"),
        (("model.links.eyes.regoin=eyes",), "region"),
        (("model.link.alpha_mode=relativ",), "did you mean relative"),
        ((FACE.format("eye"),), "needs a segmenter"),
        (
            (
                FACE.format("mouht"),
                "model.segmenter={kind:small,path:none.ckpt,classes:[skin,mouth],size:16}",
            ),
            "the segmenter has no class 'mouht' - did you mean mouth",
        ),
        (
            (
                FACE.format("left_eye"),
                "model.segmenter={kind:small,path:none.ckpt,classes:[left_eye],size:16}",
                "model.flips=true",
            ),
            "class 'left_eye' has a side, and data.flip mirrors images",
        ),
    ],
)
def test_bad_input_gets_one_line_before_anything_runs(words, expected, tmp_path):
    done = call("experiment=linkgan_base", "debug=tiny", *words, "mode=check", f"runs={tmp_path}")
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())
