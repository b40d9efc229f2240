"""`predict --again`: the video of a file anew, and what stands in its way, through the command."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image as pil

from datamodules.synthetic import World
from ditflow import read_provenance, read_video, write_video
from ditflow.bank import MotionBank
from ditflow.core.sizes import VideoSize
from ditflow.models.spec import Lora
from ditflow.video_provenance import VideoProvenance
from tests.clips import NAMES, SMALL, arguments, ditflow, whole_bank
from tests.ditflow.models.weights.test_lora import lora_of
from tests.registry import SIZE, frames_of, tiny_folder
from trainers.commands import again as again_module
from trainers.motion.videos import _named as lora_named

PROMPTS = {
    "quotes": "she said \"go\", 'it' \\ {a: 1} #b",
    "lines": " two\nlines\tand spaces ",
    "emoji": "ein Käfer 😀 猫\u2028\x7f",
    "long": "cat " * 15_000,
    "empty": "",
    "null": "null",
}


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """Run a command in a folder of its own: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        with monkeypatch.context() as undone:
            code = ditflow(undone, *map(str, words))
        return code, *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Path:
    """The manifest of two clips whose motion can be followed."""
    folder = tmp_path_factory.mktemp("moving")
    world = World(VideoSize(SIZE.frames, SIZE.height, SIZE.width))
    for seed, name in enumerate(("left", "right")):
        write_video(folder / f"{name}.mp4", world.clip(seed).frames, 8)
    (folder / "clips.csv").write_text("video,prompt\nleft.mp4,\nright.mp4,\n")
    return folder / "clips.csv"


def field_bank(bank: Path, moving: Path, kind: str = "rotary") -> Path:
    words = ["fit", "--method", "instant", "--bank", bank, "--data.manifest", moving, *SMALL]
    with pytest.MonkeyPatch.context() as monkeypatch:
        model = ["--model.backbone", tiny_folder(kind)]
        assert ditflow(monkeypatch, *map(str, words + model)) == 0
    return bank


@pytest.fixture(scope="module")
def fields(moving, tmp_path_factory) -> Path:
    """A bank of motion fields."""
    return field_bank(tmp_path_factory.mktemp("fields") / "bank", moving)


def predicted(run, bank: Path, *words: object, prompts: str = "prompts.txt") -> Path:
    """The video of the entry `left`, with quick options before those given."""
    Path("prompts.txt").write_text("a dog\n")
    asked = arguments("predict", bank, prompts=prompts, entries="[left]")
    code, _, errors = run(*asked, "--out", "videos", "--model.steps", 4, *SMALL, *words)
    assert code == 0, errors
    (file,) = Path("videos").glob("*.mp4")
    return file


def told_as(file: Path, name: str, **changes: object) -> Path:
    """A copy of a video that says other things."""
    made: VideoProvenance = dataclasses.replace(read_provenance(file), **changes)
    write_video(name, read_video(file).frames, made.fps, made=made)
    return Path(name)


def off(one: Path, other: Path) -> float:
    """Levels by which pixels differ on average; see `tests.clips.assert_shows` for the bound."""
    return float((read_video(one).frames.float() - read_video(other).frames.float()).abs().mean())


OPTIONS = ["--data.seeds", "[7]", "--model.guidance_scale", 3, "--model.guidance", "dynamic_index"]
OPTIONS += ["--model.strength", 0.5, "--model.passes", "both", "--model.fps", 6]
FIELD = ["--model.window", "[1,3]", "--model.noise_share", 0.5, "--data.negative_prompt", "a #cat"]


@pytest.mark.parametrize("options", [[], OPTIONS, ["--model.motion_scale", 2.5]])
@pytest.mark.parametrize("kind", ["optimised", "field"])
def test_a_video_is_made_anew_from_its_file(run, whole, fields, kind, options):
    own = FIELD if kind == "field" and options else []
    file = predicted(run, whole if kind == "optimised" else fields, *options, *own)
    content = file.read_bytes()
    code, said, errors = run("predict", "--again", file)
    again = Path("videos/again") / file.name
    assert (code, "unlike" in said, "ditflow" in errors) == (0, False, False), errors
    assert read_provenance(again) == read_provenance(file)
    assert off(file, again) < 4 and file.read_bytes() == content
    code, said, _ = run("predict", "--again", file, "--data.seeds", "[8]", "--out", "other")
    assert code == 0 and "--data.seeds is [8], and was" in said
    (other,) = Path("other").glob("*.mp4")
    assert off(file, other) > 8, "a seed that is another shows"


