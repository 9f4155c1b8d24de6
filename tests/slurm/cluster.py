"""A real SLURM on this machine: munged, slurmctld and slurmd in a folder of their own, started and stopped by tests."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
# More processors than the machine may have: the tests' jobs are small.
CPUS = 8
CONFIG = """
ClusterName=quire
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={worker}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0
KillWait=5
MinJobAge=600
OverTimeLimit=0
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=16000 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE DefMemPerCPU=100 State=UP PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes={host} MaxTime=INFINITE DefMemPerCPU=100 State=UP PriorityTier=10
"""


def is_installed() -> bool:
    """Return whether the daemons are on this machine; `.ci/run` installs Debian's slurm-wlm and munge."""
    return all(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") for name in DAEMONS)


class Cluster:
    """One controller and one node.

    Args:
        folder: where all files of the daemons go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to reach this SLURM and no other."""
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        return os.environ | {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def start(self) -> None:
        """Start the daemons, and wait until the node takes jobs."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        ports = [socket.socket() for _ in range(2)]
        for one in ports:
            one.bind(("127.0.0.1", 0))
        controller, worker = (one.getsockname()[1] for one in ports)
        for one in ports:
            one.close()
        given = {"host": socket.gethostname(), "controller": controller, "worker": worker, "cpus": CPUS}
        (self.folder / "slurm.conf").write_text(CONFIG.format(folder=self.folder, **given))
        files = {name: self.folder / f"munge.{name}" for name in ("socket", "pid", "log", "seed")}
        self._daemon(
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={files['socket']}",
            f"--pid-file={files['pid']}",
            f"--log-file={files['log']}",
            f"--seed-file={files['seed']}",
        )
        self._until(files["socket"].exists, "munged")
        self._daemon("slurmctld", "-D", "-i")
        self._daemon("slurmd", "-D", "-N", socket.gethostname())
        self._until(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T", check=False), "the node")

    def _daemon(self, *words: str) -> None:
        log = (self.folder / f"{words[0]}.out").open("wb")
        self._processes.append(subprocess.Popen(words, env=self.environment, stdout=log, stderr=log))

    def _until(self, is_there, what: str, seconds: float = 300) -> None:
        until = time.monotonic() + seconds
        while not is_there():
            if time.monotonic() > until:
                logs = "\n".join(path.read_text()[-1500:] for path in self.folder.glob("*.log"))
                raise TimeoutError(f"{what} did not come up\n{logs}")
            time.sleep(0.2)

    def run(self, *words: str, check: bool = True) -> str:
        """Return what a command of SLURM's prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr}")
        return done.stdout

    def jobs(self) -> list[list[str]]:
        """Return [id, state, reason] of every job that waits or runs."""
        return [line.split(maxsplit=2) for line in self.run("squeue", "-h", "-r", "-o", "%i %T %r").splitlines()]

    def wait_until_empty(self, seconds: float = 900) -> None:
        """Wait until no job is left; what was requeued, which SLURM lets wait two minutes, may begin at once.

        Not in the same second, for which SLURM has revoked the job's right to start.
        """
        moved: set[str] = set()

        def is_empty() -> bool:
            jobs = self.jobs()
            for job, state, reason in jobs:
                if state == "PENDING" and reason == "BeginTime" and job not in moved:
                    self.run("scontrol", "update", f"jobid={job}", "starttime=now+2", check=False)
                    moved.add(job)
                elif state != "PENDING":
                    moved.discard(job)
            return not jobs

        self._until(is_empty, "an empty queue", seconds)

    def stop(self) -> None:
        """Cancel all jobs and stop the daemons."""
        self.run("scancel", "--signal=KILL", "-u", "root", check=False)
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
