"""The command's own processes, and two hosts: what Lightning and torchrun launch, in processes that
know nothing of this one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ditflow.bank import MotionBank
from tests.clips import arguments, ditflow, hashes, whole_bank

ROOT = Path(__file__).resolve().parents[3]
SLOW = [
    "--model.steps",
    "8",
    "--model.inner_steps",
    "15",
]  # four guided steps a clip, so slow that a signal arrives in between
HOSTS = {"ditflow-a": "10.213.7.1", "ditflow-b": "10.213.7.2"}


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    return whole_bank(tmp_path_factory.mktemp("whole") / "bank", clips, *SLOW)


def start(command: list[object], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*map(str, command)], env=variables, stdout=output, stderr=output, cwd=log.parent
        )


def ditflow_on(devices: int, words: list[str], log: Path) -> subprocess.Popen[bytes]:
    options = ["--trainer.accelerator", "cpu", "--trainer.devices", devices]
    return start([sys.executable, "-m", "trainers.cli", *words, *SLOW, *options], log)


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def wait_for(folder: Path, files: int) -> None:
    deadline = time.monotonic() + 600
    while len(list(folder.glob("*"))) < files:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_that_dies_is_never_a_success_and_stops_nobody(clips, whole, tmp_path):
    """Killed while both hold a clip: the other one takes it over, the bank is complete, and the
    exit code is 1; the next run finds nothing to do.
    """
    bank, log = tmp_path / "bank", tmp_path / "log"
    fit = arguments("fit", bank, manifest=clips)
    process = ditflow_on(2, fit, log)
    wait_for(bank / "leases", 2)
    (child,) = [
        pid
        for pid in children(process.pid)
        if b"trainers.cli" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    os.kill(child, signal.SIGKILL)
    assert process.wait() == 1, log.read_text()
    assert (
        "rank 1 of this machine ended early, with exit code -9; the others took over what it had."
        in log.read_text()
    )
    assert hashes(bank) == hashes(whole) and MotionBank(bank).inflight() == []
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert ditflow(monkeypatch, *fit, *SLOW) == 0


def test_sigterm_reaches_the_children_and_the_exit_code_says_so(clips, tmp_path):
    process = ditflow_on(2, arguments("fit", tmp_path / "bank", manifest=clips), tmp_path / "log")
    wait_for(tmp_path / "bank" / "leases", 2)
    spawned = children(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143, (tmp_path / "log").read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in spawned), "it outlives them"
    assert MotionBank(tmp_path / "bank").verify() == []


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Two network namespaces with a cable between them."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need the command ip")
    commands = [f"netns add {name}" for name in HOSTS]
    commands += ["link add veth-a netns ditflow-a type veth peer name veth-b netns ditflow-b"]
    for (name, address), device in zip(HOSTS.items(), ("veth-a", "veth-b"), strict=True):
        commands += [
            f"-n {name} addr add {address}/24 dev {device}",
            f"-n {name} link set {device} up",
            f"-n {name} link set lo up",
        ]
    try:
        for command in commands:
            done = subprocess.run(["ip", *command.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"network namespaces are not permitted here: {done.stderr.strip()}")
        yield HOSTS
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


def test_two_hosts_build_one_bank(clips, whole, tmp_path, hosts):
    """torchrun on each, one rank a host, that meet over the network between them; what they share
    is a folder.
    """
    words = [
        *arguments("fit", tmp_path / "bank", manifest=clips),
        *SLOW,
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
        1,
        "--trainer.num_nodes",
        2,
    ]
    meeting = [
        "--nnodes",
        2,
        "--nproc-per-node",
        1,
        "--master-addr",
        HOSTS["ditflow-a"],
        "--master-port",
        29507,
    ]
    processes = []
    for rank, (name, device) in enumerate(zip(hosts, ("veth-a", "veth-b"), strict=True)):
        torchrun = [
            "ip",
            "netns",
            "exec",
            name,
            sys.executable,
            "-m",
            "torch.distributed.run",
            *meeting,
            "--node-rank",
            rank,
            "-m",
            "trainers.cli",
        ]
        processes.append(
            start([*torchrun, *words], tmp_path / f"log{rank}", GLOO_SOCKET_IFNAME=device)
        )
    logs = [(tmp_path / f"log{rank}") for rank in range(2)]
    assert [process.wait() for process in processes] == [0, 0], "".join(
        log.read_text() for log in logs
    )
    assert hashes(tmp_path / "bank") == hashes(whole)
    assert (
        MotionBank(tmp_path / "bank").inflight() == []
        and not (tmp_path / "bank" / "leases").exists()
    )
