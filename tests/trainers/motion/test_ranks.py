"""Several processes at one bank: however many there are, whoever dies and whenever, the bank is the
same bit by bit, and exit codes tell the truth.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch

from ditflow.bank import MotionBank
from ditflow.sampling.guidance import MotionGuidance
from tests.clips import arguments, hashes, write_clips
from tests.ranks import Ranks, slurm, torchrun

NAMES = ("one", "two", "three", "four", "five")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("clips"), NAMES)


@pytest.fixture(scope="module")
def whole(clips, tmp_path_factory):
    """A bank made by one process without interruption, and how long that took."""
    folder = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    assert Ranks(arguments("fit", folder / "bank", manifest=clips), 1, folder / "log").wait() == [0]
    return folder / "bank", time.monotonic() - began


def check_complete(folder: Path, whole: Path, log: Path) -> None:
    bank = MotionBank(folder)
    assert hashes(folder) == hashes(whole), log.read_text()
    assert (bank.inflight(), bank.failures(), bank.verify()) == ([], {}, [])
    assert not (folder / "leases").exists(), "the last one to leave gives all back"


@pytest.mark.parametrize(
    ("launcher", "world_size", "batch_size"), [(torchrun, 3, 2), (slurm, 2, 1)]
)
def test_ranks_share_a_bank(clips, whole, tmp_path, launcher, world_size, batch_size):
    """Uneven shares; the same bank whatever the number of ranks and the batches."""
    ranks = Ranks(
        arguments("fit", tmp_path / "bank", manifest=clips, batch_size=batch_size),
        world_size,
        tmp_path / "log",
        launcher=launcher,
    )
    assert ranks.wait() == [0] * world_size, ranks.log.read_text()
    check_complete(tmp_path / "bank", whole[0], ranks.log)


def watched(
    folder: Path, held: int = -1, until: Callable[[], bool] = lambda: True
) -> Callable[[int], None]:
    """Notes each clip that a process begins, and that no process group lives then; one rank is held
    at its first step until something has happened.
    """

    def first(rank: int) -> None:
        from trainers.motion import work

        start, step = MotionGuidance.start, work.denoising_step

        def started(guidance, model, size, names, *rest):
            assert not torch.distributed.is_initialized()
            (folder / f"{'+'.join(names)}.{os.getpid()}").write_text(str(rank))
            return start(guidance, model, size, names, *rest)

        def stepped(*arguments, **options):
            while rank == held and not until():
                time.sleep(0.01)
            return step(*arguments, **options)

        MotionGuidance.start, work.denoising_step = started, stepped

    folder.mkdir(exist_ok=True)
    return first


def processes_of(folder: Path) -> set[str]:
    return {file.suffix for file in folder.iterdir()}


def begun(folder: Path) -> dict[str, list[int]]:
    """Of each clip the ranks that began it."""
    found = dict[str, list[int]]()
    for file in sorted(folder.iterdir()):
        found.setdefault(file.stem, []).append(int(file.read_text()))
    return found


def test_a_slow_rank_costs_the_others_nothing_and_no_clip_is_done_twice(clips, whole, tmp_path):
    """Rank 0 is at its first step until all the other clips are done, though two more of them were
    its own.
    """
    first = watched(
        tmp_path / "begun", 0, lambda: len(list((tmp_path / "bank" / "entries").glob("*"))) == 4
    )
    assert Ranks(
        arguments("fit", tmp_path / "bank", manifest=clips), 2, tmp_path / "log", first=first
    ).wait() == [0, 0]
    assert sorted(begun(tmp_path / "begun").values()) == [[0], [1], [1], [1], [1]]
    check_complete(tmp_path / "bank", whole[0], tmp_path / "log")


def test_more_ranks_than_clips(clips, whole, tmp_path):
    words = arguments("fit", tmp_path / "bank", videos=clips.parent / "one.mp4", prompt="a one cat")
    assert Ranks(words, 3, tmp_path / "log").wait() == [0, 0, 0]
    assert hashes(tmp_path / "bank") == {"one": hashes(whole[0])["one"]}
    assert Ranks(words, 2, tmp_path / "log").wait() == [0, 0], "nothing is left"


def test_two_jobs_on_one_bank_share_the_work(clips, whole, tmp_path):
    """The second joins when the first is at work; each tells the truth about all clips at its
    end.
    """
    fit, notes = arguments("fit", tmp_path / "bank", manifest=clips), tmp_path / "begun"
    first = watched(notes, 0, lambda: len(processes_of(notes)) > 1)
    one = Ranks(fit, 1, tmp_path / "one", first=first)
    while not list(notes.iterdir()) and not one.poll():
        time.sleep(0.01)
    two = Ranks(fit, 2, tmp_path / "two", first=first)
    assert one.wait() == [0] and two.wait() == [0, 0], (tmp_path / "one").read_text() + (
        tmp_path / "two"
    ).read_text()
    assert {name: len(ranks) for name, ranks in begun(notes).items()} == dict.fromkeys(NAMES, 1)
    check_complete(tmp_path / "bank", whole[0], tmp_path / "one")


def test_sigterm_stops_every_rank_after_its_step(clips, whole, tmp_path):
    """One is in a long step, the other between two or at its end."""
    fit, told = arguments("fit", tmp_path / "bank", manifest=clips), tmp_path / "told"
    ranks = Ranks(fit, 2, tmp_path / "log", first=watched(tmp_path / "begun", 0, told.exists))
    while not list((tmp_path / "begun").iterdir()) and not ranks.poll():
        time.sleep(0.01)
    ranks.kill([0, 1], signal.SIGTERM)
    told.touch()
    codes = ranks.wait()
    assert codes[0] == 143 and codes[1] in (143, 0), ranks.log.read_text()
    assert "The same command goes on from here." in ranks.log.read_text()
    assert not (tmp_path / "bank" / "leases").exists(), (
        "who stops in good order gives back what it held"
    )
    assert Ranks(fit, 1, tmp_path / "log").wait() == [0]
    check_complete(tmp_path / "bank", whole[0], tmp_path / "log")


def test_a_clip_that_fails_on_one_rank_is_told_by_rank_0(clips, whole, tmp_path):
    shutil.copytree(clips.parent, tmp_path / "clips")
    (tmp_path / "clips" / "two.mp4").write_bytes(b"no video")
    fit = arguments("fit", tmp_path / "bank", manifest=tmp_path / "clips" / "clips.csv")
    for attempt in range(1, 4):
        assert Ranks(fit, 2, tmp_path / f"log{attempt}").wait() == [1, 0]
        assert (tmp_path / f"log{attempt}").read_text().count("1 failed: two") == 1
        assert MotionBank(tmp_path / "bank").failures()["two"].attempts == attempt
    assert Ranks(fit, 2, tmp_path / "log4").wait() == [1, 0]
    assert (
        "'two' failed: it has failed 3 times" in (tmp_path / "log4").read_text()
        and MotionBank(tmp_path / "bank").failures()["two"].attempts == 3
    )
    assert hashes(tmp_path / "bank") == {
        name: sha for name, sha in hashes(whole[0]).items() if name != "two"
    }


def test_a_mistake_is_told_once(clips, tmp_path):
    ranks = Ranks(
        arguments("fit", tmp_path / "bank", manifest=tmp_path / "none.csv"), 3, tmp_path / "log"
    )
    assert ranks.wait() == [2, 2, 2] and ranks.log.read_text().count("there is no file") == 1


def test_ranks_share_the_videos_of_predict(clips, whole, tmp_path):
    (tmp_path / "prompts.txt").write_text("a dog\nthe cat\n")
    predict = [
        *arguments(
            "predict", whole[0], prompts=tmp_path / "prompts.txt", entries="[one,two,three]"
        ),
        "--out",
    ]
    assert Ranks([*predict, tmp_path / "alone"], 1, tmp_path / "log").wait() == [0]
    ranks = Ranks([*predict, tmp_path / "videos"], 3, tmp_path / "log")
    assert ranks.wait() == [0, 0, 0], ranks.log.read_text()
    made = {file.name: file.read_bytes() for file in (tmp_path / "videos").iterdir()}
    assert (
        made == {file.name: file.read_bytes() for file in (tmp_path / "alone").iterdir()}
        and len(made) == 6
    )


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 8))]
)
def test_killed_at_random_moments_a_bank_is_finished_bit_by_bit(clips, whole, tmp_path, seed):
    """kill -9 at four moments: of all ranks or of some, whose work the others then do; each time
    with another number of ranks and another batch size.
    """
    dice, log = random.Random(seed), tmp_path / "log"
    for moment in range(4):
        world_size, batch_size, at_work = (
            dice.choice((1, 2, 3)),
            dice.choice((1, 2)),
            tmp_path / f"moment{moment}",
        )
        fit = arguments("fit", tmp_path / "bank", manifest=clips, batch_size=batch_size)
        ranks = Ranks(fit, world_size, log, first=watched(at_work))
        victims = dice.sample(range(world_size), dice.randint(1, world_size))
        deadline = time.monotonic() + dice.uniform(0.1, 1.0) * whole[1]
        while time.monotonic() < deadline and not ranks.poll():
            time.sleep(0.005)
        ranks.kill(victims)
        if 0 in victims or not list(
            at_work.iterdir()
        ):  # whoever launches ranks stops them all where one dies before they have met
            ranks.kill(range(world_size), dice.choice((signal.SIGKILL, signal.SIGTERM)))
        codes = ranks.wait()
        assert set(codes) <= {0, -signal.SIGKILL, -signal.SIGTERM, 143}, (
            moment,
            codes,
            log.read_text(),
        )
        assert codes[0] != 0 or hashes(tmp_path / "bank") == hashes(whole[0]), (
            "rank 0 tells the truth, whoever has died"
        )
        assert MotionBank(tmp_path / "bank", create=True).verify() == []
    assert Ranks(arguments("fit", tmp_path / "bank", manifest=clips), 1, log).wait() == [0], (
        log.read_text()
    )
    check_complete(tmp_path / "bank", whole[0], log)


class Counted(L.LightningModule):
    """Sums what the ranks have."""

    def test_step(self, batch, batch_idx):
        self.log("sum", batch.sum(), sync_dist=True, reduce_fx="sum")

    def predict_step(self, batch, batch_idx):
        assert not torch.distributed.is_initialized()

    def configure_optimizers(self):
        return None


def test_metrics_are_gathered_where_there_is_something_to_gather(clips, tmp_path):
    """predict without a process group, then test with one, in the same processes."""

    def first(rank: int) -> None:
        trainer = L.Trainer(
            strategy="independent",
            accelerator="cpu",
            devices=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
        trainer.predict(Counted(), torch.utils.data.DataLoader(torch.arange(4.0)))
        (result,) = trainer.test(
            Counted(), torch.utils.data.DataLoader(torch.arange(4.0)), verbose=False
        )
        (tmp_path / f"sum{rank}").write_text(f"{result['sum']:g}")
        raise SystemExit(0)

    ranks = Ranks([], 2, tmp_path / "log", first=first)
    assert ranks.wait() == [0, 0], ranks.log.read_text()
    assert [(tmp_path / f"sum{rank}").read_text() for rank in range(2)] == ["6", "6"]


def test_another_strategy_is_refused_where_it_would_mix_clips(clips, tmp_path):
    ranks = Ranks(
        [*arguments("fit", tmp_path / "bank", manifest=clips), "--trainer.strategy", "ddp"],
        2,
        tmp_path / "log",
    )
    assert ranks.wait() == [2, 2] and "leave --trainer.strategy out" in ranks.log.read_text()
