"""`fit` and `predict` on an image-to-video backbone: from a picture and a clip to a video."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from PIL import Image as pil

from ditflow.bank import MotionBank
from ditflow.video import read_video, write_video
from tests.clips import QUICK, SMALL, arguments
from tests.closeness import assert_close_in_norm
from tests.registry import SIZE, frames_of, tiny_folder


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A folder with a clip, its manifest, prompts and two pictures."""
    folder = tmp_path_factory.mktemp("files")
    frames = frames_of(1)[0]
    slid = torch.stack([frames[0].roll(2 * frame, dims=-1) for frame in range(SIZE.frames)])
    write_video(folder / "car.mp4", slid, 8)
    for name, frame in (("cat.png", frames[1]), ("dog.png", frames[2])):
        pil.fromarray(frame.permute(1, 2, 0).numpy()).save(folder / name)
    (folder / "clips.csv").write_text("video,prompt\ncar.mp4,a cat\n")
    (folder / "prompts.txt").write_text("a dog\n")
    (folder / "pairs.csv").write_text("entry,prompt,image\ncar,a dog,dog.png\ncar,a dog,\n")
    return folder


def predict(bank: Path, kind: str, prompts: Path, out: Path) -> list[str]:
    quick = ["--model.steps", "4", "--out", str(out)]
    return [*arguments("predict", bank, kind, prompts=prompts), *quick]


def test_from_a_picture_and_a_clip_to_a_video(run, files, tmp_path) -> None:
    fit = arguments("fit", tmp_path / "bank", "wan-i2v", manifest=files / "clips.csv")
    code, said, errors = run(*fit, "--data.image", files / "cat.png", "--model.finish", "true")
    assert (code, "1 of 1 done" in said) == (0, True), errors
    entry = MotionBank(tmp_path / "bank")["car"]
    sha256 = hashlib.sha256((files / "cat.png").read_bytes()).hexdigest()
    assert entry.metadata.image_sha256 == sha256
    # another picture would be another entry
    code, _, errors = run(*fit, "--data.image", files / "dog.png", "--model.finish", "true")
    assert (code, f"with image_sha256 '{sha256}' instead of" in errors) == (2, True)
    words = predict(tmp_path / "bank", "wan-i2v", files / "pairs.csv", tmp_path / "videos")
    code, said, errors = run(*words, "--data.image", files / "cat.png")
    assert (code, "2 of 2 done" in said) == (0, True), errors
    one, other = (
        read_video(file).frames for file in sorted((tmp_path / "videos").glob("*-seed0.mp4"))
    )
    assert one.shape == (SIZE.frames, 3, SIZE.height, SIZE.width)
    assert not torch.equal(one, other)
    assert {file.name for file in (tmp_path / "videos").glob("*.mp4")} == {
        f"car-a-dog-{hashlib.sha256(b'a dog').hexdigest()[:6]}-{image}-seed0.mp4"
        for image in ("cat", "dog")
    }


