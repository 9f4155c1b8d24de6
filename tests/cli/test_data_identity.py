"""The data are part of what a run is: equal names in another folder, moved folders, weights that were overwritten."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tests.cli.quire import TINY, assert_same_run, kill_when_rows, only_folder, quire, read

NETWORK = ("model.network.channels=[16,16]", "model.network.layers=1", "model.network.norm_num_groups=8")
SMALL = ("data.image_size=16", "data.val_size=4", "data.batch_size=8", "model.evaluation.features=null")
TEST = (
    "model.evaluation.samples=4",
    "model.evaluation.steps=2",
    "model.evaluation.curve_steps=[]",
    "model.sampler.preview_images=0",
)
WORDS = ("experiment=dvdp_ddpm", "data=picture_folder", "debug=tiny", *NETWORK, *SMALL, *TEST)


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """Two folders of pictures with equal names: red ones and blue ones."""
    place = tmp_path_factory.mktemp("roots")
    for name, channel in (("a", 0), ("b", 2)):
        (place / name).mkdir()
        for k in range(24):
            pixels = np.random.default_rng(k).integers(0, 80, (16, 16, 3), np.uint8)
            pixels[..., channel] += 170
            Image.fromarray(pixels).save(place / name / f"{k:03d}.png")
    return place


@pytest.fixture(scope="module")
def of_a(roots, tmp_path_factory):
    """The folder of runs in which the run on the first data is finished."""
    runs = tmp_path_factory.mktemp("runs")
    done = quire(*WORDS, f"data.root={roots / 'a'}", f"runs={runs}")
    assert done.returncode == 0, done.stdout + done.stderr
    return runs


def test_other_data_of_the_same_names_are_another_run(roots, of_a, tmp_path):
    runs = shutil.copytree(of_a, tmp_path / "runs")
    first = only_folder(runs, "dvdp_ddpm")
    done = quire(*WORDS, f"data.root={roots / 'b'}", f"runs={runs}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "finished before" not in done.stdout
    assert f"other data than {first.name}, with the same config" in done.stdout
    (second,) = [path for path in (runs / "dvdp_ddpm").iterdir() if path != first]
    rows = [(folder / "metrics.jsonl").read_text() for folder in (first, second)]
    assert rows[0] != rows[1]


def test_the_same_data_staged_elsewhere_are_the_same_run(roots, of_a, tmp_path):
    there = shutil.copytree(roots / "a", tmp_path / "scratch" / "pictures")
    done = quire(*WORDS, f"data.root={there}", f"runs={of_a}")
    assert done.returncode == 0
    assert "finished before, not repeated" in done.stdout


def test_results_are_found_where_the_data_are_not(of_a, tmp_path):
    moved = shutil.copytree(of_a, tmp_path / "laptop")
    done = quire(*WORDS, f"data.root={tmp_path / 'nowhere'}", f"runs={moved}")
    assert done.returncode == 0, done.stderr
    assert "finished before, not repeated" in done.stdout


def test_a_killed_run_is_not_resumed_on_other_data(roots, tmp_path):
    more = ("callbacks.resume.every_seconds=0", f"runs={tmp_path / 'runs'}")
    kill_when_rows((*WORDS, *more[:1], f"data.root={roots / 'a'}"), "dvdp_ddpm", tmp_path / "runs", (3,))
    killed = only_folder(tmp_path / "runs", "dvdp_ddpm")
    done = quire(*WORDS, *more, f"data.root={roots / 'b'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on from its last resume point" not in done.stdout
    assert read(killed / "status.json")["status"] == "running"
    assert len(list((tmp_path / "runs" / "dvdp_ddpm").iterdir())) == 2


@pytest.mark.full
def test_a_killed_run_is_resumed_in_a_runs_folder_that_was_renamed(tmp_path):
    # The best weights are those of the first epoch, which the moved run still has to know.
    words = (*TINY, "callbacks.resume.every_seconds=0", "callbacks.best.monitor=val/quality", "callbacks.best.mode=min")
    words += ("trainer.max_epochs=3",)
    assert quire(*words, f"runs={tmp_path / 'straight'}").returncode == 0
    kill_when_rows(words, "uosr", tmp_path / "before", (14,))
    (tmp_path / "before").rename(tmp_path / "after")
    done = quire(*words, f"runs={tmp_path / 'after'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on from its last resume point" in done.stdout
    assert_same_run(only_folder(tmp_path / "straight"), only_folder(tmp_path / "after"))


def test_weights_that_were_overwritten_are_refused_and_force_runs_again(tmp_path):
    made = {}
    for seed in (0, 1):
        words = ("experiment=uosr_pretrain", "debug=tiny", f"seed={seed}", f"runs={tmp_path / str(seed)}")
        assert quire(*words).returncode == 0
        made[seed] = only_folder(tmp_path / str(seed), "uosr_pretrain") / "checkpoints" / "best.ckpt"
    weights = shutil.copy(made[0], tmp_path / "weights.ckpt")
    words = (*TINY, f"model.backbone.weights={weights}", f"runs={tmp_path / 'runs'}")
    assert quire(*words).returncode == 0
    before = read(only_folder(tmp_path / "runs") / "result.json")
    shutil.copy(made[1], weights)
    again = quire(*words)
    assert again.returncode == 2
    (line,) = again.stderr.strip().splitlines()
    assert line.startswith("error: model.backbone.weights: holds something else than when")
    # What is finished needs no weights any more, so it is shown without them.
    weights.unlink()
    assert "finished before, not repeated" in quire(*words).stdout
    shutil.copy(made[1], weights)
    forced = quire(*words, "force=true")
    assert forced.returncode == 0, forced.stdout + forced.stderr
    folder = only_folder_now(tmp_path / "runs" / "uosr")
    assert read(folder / "result.json")["metrics"] != before["metrics"]
    assert read(folder.with_name(folder.name + ".old") / "result.json") == before


def only_folder_now(home):
    (folder,) = [path for path in home.iterdir() if path.suffix != ".old"]
    return folder


@pytest.mark.full
def test_a_killed_run_is_not_resumed_on_other_weights(tmp_path):
    first = quire("experiment=uosr_pretrain", "debug=tiny", f"runs={tmp_path / 'made'}")
    assert first.returncode == 0
    weights = only_folder(tmp_path / "made", "uosr_pretrain") / "checkpoints" / "best.ckpt"
    words = (*TINY, f"model.backbone.weights={weights}", "callbacks.resume.every_seconds=0")
    kill_when_rows(words, "uosr", tmp_path / "runs", (3,))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    done = quire(*words, f"runs={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert "model.backbone.weights: holds something else" in done.stderr
    assert read(only_folder(tmp_path / "runs") / "status.json")["status"] == "running"


@pytest.mark.full
def test_a_resumed_run_tells_of_other_packages_and_keeps_a_history(tmp_path):
    words = (*TINY, "callbacks.resume.every_seconds=0", f"runs={tmp_path}")
    kill_when_rows(words[:-1], "uosr", tmp_path, (3,))
    lock = only_folder(tmp_path) / "lock.json"
    lock.write_text(lock.read_text().replace(f'"torch": "{read(lock)["packages"]["torch"]}"', '"torch": "1.0"'))
    done = quire(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed since this run began: " in done.stdout
    assert "torch 1.0 -> " in done.stdout
    (entry,) = read(lock)["history"]
    assert entry["changed"]["torch"][0] == "1.0"
    assert read(lock)["packages"]["torch"] != "1.0"


@pytest.mark.parametrize(
    ("declared", "line"),
    [
        ("{rot: open}", "data._paths_.rot: no such key in data - did you mean root?"),
        ("{root: oppen}", "data._paths_.root: is 'oppen', should be open, closed or a list"),
    ],
)
def test_a_typo_in_what_is_declared_as_data_gets_one_line(declared, line):
    # fgvc declares its root only, so that the override takes the declaration's place.
    done = quire("experiment=u_tuning_cub", "~data._paths_", f"+data._paths_={declared}")
    assert done.returncode == 2
    assert line in done.stderr
