"""From a claim file and result files to claim.json, without running anything."""

import json

import pytest

from common.errors import UserError
from common.files import read_json, write_json
from harness.claims.claim_runs import check_claim, claim_folder, runs_of
from harness.claims.conclusion import judge_claim
from harness.cli import result_modes
from harness.config.claim_schema import arm_of
from harness.config.compose import options, plain
from harness.config.load import load
from harness.core.paths import CONF

SCORES = {"msp": (70, 60), "msp_permuted": (55, 60), "fs_knn_5shot": (77, 84)}


def finish(run, **metrics):
    """Write what a finished run leaves."""
    run.folder.mkdir(parents=True)
    cost = {"seconds": 10.0, "test_seconds": 1.0, "parameters": 5, "trainable": 5, "steps": 3}
    write_json(run.folder / "result.json", {"metrics": metrics, "cost": cost, "headline": []})
    write_json(run.folder / "status.json", {"status": "done"})
    code = {"commit": "abc", "changes": None}
    lock = {"code": code, "python": "3", "packages": {"torch": "2"}, "hardware": {}, "data": "x", "overrides": []}
    write_json(run.folder / "lock.json", lock)


def uosr_metrics(seed, shift=0.0):
    metrics = {"test/acc": 75.0 + seed}
    for score, (uosr, osr) in SCORES.items():
        for name, value in {"uosr": uosr, "osr": osr, "inc_ood": uosr, "inc_inw": osr, "aurc": 400}.items():
            metrics[f"test/unknown/{score}/{name}"] = value + shift + 0.1 * seed
    return metrics


@pytest.fixture
def words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return ["claim=uosr", "seeds=3", f"runs={tmp_path / 'runs'}"]


def test_every_claim_checks_and_every_arm_has_runs():
    for name in options("claim"):
        config = check_claim([f"claim={name}", "seed=0"])
        assert config.seeds >= 3
        # The other seeds have the same arms, and take as long to compose again.
        runs = list(runs_of([f"claim={name}", "seed=0"]))
        assert {run.arm for run in runs} == set(config.claim.arms)


def test_runs_of_a_claim_are_those_of_the_plain_command(tmp_path):
    words = ["experiment=uosr_oe", "seed=1", f"runs={tmp_path}"]
    from harness.config.identity import identity

    claimed = next(r for r in runs_of(["claim=uosr", f"runs={tmp_path}"]) if (r.arm, r.config["seed"]) == ("oe", 1))
    assert identity(claimed.config) == identity(plain(load(words)))
    assert claimed.folder.parent.name == "uosr_oe"


def test_the_most_asking_arm_takes_a_run():
    arms = {"all": {"words": "experiment=a"}, "one": {"words": "experiment=a model.x=1"}}
    assert arm_of(["seed=0", "experiment=a", "+model.x=1"], arms) == "one"
    assert arm_of(["experiment=a"], arms) == "all"
    assert arm_of(["experiment=b"], arms) is None


def test_missing_and_unfinished_runs_leave_a_claim_undecided(words):
    runs = {(run.arm, run.config["seed"]): run for run in runs_of(words)}
    finish(runs["ce", 0], **uosr_metrics(0))
    content, folders = judge_claim(words, plain(check_claim(words)))
    assert content["verdict"] == "undecided"
    first = content["statements"][0]
    assert first["reason"] == "1 paired seed, at least two are needed"
    assert first["effect"] == pytest.approx(10)
    assert first["interval"] is None
    assert [run["status"] for run in content["arms"]["ce"]["runs"]] == ["done", "missing", "missing"]
    assert list(folders) == ["ce"]
    assert content["cost"] == {"seconds": 11.0, "runs": 1}