def test_one_model_begins_some_videos_with_a_picture(run, files, tmp_path) -> None:
    """Clips with and without one are fitted by one command, in batches of their own, and come out
    as they do alone. What was fitted with a picture makes videos without one, and the reverse.
    """
    rows = [("car", "cat.png"), ("bus", ""), ("van", "dog.png"), ("cab", "")]
    listed = "".join(f"car.mp4,a cat,{name},{image}\n" for name, image in rows)
    for count, text in (("all", listed), ("one", listed.splitlines()[2] + "\n")):
        (files / f"{count}.csv").write_text(f"video,prompt,name,image\n{text}")
    fit = arguments("fit", tmp_path / "bank", "wan22-5b", manifest=files / "all.csv")
    fit += ["--data.batch_size", "4", "--model.finish", "true"]
    code, said, errors = run(*fit, "--dry_run")
    assert (code, "2 of at most 4 clips" in said) == (0, True), said
    code, said, errors = run(*fit)
    assert (code, "4 of 4 done" in said) == (0, True), errors
    bank = MotionBank(tmp_path / "bank")
    assert [bool(bank[name].metadata.image_sha256) for name, _ in rows] == [True, False] * 2
    alone = arguments("fit", tmp_path / "alone", "wan22-5b", manifest=files / "one.csv")
    assert run(*alone, "--trainer.max_steps", "1")[0] == 1
    code, said, errors = run(*alone)  # goes on where it was, with the picture
    assert (code, "1 of 1 done" in said) == (0, True), errors
    van = MotionBank(tmp_path / "alone")["van"]
    # a batch of two adds products in another order than one clip
    assert_close_in_norm(bank["van"].parameters, van.parameters, largest=1e-2, relative=1e-4)
    first = read_video(tmp_path / "bank/videos/car.mp4").frames[0].float()
    other = read_video(tmp_path / "bank/videos/bus.mp4").frames[0].float()
    assert (first - other).abs().mean() > 4
    (files / "both.csv").write_text("entry,prompt,image\ncar,a dog,\nbus,a dog,dog.png\n")
    words = predict(tmp_path / "bank", "wan22-5b", files / "both.csv", tmp_path / "videos")
    code, said, errors = run(*words)
    assert (code, "2 of 2 done" in said) == (0, True), errors


def test_a_field_moves_a_picture(run, files, tmp_path) -> None:
    """No picture is needed to take it, and none is shown."""
    instant = ["--method", "instant", "--model.backbone", tiny_folder("wan-i2v-plain"), *SMALL]
    bank = ["--bank", tmp_path / "bank", "--data.manifest", files / "clips.csv"]
    assert run("fit", *instant, *bank)[0] == 0
    assert MotionBank(tmp_path / "bank")["car"].metadata.image_sha256 == ""
    words = predict(tmp_path / "bank", "wan-i2v-plain", files / "prompts.txt", tmp_path / "videos")
    code, said, errors = run(*words, *SMALL, "--data.image", files / "cat.png")
    assert (code, "1 of 1 done" in said) == (0, True), errors


def test_pictures_are_asked_for_before_a_model_is_loaded(run, files, tmp_path, monkeypatch) -> None:
    for name in ("load", "sketch"):
        monkeypatch.setattr(f"ditflow.models.families.wan.Wan.{name}", None)
    wanted = "makes a picture move, and the video of 'car' has none to begin with: give one by "
    wanted += "--data.image FILE, or in a column 'image'."
    fit = ["--bank", tmp_path / "bank", "--data.manifest", files / "clips.csv", *SMALL, *QUICK]
    words = ["fit", "--model.backbone", tiny_folder("wan-i2v"), *fit]
    code, _, errors = run(*words)
    assert (code, wanted in errors, "Traceback" in errors) == (2, True, False), errors
    words = ["fit", "--model.backbone", tiny_folder("wan"), *fit, "--data.image"]
    code, _, errors = run(*words, files / "cat.png")
    assert (code, "makes videos from text alone here, and the video of 'car'" in errors) == (
        2,
        True,
    )


def test_a_picture_that_is_none_is_a_clip_that_fails(run, files, tmp_path) -> None:
    fit = arguments("fit", tmp_path / "bank", "wan-i2v-plain", manifest=files / "clips.csv")
    fit += ["--data.image", str(files / "clips.csv")]
    code, said, _ = run(*fit, "--dry_run", "--measure")
    assert (code, "car: " in said, "clips.csv is not a picture that can" in said) == (1, True, True)
    code, _, errors = run(*fit)
    assert (code, "clips.csv is not a picture that can be decoded" in errors) == (2, True)
    (files / "absent.csv").write_text("video,prompt,image\ncar.mp4,a cat,absent.png\n")
    fit = arguments("fit", tmp_path / "bank", "wan-i2v-plain", manifest=files / "absent.csv")
    code, _, errors = run(*fit)
    assert (code, "There is no file or folder" in errors and "absent.png" in errors) == (2, True)
