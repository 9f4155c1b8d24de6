"""Statements by their roles: what guards what, whose verdict is the claim's, the tally, the seeds that would decide."""

from types import SimpleNamespace

import pytest

from harness.claims.arm_values import ArmRuns
from harness.claims.statements import judged_statements, tally, verdict_of
from harness.claims.verdict import NOT_JUDGED
from harness.claims.wording import tally_text


def arm(name, *values, metric="acc"):
    """Return an arm whose runs of seed 0, 1, ... measured some values."""
    runs = [SimpleNamespace(folder=f"runs/{name}-{seed}") for seed in range(len(values))]
    return ArmRuns(runs, {seed: {metric: value} for seed, value in enumerate(values)}, None)


ARMS = {
    "base": arm("base", 50.0, 51.0, 52.0),
    "same": arm("same", 50.2, 50.9, 51.8),
    "better": arm("better", 59.0, 61.0, 63.0),  # by 9, 10 and 11: the interval is 7.52 to 12.48
    "best": arm("best", 60.0, 62.0, 64.0),
    "twin": arm("base", 50.0, 51.0, 52.0),
    "fixed": arm("fixed", 70.0, 70.0, 70.0),
    "saturated": arm("saturated", 100.0, 100.0, 100.0),
}


def part(method, baseline="base", **more):
    return {"method": method, "metric": "acc", "baseline": baseline, "direction": "up", "min_effect": 0} | more


def limit(method, baseline="base", **more):
    return {"method": method, "metric": "acc", "baseline": baseline, "direction": "up"} | more


def say(role, *parts, **more):
    return {"role": role, "text": "It is so.", "parts": list(parts)} | more


def judge(arms=ARMS, **said):
    return {statement["name"]: statement for statement in judged_statements(said, arms)}


def test_the_verdict_is_that_of_the_papers_own_statements():
    found = judge(
        a=say("paper", part("better"), source="abstract"),
        b=say("ablation", part("same", min_effect=5)),
        c=say("limit", limit("better", margin=1)),
        d=say("limit", limit("better")),
        e=say("sanity", part("better")),
    )
    assert {name: of["verdict"] for name, of in found.items()} == {
        "a": "holds",
        "b": "fails",
        "c": "not as expected",
        "d": "undecided",
        "e": "passed",
    }
    assert verdict_of(found.values()) == "holds"
    assert found["d"]["reason"] == NOT_JUDGED
    counts = tally(found.values())
    assert counts == {
        "paper": {"holds": 1},
        "ablation": {"fails": 1},
        "limit": {"not as expected": 1, "undecided": 1},
        "sanity": {"passed": 1},
    }
    text = "paper: 1 holds; ablation: 1 fails; limit: 1 not as expected, 1 undecided; sanity: 1 passed"
    assert tally_text(counts) == text


def test_a_statement_has_the_keys_of_a_result():
    (found,) = judge(a=say("paper", part("better"), source="abstract", seeds_planned=4)).values()
    wanted = {"name", "role", "guards", "text", "source", "metric", "verdict", "effect", "interval", "ceiling"}
    assert wanted | {"seeds_planned", "seeds_needed", "arms", "parts"} <= set(found)
    assert (found["source"], found["seeds_planned"], found["arms"]) == ("abstract", 4, ["better", "base"])
    assert found["guards"] == []


def test_a_failed_sanity_statement_makes_what_it_guards_void():
    said = {
        "a": say("paper", part("better")),
        "b": say("paper", part("better", min_effect=20)),
        "c": say("ablation", part("better")),
    }
    all_of_them = judge(**said, floor=say("sanity", part("same", min_effect=1)))
    assert [all_of_them[name]["verdict"] for name in ("a", "b", "c", "floor")] == ["void", "void", "holds", "failed"]
    assert all_of_them["floor"]["guards"] == ["a", "b"]
    assert verdict_of(all_of_them.values()) == "void"
    assert "the sanity statement floor failed" in all_of_them["a"]["reason"]
    assert all_of_them["a"]["reason"].endswith("without it: holds")
    one = judge(**said, floor=say("sanity", part("same", min_effect=1), guards=["b"]))
    assert [one[name]["verdict"] for name in ("a", "b")] == ["holds", "void"]


