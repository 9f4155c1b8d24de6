"""The W&B dashboard of a claim, as code: its verdicts, and its runs' metrics, curves, pictures and tables by arm."""

import os
import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from common.errors import UserError
from common.files import read_json, write_json
from harness.claims.wording import effect_texts, gate_text, marks, rows, tally_text, verdict_text
from harness.training.wandb_mirror import key_is_set

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Section, Workspace

# The runs of a claim bear their arm's name as W&B's job type.
_ARM = "JobType"


def show_dashboard(claim: Mapping[str, Any], project: str, entity: str | None, group: str, place: Path) -> str:
    """Save the dashboard of a claim to W&B; without a key for W&B, only write what would be saved.

    Args:
        claim: the content of claim.json; before the first run, the claim file's with the name of each statement.
        project: W&B project.
        entity: W&B entity, the account's default if None.
        group: W&B group of the claim's runs.
        place: JSON file of the dashboard; the address in it makes that later calls change the same dashboard.

    Returns:
        The line to print.

    Raises:
        UserError: if W&B does not take it, with its reason.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    known = read_json(place) or {}
    saved = {"address": known.get("address"), "link": known.get("link")}
    if not key_is_set():
        _write(place, saved, _workspace(claim, project, entity or "", group))
        command = claim.get("commands", [f"python run.py claim={claim['claim']}"])[0]
        again = f"set WANDB_API_KEY or `wandb login`, then run `{command} mode=dashboard`"
        return f"no key for W&B: the dashboard is written to {place}; to create it, {again}"
    try:
        workspace, saved = _save(claim, project, entity, group, saved["address"])
    except Exception as error:  # noqa: BLE001 - whatever W&B does is told in one line
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"dashboard: W&B did not take it: {reason}") from None
    _write(place, saved, workspace)
    return f"dashboard: {saved['link']}"


def _write(place: Path, saved: Mapping[str, Any], workspace: "Workspace") -> None:
    write_json(place, {**saved, **workspace._spec})  # noqa: SLF001 - the library has no other name for it


def _save(
    claim: Mapping[str, Any], project: str, entity: str | None, group: str, address: str | None
) -> tuple["Workspace", dict[str, Any]]:
    """Save the dashboard, in place of the one at the address; returns it with its address and the link for people."""
    import wandb

    api = wandb.Api()
    entity = entity or api.default_entity or ""
    workspace = _workspace(claim, project, entity, group)
    before = _saved_before(address)
    if before and (before.entity, before.project) == (entity, project):
        for part in ("name", "sections", "settings", "runset_settings"):
            setattr(before, part, getattr(workspace, part))
        workspace = before
    workspace.save()
    # The library's own address leaves out the path under which W&B's site lies.
    link = f"{api.project(project, entity).url}?{urlsplit(workspace.url).query}"
    return workspace, {"address": workspace.url, "link": link}


def _saved_before(address: str | None) -> "Workspace | None":
    """Return the dashboard at an address, None if it has been deleted since."""
    from wandb_workspaces.workspaces import Workspace

    try:
        return Workspace.from_url(address) if address else None
    except ValueError:
        return None


def _workspace(claim: Mapping[str, Any], project: str, entity: str, group: str) -> "Workspace":
    import wandb_workspaces.workspaces as ws

    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"claim {group}",
        sections=list(_sections(claim)),
        # Every run of the claim counts in a mean, not only W&B's usual ten.
        settings=ws.WorkspaceSettings(x_axis="step", max_runs=1000),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(ws.Metric("Group") == group),
            groupby=[ws.Metric(_ARM)],
            pinned_columns=[f"summary:{metric}" for metric in claim["columns"]],
        ),
    )


def _sections(claim: Mapping[str, Any]) -> Iterator["Section"]:
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces.workspaces import Section, SectionLayoutSettings

    wide = SectionLayoutSettings(columns=1, rows=1)
    means: dict[str, Any] = {"groupby": _ARM, "groupby_aggfunc": "mean"}
    bars = [wr.BarPlot(title=key, metrics=[key], groupby_rangefunc="stddev", **means) for key in claim["columns"]]
    asked = claim.get("scatter")
    # On a line that shows numbers of parameters from a thousand to a hundred million.
    dots = [wr.ScatterPlot(title=f"{asked['y']} by {asked['x']}", log_x=True, **asked)] if asked else []
    lines: list[Any] = [
        wr.LinePlot(title=key, x="step", y=[key], groupby_rangefunc="minmax", **means) for key in claim["curves"]
    ]
    shown: list[Any] = [wr.MediaBrowser(title=key, media_keys=[key]) for key in _keys(claim, "pictures")]
    shown += [wr.WeavePanelSummaryTable(table_name=key) for key in _keys(claim, "tables")]
    missing = wr.MarkdownPanel(markdown="No run is finished yet: make the dashboard again after one is.")
    yield Section(name="verdicts", panels=[wr.MarkdownPanel(markdown=_text(claim))], is_open=True, layout_settings=wide)
    yield Section(
        name="arms: mean and standard deviation", panels=[*bars, *dots, wr.RunComparer(diff_only=True)], is_open=True
    )
    yield Section(name="curves: mean, least and greatest", panels=lines, is_open=True)
    yield Section(name="pictures and tables", panels=shown or [missing], is_open=True, layout_settings=wide)


def _keys(claim: Mapping[str, Any], kind: str) -> list[str]:
    """Return the keys under which the claim's finished runs logged their pictures or tables."""
    runs = [run for arm in claim["arms"].values() for run in arm.get("runs", [])]
    results = [read_json(Path(run["folder"], "result.json")) or {} for run in runs]
    found = dict.fromkeys(str(Path(file).with_suffix("")) for result in results for file in result.get(kind, []))
    # In the run folder the pictures of a key after its first are numbered, in W&B they are one list.
    return [key for key in found if (stem := key.rstrip(string.digits)) == key or stem not in found]


def _text(claim: Mapping[str, Any]) -> str:
    arms = [f"- **{name}** (`{arm['overrides']}`): {arm['description']}" for name, arm in claim["arms"].items()]
    columns = ["statement", "role", "verdict", "effect", "95 % interval", "gate", "seeds to decide"]
    table = [
        _row(columns),
        _row(["---"] * len(columns)),
        *(_row(cells) for of in claim["statements"] for cells in _cells(of)),
    ]
    title = f"# {claim['claim']}: {verdict_text(claim)}"
    learned = f"**Learned:** {claim['learned']}" if claim.get("learned") and claim.get("verdict") else ""
    blocks = [title, tally_text(claim.get("tally")), learned, claim["paper"], claim["text"]]
    blocks += [
        f"Substitutes: {claim['substitutes']}",
        "\n".join(table),
        "\n".join(f"- {mark}" for mark in marks(claim)),
    ]
    return "\n\n".join([*filter(None, blocks), "\n".join(arms)])


def _cells(statement: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the cells of a row for a statement, and of one for each of its comparisons and controls."""
    if not statement.get("verdict"):
        yield [f"**{statement['text']}**", statement["role"], "not run yet", *[""] * 4]
        return
    for number, (of, name) in enumerate(rows(statement)):
        first = number == 0
        label = [f"**{statement['text']}**", statement["role"]] if first else [name.strip(), ""]
        needed = of.get("seeds_needed")
        verdict = statement["verdict"] if first else of["verdict"]
        yield [*label, verdict, *effect_texts(of), gate_text(of), "" if needed is None else str(needed)]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
