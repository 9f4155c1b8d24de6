"""The dashboard of a claim has the panels it should, is saved to W&B only with a key, and fails in one line."""

import json
import socket
from types import SimpleNamespace

import pytest
import wandb

from common.errors import UserError
from harness.claims.dashboard import show_dashboard

NEW = {
    "claim": "uosr",
    "paper": "A paper (arXiv 1234.56789)",
    "text": "One is better than the other.",
    "substitutes": "rendered shapes stand in for CIFAR-100",
    "learned": "Nothing yet.",
    "statements": [
        {"name": "first", "role": "paper", "text": "A | B"},
        {"name": "second", "role": "limit", "text": "both sides of it"},
    ],
    "columns": ["test/acc", "test/unknown/msp/uosr"],
    "curves": ["train/loss"],
    "arms": {
        "ce": {"overrides": "experiment=uosr", "description": "the baseline"},
        "oe": {"overrides": "experiment=uosr_oe", "description": "with outliers"},
    },
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args):
        raise AssertionError("nothing here may reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("harness.claims.dashboard.key_is_set", lambda: False)


@pytest.fixture
def server(monkeypatch):
    """W&B's server, where the library hands requests to W&B: it keeps the views by their name."""
    views, errors = {}, []

    def answer(query, variables):
        if errors:
            raise errors[0]
        if "upsertView" in query:
            views[variables["name"]] = variables
            return {"upsertView": {"view": {"id": "v1", "name": variables["name"]}}}
        found = [views[name] for name in [variables["viewName"]] if name in views]
        return {"project": {"allViews": {"edges": [{"node": {"id": "v1", **view}} for view in found]}}}

    service = SimpleNamespace(app_url="https://wandb.test/wandb/", execute_graphql=answer)
    site = lambda project, entity: SimpleNamespace(url=f"{service.app_url}{entity}/{project}/workspace")  # noqa: E731
    api = SimpleNamespace(default_entity="me", project=site, _service_api=service)
    monkeypatch.setattr(wandb, "Api", lambda: api)
    monkeypatch.setattr("harness.claims.dashboard.key_is_set", lambda: True)
    return SimpleNamespace(views=views, errors=errors)


def write(tmp_path, claim=NEW, entity=None):
    """Return what is printed, and the content of the file."""
    place = tmp_path / "dashboard.json"
    line = show_dashboard(claim, "quire", entity, claim["claim"], place)
    return line, json.loads(place.read_text())


def panels(content, section):
    """Return view type and config of the panels of a section, given by the beginning of its name."""
    (found,) = (s for s in content["spec"]["section"]["panelBankConfig"]["sections"] if s["name"].startswith(section))
    return [(panel["viewType"], panel["config"]) for panel in found["panels"]]


def test_without_a_key_it_is_written_and_told_how_to_create_it(tmp_path):
    line, content = write(tmp_path)
    assert "\n" not in line
    assert str(tmp_path / "dashboard.json") in line
    assert "WANDB_API_KEY" in line
    assert "`wandb login`" in line
    assert "`python run.py claim=uosr mode=dashboard`" in line
    assert (content["displayName"], content["project"]) == ("claim uosr", "quire")
    assert [path.name for path in tmp_path.iterdir()] == ["dashboard.json"]


def test_runs_are_those_of_the_group_by_arm(tmp_path):
    (runs,) = write(tmp_path)[1]["spec"]["section"]["runSets"]
    (only,) = runs["filters"]["filters"]
    assert (only["key"], only["op"], only["value"]) == ({"section": "run", "name": "group"}, "=", "uosr")
    assert runs["grouping"] == [{"section": "run", "name": "jobType"}]
    assert {f"summary:{key}" for key in NEW["columns"]} <= runs["runFeed"]["columnPinned"].keys()


def test_arms_and_curves_are_means_with_their_spread(tmp_path):
    content = write(tmp_path)[1]
    *bars, last = panels(content, "arms")
    assert last[0] == "Run Comparer"
    assert [config["metrics"] for _, config in bars] == [[key] for key in NEW["columns"]]
    ((kind, line),) = panels(content, "curves")
    assert kind == "Run History Line Plot"
    assert (line["xAxis"], line["metrics"]) == ("step", ["train/loss"])
    for config, spread in [(bars[0][1], "stddev"), (line, "minmax")]:
        assert (config["groupBy"], config["groupAgg"], config["groupArea"]) == ("jobType", "mean", spread)


def test_the_scatter_that_a_claim_asks_for(tmp_path):
    content = write(tmp_path, NEW | {"scatter": {"x": "cost/tuner", "y": "test/acc"}})[1]
    (dots,) = [config for kind, config in panels(content, "arms") if kind == "Scatter Plot"]
    assert (dots["xAxis"], dots["yAxis"]) == ("summary:cost/tuner", "summary:test/acc")
    assert dots["xAxisLogScale"]


def test_before_the_first_run_it_says_so(tmp_path):
    content = write(tmp_path)[1]
    ((kind, config),) = panels(content, "verdicts")
    assert kind == "Markdown Panel"
    for said in (NEW["paper"], NEW["text"], NEW["substitutes"], "uosr: not run yet", "the baseline"):
        assert said in config["value"]
    assert "| **A \\| B** | paper | not run yet |  |  |  |  |" in config["value"]
    assert "Nothing yet." not in config["value"]
    ((kind, config),) = panels(content, "pictures")
    assert "No run is finished yet" in config["value"]


def test_verdicts_pictures_and_tables_of_finished_runs(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    pictures = ["pictures/images.png", "pictures/images1.png", "pictures/level2.png"]
    (run / "result.json").write_text(json.dumps({"tables": ["tables/scores_5shot.json"], "pictures": pictures}))
    runs = [{"seed": 0, "folder": str(run), "status": "done"}, {"seed": 1, "folder": "nowhere", "status": "missing"}]
    judged = {"verdict": "holds", "effect": 10.1, "interval": [9.2, 10.95], "min_effect": 5, "seeds_needed": 4}
    control = {"name": "shuffled", "verdict": "holds", "effect": 0.5, "interval": [0.1, 0.9]}
    parts = [
        {"text": "up", "metric": "m", **judged, "controls": [control]},
        {"text": "", "metric": "n", "verdict": "fails", "effect": -1.0, "min_effect": 0, "ceiling": 12.0},
    ]
    claim = NEW | {
        "verdict": "fails",
        "scope": "tiny runs, whose numbers mean nothing",
        "tally": {"paper": {"fails": 1}, "ablation": {"holds": 1}},
        "design": {"changed": ["roles assigned after the runs"], "seeds_added": [3]},
        "notes": ["run:experiment=a: one base: seeds vary what comes after"],
        "statements": [
            {"name": "a", "role": "ablation", "text": "A", "verdict": "holds", "parts": parts[:1]},
            {"name": "b", "role": "paper", "text": "B", "verdict": "fails", "effect": 10.1, "parts": parts},
        ],
        "arms": {"ce": NEW["arms"]["ce"] | {"runs": runs}},
        "commands": ["python run.py claim=uosr seed=0"],
    }
    line, content = write(tmp_path, claim)
    assert "`python run.py claim=uosr seed=0 mode=dashboard`" in line
    text = panels(content, "verdicts")[0][1]["value"]
    assert "# uosr: fails (tiny runs, whose numbers mean nothing)" in text
    assert "paper: 1 fails; ablation: 1 holds" in text
    assert "**Learned:** Nothing yet." in text
    figures = "| holds | +10.10 | +9.20 to +10.95 | 5 | 4 |"
    shuffled = "\n| control: shuffled |  | holds | +0.50 | +0.10 to +0.90 |  |  |"
    assert f"| **A** | ablation {figures}{shuffled}\n| **B** | paper | fails |  |  |  |  |\n| up |  {figures}" in text
    assert "\n| n |  | fails | -1.00 |  | 0 (ceiling 12) |  |" in text
    assert "- roles assigned after the runs; seeds 3 added after the others were run" in text
    assert "- run:experiment=a: one base" in text
    *media, table = panels(content, "pictures")
    assert [config["mediaKeys"] for _, config in media] == [["pictures/images"], ["pictures/level2"]]
    assert '"val": "tables/scores_5shot"' in json.dumps(table)


def test_with_a_key_it_is_saved_and_later_changed_in_place(tmp_path, server):
    line, content = write(tmp_path)
    ((name, view),) = server.views.items()
    assert (view["entityName"], view["projectName"], view["displayName"]) == ("me", "quire", "claim uosr")
    assert json.loads(view["spec"]) == content["spec"]
    assert line == f"dashboard: https://wandb.test/wandb/me/quire/workspace?nw={name[3:-2]}"
    again, _ = write(tmp_path, NEW | {"curves": ["val/acc"]})
    assert again == line
    assert list(server.views) == [name]
    assert "val/acc" in server.views[name]["spec"]


def test_one_that_was_deleted_or_is_another_accounts_is_saved_anew(tmp_path, server):
    first, _ = write(tmp_path)
    server.views.clear()
    second, _ = write(tmp_path)
    third, _ = write(tmp_path, entity="team")
    assert len({first, second, third}) == 3
    assert [view["entityName"] for view in server.views.values()] == ["me", "team"]


@pytest.mark.parametrize("error", [wandb.errors.CommError("permission\n denied"), RuntimeError()])
def test_what_wandb_refuses_is_told_in_one_line(error, tmp_path, server):
    server.errors.append(error)
    with pytest.raises(UserError) as caught:
        write(tmp_path)
    (line,) = caught.value.lines
    assert line == f"dashboard: W&B did not take it: {'permission denied' if str(error) else 'RuntimeError'}"
    assert not list(tmp_path.iterdir())


def test_a_bad_key_is_told_before_any_request(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.claims.dashboard.key_is_set", lambda: True)
    monkeypatch.setenv("WANDB_API_KEY", "bad")
    with pytest.raises(UserError, match="WANDB_API_KEY invalid"):
        write(tmp_path)
