"""--dry_run, the summary and the losses that are logged, as a user sees them: what is planned is
what is done, and nothing is written for it.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from pathlib import Path

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ditflow.bank import MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.models import ModelError, load_backbone, sketch_backbone
from ditflow.motion import AttentionMotionFlow
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.variables import VARIABLES
from ditflow.video import write_video
from tests.clips import NAMES, arguments, ditflow
from tests.registry import BACKBONES, SCHEDULER, SIZE, TRANSFORMER, tiny_folder
from trainers.motion import optimization
from trainers.motion.dry_run import costs, probe
from trainers.motion.dry_run.plan import Workload
from trainers.motion.progress_bar import Tqdm

ROOT = Path(__file__).parents[3]
PUBLISHED = {  # heads, blocks, rotary positions, scheduler
    "CogVideoX-5b": (48, 42, True, CogVideoXDPMScheduler),
    "CogVideoX-2b": (30, 30, False, CogVideoXDDIMScheduler),
}


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """Run a command in an empty folder: its exit code and what it says on stdout.

    What it says on stderr is `errors` of the function afterwards.
    """
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str]:
        with monkeypatch.context() as undone:
            code = ditflow(undone, *map(str, words))
        output, run.errors = capfd.readouterr()
        return code, output

    return run


def files(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*")}


def rows(output: str) -> dict[str, tuple[str, str]]:
    """How each value of a plan is known, and the value."""
    known = "counted|estimated|measured|not measured|"
    found = re.findall(rf"^ (\w+) +({known}) +(\S.*?) *$", output, re.MULTILINE)
    return {name: (how, value) for name, how, value in found}


def row(output: str, name: str) -> str:
    return rows(output)[name][1]


def refused(said: str) -> dict[str, str]:
    """Names and sentences, of a dry run or of a run."""
    line = r"^(?:cannot be done: ([\w.-]+)|'([\w.-]+)' failed): (.+)$"
    lines = re.findall(line, said, re.MULTILINE)
    return {planned or failed: sentence for planned, failed, sentence in lines}


def published_folder(folder: Path, name: str) -> Path:
    """The configurations of a published backbone, whose sizes are the point, without weights."""
    heads, blocks, rotary, scheduler = PUBLISHED[name]
    sizes = dict(num_attention_heads=heads, attention_head_dim=64, num_layers=blocks)
    sizes |= dict(in_channels=16, out_channels=16, time_embed_dim=512, text_embed_dim=4096)
    sizes |= dict(sample_width=90, sample_height=60, sample_frames=49, max_text_seq_length=226)
    sizes |= dict(use_rotary_positional_embeddings=rotary)
    vae = dict(block_out_channels=(128, 256, 256, 512), temporal_compression_ratio=4)
    parts = {"transformer": TRANSFORMER | sizes, "vae": vae}
    for part, config in parts.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(config))
    scheduler(**SCHEDULER).save_pretrained(folder / "scheduler")
    classes = {"scheduler": scheduler.__name__, "transformer": "CogVideoXTransformer3DModel"}
    index = {part: ["diffusers", name] for part, name in classes.items()}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_nothing_is_written_and_no_weights_are_read(run, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("trainers.motion.memory.load_backbone", None)
    code, output = run(
        *arguments("fit", tmp_path / "bank", manifest=clips, batch_size=2), "--dry_run"
    )
    assert (code, files(tmp_path)) == (0, {})
    assert row(output, "clips") == "3 asked for, 0 done, 0 in flight, 3 to do"
    assert (row(output, "batches"), row(output, "steps")) == (
        "2 of at most 2 clips",
        "4, 2 for each new batch",
    )


def test_the_plan_of_a_run_that_was_stopped_is_what_is_left(run, clips, tmp_path):
    fit = [*arguments("fit", tmp_path / "bank", manifest=clips)]
    assert run(*fit, "--trainer.max_steps", "3")[0] == 1
    before = files(tmp_path)
    code, output = run(*fit, "--dry_run")
    assert (code, files(tmp_path)) == (0, before)
    assert row(output, "clips") == "3 asked for, 1 done, 1 in flight, 2 to do"
    assert (row(output, "batches"), row(output, "steps")) == (
        "2 of at most 1 clips",
        "3, 2 for each new batch",
    )


def test_work_is_that_of_the_method(run, clips, tmp_path):
    """Two guided steps of four: 2 passes of denoising each, 2 updates through 3 of 4 blocks, back,
    and through them again, since nobody knows how large this backbone is; block 0 once for keys and
    values; the reference once."""
    _, output = run(*arguments("fit", tmp_path / "bank", manifest=clips), "--dry_run")
    depth = 2 + 1 / 6  # two whole blocks, and of the third the queries and keys
    a_clip = 2 * 2 + 2 * (1 / 6) / 4 + depth / 4 * (1 + 2 * 2 * 4)
    assert float(row(output, "work").split()[0]) == pytest.approx(3 * a_clip, rel=0.02)


def test_a_clip_that_cannot_be_done_is_named(run, clips, tmp_path):
    (tmp_path / "one.csv").write_text(f"video,prompt\n{clips.parent / 'left.mp4'},a cat\n")
    assert run(*arguments("fit", tmp_path / "bank", manifest=tmp_path / "one.csv"))[0] == 0
    (tmp_path / "one.csv").write_text(f"video,prompt\n{clips.parent / 'left.mp4'},a dog\n")
    before = files(tmp_path)
    code, output = run(
        *arguments("fit", tmp_path / "bank", manifest=tmp_path / "one.csv"), "--dry_run"
    )
    assert (code, files(tmp_path)) == (1, before)
    assert (
        "cannot be done: left: the bank has an entry 'left' that was made with prompt 'a cat' "
        "instead of 'a dog'" in output
    )


def _short(folder: Path, clip: Path) -> str:
    shutil.copy(clip, folder / "clip.mp4")
    return "clip.mp4,a cat,,,9"


def _damaged(folder: Path, clip: Path) -> str:
    data = bytearray(clip.read_bytes())
    data[len(data) // 4 : -len(data) // 4] = b"\xff" * len(data[len(data) // 4 : -len(data) // 4])
    (folder / "clip.mp4").write_bytes(data)
    return "clip.mp4,a cat"


def _cut_off(folder: Path, clip: Path) -> str:
    (folder / "clip.mp4").write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    return "clip.mp4,a cat"


def _no_video(folder: Path, clip: Path) -> str:
    (folder / "clip.mp4").write_text("not a video\n" * 99)
    return "clip.mp4,a cat"


def _empty(folder: Path, clip: Path) -> str:
    (folder / "clip.mp4").touch()
    return "clip.mp4,a cat"


def _no_pictures(folder: Path, clip: Path) -> str:
    (folder / "clip").mkdir()
    return "clip,a cat"


def _few_pictures(folder: Path, clip: Path) -> str:
    (folder / "clip").mkdir()
    for number in range(3):
        Image.new("RGB", (SIZE.width, SIZE.height)).save(folder / "clip" / f"{number}.png")
    return "clip,a cat"


def _missing(folder: Path, clip: Path) -> str:
    return "clip.mp4,a cat"


CLIPS = (_short, _missing, _damaged, _cut_off, _no_video, _empty, _no_pictures, _few_pictures)
REFUSED = {make.__name__.strip("_"): make for make in CLIPS}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_clip_that_fit_refuses_is_named_with_its_sentence(run, clips, tmp_path, kind):
    good = clips.parent / "left.mp4"
    bad = REFUSED[kind](tmp_path, good)
    bad += "," * (4 - bad.count(","))
    (tmp_path / "clips.csv").write_text(f"video,prompt,name,stride,start\n{good},a cat,,,\n{bad}\n")
    fit, before = arguments("fit", tmp_path / "bank", manifest="clips.csv"), files(tmp_path)
    code, planned = run(*fit, "--dry_run")
    assert (code, files(tmp_path)) == (1, before)
    assert row(planned, "clips") == "2 asked for, 0 done, 0 in flight, 1 to do, 1 refused"
    assert run(*fit)[0] == 1
    assert refused(planned) == refused(run.errors) and refused(planned).keys() == {"clip"}


def test_a_clip_of_24_frames_is_not_promised_to_a_backbone_of_25(run, tmp_path):
    """Where no clip can be done `fit` ends with 2, the dry run with 1; the sentence is one."""
    write_video(tmp_path / "car.mp4", torch.zeros(24, 3, 64, 64, dtype=torch.uint8), 8)
    config = ["--config", ROOT / "configs/tiny-rope.yaml"]
    fit = ["fit", *config, "--bank", "bank", "--data.videos", "*.mp4"]
    code, planned = run(*fit, "--dry_run")
    assert (code, files(tmp_path).keys()) == (1, {tmp_path / "car.mp4"})
    assert "has 24 frames" in refused(planned)["car"]
    assert (run(*fit)[0], refused(run.errors)) == (2, refused(planned))


@pytest.mark.parametrize("bad", ["a cat,,", "cat,a dog,", "a cat,dog,", "a cat,a cat,monkey"])
def test_a_text_without_the_words_that_a_signal_reads_is_named(run, clips, tmp_path, bad):
    left, right = (clips.parent / f"{name}.mp4" for name in ("left", "right"))
    manifest = f"video,prompt,caption,subject\n{left},a cat,a dog running,\n{right},{bad}\n"
    (tmp_path / "clips.csv").write_text(manifest)
    fit = arguments("fit", tmp_path / "bank", manifest="clips.csv")
    fit += ["--model.signal", "motionflow"]
    code, planned = run(*fit, "--dry_run")
    assert (code, list(refused(planned))) == (1, ["right"])
    assert run(*fit)[0] == 1 and refused(run.errors) == refused(planned)


@pytest.mark.parametrize("wrong", ["--data.frames 10", "--data.frames 3", "--data.size [33,48]"])
def test_what_no_clip_can_be_done_with_is_refused_in_the_same_words(run, clips, tmp_path, wrong):
    fit = [*arguments("fit", tmp_path / "bank", manifest=clips), *wrong.split()]
    assert run(*fit, "--dry_run")[0] == 2
    planned = run.errors
    assert run(*fit)[0] == 2
    assert planned.splitlines()[-1] == run.errors.splitlines()[-1]
    assert planned.startswith("ditflow: ")


def test_a_clip_that_is_encoded_is_not_read_again(run, clips, tmp_path, monkeypatch):
    fit = arguments("fit", tmp_path / "bank", manifest=clips)
    assert run(*fit, "--trainer.max_steps", "1")[0] == 1
    monkeypatch.setattr("datamodules.frames.read_video", None)
    assert run(*fit, "--dry_run")[0] == 0
    assert "Reading" in run.errors


def test_the_plan_of_predict(run, clips, tmp_path):
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips))[0] == 0
    (tmp_path / "prompts.txt").write_text("a dog\na monkey\n")
    predict = arguments(
        "predict", tmp_path / "bank", prompts=tmp_path / "prompts.txt", entries="[left]"
    )
    before = files(tmp_path)
    code, output = run(*predict, "--dry_run")
    assert (code, files(tmp_path)) == (0, before)
    assert (row(output, "videos"), row(output, "steps")) == ("2 asked for, 0 there, 2 to make", "8")
    assert float(row(output, "work").split()[0]) == 16
    assert run(*predict)[0] == 0
    assert row(run(*predict, "--dry_run")[1], "videos") == "2 asked for, 2 there, 0 to make"


def test_an_entry_that_predict_refuses_is_named_with_its_sentence(run, clips, tmp_path):
    """One is damaged; none has what is to be injected, and none will do on another backbone."""
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips))[0] == 0
    file = tmp_path / "bank" / "entries" / "left.safetensors"
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)
    (tmp_path / "prompts.txt").write_text("a dog\n")
    injected = ["--model.injection_blocks", "[0]"]  # from reference latents, which no entry has
    for kind, options, names in (
        ("rotary", [], {"left"}),
        ("rotary", injected, set(NAMES)),
        ("sinusoidal", [], set(NAMES)),
    ):
        predict = arguments("predict", tmp_path / "bank", kind, prompts="prompts.txt")
        predict += ["--out", str(tmp_path / f"{kind}{len(options)}"), *options]
        before = files(tmp_path)
        code, planned = run(*predict, "--dry_run")
        assert (code, files(tmp_path)) == (1, before)
        assert {name.partition("-a-dog-")[0] for name in refused(planned)} == names
        run(*predict)
        assert refused(run.errors) == refused(planned)


def test_steps_that_predict_refuses_are_refused_in_the_same_words(run, clips, tmp_path):
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips))[0] == 0
    (tmp_path / "prompts.txt").write_text("a dog\n")
    predict = arguments("predict", tmp_path / "bank", prompts="prompts.txt")
    predict += ["--model.steps", "5000"]
    assert run(*predict, "--dry_run")[0] == 2
    planned = run.errors
    assert run(*predict)[0] == 2
    assert planned.splitlines()[-1] == run.errors.splitlines()[-1]
    assert "5000 denoising steps were asked for" in planned


def test_what_does_not_fit_is_refused_in_a_dry_run_too(run, clips, tmp_path, capfd):
    assert (
        run(
            *arguments("fit", tmp_path / "bank", manifest=clips), "--dry_run", "--model.block", "9"
        )[0]
        == 2
    )
    assert (
        run(*arguments("fit", tmp_path / "bank", manifest=tmp_path / "none.csv"), "--dry_run")[0]
        == 2
    )
    assert (
        run(*arguments("predict", tmp_path / "bank", prompts=tmp_path / "none.txt"), "--dry_run")[0]
        == 2
    )


def test_the_summary_tells_new_clips_from_old(run, clips, tmp_path):
    fit = arguments("fit", tmp_path / "bank", manifest=clips)
    assert run(*fit, "--trainer.max_steps", "2")[0] == 1
    code, output = run(*fit)
    metadata = MotionBank(tmp_path / "bank").metadata("right")
    assert code == 0 and re.search(
        r"^3 of 3 clips done, 2 of them now in .*: \S+ clips an hour$", output, re.MULTILINE
    )
    assert re.search(
        rf"^ *right +done +{metadata.losses[0][0]:.4g} → {metadata.losses[-1][-1]:.4g} ",
        output,
        re.MULTILINE,
    )
    assert not re.search(r"^ *left +done", output, re.MULTILINE), "it was there before"


def test_the_loss_of_each_clip_is_logged(run, clips, tmp_path):
    logger = [
        "--trainer.logger",
        "CSVLogger",
        "--trainer.logger.save_dir",
        tmp_path / "logs",
        "--trainer.logger.name",
        "run",
    ]
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips, batch_size=2), *logger)[0] == 0
    (file,) = (tmp_path / "logs" / "run").rglob("metrics.csv")
    rows = list(csv.DictReader(file.open()))
    for name in NAMES:
        logged = {
            int(row["step"]): float(row[f"loss/{name}"]) for row in rows if row.get(f"loss/{name}")
        }
        losses = MotionBank(tmp_path / "bank").metadata(name).losses
        assert logged == pytest.approx({step: curve[-1] for step, curve in enumerate(losses)})


def test_batches_that_were_begun_come_first():
    work = Workload(
        asked=9,
        left=tuple("abcdefg"),
        begun=((("b", "c"), 3),),
        failed={"h": "no"},
        batch_size=2,
        steps=4,
    )
    assert work.batches == [(2, 1), (2, 4), (2, 4), (1, 4)]
    assert work.clip_steps == 2 + 8 + 8 + 4


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_sketch_is_the_backbone_without_weights(kind):
    name = str(tiny_folder(kind))
    sketch, backbone = sketch_backbone(name), load_backbone(name, device="cpu")
    assert sketch.spec == backbone.spec and sketch.schedule(4) == backbone.schedule(4)
    shapes = [
        {key: value.shape for key, value in whole.transformer.state_dict().items()}
        for whole in (sketch, backbone)
    ]
    assert shapes[0] == shapes[1] and sketch.device.type == "meta"


def test_a_sketch_of_nothing():
    with pytest.raises(ModelError, match="there is no backbone 'no/such-model'"):
        sketch_backbone("no/such-model")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("variable", ["latents", "rotary_tables"])
@pytest.mark.parametrize("name", ["tiny-rope", "tiny-wan"])
def test_memory_is_what_the_backward_pass_keeps(name, variable, dtype):
    """Counted by autograd's own hooks on one update's forward pass through all blocks; the estimate
    may be half too high, never too low.
    """
    backbone, size = load_backbone(name, device="cpu", dtype=dtype), VideoSize(25, 64, 64)
    noise = torch.randn(1, *backbone.spec.compression.latent_shape(size))
    chosen = VARIABLES[variable].start(backbone, noise)
    chosen = chosen.replaced(chosen.parameter.clone().requires_grad_())
    weights, kept = {parameter.data_ptr() for parameter in backbone.transformer.parameters()}, {}

    def count(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor), backbone.tapped():
        output = backbone.predict(
            chosen.latents(noise),
            500,
            torch.randn(1, backbone.spec.text_tokens, backbone.spec.text_channels),
            chosen.position,
        )
    counted = sum(size for pointer, size in kept.items() if pointer not in weights)
    guidance = MotionGuidance(AttentionMotionFlow(backbone.spec.blocks - 1), variable)
    estimate = costs.memory(backbone, size, 1, guidance) - dtype.itemsize * backbone.weights
    assert output is not None and counted < estimate < 1.5 * counted


@pytest.mark.parametrize("name", ["tiny-rope", "tiny-sincos", *PUBLISHED])
def test_operations_are_those_of_attention_and_weights(name, tmp_path):
    """Each token meets 12 E^2 weights in a block, and every other token in its attention; 0.5 % of
    a small backbone's are elsewhere.
    """
    folder = published_folder(tmp_path, name) if name in PUBLISHED else name
    sketch = sketch_backbone(str(folder))
    spec = sketch.spec
    tokens = spec.text_tokens + spec.compression.grid(spec.size).tokens
    block = 24.0 * tokens * spec.hidden**2 + 4.0 * tokens**2 * spec.hidden
    assert costs.operations(sketch, spec.size) == pytest.approx(spec.blocks * block, rel=0.01)


def test_operations_of_cross_attention_count_text_apart():
    """In each block of Wan video tokens n meet 6 E^2 weights of attention and 2 E M of the layer
    between, and text tokens L meet 2 E^2; n^2 and n L pairs are scored.
    """
    sketch = sketch_backbone("tiny-wan")
    spec, inner = sketch.spec, 512
    n, text, hidden = spec.compression.grid(spec.size).tokens, spec.text_tokens, spec.hidden
    weights = n * (6 * hidden**2 + 2 * hidden * inner) + text * 2 * hidden**2
    block = 2.0 * weights + 4.0 * (n + text) * n * hidden
    assert costs.operations(sketch, spec.size) == pytest.approx(spec.blocks * block, rel=0.02)


class Arithmetic(TorchDispatchMode):
    """Products of matrices that a device computes, whose operations torch would count."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function.overloadpacket in flop_registry and args[0].device.type != "meta":
            self.products.append(str(function))
        return made


