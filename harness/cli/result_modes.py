"""What is asked of results that are there, running nothing: `mode=report`, `mode=publish`, `mode=dashboard`."""

from pathlib import Path
from typing import Any

from common.errors import UserError, suggestion
from common.files import read_json, write_json
from harness.claims.claim_runs import check_claim, claim_folder, command, name_of
from harness.claims.overview import ALL_CLAIMS, show_overview
from harness.config.claim_design import planned_seeds
from harness.config.compose import plain
from harness.core.paths import CONF, RESULTS

_INSPECTING = ("report", "publish", "dashboard")


def inspects_results(overrides: list[str]) -> bool:
    """Return whether a command line asks for results instead of runs."""
    return any(override in {f"mode={mode}" for mode in _INSPECTING} for override in overrides)


def answer(overrides: list[str]) -> int:
    """Do what such a command line asks; returns the exit code."""
    mode = next(override for override in reversed(overrides) if override.startswith("mode=")).removeprefix("mode=")
    if name_of(overrides) == ALL_CLAIMS:
        return _overview(mode, [override for override in overrides if not override.startswith(("mode=", "claim="))])
    if any(override.startswith("claim=") for override in overrides):
        config = plain(check_claim(overrides))
        # The page tells the command that makes the runs.
        return {"report": _report, "publish": _publish, "dashboard": _dashboard}[mode](
            [override for override in overrides if not override.startswith("mode=")], config
        )
    if mode != "report":
        raise UserError(f"mode={mode}: of which claim? add claim=NAME{suggestion('', _claims())}")
    return _compare(overrides)


def _overview(mode: str, others: list[str]) -> int:
    if mode != "report":
        raise UserError(
            f"claim={ALL_CLAIMS}: is for mode=report; mode={mode} takes one claim{suggestion('', _claims())}"
        )
    if wrong := [override for override in others if not override.startswith("runs=")]:
        raise UserError(f"claim={ALL_CLAIMS}: {wrong[0]} does not belong there: give runs=FOLDER or nothing")
    show_overview(Path(others[-1].removeprefix("runs=") if others else "runs"))
    return 0


def _claims() -> list[str]:
    return [path.stem for path in (CONF / "claim").glob("*.yaml")]


def _report(overrides: list[str], config: dict[str, Any]) -> int:
    from harness.claims.conclusion import conclude

    conclude(overrides, config)
    return 0


def _publish(overrides: list[str], config: dict[str, Any]) -> int:
    from harness.claims.conclusion import conclude

    name = str(name_of(overrides))
    if claim_folder(config, name, overrides).name != name:
        raise UserError(f"mode=publish: only claim={name} as it is written is published, without other overrides")
    if config["seeds"] < (asked := planned_seeds(name)):
        raise UserError(f"mode=publish: the claim has {asked} seeds, not {config['seeds']}: leave seeds= out")
    if not config["claim"].get("learned"):
        raise UserError(f"mode=publish: say in conf/claim/{name}.yaml what was learned, in one sentence: claim.learned")
    content = conclude(overrides, config)
    wanting = [r["folder"] for arm in content["arms"].values() for r in arm["runs"] if r["status"] != "done"]
    if wanting:
        raise UserError(*(f"mode=publish: {folder} is not done: run claim={name} first" for folder in wanting))
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / f"{name}.json", content)
    print(f"written: docs/results/{name}.json; `make docs` takes it into the README and the docs")
    return 0


def _dashboard(overrides: list[str], config: dict[str, Any]) -> int:
    from harness.claims.dashboard import show_dashboard

    name = str(name_of(overrides))
    place = claim_folder(config, name, overrides)
    content = read_json(place / "claim.json") or _not_run_yet(overrides, config["claim"])
    wandb = (config["logger"] or {}).get("wandb") or {}
    place.mkdir(parents=True, exist_ok=True)
    project, file = wandb.get("project", "quire"), place / "dashboard.json"
    print(show_dashboard(content, project, wandb.get("entity"), place.name, file))
    return 0


def _not_run_yet(overrides: list[str], claim: dict[str, Any]) -> dict[str, Any]:
    statements = [{"name": key, **said} for key, said in claim["statements"].items()]
    return {**claim, "claim": name_of(overrides), "statements": statements, "commands": [command(overrides)]}


def _compare(overrides: list[str]) -> int:
    from common.hashing import digest
    from harness.claims.report.page import write_report

    given = next((override.removeprefix("runs=") for override in overrides if override.startswith("runs=")), "")
    others = [override for override in overrides if not override.startswith(("runs=", "mode="))]
    if others or not given:
        also = f" ({others[0]} does not belong there)" if others else ""
        raise UserError(f"mode=report: give claim=NAME, or runs=FOLDER,FOLDER,... alone{also}")
    folders = [Path(folder) for folder in dict.fromkeys(given.strip("[]").split(","))]
    wrong = [f"runs: {folder}: not a run folder (no lock.json in it)" for folder in folders if not _is_run(folder)]
    if wrong:
        raise UserError(*wrong)
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in folders]
    place = folders[0].resolve().parent.parent / "reports" / f"{digest(given)[:8]}.html"
    place.parent.mkdir(parents=True, exist_ok=True)
    arms = {name: [folder] for name, folder in zip(names, folders, strict=True)}
    write_report(place, arms, None, [command(["mode=report", f"runs={given}"])])
    print(f"report: {place}")
    return 0


def _is_run(folder: Path) -> bool:
    return (folder / "lock.json").is_file()
