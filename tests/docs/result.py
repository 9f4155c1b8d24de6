"""A result as harness/claims/conclusion.py writes it into docs/results, with what the docs read."""


def side(effect, interval, verdict, reason="the interval is above zero and the least effect is reached"):
    return {"effect": effect, "interval": interval, "verdict": verdict, "reason": reason}


def result():
    metric = {"metric": "test/unknown/msp/uosr", "baseline_metric": "test/unknown/msp/osr"}
    control = {"name": "errors by lot", "arm": "ce", **metric, **side(0.1, [-0.2, 0.4], "holds")}
    first = {"text": "", "method": "ce", "baseline": "ce", **metric, "direction": "up", "least": 5.0}
    second = {"text": "InC/InW down", "method": "oe", "baseline": "ce", **metric, "direction": "down", "least": 1}
    parts = [
        first | side(10.1, [9.2, 10.9], "holds") | {"controls": [control]},
        second | side(-2.0, None, "undecided", "1 paired seed, at least two are needed") | {"controls": []},
    ]
    words = {"name": "unified_is_easier", "text": "Rejecting both is easier.", **metric, "arms": ["ce", "oe"]}
    return {
        "claim": "uosr",
        "paper": "A paper (ICLR 2023)",
        "text": "What it says.",
        "stand_in": "Rendered shapes stand in for photographs.",
        "takes": "9 min, CPU",
        "seeds": [0, 1, 2],
        "verdict": "undecided",
        "statements": [words | side(10.1, [9.2, 10.9], "undecided") | {"parts": parts}],
        "arms": {
            "ce": {
                "words": "experiment=uosr",
                "about": "the baseline",
                "runs": [{"seed": 0, "folder": "runs/uosr/seed-0-3535e94c", "status": "done"}],
                "metrics": {"test/acc": {"mean": 75.61, "sd": 0.2, "interval": [75.1, 76.1], "values": [75.4, 75.8]}},
                "cost": {"seconds": 45.1, "test_seconds": 8.0, "parameters": 100024, "trainable": 100024},
            },
            "oe": {"words": "experiment=uosr_oe", "about": "outliers", "runs": [], "metrics": {}, "cost": {}},
        },
        "columns": ["test/acc", "test/unknown/msp/uosr"],
        "curves": ["val/acc"],
        "paper_numbers": None,
        "commands": ["python run.py claim=uosr"],
        "cost": {"seconds": 612.0, "runs": 12},
        "lock": {"code": {"commit": "0123456789abcdef", "changes": None}, "python": "3.11.7", "packages": {}},
    }