def test_arithmetic_is_seen():
    for device, products in (("meta", []), ("cpu", ["aten.mm.default"])):
        with Arithmetic() as done:
            torch.zeros(2, 2, device=device) @ torch.zeros(2, 2, device=device)
        assert done.products == products


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_backbone_is_planned_without_arithmetic(run, tmp_path, name):
    """No product of matrices is computed, on no device, and no weights are there to be read."""
    folder = published_folder(tmp_path / name, name)
    write_video(tmp_path / "car.mp4", torch.zeros(24, 3, 32, 48, dtype=torch.uint8), 8)
    config = ["--config", ROOT / "configs/cogvideox-5b.yaml", "--model.backbone", folder]
    with Arithmetic() as done:
        code, output = run("fit", *config, "--bank", "bank", "--data.videos", "*.mp4", "--dry_run")
    assert (code, done.products) == (0, [])
    add = "add --measure to time one block of the backbone on this device"
    assert rows(output)["time"] == ("not measured", add)
    weights = {"CogVideoX-5b": "11.1 GB: 5.57e+09", "CogVideoX-2b": "3.4 GB: 1.694e+09"}[name]
    assert row(output, "weights") == f"{weights} numbers in bfloat16"


def test_every_number_says_how_it_is_known(run, clips, tmp_path):
    fit = arguments("fit", tmp_path / "bank", manifest=clips)
    known = {name: how for name, (how, _) in rows(run(*fit, "--dry_run")[1]).items()}
    counted = ("operations", "weights", "clips", "batches", "steps", "work")
    told = dict.fromkeys(counted, "counted") | {"memory": "estimated", "method": "", "bank": ""}
    assert known == told | {"time": "not measured"}
    output = run(*fit, "--dry_run", "--measure")[1]
    known = {name: how for name, (how, _) in rows(output).items()}
    assert known == told | {"pass": "measured", "time": "estimated"}
    assert re.fullmatch(r"\S+ s on cpu, by one of 4 blocks on 9x32x48", row(output, "pass"))
    assert "Measuring" in run.errors and "Reading" in run.errors


