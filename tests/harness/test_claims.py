"""From a claim file and result files to claim.json, without running anything."""

import json
import re

import pytest

from common.errors import UserError
from common.files import read_json, write_json
from harness.claims import comparisons
from harness.claims.claim_runs import check_claim, claim_folder, runs_of
from harness.claims.conclusion import judge_claim
from harness.claims.statements import statements_of, tally, verdict_of
from harness.claims.verdict import Judgement
from harness.cli import result_modes
from harness.config.claim_design import design_of, planned_seeds
from harness.config.claim_errors import errors_in_claim, is_sentence
from harness.config.claim_schema import arm_of
from harness.config.compose import options, plain
from harness.config.load import load
from harness.core.paths import CONF

SCORES = {"msp": (70, 60), "msp_permuted": (55, 60), "fs_knn_5shot": (77, 84)}
# Added to a metric at seed 0, 1, ...: its effects vary from seed to seed.
NOISE = (0.0, 0.1, 0.05, 0.12, 0.02)


def finish(run, design=None, **metrics):
    """Write what a finished run leaves."""
    run.folder.mkdir(parents=True, exist_ok=True)
    cost = {"seconds": 10.0, "test_seconds": 1.0, "parameters": 5, "trainable": 5, "steps": 3}
    write_json(run.folder / "result.json", {"metrics": metrics, "cost": cost, "headline": []})
    write_json(run.folder / "status.json", {"status": "done"})
    code = {"commit": "abc", "changes": None}
    lock = {"code": code, "python": "3", "packages": {"torch": "2"}, "hardware": {}, "data": "x", "overrides": []}
    write_json(run.folder / "lock.json", lock | {"design": design})


def uosr_metrics(seed):
    metrics = {"test/acc": 75.0 + seed}
    for score, (uosr, osr) in SCORES.items():
        noise = NOISE[seed] if score == "msp" else 0.0
        for name, value in {"uosr": uosr + noise, "osr": osr, "inc_ood": uosr, "inc_inw": osr, "aurc": 400}.items():
            metrics[f"test/unknown/{score}/{name}"] = value + 0.1 * seed
    return metrics


RESULT = {"claim", "seeds", "statements", "verdict", "tally", "learned", "cost", "lock"}
STATEMENT = {"name", "role", "guards", "text", "source", "metric", "verdict", "effect", "interval", "ceiling"}
STATEMENT |= {"seeds_planned", "arms"}
VERDICTS = {
    "paper": {"holds", "fails", "undecided", "void"},
    "ablation": {"holds", "fails", "undecided"},
    "limit": {"as expected", "not as expected", "undecided"},
    "sanity": {"passed", "failed"},
}


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
    arms = {"all": {"overrides": "experiment=a"}, "one": {"overrides": "experiment=a model.x=1"}}
    assert arm_of(["seed=0", "experiment=a", "+model.x=1"], arms) == "one"
    assert arm_of(["experiment=a"], arms) == "all"
    assert arm_of(["experiment=b"], arms) is None


def test_missing_and_unfinished_runs_leave_a_claim_undecided(words):
    runs = {(run.arm, run.config["seed"]): run for run in runs_of(words)}
    finish(runs["ce", 0], **uosr_metrics(0))
    content, folders = judge_claim(words, plain(check_claim(words)))
    assert content["verdict"] == "undecided"
    # What the claim file says of the whole claim was not learned from a part of it.
    assert (content["scope"], content["learned"]) == ("3 of 5 seeds", None)
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
    easier, training, few, alone = content["statements"]
    assert (easier["role"], easier["verdict"]) == ("paper", "holds")
    assert easier["parts"][0]["controls"][0]["effect"] == pytest.approx(-5)
    assert easier["parts"][0]["controls"][0]["lead"]["effect"] == pytest.approx(15.05)
    up, down, *pretrained = training["parts"]
    assert up["verdict"] == down["verdict"] == "holds"
    assert down["effect"] == pytest.approx(3.1)
    # What pre-training measures here is the baseline's own: no seed says anything.
    assert [part["verdict"] for part in pretrained] == ["undecided", "undecided"]
    assert training["verdict"] == "undecided"
    assert "pre-training" in training["reason"]
    # FS-KNNS has no rows here.
    assert few["parts"][0]["verdict"] == "undecided"
    assert few["parts"][0]["reason"].startswith("no run of ce has test/unknown/fs_knns_5shot/uosr - did you mean")
    assert alone["role"] == "ablation"
    assert content["tally"]["paper"] == {"holds": 1, "undecided": 2}
    assert json.loads(json.dumps(content)) == content


