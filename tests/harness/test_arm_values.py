"""An arm's runs: a setting chosen on validation, a mean over alternatives for each seed, weighted sums of arms."""

import pytest

from common.files import write_json
from harness.claims.arm_values import arm_runs, side_name, side_values
from harness.claims.claim_runs import ClaimRun
from harness.config.claim_schema import arm_of

CHOOSE = {"key": "tuner.lr", "by": "val/acc", "direction": "up"}


@pytest.fixture
def make(tmp_path):
    def run(seed, lr, shift, val, test, status="done"):
        folder = tmp_path / f"{seed}-{lr}-{shift}"
        folder.mkdir()
        write_json(folder / "status.json", {"status": status})
        cost = {"seconds": 2.0, "test_seconds": 1.0, "tuner": None}
        write_json(folder / "result.json", {"metrics": {"val/acc": val, "test/acc": test}, "cost": cost})
        words = [f"seed={seed}", f"tuner.lr={lr}", f"data.shift={shift}"]
        return ClaimRun("arm", words, {"seed": seed}, folder)

    return run


def test_the_setting_with_the_best_validation_is_taken_whatever_its_test(make):
    runs = [make(s, 0.1, "a", 80, 10) for s in (0, 1)] + [make(s, 0.2, "a", 70, 99) for s in (0, 1)]
    arm = arm_runs(runs, CHOOSE)
    assert arm.chosen == {"key": "tuner.lr", "value": "0.1", "by": "val/acc", "tried": {"0.1": 80.0, "0.2": 70.0}}
    assert {seed: values["test/acc"] for seed, values in arm.by_seed.items()} == {0: 10.0, 1: 10.0}
    assert arm_runs(runs, CHOOSE | {"direction": "down"}).chosen["value"] == "0.2"


def test_a_setting_with_an_unfinished_run_is_not_chosen(make):
    runs = [
        make(0, 0.1, "a", 90, 1),
        make(1, 0.1, "a", 90, 1, status="failed"),
        *(make(s, 0.2, "a", 50, 2) for s in (0, 1)),
    ]
    arm = arm_runs(runs, CHOOSE)
    assert arm.chosen["value"] == "0.2"
    assert arm.chosen["tried"]["0.1"] is None


def test_a_seed_is_the_mean_over_its_runs_and_needs_all_of_them(make):
    runs = [make(0, 0.1, "a", 1, 40), make(0, 0.1, "b", 1, 60), make(1, 0.1, "a", 1, 40)]
    runs.append(make(1, 0.1, "b", 1, 60, status="running"))
    arm = arm_runs(runs, None)
    assert arm.by_seed.keys() == {0}
    assert arm.by_seed[0]["test/acc"] == 50
    assert arm.by_seed[0]["cost/seconds"] == 2
    assert "cost/tuner" not in arm.by_seed[0]


def test_weighted_sums_of_arms(make):
    arms = {
        "x": arm_runs([make(0, 1, "x", 1, 40), make(1, 1, "x", 1, 50)], None),
        "y": arm_runs([make(0, 2, "y", 1, 80)], None),
    }
    assert side_values({"x": 0.5, "y": 0.5}, "test/acc", arms) == {0: 60.0}
    assert side_values("x", "test/acc", arms) == {0: 40.0, 1: 50.0}
    assert side_values("x", "test/nothing", arms) == {}
    assert side_name({"x": 0.5, "y": 0.25}) == "0.5 x + 0.25 y"


def test_alternatives_and_numbers_written_in_other_ways():
    arms = {"one": {"overrides": "tuner=a data.shift=u|v tuner.lr=3e-3|1e-2"}}
    assert arm_of(["tuner=a", "data.shift=v", "tuner.lr=0.003"], arms) == "one"
    assert arm_of(["tuner=a", "data.shift=w", "tuner.lr=0.003"], arms) is None
    assert arm_of(["tuner=a", "data.shift=u", "tuner.lr=0.1"], arms) is None