def test_a_sanity_statement_that_is_not_shown_has_not_passed():
    found = judge(a=say("paper", part("better")), floor=say("sanity", part("better", min_effect=9)))
    assert found["floor"]["verdict"] == "failed"
    assert found["floor"]["reason"] == "the interval includes the gate"
    assert found["a"]["verdict"] == "void"


def test_one_seed_is_undecided_and_not_void():
    arms = {"base": arm("base", 50.0), "better": arm("better", 60.0)}
    found = judge(arms, a=say("paper", part("better")), floor=say("sanity", part("better")))
    assert found["a"]["verdict"] == verdict_of(found.values()) == "undecided"


def test_two_arms_that_are_one_experiment_are_told_whatever_the_gate():
    for compared in (part("twin"), part("twin", min_effect=-1)):
        (found,) = judge(a=say("paper", compared)).values()
        assert found["verdict"] == "undecided"
        assert found["reason"] == "method and baseline are the same runs: the arms are one experiment"
        assert found["seeds_needed"] is None
    found = judge(a=say("paper", part("better")), b=say("limit", limit("twin", margin=1)))
    assert found["b"]["verdict"] == "undecided"
    assert "one experiment" in found["b"]["reason"]


def test_a_constant_metric_decides_nothing_unless_it_is_declared_deterministic():
    (found,) = judge(a=say("paper", part("saturated", "fixed"))).values()
    assert (found["verdict"], found["effect"]) == ("undecided", 30.0)
    assert "the metric is constant" in found["reason"]
    (found,) = judge(a=say("paper", part("saturated", "fixed", deterministic=True))).values()
    assert (found["verdict"], found["seeds_needed"]) == ("holds", 2)


def test_the_worst_part_is_named():
    (found,) = judge(a=say("paper", part("better", text="up"), part("better", text="far up", min_effect=20))).values()
    assert found["verdict"] == "fails"
    assert found["reason"] == "far up: the whole interval is below the gate"


def test_the_power_is_shared_by_statements_and_parts():
    near = part("better", min_effect=9.5)
    alone = judge(a=say("paper", near))["a"]["seeds_needed"]
    parts = judge(a=say("paper", near, near))["a"]["seeds_needed"]
    shared = judge(**{name: say("paper", near) for name in "abcd"})["a"]["seeds_needed"]
    other_role = judge(a=say("paper", part("better")), b=say("ablation", near))["b"]["seeds_needed"]
    # Half a standard deviation from the gate: 34 seeds for the power 0.8, as the tables say.
    assert alone == 34
    assert alone < parts < shared
    assert other_role == alone


def test_a_ceiling_by_number_and_by_arm():
    found = judge(
        a=say("paper", part("better", ceiling=40)),
        b=say("limit", limit("better", ceiling="best", margin=1.5)),
        c=say("limit", limit("better", ceiling=20, margin=1)),
    )
    assert found["a"]["ceiling"] == 40
    # The best arm gains 11 over the baseline, one more than the better one for every seed.
    assert found["b"]["ceiling"] == pytest.approx(11)
    assert found["b"]["verdict"] == "undecided"
    assert found["c"]["verdict"] == "not as expected"
    arms = ARMS | {"best": arm("best", 60.1, 62.0, 63.9)}
    found = judge(arms, a=say("paper", part("better")), b=say("limit", limit("better", ceiling="best", margin=1.5)))
    assert found["b"]["verdict"] == "as expected"  # 1 -+ 0.248414 below the ceiling


def test_a_control_keeps_its_values_and_the_lead_over_it():
    control = {"name": "shuffled", "method": "same"}
    (found,) = judge(a=say("paper", part("better", min_effect=4, controls=[control]))).values()
    (judged,) = found["parts"][0]["controls"]
    assert (judged["verdict"], judged["margin"]) == ("holds", 2.0)
    assert judged["method_values"] == [50.2, 50.9, 51.8]
    assert judged["lead"]["effect"] == pytest.approx(10 + 1 / 30)
    arms = ARMS | {"best": arm("best", 60.1, 62.0, 63.9)}
    (found,) = judge(arms, a=say("paper", part("better", controls=[control | {"method": "best"}]))).values()
    assert (found["verdict"], found["reason"]) == (
        "fails",
        "the control 'shuffled': the whole gain over it is at or below zero",
    )