def test_a_measurement_is_asked_for_together_with_a_dry_run(run, clips, tmp_path):
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips), "--measure")[0] == 2
    assert "--measure belongs to --dry_run, which is not given. Add --dry_run" in run.errors
    assert files(tmp_path) == {}


def test_a_probe_costs_one_block_and_counts_for_all(monkeypatch):
    """Time is taken from a clock that goes one second a look: what remains is how much more four
    blocks compute than one.
    """
    ticks = iter(range(99))
    monkeypatch.setattr(
        "trainers.motion.dry_run.probe.time.perf_counter", lambda: float(next(ticks))
    )
    backbone = sketch_backbone(str(tiny_folder("rotary")), dtype="float32")
    measured = probe.measure_forward(backbone, SIZE, torch.device("cpu"))
    block = sketch_backbone(str(tiny_folder("rotary")), dtype="float32", blocks=1)
    more = costs.operations(backbone, SIZE) / costs.operations(block, SIZE)
    assert 3.5 < more < 4 and (measured.seconds, measured.seen) == (pytest.approx(more), SIZE)


def test_a_probe_ends_by_itself(monkeypatch):
    """Without patience one pass of the smallest video is left; seconds are scaled from there."""
    monkeypatch.setattr(probe, "PATIENCE", 0.0)
    ticks = iter(range(99))
    monkeypatch.setattr(
        "trainers.motion.dry_run.probe.time.perf_counter", lambda: float(next(ticks))
    )
    backbone = sketch_backbone(str(tiny_folder("rotary")), dtype="float32")
    measured = probe.measure_forward(backbone, SIZE, torch.device("cpu"))
    assert measured.seen == VideoSize(4, 8, 8) and next(ticks) == 2
    block = sketch_backbone(str(tiny_folder("rotary")), dtype="float32", blocks=1)
    scale = costs.operations(backbone, SIZE) / costs.operations(block, measured.seen)
    assert measured.seconds == pytest.approx(scale)


