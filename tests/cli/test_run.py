"""One run: what it leaves behind, that it is not repeated, forced, tested again, started from weights."""

import pytest

from tests.cli.quire import TINY, call, checkpoint, equal, only_folder, quire, read


@pytest.fixture(scope="module")
def run(shared_run):
    return shared_run(*TINY)


def test_a_clean_run_prints_its_table_and_places_and_nothing_else(run):
    folder = run.folder()
    assert run.stderr == ""
    assert "SoftMax" in run.stdout
    for place in ("metrics.jsonl", "result.json", "best.ckpt", "pictures"):
        assert str(folder / place) in run.stdout.replace("\n", "") or place in run.stdout
    assert "Warning" not in run.stdout


def test_what_a_run_leaves(run):
    folder = run.folder()
    assert folder.name.startswith("debug-tiny-")
    assert read(folder / "status.json")["status"] == "done"
    lock = read(folder / "lock.json")
    assert {"config", "code", "packages", "hardware", "data", "identity"} <= lock.keys()
    assert lock["packages"]["torch"]
    result = read(folder / "result.json")
    assert result["metrics"]["test/unknown/msp/uosr"] > 0
    assert result["cost"]["parameters"] > 1000
    assert result["cost"]["steps"] == 6
    # The test restores the callbacks of the tested checkpoint; the time of training must not count twice.
    assert result["cost"]["seconds"] == pytest.approx(
        checkpoint(folder)["callbacks"]["ResumePoint"]["seconds"], abs=0.01
    )
    for picture in result["pictures"]:
        assert (folder / picture).stat().st_size > 1000
    assert result["pictures"]
    assert checkpoint(folder, "best.ckpt")["quire"]["experiment"] == "uosr"


def test_a_finished_run_is_not_repeated_and_force_repeats_it(run, tmp_path):
    run.copy(tmp_path)
    runs, folder = tmp_path, only_folder(tmp_path)
    before = (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    again = quire(*TINY, f"runs={runs}", "hardware.accelerator=auto", "logger=tensorboard")
    assert again.returncode == 0
    assert "finished before, not repeated" in again.stdout
    assert (folder / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    forced = quire(*TINY, f"runs={runs}", "force=true")
    assert forced.returncode == 0
    assert folder.with_name(folder.name + ".old").is_dir()
    old, new = checkpoint(folder.with_name(folder.name + ".old")), checkpoint(folder)
    assert equal(old["state_dict"], new["state_dict"])


def test_mode_test_tests_the_same_weights_again(run, tmp_path):
    run.copy(tmp_path)
    runs, folder = tmp_path, only_folder(tmp_path)
    before = read(folder / "result.json")["metrics"]
    rows = (folder / "metrics.jsonl").read_text().count("\n")
    assert quire(*TINY, f"runs={runs}", "mode=test").returncode == 0
    assert read(folder / "result.json")["metrics"] == before
    assert (folder / "metrics.jsonl").read_text().count("\n") == rows
    two = quire(*TINY, f"runs={runs}", "mode=test", "hardware=ddp_cpu")
    assert two.returncode == 0, two.stdout + two.stderr
    assert two.stderr == ""
    elsewhere = quire(*TINY, f"runs={runs}/other", "mode=test", f"ckpt={folder}/checkpoints/best.ckpt")
    assert elsewhere.returncode == 0, elsewhere.stderr
    other = read(only_folder(runs / "other") / "result.json")["metrics"]
    assert {k: v for k, v in before.items() if k.startswith("test/")} == other


def test_other_objectives_start_from_these_weights(run, tmp_path):
    words = (*TINY, f"runs={tmp_path}", f"ckpt={run.folder()}/checkpoints/best.ckpt", "model.objective=tcp")
    done = quire(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = checkpoint(run.folder(), "best.ckpt")["state_dict"], checkpoint(only_folder(tmp_path))["state_dict"]
    frozen = [key for key in first if "backbone" in key]
    assert frozen
    assert all(equal(first[key], second[key]) for key in frozen)


def test_an_unwritable_full_disk_is_one_line(tmp_path):
    import subprocess

    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        place = "/dev/full/runs"  # no right to mount here: a device that cannot hold a folder
    try:
        done = call(*TINY, f"runs={place}")
    finally:
        if not mounted.returncode:
            subprocess.run(["umount", str(place)], check=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cannot write there" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("experiment", ["uosr_oe", "uosr_pretrain", "uosr_digits"])
def test_the_tiny_twin_of_every_other_experiment_that_runs_here(experiment, shared_run):
    done = shared_run(f"experiment={experiment}", "debug=tiny")
    assert done.stderr == ""
    metrics = read(done.folder(experiment) / "result.json")["metrics"]
    assert "test/unknown/msp/uosr" in metrics
    assert ("test/unknown/fs_knns_1shot/uosr" in metrics) == (experiment != "uosr_pretrain")


def test_fine_tuning_takes_the_pre_trained_backbone(tmp_path, shared_run):
    best = shared_run("experiment=uosr_pretrain", "debug=tiny").folder("uosr_pretrain") / "checkpoints" / "best.ckpt"
    # The least of learning rates leaves the parameters the very ones that were loaded.
    words = (*TINY, f"runs={tmp_path}", f"model.backbone.weights={best}", "model.optimizer.lr=1e-30")
    done = quire(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    before, after = (checkpoint(path, "best.ckpt")["state_dict"] for path in (best.parents[1], only_folder(tmp_path)))
    loaded = [k for k in before if k.startswith("network.backbone.") and k.endswith(("weight", "bias"))]
    assert len(loaded) >= 8
    assert all(equal(before[key], after[key]) for key in loaded)