def test_verdicts_are_paired_by_seed_and_signed_by_direction(words):
    for run in runs_of(words):
        seed = run.config["seed"]
        # The seeds lie far apart, the paired differences do not.
        metrics = {k: v + 100 * seed for k, v in uosr_metrics(seed).items()}
        if run.arm == "oe":
            metrics["test/unknown/msp/inc_ood"] += 5 + 0.1 * seed
            metrics["test/unknown/msp/inc_inw"] -= 3 + 0.1 * seed
        finish(run, **metrics)
    content, _ = judge_claim(words, plain(check_claim(words)))
    easier, training, few = content["statements"]
    assert easier["verdict"] == "holds"
    assert easier["parts"][0]["controls"][0]["effect"] == pytest.approx(-5)
    up, down, *pretrained = training["parts"]
    assert up["verdict"] == down["verdict"] == "holds"
    assert down["effect"] == pytest.approx(3.1)
    assert [part["verdict"] for part in pretrained] == ["fails", "fails"]  # nothing gained at all
    assert training["verdict"] == "fails"
    assert "pre-training" in training["reason"]
    # FS-KNNS has no rows here.
    assert few["parts"][2]["verdict"] == "undecided"
    assert few["parts"][2]["reason"].startswith("no run of ce has test/unknown/fs_knns_5shot/uosr - did you mean")
    assert json.loads(json.dumps(content)) == content


def test_a_changed_claim_has_its_own_folder(tmp_path):
    config = {"runs": tmp_path}
    plain_one = claim_folder(config, "uosr", ["claim=uosr"])
    assert plain_one == tmp_path / "claims" / "uosr"
    assert claim_folder(config, "uosr", ["claim=uosr", "seeds=5", "logger=local", "force=true"]) == plain_one
    changed = {claim_folder(config, "uosr", ["claim=uosr", word]) for word in ("seed=5", "debug=tiny", "hardware=bf16")}
    assert len(changed | {plain_one}) == 4


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("claim.statements.training.parts=[]", None),
        ("claim.arms.ce.wrds=x", "claim.arms.ce.wrds"),
        ("seeds=x", "seeds: is 'x', should be a whole number"),
        ("experiment=uosr_digits", "with these overrides no run belongs to any of its arms"),
        ("claim.statements.few_shot.text=[1]", "claim.statements.few_shot.text"),
    ],
)
def test_mistakes_in_a_claim_are_one_line(more, line):
    if line is None:
        with pytest.raises(UserError, match="has no parts"):
            check_claim(["claim=uosr", more])
    else:
        with pytest.raises(UserError) as error:
            check_claim(["claim=uosr", more])
        assert any(line in told for told in error.value.lines), error.value.lines


def test_a_part_with_an_unknown_arm_is_told_with_the_nearest(tmp_path):
    config = plain(load(["claim=uosr"]))
    config["claim"]["statements"]["training"]["parts"][2]["method"] = "pretraind"
    from harness.config.claim_schema import errors_in_claim

    (found,) = errors_in_claim(config["claim"])
    assert found == (
        "claim.statements.training.parts.2",
        "there is no arm 'pretraind' - did you mean pretrained?",
    )


def test_publish_writes_what_is_complete_and_refuses_the_rest(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(result_modes, "RESULTS", tmp_path / "results")
    with pytest.raises(UserError, match="the claim has 5 seeds, not 3"):
        result_modes.answer([*words, "mode=publish"])
    words.remove("seeds=3")
    with pytest.raises(UserError, match="is not done"):
        result_modes.answer([*words, "mode=publish"])
    with pytest.raises(UserError, match="without other overrides"):
        result_modes.answer([*words, "mode=publish", "seed=0"])
    assert not (tmp_path / "results").exists()
    for run in runs_of(words):
        finish(run, **uosr_metrics(run.config["seed"]))
    assert result_modes.answer([*words, "mode=publish"]) == 0
    published = read_json(tmp_path / "results" / "uosr.json")
    assert {"claim", "seeds", "statements", "cost", "lock"} <= set(published)
    for statement in published["statements"]:
        assert {"name", "text", "metric", "verdict", "effect", "interval", "arms"} <= set(statement)
    assert (tmp_path / "runs" / "claims" / "uosr" / "report.html").exists()
    assert "make docs" in capsys.readouterr().out


def test_committed_results_are_those_of_the_claim_files():
    for file in (CONF.parent / "docs" / "results").glob("*.json"):
        published, config = read_json(file), plain(load([f"claim={file.stem}"]))
        said = {name: statement["text"] for name, statement in config["claim"]["statements"].items()}
        assert {s["name"]: s["text"] for s in published["statements"]} == said, f"publish {file.stem} again"
        assert published["seeds"] == list(range(config["seeds"]))
