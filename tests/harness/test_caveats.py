"""What is told next to a verdict: alterations, pilots, shared bases, ends of grids, seeds that are missing."""

from pathlib import Path

import pytest

from harness.claims.caveats import grid_edges, one_base, scope, unplanned
from harness.claims.claim_runs import ClaimRun, deciding


def config(*, tiny=False, pilot=None):
    return {"is_tiny": tiny, "claim": {"pilot_seeds": pilot}}


def run(seed, weights):
    return ClaimRun("arm", [], {"seed": seed, "model": {"weights": weights}, "ckpt": None}, Path(f"runs/{seed}"))


def test_the_scope_of_a_claim():
    whole = ["claim=uosr", "logger=local", "hydra/launcher=joblib"]
    assert scope(whole, config(), range(5), 5) is None
    assert scope(whole, config(), range(8), 5) is None
    assert scope(whole, config(), range(3), 5) == "3 of 5 seeds"
    assert scope([*whole, "debug=tiny"], config(tiny=True), range(5), 5) == "tiny runs, whose numbers mean nothing"
    altered = [*whole, "trainer.max_epochs=4", "claim.statements.a.role=limit"]
    assert scope(altered, config(), range(5), 5) == "altered by claim.statements.a.role=limit trainer.max_epochs=4"
    assert scope([*whole, "seed=100,101"], config(pilot=[100, 101]), [100, 101], 5) == (
        "a pilot, whose seeds decide nothing"
    )


def test_pilot_seeds_decide_nothing():
    runs = [run(seed, None) for seed in (0, 1, 100)]
    assert [kept.config["seed"] for kept in deciding(runs, [100, 101])] == [0, 1]
    assert deciding(runs[2:], [100, 101]) == runs[2:]


def test_a_reference_that_all_seeds_share_is_one_base():
    own, shared = "run:experiment=a seed=", "run:experiment=b"
    runs = [run(seed, [f"{own}{seed}", shared]) for seed in range(3)]
    assert one_base(runs) == ["run:experiment=b: one base: seeds vary what comes after"]
    assert one_base(runs[:1]) == []
    assert one_base([*runs, run(3, f"{own}3")]) == []


@pytest.mark.parametrize(
    ("value", "tried", "following"),
    [
        ("0.03", ["0.003", "0.01", "0.03"], "0.09"),
        ("0.003", ["0.003", "0.01", "0.03"], "0.0009"),
        ("0.01", ["0.003", "0.01", "0.03"], None),
        ("0.001", ["0.0003", "0.001"], "0.003"),
        ("3", ["1", "2", "3"], "4"),
        ("0", ["0", "1", "2"], "-1"),
        ("100", ["1", "10", "100"], "1000"),
        ("cosine", ["linear", "cosine"], None),
        ("0.1", ["0.1"], None),
    ],
)
def test_a_value_at_the_edge_of_its_grid(value, tried, following):
    chosen = {"key": "lr", "value": value, "by": "val/acc", "tried": dict.fromkeys(tried, 1.0)}
    lines = grid_edges({"arm": chosen, "other": None})
    told = f"arm: lr={value} is at the edge of what was tried: try {following}"
    assert lines == ([told] if following else [])


def test_fewer_seeds_than_were_planned():
    statements = [
        {"name": "a", "seeds_planned": 8},
        {"name": "b", "seeds_planned": 5},
        {"name": "c", "seeds_planned": None},
    ]
    assert unplanned(statements, 5) == ["a: 5 seeds, 8 were planned"]
