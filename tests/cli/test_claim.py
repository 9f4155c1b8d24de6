"""A claim from the command line: arms and seeds, verdict and page, killed and resumed, extended, broken on purpose."""

import pytest

from tests.cli.quire import TINY, call, kill, quire, read, start, wait_for

CLAIM = ("claim=uosr", "debug=tiny", "experiment=uosr,uosr_oe")


def claim_folders(runs):
    return sorted((runs / "claims").iterdir())


def test_a_claim_is_made_extended_and_reported_again(tmp_path):
    done = quire(*CLAIM, "seeds=2", f"runs={tmp_path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 runs done" in done.stdout
    (folder,) = claim_folders(tmp_path)
    content = read(folder / "claim.json")
    assert content["seeds"] == [0, 1]
    assert {arm: [run["status"] for run in of["runs"]] for arm, of in content["arms"].items()} == {
        "ce": ["done", "done"],
        "oe": ["done", "done"],
        "pretrained": [],
    }
    assert [statement["role"] for statement in content["statements"]] == ["paper", "paper", "paper", "ablation"]
    # The arm left out on the command line leaves its parts undecided.
    assert content["statements"][1]["parts"][2]["reason"].startswith("0 paired seeds")
    assert "(tiny runs, whose numbers mean nothing)" in done.stdout
    assert content["scope"] == "tiny runs, whose numbers mean nothing"
    # Every deciding run knows the design that it was made for.
    designs = [read(lock)["design"] for lock in tmp_path.glob("uosr*/*/lock.json")]
    assert len(designs) == 4
    assert {design["digest"] for design in designs} == {content["design"]["digest"]}
    assert content["design"]["changed"] == content["design"]["seeds_added"] == []
    assert "<html" in (folder / "report.html").read_text()[:500]

    extended = quire(*CLAIM, "seeds=3", f"runs={tmp_path}")
    assert extended.returncode == 0, extended.stderr
    assert extended.stdout.count("finished before, not repeated") == 4
    assert "6 of 6 runs done" in extended.stdout
    (same,) = claim_folders(tmp_path)
    assert read(same / "claim.json")["seeds"] == [0, 1, 2]

    (same / "report.html").unlink()
    again = quire(*CLAIM, "seeds=3", f"runs={tmp_path}", "mode=report")
    assert again.returncode == 0, again.stderr
    assert (same / "report.html").exists()
    assert len(list(tmp_path.glob("*/*/result.json"))) == 6


@pytest.mark.full
def test_a_claim_is_killed_and_resumed(tmp_path):
    words = [*CLAIM, "seeds=2", f"runs={tmp_path}"]
    process = start(*words)

    def finished():
        # The status is written after the result.
        places = tmp_path.glob("*/*/status.json")
        return [place.with_name("result.json") for place in places if read(place)["status"] == "done"]

    wait_for(lambda: len(finished()) >= 2, process)
    kill(process)
    assert not (tmp_path / "claims").exists()
    early = {path: path.stat().st_mtime_ns for path in finished()}
    done = quire(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("finished before, not repeated") >= 2
    assert "4 of 4 runs done" in done.stdout
    assert all(path.stat().st_mtime_ns == time for path, time in early.items()), "a finished run was repeated"
    (folder,) = claim_folders(tmp_path)
    assert read(folder / "claim.json")["seeds"] == [0, 1]


@pytest.mark.full
def test_a_deliberately_broken_arm_fails(tmp_path):
    part = "{method: oe, metric: test/acc, baseline: ce, direction: up, min_effect: 1}"
    # The method's arm does not learn at all; cells of the grid that belong to no arm are not run.
    words = (
        "claim=uosr",
        "seeds=2",
        "experiment=uosr,uosr_oe",
        "model.optimizer.lr=0.003,0",
        "claim.arms.ce.overrides='experiment=uosr model.optimizer.lr=0.003'",
        "claim.arms.oe.overrides='experiment=uosr_oe model.optimizer.lr=0'",
        f"claim.statements.unified_is_easier.parts=[{part}]",
        "data.train_size=2000",
        "data.outlier_size=1000",
        "data.test_size=500",
        "data.reference_size=400",
        "trainer.max_epochs=3",
        "logger=local",
        "hardware=cpu",
        f"runs={tmp_path}",
    )
    done = quire(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 runs done" in done.stdout
    (folder,) = claim_folders(tmp_path)
    content = read(folder / "claim.json")
    statement = content["statements"][0]
    assert statement["effect"] < -10
    assert statement["interval"][1] < 1
    assert statement["verdict"] == content["verdict"] == "fails"
    assert "<html" in (folder / "report.html").read_text()[:500]


@pytest.mark.full
def test_an_arm_whose_runs_fail_leaves_the_claim_undecided(tmp_path):
    words = (*CLAIM, "seeds=2", "model.optimizer.name=adamw,sgd", "model.optimizer.momentum=-1", f"runs={tmp_path}")
    arms = (
        "claim.arms.ce.overrides='experiment=uosr model.optimizer.name=adamw'",
        "claim.arms.oe.overrides='experiment=uosr_oe model.optimizer.name=sgd'",
    )
    done = quire(*words, *arms)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 of 4 runs done" in done.stdout
    (folder,) = claim_folders(tmp_path)
    content = read(folder / "claim.json")
    assert [run["status"] for run in content["arms"]["oe"]["runs"]] == ["failed", "failed"]
    assert content["statements"][1]["parts"][0]["verdict"] == "undecided"
    assert (folder / "report.html").exists()


@pytest.mark.full
def test_a_needed_run_is_made_once_by_runs_side_by_side(tmp_path):
    # Both runs need the same pre-training.
    words = ("-m", "experiment=uosr_pretrained", "debug=tiny", "model.optimizer.lr=1e-3,2e-3", f"runs={tmp_path}")
    done = quire(*words, "hydra/launcher=joblib")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs done" in done.stdout
    (pretrained,) = (tmp_path / "uosr_pretrain").glob("*/result.json")
    assert read(pretrained)["overrides"] == ["experiment=uosr_pretrain", "seed=0"]
    first, second = (tmp_path / "uosr_pretrained").glob("*/lock.json")
    weights = "run:experiment=uosr_pretrain seed=0"
    assert [read(lock)["config"]["model"]["backbone"]["weights"] for lock in (first, second)] == [weights, weights]


def test_a_needed_run_that_fails_is_named(tmp_path):
    bad = "model.backbone.weights='run:experiment=uosr_pretrain model.optimizer.name=sgd model.optimizer.momentum=-1'"
    done = quire("experiment=uosr", "debug=tiny", bad, f"runs={tmp_path}")
    assert done.returncode == 1
    assert "but this run needs its weights" in done.stdout + done.stderr
    assert not list((tmp_path / "uosr").glob("*")) if (tmp_path / "uosr").exists() else True


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["claim=uosrr"], "no claim named 'uosrr' - did you mean uosr?"),
        (["claim=uosr", "seed=x"], "seed: is 'x', should be a whole number"),
        (["claim=uosr", "model.objectiv=ce"], "model.objectiv: no such key in model - did you mean objective?"),
        (["mode=report"], "mode=report: give claim=NAME, or runs=FOLDER,FOLDER,... alone"),
        (["mode=report", "runs=/nowhere"], "runs: /nowhere: not a run folder (no lock.json in it)"),
        (["mode=publish"], "mode=publish: of which claim? add claim=NAME - known: "),
        (["claim=all"], "claim=all: mode=report shows all claims in one table"),
        (["claim=all", "mode=publish"], "claim=all: is for mode=report; mode=publish takes one claim - known: "),
        (["claim=all", "mode=report", "seed=1"], "claim=all: seed=1 does not belong there"),
        (["claim=uosr", "claim.arms.ce.words=x"], "claim.arms.ce.words is renamed to claim.arms.ce.overrides"),
        (["experiment=uosr", "mode=dashboard"], "mode=dashboard: of which claim?"),
        (
            ["experiment=uosr", "debug=tiny", "model.backbone.weights='run:experiment=uosr_pretran'"],
            "run:experiment=uosr_pretran: no experiment named 'uosr_pretran' - did you mean uosr_pretrain",
        ),
        (["experiment=uosr", "debug=tiny", "ckpt='run:seed=1'"], "names no experiment"),
    ],
)
def test_bad_input_is_one_line(words, line, tmp_path):
    runs = [] if any(word.startswith("runs=") for word in words) else [f"runs={tmp_path}"]
    done = call(*words, *(runs if words != ["mode=report"] else []))
    assert done.returncode == 2, done.stdout + done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_any_runs_are_compared_and_a_dashboard_is_written_without_a_key(tmp_path, shared_run):
    for seed in (0, 1):
        shared_run(*TINY, f"seed={seed}").copy(tmp_path)
    folders = sorted(map(str, (tmp_path / "uosr").iterdir()))
    done = quire("mode=report", f"runs={','.join(folders)}")
    assert done.returncode == 0, done.stderr
    page = done.stdout.split("report: ")[1].strip()
    assert page.startswith(f"{tmp_path}/reports/")
    dashboard = quire("mode=dashboard", "claim=uosr", "debug=tiny", "logger=wandb", f"runs={tmp_path}")
    assert dashboard.returncode == 0, dashboard.stdout + dashboard.stderr
    assert "WANDB_API_KEY" in dashboard.stdout
    assert list((tmp_path / "claims").glob("*/dashboard.json"))
