"""A training step on one and two threads, with threads that spin and threads that sleep, alone and on a loaded machine.

`python benchmarks/threads.py [STEPS]` prints wall and processor milliseconds a step for networks of four papers.
Each cell is a process of its own, since OpenMP reads its policy once; the load is one busy process for each core.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENTS = ("uosr", "u_tuning_pretrain", "clip_fsar_pretrain", "geod_oracle")  # none needs another run
POLICIES = {"1 thread": (1, "PASSIVE"), "2, sleeping": (2, "PASSIVE"), "2, spinning": (2, None)}
STEP = """
import json, sys, time
sys.path.insert(0, {root!r})
import pytorch_lightning as pl
from harness.run.build import build, build_data
from harness.config.load import load
from harness.config.compose import plain
from harness.config.job import Job
from harness.core.process import set_threads
from harness.run.quiet import be_quiet
from pathlib import Path

steps = {steps}
class Clock(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 3:
            self.began = time.perf_counter(), time.process_time()
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.spent = [(now - began) * 1e3 / (index - 2) for now, began in
                      zip((time.perf_counter(), time.process_time()), self.began)] if index >= 3 else None

be_quiet()
words = ["experiment={experiment}", "logger=local", "hardware=cpu", "trainer.max_epochs=1", "data.num_workers=0",
         f"trainer.limit_train_batches={{steps + 3}}", "trainer.limit_val_batches=0", "callbacks.best.monitor=null"]
config = plain(load(words))
set_threads({threads})
built = build(Job(config, "{experiment}", words), Path({folder!r}), build_data(config))
built.trainer.callbacks.append(clock := Clock())
built.trainer.fit(built.module, datamodule=built.data)
print("SPENT " + json.dumps(clock.spent))
"""


def measure(experiment: str, threads: int, policy: str | None, steps: int) -> tuple[float, float]:
    """Return wall and processor milliseconds of a training step in a new process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    environment |= {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"OMP_WAIT_POLICY": policy} if policy else {}
    with tempfile.TemporaryDirectory() as folder:
        code = STEP.format(root=str(ROOT), steps=steps, threads=threads, experiment=experiment, folder=folder)
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("SPENT ")]
    if not lines:
        raise RuntimeError(done.stderr[-2000:])
    wall, processor = json.loads(lines[0].removeprefix("SPENT "))
    return wall, processor


def main(steps: int = 20) -> None:
    """Measure every cell, alone and under load."""
    for load in (0, os.cpu_count() or 1):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
        print(f"\n{load} busy processes; wall / processor ms a step")
        try:
            for experiment in EXPERIMENTS:
                cells = {name: measure(experiment, *how, steps) for name, how in POLICIES.items()}
                shown = [f"{name} {wall:.0f} / {processor:.0f}" for name, (wall, processor) in cells.items()]
                print(f"{experiment:20} {'   '.join(shown)}", flush=True)
        finally:
            for process in busy:
                process.kill()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
