"""What the harness costs before, around and instead of training, next to what a user would write instead.

`python benchmarks/startup.py [--root PATH] [--rounds N]` prints medians of seconds, of the wall clock and of processor
time, of a process and its children; `--root` measures another checkout with this one's environment. `first step` is the
first row of metrics on the disk, `first run` the first run folder of a sweep, which is then killed.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
IMPORTS = [sys.executable, "-c", "import hydra, torch, pytorch_lightning"]
TINY = ["experiment=uosr", "debug=tiny"]
TICKS = os.sysconf("SC_CLK_TCK")
# Wall and processor seconds.
Spent = tuple[float, float]


def processor(pid: int) -> float:
    """Return the processor seconds of a running process and its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICKS


def spend(command: list[str], root: Path, has_begun: Callable[[], bool] | None, stop: bool = False) -> list[Spent]:
    """Return what a command takes to the moment when something has begun, and to its end.

    Args:
        command: the command.
        root: the checkout in which it runs.
        has_begun: tells whether the moment has come.
        stop: end the command at that moment.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "QUIRE_"))}
    # Safe: the folder of the plain script holds files named as our packages.
    environment |= {"PYTHONPATH": str(root), "PYTHONSAFEPATH": "1", "WANDB_MODE": "offline", "CUDA_VISIBLE_DEVICES": ""}
    began, found = time.perf_counter(), list[Spent]()
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
        )
        while has_begun is not None and not found:
            if has_begun():
                found.append((time.perf_counter() - began, processor(process.pid)))
            elif os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                printed.seek(0)
                sys.exit(f"{' '.join(command)} ended too early:\n{printed.read().decode()}")
            time.sleep(0.002)
        if stop:
            os.killpg(process.pid, signal.SIGKILL)
        _, _, usage = os.wait4(process.pid, 0)
        process.returncode = 0
    found.append((time.perf_counter() - began, usage.ru_utime + usage.ru_stime))
    return found[:1] if stop else found


def plain_config(root: Path, folder: Path) -> None:
    """Write what the tiny run is made of as the one config file of the plain script."""
    code = "import json; from harness.config.compose import compose_words, plain; "
    code += f"print(json.dumps(plain(compose_words({TINY}))))"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    config = json.loads(done.stdout.splitlines()[-1])
    config["data"].pop("_paths_", None)
    best = config["callbacks"]["best"]
    kept = {key: config[key] for key in ("seed", "model", "data", "trainer")}
    content = {**kept, "monitor": best["monitor"], "mode": best["mode"], "folder": "???"}
    content["hydra"] = {"output_subdir": None, "run": {"dir": "."}}
    (folder / "plain.yaml").write_text(json.dumps(content))


def holds(folder: Path, pattern: str) -> Callable[[], bool]:
    """Return what tells whether a folder holds something that is not empty."""
    return lambda: any(path.is_dir() or path.stat().st_size for path in folder.glob(pattern))


def round_of(root: Path) -> Mapping[str, Spent]:
    """Measure everything once."""
    found: dict[str, Spent] = {}
    with tempfile.TemporaryDirectory(prefix="quire-startup-") as place:
        folder = Path(place)

        def quire(*words: str) -> list[str]:
            return [sys.executable, str(root / "run.py"), *words]

        def simple(name: str, command: list[str]) -> None:
            (found[name],) = spend(command, root, None)

        def fit(name: str, command: list[str], rows: Callable[[], bool]) -> None:
            found[f"{name}, first step"], found[f"{name}, to its end"] = spend(command, root, rows)

        simple("import hydra, torch, pytorch_lightning", IMPORTS)
        simple("python run.py", quire())
        simple("--help", quire("--help"))
        simple("experiment=uosr --cfg job", quire("experiment=uosr", "--cfg", "job"))
        simple("experiment=uosr seeed=1 (a typo)", quire("experiment=uosr", "seeed=1"))
        plain_config(root, folder)
        script = [sys.executable, str(HERE / "plain_script.py"), "--config-dir", place, "--config-name", "plain"]
        fit("plain script", [*script, f"folder={place}/plain"], holds(folder, "plain/**/metrics.csv"))
        runs = f"runs={place}/runs"
        fit("harness", quire(*TINY, runs), holds(folder, "runs/uosr/*/metrics.jsonl"))
        simple("the finished run again", quire(*TINY, runs))
        other = f"runs={place}/wandb"
        fit("harness, W&B offline", quire(*TINY, "logger=wandb", other), holds(folder, "wandb/uosr/*/metrics.jsonl"))
        simple("claim=u_tuning mode=report", quire("claim=u_tuning", "mode=report", f"runs={place}/claim"))
        sweep = quire("-m", *TINY, "seed=range(200)", f"runs={place}/sweep")
        (found["sweep of 200 runs, first run"],) = spend(sweep, root, holds(folder, "sweep/uosr/*"), stop=True)
    return found


def main() -> None:
    """Measure round by round and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, default=HERE.parent)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rounds = [round_of(given.root.resolve()) for _ in range(given.rounds)]
    medians: dict[str, Any] = {
        name: [statistics.median(one[name][part] for one in rounds) for part in (0, 1)] for name in rounds[0]
    }
    print(f"{'seconds, median of ' + str(given.rounds):45} {'wall':>8} {'CPU':>8}")
    for name, (wall, cpu) in medians.items():
        print(f"{name:45} {wall:8.2f} {cpu:8.2f}")
    for moment in ("first step", "to its end"):
        wall, cpu = (medians[f"harness, {moment}"][part] / medians[f"plain script, {moment}"][part] for part in (0, 1))
        print(f"{'harness / plain script, ' + moment:45} {wall:8.2f} {cpu:8.2f}")


if __name__ == "__main__":
    main()