def test_clips_of_different_sizes_are_not_planned_into_one_batch():
    work = Workload(5, tuple("abcde"), (), {}, batch_size=2, steps=4, alike={"a": 1}.get)
    assert sorted(work.batches) == [(1, 4), (2, 4), (2, 4)]


def test_the_bar_counts_clips_while_a_step_takes_its_time(run, clips, tmp_path, monkeypatch):
    """Drawn by a thread: while the first clip's second step does not come, its first is seen in the
    bank; in the end all three clips are.
    """
    drawn, advanced, seen = [], optimization.advanced, []
    monkeypatch.setattr("trainers.motion.progress_bar.EVERY", 0.01)
    monkeypatch.setattr("trainers.motion.progress_bar.SHARE", 1.0)
    monkeypatch.setattr(Tqdm, "set_description_str", lambda bar, text: drawn.append((bar.n, text)))

    def slow(work):
        if work.state.step == 1 and not seen:
            deadline = time.monotonic() + 60
            while not any(0.4 < n < 0.6 for n, _ in drawn) and time.monotonic() < deadline:
                time.sleep(0.01)
            seen.append(drawn[-1])
        return advanced(work)

    monkeypatch.setattr(optimization, "advanced", slow)
    assert run(*arguments("fit", tmp_path / "bank", manifest=clips))[0] == 0
    assert seen[0][0] == pytest.approx(0.5) and "0 of 3 clips done" in seen[0][1]
    assert drawn[-1] == (3, "3 of 3 clips done")
