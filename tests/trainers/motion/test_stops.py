"""A run that is stopped from outside, by the clock, by the scheduler or by the disk: it says so,
loses nothing, and the same command goes on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ditflow.bank import MotionBank
from ditflow.sampling.guidance import MotionGuidance
from tests.clips import NAMES, arguments, ditflow, hashes
from tests.ranks import Ranks, at_step, slurm


@pytest.fixture
def fit(clips, tmp_path, monkeypatch):
    """Run `fit` here, in an empty folder, and return its exit code."""
    monkeypatch.chdir(tmp_path)

    def fit(*words: object, bank: str = "bank", **data: object) -> int:
        with monkeypatch.context() as undone:
            return ditflow(
                undone, *arguments("fit", Path(bank), manifest=clips, **data), *map(str, words)
            )

    return fit


CHECKPOINTS = [
    "--trainer.callbacks+=ModelCheckpoint",
    "--trainer.callbacks.every_n_train_steps=1",
    "--trainer.callbacks.save_top_k=-1",
]


def test_a_checkpoint_carries_the_batch_to_a_bank_that_does_not_know_it(fit, whole, tmp_path):
    """Saved in the middle of the second clip; the bank that goes on from it has nothing in
    flight.
    """
    assert (
        fit(*CHECKPOINTS, "--trainer.callbacks.dirpath=checkpoints", "--trainer.max_steps", 3) == 1
    )
    assert len(checkpoints := sorted((tmp_path / "checkpoints").glob("*.ckpt"))) == 3
    for checkpoint in checkpoints:
        bank = tmp_path / checkpoint.stem
        shutil.copytree(tmp_path / "bank" / "entries", bank / "entries")
        assert fit("--ckpt_path", checkpoint, "--trainer.max_steps", 0, bank=bank.name) == 1
        assert len(list((bank / "inflight").glob("*"))) == (
            2 if checkpoint == checkpoints[-1] else 0
        ), "left was done: by its end, and in this bank"
        assert fit("--ckpt_path", checkpoint, bank=bank.name) == 0
        assert hashes(bank) == hashes(whole) and MotionBank(bank).inflight() == []


def test_an_old_checkpoint_takes_nothing_back(fit, whole, tmp_path):
    assert fit(*CHECKPOINTS, "--trainer.callbacks.dirpath=checkpoints") == 0
    for checkpoint in (tmp_path / "checkpoints").glob("*.ckpt"):
        assert fit("--ckpt_path", checkpoint) == 0
        assert hashes(tmp_path / "bank") == hashes(whole)


class Planted:
    def __reduce__(self):
        return os.system, ("touch planted",)


@pytest.mark.parametrize("content", [pickle.dumps(Planted()), b"", b"\x80\x04.", None])
def test_a_checkpoint_of_unknown_origin_is_never_unpickled(fit, tmp_path, capfd, content):
    if content is None:
        torch.save({"state_dict": Planted()}, tmp_path / "planted.ckpt")
    else:
        (tmp_path / "planted.ckpt").write_bytes(content)
    assert fit("--ckpt_path", "planted.ckpt") == 2
    error = capfd.readouterr().err
    assert (
        "checkpoint planted.ckpt" in error
        and "Traceback" not in error
        and not (tmp_path / "planted").exists()
    )


def test_a_checkpoint_that_is_not_there(fit, capfd):
    assert fit("--ckpt_path", "none.ckpt") == 2
    assert "none.ckpt" in capfd.readouterr().err


def test_a_chain_of_runs_with_little_time_each_comes_to_the_same_bank(
    fit, whole, tmp_path, monkeypatch
):
    """Six steps of 0.6 seconds and more, one second for each run."""
    from trainers.motion import work

    step, codes = work.denoising_step, []
    monkeypatch.setattr(
        work,
        "denoising_step",
        lambda *rest, **clips: time.sleep(0.6) or step(*rest, **clips),
    )
    while codes[-1:] != [0]:
        codes.append(fit("--trainer.max_time", "00:00:00:01"))
        assert len(codes) <= 6
    assert codes == [1] * (len(codes) - 1) + [0] and len(codes) >= 3
    assert hashes(tmp_path / "bank") == hashes(whole)


def test_requeued_by_slurm_a_job_goes_on(clips, whole, tmp_path, monkeypatch):
    """SIGUSR1 before the time is over, as `#SBATCH --signal=SIGUSR1` sends it: a checkpoint,
    `scontrol requeue`, then the end; the next start goes on.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" >> requeued\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    first = at_step(
        3, lambda: [os.kill(os.getpid(), number) for number in (signal.SIGUSR1, signal.SIGTERM)]
    )
    words = arguments("fit", tmp_path / "bank", manifest=clips)
    ranks = Ranks(words, 2, tmp_path / "log", launcher=slurm, first=first)
    codes = ranks.wait()
    assert codes[0] == 143 and codes[1] in (143, 0), ranks.log.read_text()
    assert (tmp_path / "requeued").read_text() == "requeue 77\n" and (
        tmp_path / "hpc_ckpt_1.ckpt"
    ).exists()
    assert Ranks(words, 2, tmp_path / "log", launcher=slurm).wait() == [0, 0], ranks.log.read_text()
    assert hashes(tmp_path / "bank") == hashes(whole)


