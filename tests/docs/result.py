"""A result as harness/claims/conclusion.py writes it into docs/results, with what the docs read."""


def side(effect, interval, verdict, reason="the whole interval is above the gate"):
    return {"effect": effect, "interval": interval, "verdict": verdict, "reason": reason}


def result():
    metric = {"metric": "test/unknown/msp/uosr", "baseline_metric": "test/unknown/msp/osr"}
    lead = {"margin": 2.5, "lead": {"effect": 10.0, "interval": [9.0, 11.0]}}
    control = {"name": "errors by lot", "method": "ce", "baseline": "ce", **metric, **side(0.1, [-0.2, 0.4], "holds")}
    first = {"text": "", "method": "ce", "baseline": "ce", **metric, "direction": "up", "min_effect": 5.0}
    second = {"text": "InC/InW down", "method": "oe", "baseline": "ce", **metric, "direction": "down"}
    parts = [
        first | side(10.1, [9.2, 10.9], "holds") | {"controls": [control | lead], "ceiling": 40, "seeds_needed": 4},
        second
        | side(-2.0, None, "undecided", "1 paired seed, at least two are needed")
        | {"controls": [], "min_effect": 1, "ceiling": None, "seeds_needed": None},
    ]
    limit = second | side(0.1, [-0.2, 0.4], "as expected") | {"text": "far", "margin": 0.5, "controls": []}
    said = {"name": "unified_is_easier", "text": "Rejecting both is easier.", **metric, "arms": ["ce", "oe"]}
    said |= {"role": "paper", "source": "abstract, sentence 5", "guards": [], "ceiling": 40, "seeds_planned": 4}
    ends = said | {"name": "far", "role": "limit", "source": None, "text": "Far off it ends.", "parts": [limit]}
    return {
        "claim": "uosr",
        "paper": "A paper (ICLR 2023)",
        "text": "What it says.",
        "substitutes": "Rendered shapes stand in for photographs.",
        "runtime": "9 min, CPU",
        "seeds": [0, 1, 2],
        "verdict": "undecided",
        "scope": None,
        "tally": {"paper": {"undecided": 1}, "limit": {"as expected": 1}},
        "learned": "Rejecting both is easier here too.",
        "design": {"digest": "0" * 16, "changed": ["roles assigned after the runs"], "seeds_added": [2]},
        "notes": ["run:experiment=a: one base: seeds vary what comes after"],
        "statements": [
            said | side(10.1, [9.2, 10.9], "undecided") | {"parts": parts},
            ends | side(0.1, [-0.2, 0.4], "as expected"),
        ],
        "arms": {
            "ce": {
                "overrides": "experiment=uosr",
                "description": "the baseline",
                "runs": [{"seed": 0, "folder": "runs/uosr/seed-0-3535e94c", "status": "done"}],
                "metrics": {"test/acc": {"mean": 75.61, "sd": 0.2, "interval": [75.1, 76.1], "values": [75.4, 75.8]}},
                "cost": {"seconds": 45.1, "test_seconds": 8.0, "parameters": 100024, "trainable": 100024},
            },
            "oe": {"overrides": "experiment=uosr_oe", "description": "outliers", "runs": [], "metrics": {}, "cost": {}},
        },
        "columns": ["test/acc", "test/unknown/msp/uosr"],
        "curves": ["val/acc"],
        "paper_numbers": None,
        "commands": ["python run.py claim=uosr"],
        "cost": {"seconds": 612.0, "runs": 12},
        "lock": {"code": {"commit": "0123456789abcdef", "changes": None}, "python": "3.11.7", "packages": {}},
    }
