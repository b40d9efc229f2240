"""--dry_run, the summary and the losses that are logged, as a user sees them: what is planned is what is done, and nothing is written for it."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path

import pytest
import torch

from ditflow.backbones import BackboneError, load_backbone, sketch_backbone
from ditflow.bank import MotionBank
from ditflow.grid import VideoSize
from ditflow.guidance import Guidance
from ditflow.motion import AttentionMotionFlow
from ditflow.variables import VARIABLES
from tests.clips import NAMES, arguments, ditflow
from tests.registry import BACKBONES, SIZE, tiny_folder
from trainers import costs
from trainers.motion_optimization import MotionOptimization
from trainers.plan import Work
from trainers.progress_bar import Tqdm


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """Run a command in an empty folder; its exit code and what it says on stdout."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str]:
        with monkeypatch.context() as undone:
            code = ditflow(undone, *map(str, words))
        return code, capfd.readouterr().out

    return run


def files(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def row(output: str, name: str) -> str:
    return re.search(rf"^ *{name} +(.*?) *$", output, re.MULTILINE)[1]


def test_nothing_is_written_and_no_weights_are_read(run, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.motion_optimization.load_backbone", None)
    code, output = run(*arguments("fit", tmp_path / "bank", manifest=clips, batch_size=2), "--dry_run")
    assert (code, files(tmp_path)) == (0, {})
    assert row(output, "clips") == "3 asked for, 0 done, 0 in flight, 3 to do"
    assert (row(output, "batches"), row(output, "steps")) == ("2 of at most 2 clips", "4, 2 for each new batch")


def test_the_plan_of_a_run_that_was_stopped_is_what_is_left(run, clips, tmp_path):
    fit = [*arguments("fit", tmp_path / "bank", manifest=clips)]
    assert run(*fit, "--trainer.max_steps", "3")[0] == 1
    before = files(tmp_path)
    code, output = run(*fit, "--dry_run")
    assert (code, files(tmp_path)) == (0, before)
    assert row(output, "clips") == "3 asked for, 1 done, 1 in flight, 2 to do"
    assert (row(output, "batches"), row(output, "steps")) == ("2 of at most 1 clips", "3, 2 for each new batch")


def test_work_is_that_of_the_method(run, clips, tmp_path):
    """Two guided steps of four: 2 passes of denoising each, 2 updates through 3 of 4 blocks, back, and through them again, since nobody knows how large
    this backbone is; block 0 once for keys and values; the reference once."""
    _, output = run(*arguments("fit", tmp_path / "bank", manifest=clips), "--dry_run")
    depth = 2 + 1 / 6  # two whole blocks, and of the third the queries and keys
    a_clip = 2 * 2 + 2 * (1 / 6) / 4 + depth / 4 * (1 + 2 * 2 * 4)
    assert float(row(output, "work").split()[0]) == pytest.approx(3 * a_clip, rel=0.02)


def test_a_clip_that_cannot_be_done_is_named(run, clips, tmp_path):
    (tmp_path / "one.csv").write_text(f"video,prompt\n{clips.parent / 'left.mp4'},a cat\n")
    assert run(*arguments("fit", tmp_path / "bank", manifest=tmp_path / "one.csv"))[0] == 0
    (tmp_path / "one.csv").write_text(f"video,prompt\n{clips.parent / 'left.mp4'},a dog\n")
    before = files(tmp_path)
    code, output = run(*arguments("fit", tmp_path / "bank", manifest=tmp_path / "one.csv"), "--dry_run")
    assert (code, files(tmp_path)) == (1, before)
    assert "cannot be done: left: the bank has an entry 'left' that was made with prompt 'a cat' instead of 'a dog'" in output


def test_the_plan_of_predict(run, clips, tmp_path):
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips))[0] == 0
    (tmp_path / "prompts.txt").write_text("a dog\na monkey\n")
    predict = arguments("predict", tmp_path / "bank", prompts=tmp_path / "prompts.txt", entries="[left]")
    before = files(tmp_path)
    code, output = run(*predict, "--dry_run")
    assert (code, files(tmp_path)) == (0, before)
    assert (row(output, "videos"), row(output, "steps")) == ("2 asked for, 0 there, 2 to make", "8")
    assert float(row(output, "work").split()[0]) == 16
    assert run(*predict)[0] == 0
    assert row(run(*predict, "--dry_run")[1], "videos") == "2 asked for, 2 there, 0 to make"


def test_what_does_not_fit_is_refused_in_a_dry_run_too(run, clips, tmp_path, capfd):
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips), "--dry_run", "--model.block", "9")[0] == 2
    assert run(*arguments("fit", tmp_path / "bank", manifest=tmp_path / "none.csv"), "--dry_run")[0] == 2
    assert run(*arguments("predict", tmp_path / "bank", prompts=tmp_path / "none.txt"), "--dry_run")[0] == 2


