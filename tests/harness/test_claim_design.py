"""The digest of what a claim decided before its runs: what changes it, and what a changed one is told to be."""

from types import SimpleNamespace

import pytest

from common.files import read_json, write_json
from harness.claims.caveats import design_marks
from harness.claims.wording import design_text
from harness.config.claim_design import design_of, planned_seeds
from harness.config.compose import composed, plain
from harness.config.job import Job
from harness.config.load import load
from harness.core.run_folder import RunFolder
from harness.run.lifecycle import _take_folder


@pytest.fixture
def claim():
    return plain(load(["claim=uosr"]))["claim"]


def statement(claim):
    return claim["statements"]["unified_is_easier"]


@pytest.fixture
def make(tmp_path):
    def run(seed, design):
        folder = tmp_path / str(seed)
        folder.mkdir()
        write_json(folder / "lock.json", {} if design is None else {"design": design})
        return SimpleNamespace(folder=folder, config={"seed": seed})

    return run


def test_the_number_of_seeds_is_the_files():
    assert planned_seeds("uosr") == 5
    assert planned_seeds("geod") == 3  # that of conf/config.yaml


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        (lambda claim: claim["arms"]["ce"].update(overrides="experiment=uosr seed=1"), ["arms"]),
        (lambda claim: claim.update(choose={"key": "seed", "by": "val/acc", "direction": "up"}), ["arms"]),
        (lambda claim: statement(claim)["parts"][0].update(min_effect=6), ["gates"]),
        (lambda claim: statement(claim)["parts"][0].update(metric="test/acc"), ["gates"]),
        (lambda claim: statement(claim)["parts"][0]["controls"].clear(), ["gates"]),
        (lambda claim: statement(claim).update(role="ablation"), ["roles"]),
        (lambda claim: statement(claim).update(seeds_planned=7), ["seeds"]),
        (lambda claim: statement(claim).update(text="Better.", source="elsewhere"), []),
        (lambda claim: claim.update(learned="Much.", text="x", runtime="1 s"), []),
        (lambda claim: claim["arms"]["ce"].update(description="x"), []),
    ],
)
def test_what_changes_the_digest(claim, change, kinds):
    before = design_of("uosr", claim)
    change(claim)
    after = design_of("uosr", claim)
    assert [kind for kind in ("arms", "gates", "roles", "seeds") if before[kind] != after[kind]] == kinds
    assert (before["digest"] != after["digest"]) == bool(kinds)


def test_an_unchanged_design_has_no_marks(claim, make):
    design = design_of("uosr", claim)
    marks = design_marks(design, [make(0, design), make(1, design)])
    assert marks == {"digest": design["digest"], "changed": [], "seeds_added": []}
    assert design_text({"design": marks}) == ""


def test_a_gate_that_was_changed_after_the_runs_is_marked(claim, make):
    before = design_of("uosr", claim)
    statement(claim)["parts"][0]["min_effect"] = 6
    after = design_of("uosr", claim)
    marks = design_marks(after, [make(0, before), make(1, before), make(2, after)])
    assert marks["changed"] == ["gates changed after the runs of seeds 0, 1"]


def test_seeds_that_were_added_later_are_marked(claim, make):
    design = design_of("uosr", claim)
    three = design | {"num_seeds": 3, "seeds": "other"}
    marks = design_marks(design, [*(make(seed, three) for seed in range(3)), make(3, design), make(4, design)])
    assert (marks["changed"], marks["seeds_added"]) == ([], [3, 4])
    assert design_text({"design": marks}) == "seeds 3, 4 added after the others were run"


def test_more_seeds_than_the_file_has_are_added_ones(claim, make):
    design = design_of("uosr", claim)
    assert design_marks(design, [make(seed, design) for seed in range(7)])["seeds_added"] == [5, 6]


def test_the_lock_keeps_the_design_that_a_run_was_begun_for(tmp_path):
    values, data = composed(["experiment=uosr", f"runs={tmp_path}"]).values, SimpleNamespace(fingerprint=lambda: "x")

    def begin(design, place):
        folder = RunFolder(tmp_path / place)
        _take_folder(Job(values, "uosr", [], design=design), folder, data)
        folder.release()
        return read_json(tmp_path / place / "lock.json")

    first = begin({"digest": "a"}, "claimed")
    assert first["design"] == {"digest": "a"}
    # Resumed for a design that was changed since, or for a claim though it was begun by itself.
    assert begin({"digest": "b"}, "claimed")["design"] == {"digest": "a"}
    assert begin(None, "alone")["design"] is None
    assert begin({"digest": "b"}, "alone")["design"] is None
    assert first["identity"] == begin(None, "other")["identity"]


def test_runs_from_before_the_design_was_recorded_are_marked(claim, make):
    design = design_of("uosr", claim)
    other = design | {"claim": "other"}
    missing = SimpleNamespace(folder=make(9, None).folder / "nowhere", config={"seed": 9})
    marks = design_marks(design, [make(0, None), make(1, other), make(2, design), missing])
    assert marks["changed"] == ["no design was recorded before the runs of seeds 0, 1"]
