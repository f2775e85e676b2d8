"""A SLURM of one node, from the distribution's packages, in a private folder: own munge key and socket, own ports.

Needs root (slurmd starts jobs as their users) and the packages slurmctld, slurmd, slurm-client and munge. Two of them
run beside each other. There are two pretended GPUs: SLURM hands out their numbers in CUDA_VISIBLE_DEVICES. Partition
`urgent` preempts the partitions `debug` (jobs get SIGTERM and KillWait seconds) and `grace` (GraceTime seconds).
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue", "scancel", "scontrol")

CONFIGURATION = """
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0
MpiDefault=none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
ReturnToService=2
KillWait=20
SlurmdTimeout=30
InactiveLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=grace Nodes=ALL MaxTime=INFINITE PriorityTier=1 GraceTime=30 State=UP
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
"""


def missing() -> str | None:
    """Why no SLURM can be started here; None where one can."""
    if os.geteuid() != 0:
        return "slurmd starts jobs as their users: this needs root"
    gone = [name for name in PROGRAMS if _program(name) is None]
    return f"not installed: {', '.join(gone)} (Debian: slurmctld slurmd slurm-client munge)" if gone else None


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Ask until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(0.1)


class Slurm:
    """The daemons. `environment` is what a command needs to speak to them."""

    def __init__(self, cpus: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: munge's socket has 108 characters
        self.folder.chmod(0o755)
        self.host = socket.gethostname().partition(".")[0]
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        controller_port, daemon_port = _free_ports(2)
        text = CONFIGURATION.format(
            name=f"t{secrets.token_hex(3)}", host=self.host, folder=self.folder, cpus=cpus,
            controller_port=controller_port, daemon_port=daemon_port,
        )  # fmt: skip
        (self.folder / "slurm.conf").write_text(text)
        # A device that exists everywhere stands for each GPU: SLURM wants a file, and numbers GPUs by their order.
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/zero\nName=gpu File=/dev/full\n")
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (self.folder / "munge.key").chmod(0o400)

    def start(self) -> None:
        """Start what isn't running and wait until the node is idle or at work."""
        files = {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        munge = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        self._start("munged", "--foreground", "--force", *munge)
        wait_for((self.folder / "munge.sock").exists, "munged")
        self._start("slurmctld", "-D")
        self._start("slurmd", "-D")
        wait_for(self.is_up, f"the node; see {self.folder}")

    def _start(self, name: str, *words: str) -> None:
        if name in self._running and self._running[name].poll() is None:
            return
        with (self.folder / f"{name}.out").open("ab") as output:
            self._running[name] = subprocess.Popen(
                [str(_program(name)), *words],
                env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def kill(self, name: str) -> None:
        """kill -9 one of the daemons: slurmctld or slurmd."""
        self._running[name].kill()
        self._running[name].wait()

    def kill_node(self) -> None:
        """As if the node's power were cut: slurmd, the steps' daemons and every process of its jobs, by kill -9.

        All are stopped first: none lives to report that another died.
        """
        ours = self._processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            self._running["slurmd"].send_signal(number)
            for process in ours:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
        psutil.wait_procs(ours, timeout=10)
        self._running["slurmd"].wait()

    def _processes(self) -> list[psutil.Process]:
        """The processes of this SLURM's jobs, and the steps' daemons, which are their parents."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                if "SLURM_JOB_ID" in environment and environment.get("SLURM_CONF") == self.environment["SLURM_CONF"]:
                    parent = process.parent()
                    found += [parent] if parent is not None and parent.name() == "slurmstepd" else []
                    found.append(process)
        return found

    def ask(self, *words: str) -> str:
        """Run one of SLURM's commands; what it prints."""
        done = subprocess.run(
            words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.strip()

    @contextlib.contextmanager
    def printing_logs(self) -> Iterator[None]:
        """What the daemons log within is printed at the end; pytest shows it where a test failed."""
        before = {path: path.stat().st_size for path in self.folder.glob("*.log")}
        yield
        for path in sorted(self.folder.glob("*.log")):
            print(f"--- {path.name}\n{path.read_bytes()[before.get(path, 0) :].decode(errors='replace')}")

    def is_up(self) -> bool:
        """Whether the node takes jobs."""
        with contextlib.suppress(subprocess.SubprocessError):
            return self.ask("sinfo", "--noheader", "-N", "-o", "%T").split("\n")[0] in ("idle", "mixed", "allocated")
        return False

    def stop(self) -> None:
        """End everything and remove the folder."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.ask("scancel", "--user=root", "--full")
            wait_for(lambda: not self.ask("squeue", "--noheader"), "the queue to empty", 30)
        with contextlib.suppress(KeyError):
            self.kill_node()
        for name in ("slurmctld", "munged"):
            if name in self._running:
                self._running[name].send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._running[name].wait(timeout=10)
                self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)
