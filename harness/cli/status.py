"""`mode=status`: how the runs of submitted sweeps are."""

from pathlib import Path

from common.errors import UserError
from common.files import read_json
from harness.config.overrides import parse
from harness.core.screen import show_table
from harness.sweeps import slurm_array

GONE = "gone from the queue without an end: see its log"


def show_status(overrides: list[str]) -> int:
    """Print how the runs of submitted sweeps are; returns the exit code.

    Args:
        overrides: nothing, or `runs=FOLDER`.
    """
    wrong = [override for override in overrides if not override.startswith("runs=")]
    if wrong:
        raise UserError(f"mode=status: {wrong[0]} does not belong there: give runs=FOLDER or nothing")
    home = Path(str(parse(overrides)[-1].value()) if overrides else "runs")
    sweeps = slurm_array.submitted(home)
    if not sweeps:
        print(f"nothing was submitted from here (no {home}/.sweeps/*/submitted.json)")
    for folder, given in sweeps:
        try:
            waiting, gone = slurm_array.states([given["array"], given["last"]]), GONE
        except UserError as error:
            # What has ended, files tell.
            print(f"the queue does not answer: {error}")
            waiting, gone = {}, "not ended"
        rows = []
        for number, own in enumerate(given["runs"]):
            ended = read_json(folder / f"{number}.json")
            in_queue = waiting.get(f"{given['array']}_{number}", "").lower()
            state = in_queue or (ended["status"] if ended else gone)
            rows.append([number, " ".join(own), state, f"logs/{number}.out"])
        show_table(f"{folder.name}, job {given['array']}", ["run", "overrides", "state", "log"], rows)
        last = waiting.get(given["last"], "").lower()
        print(f"{folder}: the end, job {given['last']}: {last or 'logs/end.out'}")
    return 0