def test_two_arms_that_are_one_experiment_decide_nothing(words):
    # What differs between these arms cannot change a result, so both have the same runs.
    part = "{method: oe, metric: test/acc, baseline: ce, direction: up, min_effect: -1}"
    words += [
        "experiment=uosr",
        "data.num_workers=0,2",
        "claim.arms.ce.overrides='experiment=uosr data.num_workers=0'",
        "claim.arms.oe.overrides='experiment=uosr data.num_workers=2'",
        f"claim.statements.training.parts=[{part}]",
    ]
    for run in runs_of(words):
        finish(run, **uosr_metrics(run.config["seed"]))
    content, _ = judge_claim(words, plain(check_claim(words)))
    training = content["statements"][1]
    assert training["verdict"] == "undecided"
    assert training["reason"] == "method and baseline are the same runs: the arms are one experiment"
    assert content["scope"].startswith("altered by claim.arms.ce.overrides=")


def test_a_changed_claim_has_its_own_folder(tmp_path):
    config = {"runs": tmp_path}
    plain_one = claim_folder(config, "uosr", ["claim=uosr"])
    assert plain_one == tmp_path / "claims" / "uosr"
    assert claim_folder(config, "uosr", ["claim=uosr", "seeds=5", "logger=local", "force=true"]) == plain_one
    others = ("seed=5", "debug=tiny", "hardware=bf16", "claim.statements.training.role=ablation")
    changed = {claim_folder(config, "uosr", ["claim=uosr", override]) for override in others}
    assert len(changed | {plain_one}) == 5


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("claim.statements.training.parts=[]", None),
        ("claim.arms.ce.overrids=x", "claim.arms.ce.overrids"),
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
    (found,) = errors_in_claim(config["claim"], config["seeds"])
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
    design = design_of("uosr", plain(load(words))["claim"])
    for run in runs_of(words):
        finish(run, design if run.config["seed"] else design | {"gates": "others"}, **uosr_metrics(run.config["seed"]))
    assert result_modes.answer([*words, "mode=publish"]) == 0
    published = read_json(tmp_path / "results" / "uosr.json")
    assert set(published) >= RESULT
    for statement in published["statements"]:
        assert set(statement) >= STATEMENT
    # A gate that was changed after the runs of a seed is marked, not refused.
    assert published["design"]["changed"] == ["gates changed after the run of seed 0"]
    assert published["learned"]
    assert (tmp_path / "runs" / "claims" / "uosr" / "report.html").exists()
    assert "make docs" in capsys.readouterr().out


def test_publish_asks_what_was_learned(words):
    words.remove("seeds=3")
    config = plain(load(words))
    config["claim"]["learned"] = None
    with pytest.raises(UserError, match="what was learned, in one sentence"):
        result_modes._publish(words, config)


PUBLISHED = sorted((CONF.parent / "docs" / "results").glob("*.json"))


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_a_committed_result_is_that_of_its_claim_file(file):
    published, config = read_json(file), plain(load([f"claim={file.stem}"]))
    assert set(published) >= RESULT
    assert published["design"]["digest"] == design_of(file.stem, config["claim"])["digest"], f"publish {file.stem}"
    assert published["seeds"] == list(range(planned_seeds(file.stem)))
    assert is_sentence(published["learned"])
    assert published["learned"] == config["claim"]["learned"]
    said = config["claim"]["statements"]
    assert [statement["name"] for statement in published["statements"]] == list(said)
    for statement in published["statements"]:
        assert set(statement) >= STATEMENT
        assert statement["verdict"] in VERDICTS[statement["role"]]
        assert (statement["text"], statement["role"]) == tuple(said[statement["name"]][key] for key in ("text", "role"))


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.stem)
def test_a_committed_verdict_is_what_the_rule_says_of_the_committed_values(file, monkeypatch):
    published, claim = read_json(file), plain(load([f"claim={file.stem}"]))["claim"]

    def as_published(control, part, gains):
        return control, Judgement(control["verdict"], control["effect"], None, control["reason"])

    if not all("method_values" in control for control in controls_of(published)):
        # Results from before controls kept their values.
        monkeypatch.setattr(comparisons, "_control", as_published)
    parts = {statement["name"]: statement["parts"] for statement in published["statements"]}
    found = statements_of(claim["statements"], parts)
    assert {of["name"]: of["verdict"] for of in found} == {of["name"]: of["verdict"] for of in published["statements"]}
    assert json.loads(json.dumps(found)) == published["statements"]
    assert (verdict_of(found), tally(found)) == (published["verdict"], published["tally"])


def controls_of(content):
    parts = [part for statement in content["statements"] for part in statement["parts"]]
    return [control for part in parts for control in part["controls"]]


@pytest.mark.parametrize("file", [*PUBLISHED, *sorted((CONF / "claim").glob("*.yaml"))], ids=lambda file: file.name)
def test_no_text_from_outside_the_repository_is_cited(file):
    text = file.read_text()
    assert not re.findall(r"\bspec\b|\bsection \d|\.\./shared|papers/abstracts", text)
    assert "least effect" not in text