def test_any_prompt_comes_back(run, fields):
    rows = [{"entry": "left", "prompt": text, "name": name} for name, text in PROMPTS.items()]
    Path("prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = arguments("predict", fields, prompts="prompts.jsonl", negative_prompt="a dog")
    assert run(*asked, "--out", "videos", "--model.steps", 2, *SMALL)[0] == 0
    for name, text in PROMPTS.items():
        file = Path("videos") / f"{name}.mp4"
        assert read_provenance(file).prompt == text
        file = told_as(file, f"{name}.mp4", negative_prompt=text)
        code, _, errors = run("predict", "--again", file, "--out", f"{name}-again")
        assert code == 0, errors
        (again,) = Path(f"{name}-again").glob("*.mp4")
        assert read_provenance(again) == read_provenance(file)


def test_options_that_are_given_win_and_are_named(run, whole, fields):
    file = predicted(run, fields)
    Path("other.txt").write_text("a cat\n")
    words = ["--data.prompts", "other.txt", "--model.noise_share", 0, "--data.seeds", "[1,2]"]
    code, said, errors = run("predict", "--again", file, *words, "--out", "other")
    assert code == 0, errors
    for difference in (
        "--data.prompts is 'other.txt', and was ",
        "--model.noise_share is 0.0, and was 0.25",
        "--data.seeds is [1, 2], and was [0]",
    ):
        assert f"unlike {file}: {difference}" in said
    assert said.count("unlike") == 3
    made = {read_provenance(file).seed: read_provenance(file) for file in Path("other").iterdir()}
    assert made.keys() == {1, 2} and made[1].noise_share == 0 and made[1].prompt == "a cat"
    # the same bank at another place is no difference
    shutil.copytree(fields, "moved")
    code, said, _ = run("predict", "--again", file, "--bank", "moved", "--dry_run")
    assert (code, "unlike" in said) == (0, False)


def test_nothing_is_overwritten(run, fields):
    file = predicted(run, fields)
    content = file.read_bytes()
    code, _, errors = run("predict", "--again", file, "--out", "videos")
    assert code == 2 and f"{file} is there already, and is never overwritten" in errors
    assert file.read_bytes() == content and not (Path("videos") / "again").exists()


def test_an_entry_that_was_replaced_is_refused(run, fields):
    shutil.copytree(fields, "bank")
    file = predicted(run, Path("bank"))
    bank = MotionBank("bank")
    bank.put("left", bank["right"], overwrite=True)
    code, _, errors = run("predict", "--again", file)
    assert code == 2 and f"entry 'left' of bank is not what it was when {file} was made" in errors
    assert run("predict", "--again", file, "--bank", fields, "--dry_run")[0] == 0
    del bank["left"]
    code, _, errors = run("predict", "--again", file)
    assert code == 2 and "the bank bank has no entry 'left'" in errors
    shutil.rmtree("bank")
    code, _, errors = run("predict", "--again", file)
    assert code == 2 and "with the bank 'bank', which is not a folder here: name it by" in errors
    assert not (Path("videos") / "again").exists()


def test_a_model_that_was_replaced_is_refused(run, fields):
    Path("model").symlink_to(tiny_folder("rotary"))
    file = predicted(run, fields, "--model.backbone", "model")
    Path("model").unlink()
    Path("model").symlink_to(tiny_folder("sinusoidal"))
    code, _, errors = run("predict", "--again", file)
    assert code == 2 and f"the backbone model is not what it was when {file} was made" in errors
    moved = ["--model.backbone", tiny_folder("rotary"), "--dry_run"]
    code, said, _ = run("predict", "--again", file, *moved)
    assert code == 0 and "--model.backbone is " in said and ", and was 'model'" in said


def test_loras_of_experts_are_named_with_their_expert():
    lora = Lora("high=style.safetensors", "ab" * 32, 0.5)
    told = lora_named("high=~/style.safetensors:0.5", lora)
    assert told == {"file": "high=~/style.safetensors", "sha256": "ab" * 32, "scale": 0.5}
    assert again_module._lora_here(told) == f"high={Path.home()}/style.safetensors:0.5"
    assert again_module._expert(told) == "high"


def test_loras_are_those_of_the_video(run, fields):
    lora = lora_of("rotary", Path("loras"))
    file = predicted(run, fields, "--model.lora", f"{lora}:0.5")
    (told,) = read_provenance(file).loras
    assert (told["file"], told["scale"]) == (str(lora), 0.5)
    assert run("predict", "--again", file)[0] == 0
    again = Path("videos/again") / file.name
    assert read_provenance(again) == read_provenance(file)
    code, said, _ = run("predict", "--again", file, "--model.lora", lora, "--out", "o", "--dry_run")
    assert code == 0 and f"--model.lora is '{lora}', and was ['{lora}:0.5']" in said
    lora_of("rotary", Path("loras"), seed=1)
    code, _, errors = run("predict", "--again", file, "--out", "other")
    assert code == 2 and f"a LoRA of ['{lora}:0.5'] is not what it was when" in errors


def test_a_picture_is_asked_for_by_its_name(run, moving):
    for index, name in enumerate(("cat.png", "dog.png")):
        pil.fromarray(frames_of(1)[0, index].permute(1, 2, 0).numpy()).save(name)
    field_bank(Path("bank"), moving, "wan-i2v-plain")
    model = ["--model.backbone", tiny_folder("wan-i2v-plain")]
    file = predicted(run, Path("bank"), *model, "--data.image", "cat.png")
    made = read_provenance(file)
    assert made.image == "cat.png" and len(made.image_sha256) == 64
    code, _, errors = run("predict", "--again", file)
    assert code == 2 and "begins with the picture 'cat.png': name that file by --data.im" in errors
    code, said, _ = run("predict", "--again", file, "--data.image", "cat.png")
    assert (code, "unlike" in said) == (0, False)
    assert read_provenance(Path("videos/again") / file.name) == made
    code, said, _ = run("predict", "--again", file, "--data.image", "dog.png", "--dry_run")
    assert code == 0 and "--data.image is 'dog.png', and was 'cat.png'" in said


def mask_of(file: str, columns: int) -> None:
    """A mask that is white in so many columns from the left."""
    mask = pil.new("L", (SIZE.width, SIZE.height))
    mask.paste(255, (0, 0, columns, SIZE.height))
    Path(file).parent.mkdir(exist_ok=True)
    mask.save(file)


def test_a_mask_is_found_again_or_missed(run, fields):
    name = "my masks/left, half.png"
    mask_of(name, SIZE.width // 2)
    words = f'mirrored, restricted "{name}" moving'
    file = predicted(run, fields, "--model.change", words)
    made = read_provenance(file)
    sha256 = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    assert (made.change, made.masks) == (words, ({"file": name, "sha256": sha256},))
    code, said, errors = run("predict", "--again", file)
    assert (code, "unlike" in said) == (0, False), errors
    assert read_provenance(Path("videos/again") / file.name) == made
    Path(name).rename("moved.png")
    code, _, errors = run("predict", "--again", file, "--out", "other")
    assert code == 2 and f"made with the mask '{name}', which is no file here: name its p" in errors
    unsaid = told_as(file, "unsaid.mp4", change="restricted moved.png", masks=())
    code, _, errors = run("predict", "--again", unsaid, "--out", "other")
    assert code == 2 and "the mask 'moved.png' is not what it was when unsaid.mp4 was" in errors
    there = ["--model.change", "mirrored, restricted moved.png moving", "--out", "other"]
    code, said, errors = run("predict", "--again", file, *there, "--dry_run")
    assert (code, "unlike" in said) == (0, False), errors
    mask_of(name, 4)
    code, _, errors = run("predict", "--again", file, "--out", "other")
    assert code == 2 and f"the mask '{name}' is not what it was when {file} was made" in errors
    code, said, _ = run(
        "predict", "--again", file, "--model.change", words + ",reversed", "--out", "o", "--dry_run"
    )
    assert code == 0 and "--model.change is " in said
    assert not Path("other").exists()


def test_optimised_positions_fit_another_size_and_tables_do_not(run, whole, clips):
    asked = ["--data.frames", 17, "--data.size", "[48,32]", "--model.change", "mirrored"]
    bank = whole_bank(Path("bank"), clips, "--model.variable", "rotary_positions")
    file = predicted(run, bank, *asked)
    made = read_provenance(file)
    assert (made.size, made.change, made.window) == ((17, 48, 32), "mirrored", None)
    assert read_video(file).frames.shape == (17, 3, 48, 32)
    code, said, errors = run("predict", "--again", file)
    assert (code, "unlike" in said) == (0, False), errors
    assert read_provenance(Path("videos/again") / file.name) == made
    tables = arguments("predict", whole, prompts="prompts.txt", entries="[left]")
    for dry in ([], ["--dry_run"]):
        code, said, errors = run(*tables, *asked[:4], "--out", "refused", *dry)
        assert (
            code == (1 if dry else 2)
            and "leave size 17x48x32 out, optimise rotary_positions" in said + errors
        )
    assert not list(Path("refused").glob("*.mp4"))


def test_a_mask_of_the_users_home_is_told_from_there(run, fields, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    mask_of("left.png", 8)
    file = predicted(run, fields, "--model.change", f"restricted {tmp_path}/left.png")
    made = read_provenance(file)
    assert (made.change, made.masks[0]["file"]) == ("restricted ~/left.png", "~/left.png")
    assert run("predict", "--again", file)[0] == 0


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("none.png", "There is no file or folder none.png"),
        ("cat.txt", "cat.txt is not a picture that can be decoded"),
        ("night.png", "night.png is black or transparent all over, so it shows no region"),
        (
            "tall.png",
            "tall.png has 64 x 8 pixels, and the motion's frames are 1.5 times as wide as",
        ),
        ("two words.png", 'restricted takes LEFT TOP RIGHT BOTTOM or "PICTURE", and perhaps'),
    ],
)
def test_a_mask_that_shows_no_region_is_one_sentence(run, fields, file, sentence):
    Path("cat.txt").write_text("meow")
    pil.new("L", (48, 32)).save("night.png")
    pil.new("L", (8, 64), 255).save("tall.png")
    Path("prompts.txt").write_text("a dog\n")
    asked = arguments("predict", fields, prompts="prompts.txt", entries="[left]")
    change = ["--model.change", f"restricted {file}", "--dry_run"]
    code, said, errors = run(*asked, *SMALL, *change, "--out", "out")
    told = said if file == "tall.png" else errors  # which is one video's, by its motion
    assert (code, sentence in " ".join(told.split())) == (1 if file == "tall.png" else 2, True)
    assert "Traceback" not in errors and not Path("out").exists()


def test_nothing_is_fetched_because_a_file_says_so(run, fields, monkeypatch):
    file = predicted(run, fields)
    for place in ("ditflow.models.registry.hub_index", "fsspec.core.url_to_fs"):
        monkeypatch.setattr(place, None)
    for told, option in (
        ({"backbone": "stranger/model"}, "model.backbone"),
        ({"bank": "s3://stranger/bank"}, "bank"),
        ({"bank": "simplecache::http://stranger/bank"}, "bank"),
        ({"bank": ""}, "bank"),
    ):
        code, _, errors = run("predict", "--again", told_as(file, "told.mp4", **told))
        assert code == 2 and f"which is not a folder here: name it by --{option}." in errors


def test_other_versions_are_said(run, fields):
    file = predicted(run, fields)
    versions = read_provenance(file).versions | {"torch": "1.2.3"}
    file = told_as(file, "old.mp4", versions=versions)
    with pytest.warns(UserWarning, match=f"{file} was made with torch 1.2.3, and here is torch "):
        assert run("predict", "--again", file, "--dry_run")[0] == 0


def test_what_predict_did_not_make(run, clips, fields):
    fit = arguments("fit", Path("bank"), manifest=clips)
    assert run(*fit, "--model.finish", "true")[0] == 0
    videos = sorted(Path("bank/videos").glob("*.mp4"))
    assert [file.stem for file in videos] == sorted(NAMES)
    made = read_provenance(videos[0])
    assert (made.command, made.entry, made.prompt, made.steps) == ("fit", "left", "a left cat", 4)
    assert (made.window, made.size) == ((0, 2), (SIZE.frames, SIZE.height, SIZE.width))
    assert made.optimised["variable"] == "rotary_tables" and made.optimised["inner_steps"] == 2
    code, _, errors = run("predict", "--again", videos[0])
    assert code == 2 and "was made by `ditflow fit`, while the motion of 'left' was" in errors
    file = told_as(videos[0], "python.mp4", command="", entry="")
    code, _, errors = run("predict", "--again", file)
    assert code == 2 and "was made in Python from the motion of 'left', which was in no" in errors
    file = told_as(videos[0], "changed.mp4", command="", change="slower 2")
    code, _, errors = run("predict", "--again", file)
    assert code == 2 and "unknown change 'slower 2' of a motion; there are camera" in errors
    code, _, errors = run("predict", "--again", clips.parent / "left.mp4")
    assert code == 2 and "left.mp4 does not say how it was made" in errors
    Path("again.yaml").write_text(f"again: python.mp4\nbank: {fields}\n")
    code, _, errors = run("predict", "--config", "again.yaml")
    assert code == 2 and "--again FILE belongs on the command line" in errors
    code, _, errors = run("predict", "--again")
    assert code == 2 and "--again: expected one argument" in errors
