"""Threads and processes: few where tensors are small, else as the user says."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch

from ditflow.core.sizes import Compression, VideoSize
from ditflow.models import sketch_backbone
from tests.clips import arguments, ditflow
from tests.registry import tiny_folder
from trainers.motion import cores

ROOT = Path(__file__).resolve().parents[3]
SPEC = sketch_backbone("tiny-rope").spec
COGVIDEOX_2B = {"compression": Compression(4, 8, 2, 16), "size": VideoSize(49, 480, 720)}
LARGE = replace(SPEC, hidden=1920, text_tokens=226, **COGVIDEOX_2B)


@pytest.fixture
def threads(monkeypatch):
    """Nobody has set a number by hand, and PyTorch has three threads until the end of the test."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def loaded(spec, device: str = "cpu") -> SimpleNamespace:
    return SimpleNamespace(spec=spec, device=torch.device(device))


def test_one_thread_where_tensors_are_small_and_on_a_cpu(threads):
    for backbone in (loaded(LARGE), loaded(SPEC, "cuda")):
        cores.settle(backbone)
        assert torch.get_num_threads() == 3
    cores.settle(loaded(SPEC))
    assert torch.get_num_threads() == 1


def test_optical_flow_has_the_threads_of_pytorch(threads):
    for spec, wanted in ((LARGE, 3), (SPEC, 1)):
        cores.settle_flow(spec)
        assert (torch.get_num_threads(), cv2.getNumThreads()) == (wanted, wanted)


def test_what_is_set_by_hand_stays(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    cores.settle(loaded(SPEC))
    cores.divide(2)
    assert torch.get_num_threads() == 3


def test_processes_share_the_cores(threads, monkeypatch):
    monkeypatch.setattr(cores, "cores", lambda: 8)
    cores.divide(1)
    assert torch.get_num_threads() == 3
    cores.divide(4)
    assert torch.get_num_threads() == 2
    cores.divide(16)
    assert torch.get_num_threads() == 1


def test_as_many_processes_as_jobs_cores_and_memory(threads, monkeypatch):
    sizes = {"SC_PHYS_PAGES": 2**22, "SC_PAGE_SIZE": 2**12}  # 16 GiB: eight processes
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    for machine, jobs, wanted in ((2, 6, 2), (64, 6, 6), (64, 100, 8), (8, 0, 1), (1, 6, 1)):
        monkeypatch.setattr(cores, "cores", lambda machine=machine: machine)
        assert cores.processes(jobs) == wanted
    monkeypatch.setattr(cores, "cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert cores.processes(6) == 2


def words(clips: Path, tmp_path: Path) -> list[str]:
    return [*arguments("fit", tmp_path / "bank", manifest=clips), "--trainer.max_steps", "1"]


def test_a_command_of_its_own_settles_its_threads(clips, tmp_path):
    run = f"from trainers.cli import main\nmain({words(clips, tmp_path)})"
    program = f"{run}\nimport torch\nprint('threads', torch.get_num_threads())"
    command = [sys.executable, "-c", program]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "threads 1", ran.stderr


def test_a_command_in_a_program_that_has_chosen_keeps_its_threads(
    threads, monkeypatch, clips, tmp_path
):
    assert ditflow(monkeypatch, *words(clips, tmp_path)) == 1, "one step is not all"
    assert (torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]) == (3, "3")


def test_the_backbone_of_the_tests_is_small():
    assert cores.is_small(sketch_backbone(str(tiny_folder("rotary"))).spec)
