"""What contradicts itself in a claim file is reported before anything runs, a line each."""

from copy import deepcopy

import pytest

from common.errors import UserError
from harness.claims.claim_runs import check_claim
from harness.config.claim_errors import errors_in_claim, is_sentence

PART = {"method": "ours", "metric": "acc", "baseline": "base", "direction": "up", "min_effect": 1}
LIMIT = {key: value for key, value in PART.items() if key != "min_effect"}
CLAIM = {
    "learned": "Ours is better.",
    "pilot_seeds": [100, 101],
    "arms": {"base": {"overrides": "experiment=a"}, "ours": {"overrides": "experiment=b model.x=1|2"}},
    "statements": {
        "better": {"role": "paper", "source": "abstract", "parts": [PART]},
        "ends": {"role": "limit", "parts": [LIMIT | {"margin": 0.5}]},
        "floor": {"role": "sanity", "guards": ["better"], "parts": [PART]},
    },
}


def changed(path, value):
    claim = deepcopy(CLAIM)
    *above, last = path.split(".")
    node = claim
    for key in above:
        node = node[int(key) if isinstance(node, list) else key]
    node[last] = value
    return claim


def test_a_whole_claim_has_none():
    assert list(errors_in_claim(CLAIM, 5)) == []
    assert (
        list(errors_in_claim(changed("statements.ends.parts", [LIMIT]), 5)) == []
    )  # to be judged once it has a margin


@pytest.mark.parametrize(
    ("path", "value", "key", "error"),
    [
        ("statements.better.source", "", "claim.statements.better", "has the role paper but no source"),
        ("statements.better.role", "ablation", "claim.statements", "0 statements have the role paper"),
        ("statements.better.guards", ["ends"], "claim.statements.better.guards", "only statements of the role sanity"),
        ("statements.floor.guards", ["beter"], "claim.statements.floor.guards", "did you mean better?"),
        ("statements.floor.guards", ["ends"], "claim.statements.floor.guards", "no statement 'ends' of the role paper"),
        ("statements.better.parts", [], "claim.statements.better", "has no parts"),
        ("statements.better.parts", [LIMIT], "claim.statements.better.parts.0", "lacks min_effect"),
        (
            "statements.better.parts",
            [PART | {"margin": 1}],
            "claim.statements.better.parts.0.margin",
            "has a min_effect",
        ),
        ("statements.ends.parts", [PART], "claim.statements.ends.parts.0.min_effect", "limit has a margin instead"),
        ("statements.ends.parts", [LIMIT | {"margin": -1}], "claim.statements.ends.parts.0.margin", "at least 0"),
        (
            "statements.ends.parts",
            [LIMIT | {"controls": [{"name": "x"}]}],
            "claim.statements.ends.parts.0.controls",
            "a limit has no controls",
        ),
        (
            "statements.better.parts",
            [PART | {"ceiling": "our"}],
            "claim.statements.better.parts.0",
            "did you mean ours?",
        ),
        ("arms.ours.overrides", "experiment=a", "claim.arms.ours", "would be one experiment"),
        ("pilot_seeds", [100, 4], "claim.pilot_seeds", "seed 4 is one of the deciding seeds 0 to 4"),
        ("learned", "Ours is better. Theirs is not.", "claim.learned", "should be one sentence"),
        ("learned", "ours", "claim.learned", "should be one sentence"),
    ],
)
def test_what_contradicts_itself_is_reported(path, value, key, error):
    found = list(errors_in_claim(changed(path, value), 5))
    assert any(place == key and error in told for place, told in found), found


def test_at_most_four_statements_are_the_papers():
    claim = changed("statements", dict.fromkeys("abcde", CLAIM["statements"]["better"]))
    assert dict(errors_in_claim(claim, 5))["claim.statements"].startswith("5 statements have the role paper")


def test_arms_of_the_same_values_written_otherwise_are_one_experiment():
    claim = changed("arms", {"a": {"overrides": "x=1e-3|2 y=a"}, "b": {"overrides": "y=a x=2|0.001"}})
    assert "claim.arms.b" in dict(errors_in_claim(claim, 5))


def test_a_sentence():
    assert is_sentence("It is 0.5 points better, i.e. little.")
    assert not is_sentence("It is better. So there.")
    assert not is_sentence("it is better")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("++claim.arms.ce.words=x", "claim.arms.ce.words is renamed to claim.arms.ce.overrides"),
        ("++claim.arms.ce.about=x", "claim.arms.ce.about is renamed to claim.arms.ce.description"),
        ("+claim.stand_in=x", "claim.stand_in is renamed to claim.substitutes"),
        ("+claim.takes=x", "claim.takes is renamed to claim.runtime"),
        ("claim.arms.ce.words=x", "claim.arms.ce.words is renamed to claim.arms.ce.overrides"),
        (
            "claim.statements.unified_is_easier.parts=[{method: ce, metric: a, baseline: oe, direction: up, least: 1}]",
            (
                "claim.statements.unified_is_easier.parts.0.least is renamed to"
                " claim.statements.unified_is_easier.parts.0.min_effect"
            ),
        ),
        (
            "claim.statements.training.role=papper",
            "claim.statements.training.role: is 'papper', should be one of paper",
        ),
        ("+claim.pilot_seeds=[0]", "claim.pilot_seeds: seed 0 is one of the deciding seeds 0 to 4"),
    ],
)
def test_old_names_and_wrong_values_are_one_line_each(more, line):
    with pytest.raises(UserError) as error:
        check_claim(["claim=uosr", more])
    assert any(line in found for found in error.value.lines), error.value.lines
    assert not any("lacks" in found for found in error.value.lines), error.value.lines