def test_the_summary_tells_new_clips_from_old(run, clips, tmp_path):
    fit = arguments("fit", tmp_path / "bank", manifest=clips)
    assert run(*fit, "--trainer.max_steps", "2")[0] == 1
    code, output = run(*fit)
    metadata = MotionBank(tmp_path / "bank").metadata("right")
    assert code == 0 and re.search(r"^3 of 3 clips done, 2 of them now in .*: \S+ clips an hour$", output, re.MULTILINE)
    assert re.search(rf"^ *right +done +{metadata.losses[0][0]:.4g} → {metadata.losses[-1][-1]:.4g} ", output, re.MULTILINE)
    assert not re.search(r"^ *left +done", output, re.MULTILINE), "it was there before"


def test_the_loss_of_each_clip_is_logged(run, clips, tmp_path):
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", tmp_path / "logs", "--trainer.logger.name", "run"]
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips, batch_size=2), *logger)[0] == 0
    (file,) = (tmp_path / "logs" / "run").rglob("metrics.csv")
    rows = list(csv.DictReader(file.open()))
    for name in NAMES:
        logged = {int(row["step"]): float(row[f"loss/{name}"]) for row in rows if row.get(f"loss/{name}")}
        losses = MotionBank(tmp_path / "bank").metadata(name).losses
        assert logged == pytest.approx({step: curve[-1] for step, curve in enumerate(losses)})


def test_batches_that_were_begun_come_first():
    work = Work(asked=9, left=tuple("abcdefg"), begun=((("b", "c"), 3),), failed={"h": "no"}, batch_size=2, steps=4)
    assert work.batches == [(2, 1), (2, 4), (2, 4), (1, 4)]
    assert work.clip_steps == 2 + 8 + 8 + 4


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_sketch_is_the_backbone_without_weights(kind):
    name = str(tiny_folder(kind))
    sketch, backbone = sketch_backbone(name), load_backbone(name, device="cpu")
    assert sketch.spec == backbone.spec and sketch.schedule(4) == backbone.schedule(4)
    shapes = [{key: value.shape for key, value in whole.transformer.state_dict().items()} for whole in (sketch, backbone)]
    assert shapes[0] == shapes[1] and sketch.device.type == "meta"


def test_a_sketch_of_nothing():
    with pytest.raises(BackboneError, match="there is no backbone 'no/such-model'"):
        sketch_backbone("no/such-model")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variable", ["latents", "rotary_tables"])
def test_memory_is_what_the_backward_pass_keeps(variable, dtype):
    """Counted by autograd's own hooks on one update's forward pass through all blocks; the estimate may be half too high, never too low."""
    backbone, size = load_backbone("tiny-rope", device="cpu", dtype=dtype), VideoSize(25, 64, 64)
    noise = torch.randn(1, *backbone.spec.compression.latent_shape(size))
    chosen = VARIABLES[variable].start(backbone, noise, size)
    chosen = chosen.replaced(chosen.parameter.clone().requires_grad_())
    weights, kept = {parameter.data_ptr() for parameter in backbone.transformer.parameters()}, {}

    def count(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), backbone.tapped():
        output = backbone.predict(chosen.latents(noise), 500, torch.randn(1, backbone.spec.text_tokens, backbone.spec.text_channels), chosen.position)
    counted = sum(size for pointer, size in kept.items() if pointer not in weights)
    guidance = Guidance(AttentionMotionFlow(backbone.spec.blocks - 1), variable)
    estimate = costs.memory(backbone, size, 1, guidance) - dtype.itemsize * backbone.weights
    assert output is not None and counted < estimate < 1.5 * counted


def test_a_probe_costs_one_block_and_counts_for_all(monkeypatch):
    """Time is taken from a clock that goes one second a look: what remains is the number of blocks."""
    ticks = iter(range(99))
    monkeypatch.setattr("trainers.costs.time.perf_counter", lambda: float(next(ticks)))
    assert costs.seconds_of_a_forward(str(tiny_folder("rotary")), SIZE, torch.device("cpu"), torch.float32) == pytest.approx(4.0)


def test_the_bar_counts_clips_while_a_step_takes_its_time(run, clips, tmp_path, monkeypatch):
    """Drawn by a thread: while the first clip's second step does not come, its first is seen in the bank; in the end all three clips are."""
    drawn, advanced, seen = [], MotionOptimization._advanced, []
    monkeypatch.setattr("trainers.progress_bar.EVERY", 0.01)
    monkeypatch.setattr("trainers.progress_bar.SHARE", 1.0)
    monkeypatch.setattr(Tqdm, "set_description_str", lambda bar, text: drawn.append((bar.n, text)))

    def slow(module, work):
        if work.state.step == 1 and not seen:
            deadline = time.monotonic() + 60
            while not any(0.4 < n < 0.6 for n, _ in drawn) and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(drawn[-1])
        return advanced(module, work)

    monkeypatch.setattr(MotionOptimization, "_advanced", slow)
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips))[0] == 0
    assert seen[0][0] == pytest.approx(0.5) and "0 of 3 clips done" in seen[0][1]
    assert drawn[-1] == (3, "3 of 3 clips done")