def test_memory_for_fewer_clips_than_asked_for(fit, whole, tmp_path, monkeypatch):
    """Whatever is too large is tried in halves, and nothing that large is tried again."""
    from trainers.motion import work

    step, sizes = work.denoising_step, []

    def with_little_memory(model, at, prompt, state, control):
        sizes.append(len(state.latents))
        if sizes[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(model, at, prompt, state, control)

    monkeypatch.setattr(work, "denoising_step", with_little_memory)
    assert fit(batch_size=2) == 0
    assert sizes == [2, 1, 1, 1, 1, 1, 1]
    assert (
        hashes(tmp_path / "bank") == hashes(whole)
        and MotionBank(tmp_path / "bank").failures() == {}
    )


def test_a_broken_device_is_no_clips_fault(fit, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise torch.AcceleratorError("an illegal memory access was encountered")

    monkeypatch.setattr("trainers.motion.work.denoising_step", broken)
    with pytest.raises(torch.AcceleratorError):
        fit()
    assert MotionBank(tmp_path / "bank", create=True).failures() == {}


def test_a_clip_that_keeps_failing_is_given_up_and_can_be_taken_up_again(
    fit, whole, tmp_path, monkeypatch, capfd
):

    start = MotionGuidance.start
    with monkeypatch.context() as broken:
        broken.setattr(
            MotionGuidance,
            "start",
            lambda *rest: start(*rest) if "right" not in rest[3] else 1 / 0,
        )
        for attempt in (1, 2):
            assert fit("--data.attempts", 2) == 1
            assert MotionBank("bank").failures()["right"].attempts == attempt
    assert fit("--data.attempts", 2) == 1
    assert (
        "it has failed 2 times (division by zero); remove failed/right.json from the bank to try "
        "it again" in capfd.readouterr().err
    )
    (tmp_path / "bank" / "failed" / "right.json").unlink()
    assert fit("--data.attempts", 2) == 0 and hashes(tmp_path / "bank") == hashes(whole)


def mounting() -> str:
    """Why this process cannot mount, or ""."""
    done = (
        subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"],
            capture_output=True,
            text=True,
        )
        if shutil.which("unshare")
        else None
    )
    return "there is no unshare" if done is None else done.stderr.strip()


needs_mounts = pytest.mark.skipif(
    bool(mounting()), reason=f"mounts are not permitted here: {mounting()}"
)


def mounted(
    bank: Path, options: str, then: Callable[[int], None] = lambda rank: None
) -> Callable[[int], None]:
    """Each process sees a small disk of its own at the bank's place."""

    def first(rank: int) -> None:
        if ctypes.CDLL(None, use_errno=True).unshare(0x00020000):  # CLONE_NEWNS
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", bank], check=True)
        then(rank)

    bank.mkdir()
    return first


@needs_mounts
def test_a_full_disk(clips, whole, tmp_path):
    """A true one, that holds two thirds of what is to be written. What was published before stays
    whole.
    """
    keep = tmp_path / "kept"
    pages = sum(
        file.stat().st_size // 4096 + 1
        for part in ("entries", "cache")
        for file in (whole / part).iterdir()
    )

    def first(rank: int) -> None:
        from trainers.commands import motion_cli

        run = motion_cli.run

        def then(*words):
            try:
                return run(*words)
            finally:
                shutil.copytree(tmp_path / "bank", keep)

        motion_cli.run = then

    ranks = Ranks(
        arguments("fit", tmp_path / "bank", manifest=clips),
        1,
        tmp_path / "log",
        first=mounted(tmp_path / "bank", f"size={pages * 8 // 3}k", first),
    )
    assert ranks.wait() == [2]
    assert (
        "the disk is full; free some space and run the same command again" in ranks.log.read_text()
    )
    bank = MotionBank(keep)
    assert len(bank) < len(NAMES) and bank.verify() == []
    shutil.rmtree(tmp_path / "bank")
    keep.rename(tmp_path / "bank")
    assert Ranks(
        arguments("fit", tmp_path / "bank", manifest=clips), 1, tmp_path / "log"
    ).wait() == [0]
    assert hashes(tmp_path / "bank") == hashes(whole)


@needs_mounts
def test_a_mount_that_vanishes(clips, tmp_path):
    """Nothing is written to the place that it leaves."""
    bank = tmp_path / "bank"
    first = mounted(
        bank, "size=9m", at_step(3, lambda: subprocess.run(["umount", "-l", bank], check=True))
    )
    ranks = Ranks(arguments("fit", bank, manifest=clips), 1, tmp_path / "log", first=first)
    assert ranks.wait() == [2]
    assert (
        "is another one now; mount it again and run the same command again" in ranks.log.read_text()
    )
    assert list(bank.iterdir()) == []


def test_a_folder_that_is_moved_away_and_back(clips, whole, tmp_path):
    bank, away = tmp_path / "bank", tmp_path / "away"
    ranks = Ranks(
        arguments("fit", bank, manifest=clips),
        1,
        tmp_path / "log",
        first=at_step(4, lambda: bank.rename(away)),
    )
    assert ranks.wait() == [2]
    assert "its folder has gone" in ranks.log.read_text() and not bank.exists()
    away.rename(bank)
    assert MotionBank(bank).verify() == []
    assert Ranks(arguments("fit", bank, manifest=clips), 1, tmp_path / "log").wait() == [0]
    assert hashes(bank) == hashes(whole)


@needs_mounts
def test_a_bank_that_cannot_be_written(clips, whole, tmp_path):
    """Finished, it is taken as it is and videos are made from it; unfinished, the first write says
    why.
    """
    bank = tmp_path / "bank"
    shutil.copytree(whole, bank)
    (tmp_path / "prompts.txt").write_text("a dog\n")

    def first(rank: int) -> None:
        if ctypes.CDLL(None).unshare(0x00020000):
            raise OSError(errno.EPERM, "unshare")
        for options in ("bind", "remount,bind,ro"):
            subprocess.run(["mount", "-o", options, bank, bank], check=True)

    predict = [
        *arguments("predict", bank, prompts=tmp_path / "prompts.txt", entries="[left]"),
        "--out",
        tmp_path / "videos",
    ]
    for words in (arguments("fit", bank, manifest=clips), predict):
        ranks = Ranks(words, 1, tmp_path / "log", first=first)
        assert ranks.wait() == [0], ranks.log.read_text()
    assert len(list((tmp_path / "videos").iterdir())) == 1
    (bank / "entries" / "left.safetensors").unlink()
    ranks = Ranks(arguments("fit", bank, manifest=clips), 1, tmp_path / "again", first=first)
    assert ranks.wait() == [2]
    assert "the disk is mounted read-only; name a folder you can write to" in ranks.log.read_text()


def test_a_process_that_stands_still_loses_its_clips_and_does_no_harm(clips, whole, tmp_path):
    """SIGSTOP in the first clip; another job takes it over once its heart has not beaten for long
    enough; then it wakes up and ends well.
    """

    def impatient(rank: int) -> None:
        from ditflow.bank import leases

        leases.Leases.__init__.__kwdefaults__["expiry"] = 3.0
        leases.Leases.beating.__wrapped__.__defaults__ = (0.5,)

    words, stopped = arguments("fit", tmp_path / "bank", manifest=clips), tmp_path / "stopped"

    def stop() -> None:
        stopped.touch()
        os.kill(os.getpid(), signal.SIGSTOP)

    sleeper = Ranks(
        words, 1, tmp_path / "sleeper", first=lambda rank: (impatient(rank), at_step(2, stop)(rank))
    )
    deadline = time.monotonic() + 300
    while not stopped.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Ranks(words, 1, tmp_path / "other", first=impatient).wait() == [0], (
        tmp_path / "other"
    ).read_text()
    assert hashes(tmp_path / "bank") == hashes(whole)
    sleeper.kill([0], signal.SIGCONT)
    assert sleeper.wait() == [0], sleeper.log.read_text()
    assert (
        hashes(tmp_path / "bank") == hashes(whole) and MotionBank(tmp_path / "bank").verify() == []
    )
