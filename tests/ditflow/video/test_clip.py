"""Read and write video: a plain decoder's pixels, the published resizing, and clear errors."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import resource
import struct

import av
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.synthetic import World
from ditflow.files import StorageError
from ditflow.video import VideoError, read_video, write_video
from ditflow.video.encoding import encode_video
from ditflow.video.pictures import FOLDER_FPS


def smooth_frames(count: int = 30, height: int = 48, width: int = 64) -> torch.Tensor:
    """Colour gradients that move: uint8 (T, 3, Y, X)."""
    t, y, x = torch.meshgrid(
        torch.arange(count), torch.arange(height), torch.arange(width), indexing="ij"
    )
    waves = [
        torch.sin((x + 2 * t) / 9 + phase) * torch.cos((y - t) / 7 + phase) for phase in (0, 1, 2)
    ]
    return (128 + 90 * torch.stack(waves, dim=1)).to(torch.uint8)


@pytest.fixture(scope="module")
def frames():
    return smooth_frames()


@pytest.fixture
def clip(tmp_path, frames):
    write_video(tmp_path / "clip.mp4", frames, 8)
    return tmp_path / "clip.mp4"


def decoded_by_av(path) -> torch.Tensor:
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def pixels_of(frames: torch.Tensor) -> np.ndarray:
    """Frames as PIL and PyAV take them: uint8 (T, Y, X, 3)."""
    return frames.permute(0, 2, 3, 1).contiguous().numpy()


def encode(path, codec, frames, rate, pixels="yuv420p", options=None, container_options=None):
    """Write frames of 48 x 64 with PyAV."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        for frame in pixels_of(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def save_animation(path, frames, **options):
    first, *rest = map(Image.fromarray, pixels_of(frames))
    first.save(path, save_all=True, append_images=rest, **options)


def test_round_trip(clip, frames):
    """H.264 at crf 17 in yuv420p changes smooth frames by a few of 256 levels."""
    again = read_video(clip)
    assert again.frames.shape == frames.shape and again.frames.dtype == torch.uint8
    assert again.frames.is_contiguous()
    assert again.fps == 8.0 and again.path == clip
    assert again.sha256 == hashlib.sha256(clip.read_bytes()).hexdigest()
    difference = (again.frames.float() - frames.float()).abs()
    assert difference.mean() < 4 and difference.max() < 32


# the decoder pads rows of these widths in one way or another
NARROW = (2, 4, 6, 8, 10, 16, 24, 32, 40, 48, 50, 66, 96, 98, 126, 128, 144, 192, 240, 1080)


@pytest.mark.parametrize(
    ("count", "height", "width", "fps"),
    [(25, 64, 64, 8), (1, 2, 2, 1), (49, 50, 98, 24), (30, 240, 360, 30000 / 1001)]
    + [(2, 16, width, 8) for width in NARROW],
)
def test_pixels_are_those_of_the_decoder(tmp_path, count, height, width, fps):
    path = tmp_path / "clip.mp4"
    write_video(path, smooth_frames(count, height, width), fps)
    clip = read_video(path)
    assert torch.equal(clip.frames, decoded_by_av(path))
    assert clip.fps == pytest.approx(fps, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("clip.webm", "libvpx-vp9", "yuv420p"),
        ("clip.avi", "mpeg4", "yuv420p"),
        ("clip.mkv", "libx264", "yuv444p"),
    ],
)
def test_other_containers(tmp_path, frames, name, codec, pixels):
    encode(tmp_path / name, codec, frames, 12, pixels)
    clip = read_video(tmp_path / name, start=4, stride=5)
    assert torch.equal(clip.frames, decoded_by_av(tmp_path / name)[4::5])
    assert clip.fps == pytest.approx(12 / 5)


@pytest.mark.parametrize("start", [0, 1, 7, 29])
@pytest.mark.parametrize("stride", [1, 2, 3, 29])
def test_start_and_stride_choose_frames(clip, start, stride):
    whole = read_video(clip).frames
    chosen = read_video(clip, start=start, stride=stride)
    assert torch.equal(chosen.frames, whole[start::stride]) and chosen.fps == 8.0 / stride
    one = read_video(clip, frames=1, start=start, stride=stride)
    assert torch.equal(one.frames, whole[start : start + 1])


def test_seeking_between_key_frames_is_exact(tmp_path):
    path = tmp_path / "clip.mp4"
    encode(path, "libx264", smooth_frames(80), 25, options={"g": "40", "bf": "3"})
    whole = decoded_by_av(path)
    for start in (0, 13, 39, 40, 41, 77):
        found = read_video(path, frames=2, start=start).frames
        assert torch.equal(found, whole[start : start + 2])


def test_frames_are_resized_as_published(clip):
    """PIL's default bicubic filter, straight to the size, without cropping."""
    small, large = read_video(clip, frames=3, size=(32, 90)), read_video(clip, frames=3)
    expected = [Image.fromarray(frame).resize((90, 32)) for frame in pixels_of(large.frames)]
    assert np.array_equal(pixels_of(small.frames), np.stack(expected))


def test_the_same_frames_give_the_same_bytes_every_time():
    """Frames that move smoothly, which the encoder looks ahead at."""
    frames = World().clip(0, "pan").frames
    assert len({encode_video(frames, 8.0) for _ in range(20)}) == 1


def test_reading_and_writing_are_deterministic(tmp_path, clip, frames):
    write_video(tmp_path / "again.mp4", frames, 8)
    assert (tmp_path / "again.mp4").read_bytes() == clip.read_bytes()
    first, second = read_video(clip, size=(24, 32)), read_video(clip, size=(24, 32))
    assert torch.equal(first.frames, second.frames) and first.sha256 == second.sha256


@pytest.mark.parametrize("width", [16, 32, 48, 50, 66, 96, 98, 128, 540])
def test_a_telephone_held_upright(tmp_path, width):
    """The matrix of the file tells a player to turn it clockwise by 90 degrees."""
    write_video(tmp_path / "flat.mp4", smooth_frames(2, width, 64), 8)
    data = bytearray((tmp_path / "flat.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(
        ">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, width << 16, 0, 1 << 30
    )
    (tmp_path / "upright.mp4").write_bytes(data)
    frames = read_video(tmp_path / "upright.mp4").frames
    difference = frames.float() - decoded_by_av(tmp_path / "flat.mp4").rot90(-1, (2, 3)).float()
    assert frames.shape == (2, 3, 64, width)
    assert difference.abs().mean() < 1.5  # chroma is interpolated before or after turning


def save_pictures(folder, frames, pattern="frame{}.png"):
    folder.mkdir()
    for index, frame in enumerate(pixels_of(frames)):
        Image.fromarray(frame).save(folder / pattern.format(index))


def test_a_folder_of_pictures_in_natural_order(tmp_path, frames):
    save_pictures(tmp_path / "kite", frames[:12])
    (tmp_path / "kite" / "notes.txt").write_text("not a picture")
    (tmp_path / "kite" / ".hidden.png").write_bytes(b"")
    clip = read_video(tmp_path / "kite")
    assert torch.equal(clip.frames, frames[:12]) and clip.fps == FOLDER_FPS
    some = read_video(tmp_path / "kite", start=1, stride=4, frames=3)
    assert torch.equal(some.frames, frames[1:12:4])
    same = tmp_path / "renamed"
    save_pictures(same, frames[:12], "{:05d}.png")
    assert read_video(same).sha256 == clip.sha256
    Image.new("RGB", (64, 48)).save(same / "00003.png")
    assert read_video(same).sha256 != clip.sha256


def test_pictures_in_grey_and_with_transparency(tmp_path):
    (tmp_path / "kite").mkdir()
    Image.new("L", (8, 6), 77).save(tmp_path / "kite" / "0.png")
    Image.new("RGBA", (8, 6), (1, 2, 3, 128)).save(tmp_path / "kite" / "1.png")
    assert read_video(tmp_path / "kite").frames[:, :, 0, 0].tolist() == [[77, 77, 77], [1, 2, 3]]


@pytest.mark.parametrize("name", ["clip.gif", "clip.webp"])
@pytest.mark.parametrize(("duration", "fps"), [(100, 10.0), ([40, 160] * 5, 10.0), (50, 20.0)])
def test_an_animation(tmp_path, frames, name, duration, fps):
    save_animation(tmp_path / name, frames[:10], duration=duration, lossless=True)
    clip = read_video(tmp_path / name)
    assert clip.frames.shape == (10, 3, 48, 64) and clip.fps == pytest.approx(fps)
    assert (clip.frames.float() - frames[:10].float()).abs().mean() < 12  # a palette of 256 colours
    assert torch.equal(read_video(tmp_path / name, start=3, stride=3).frames, clip.frames[3::3])


# What cannot be read.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"frames": 31},
            "has 30 frames, but frames=31 from start=0 with stride=1 need 31. "
            "frames=30 would fit.$",
        ),
        ({"frames": 25, "start": 10}, r"need 35. frames=20 would fit.$"),
        ({"frames": 15, "start": 1, "stride": 3}, r"need 44. frames=10 would fit, or stride=2.$"),
        ({"frames": 2, "start": 29}, r"need 31. frames=1 would fit.$"),
        ({"start": 30}, r"has 30 frames, so none starts at start=30: the last is 29"),
        ({"start": -1}, "start must be at least 0, not -1"),
        ({"frames": 0}, "frames must be at least 1, not 0"),
        ({"stride": 0}, "stride must be at least 1, not 0"),
        ({"size": (0, 64)}, "size must be at least 1, not 0"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_clip_that_is_too_short_says_what_would_fit(
    tmp_path, clip, frames, kind, arguments, message
):
    if kind == "folder":
        clip = tmp_path / "pictures"
        save_pictures(clip, frames)
    with pytest.raises(VideoError, match=message):
        read_video(clip, **arguments)


@pytest.mark.parametrize(("count", "start", "stride"), [(15, 1, 3), (25, 3, 2), (30, 0, 4)])
def test_what_is_said_to_fit_does_fit(clip, count, start, stride):
    with pytest.raises(VideoError) as caught:
        read_video(clip, frames=count, start=start, stride=stride)
    words = str(caught.value)
    fit = int(words.split(". frames=")[1].split(" would")[0])
    assert len(read_video(clip, frames=fit, start=start, stride=stride).frames) == fit
    with pytest.raises(VideoError):
        read_video(clip, frames=fit + 1, start=start, stride=stride)
    if ", or stride=" in words:
        smaller = int(words.split(", or stride=")[1].rstrip("."))
        assert len(read_video(clip, frames=count, start=start, stride=smaller).frames) == count


def test_missing_and_empty(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, message in [
        ("missing.mp4", "There is no file"),
        ("empty.mp4", "is empty"),
        ("folder", "holds no pictures"),
        ("pipe.mp4", "There is no file"),
    ]:
        with pytest.raises(VideoError, match=message):
            read_video(tmp_path / name)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp", ".mkv", ""])
@pytest.mark.parametrize(
    "data",
    [
        b"hello\n" * 500,
        b"\0" * 4096,
        b"GIF89a",
        b"\x1a\x45\xdf\xa3",
        b"\0\0\0\x20ftypisom" + b"\0" * 100,
    ],
)
def test_what_is_no_video(tmp_path, suffix, data):
    path = tmp_path / f"letter{suffix}"
    path.write_bytes(data)
    with pytest.raises(VideoError, match="can be decoded, or it was cut off"):
        read_video(path)


def test_a_picture_and_a_sound_are_no_video(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "picture.png")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        sound.rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError, match="holds no video"):
        read_video(tmp_path / "sound.mp4")
    with pytest.raises(VideoError, match="picture.png"):
        read_video(tmp_path / "picture.png")


@pytest.mark.parametrize("start", ["index first", "index last"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9, 0.99])
def test_a_file_that_was_cut_off(tmp_path, frames, start, part):
    """As after a broken download: an error, although the requested frames may be there."""
    path, options = tmp_path / "clip.mp4", {"movflags": "faststart"}
    encode(path, "libx264", frames, 8, container_options=options if start == "index first" else {})
    assert len(read_video(path).frames) == 30
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(VideoError, match="cut off"):
        read_video(path, frames=1)


def test_bytes_behind_the_end_do_no_harm(clip):
    whole = read_video(clip)
    clip.write_bytes(clip.read_bytes() + b"\xff" * 37)
    assert torch.equal(read_video(clip).frames, whole.frames)


def test_frames_that_are_damaged_inside(clip):
    data = bytearray(clip.read_bytes())
    middle = data.index(b"mdat") + 4 + 1500
    data[middle : middle + 400] = bytes(400)
    clip.write_bytes(data)
    with pytest.raises(VideoError, match=r"is damaged or was cut off: near frame \d+, \d\.\d\d s"):
        read_video(clip)


def test_a_header_with_absurd_claims(clip):
    """A decoder that believes it allocates memory for 10^9 frames, and the process aborts."""
    data = bytearray(clip.read_bytes())
    samples = data.index(b"stts") + 12
    assert int.from_bytes(data[samples : samples + 4], "big") == 30
    data[samples] ^= 0x40
    clip.write_bytes(data)
    with pytest.raises(VideoError, match="is damaged: its header claims 1073741854 frames"):
        read_video(clip)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_that_was_cut_off(tmp_path, frames, suffix):
    path = tmp_path / f"clip{suffix}"
    save_animation(path, frames[:6])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match="cut off"):
        read_video(path)


def test_pictures_that_do_not_fit(tmp_path, frames):
    save_pictures(tmp_path / "sizes", frames[:3])
    Image.new("RGB", (62, 48)).save(tmp_path / "sizes" / "frame1.png")
    said = "sizes has frames of different sizes: make all of one size"
    with pytest.raises(VideoError, match=said):
        read_video(tmp_path / "sizes")
    assert read_video(tmp_path / "sizes", size=(24, 32)).frames.shape == (3, 3, 24, 32)
    save_pictures(tmp_path / "cut", frames[:3])
    file = tmp_path / "cut" / "frame2.png"
    file.write_bytes(file.read_bytes()[:500])
    said = "frame2.png is not a picture that can be decoded, or it was cut off"
    with pytest.raises(VideoError, match=said):
        read_video(tmp_path / "cut")
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.full((6, 8), 40000, np.uint16)).save(tmp_path / "deep" / "0.png")
    with pytest.raises(VideoError, match="more than 8 bits"):
        read_video(tmp_path / "deep")


# What cannot be written.


@pytest.mark.parametrize(
    ("shape", "dtype", "fps", "message"),
    [
        (
            (3, 3, 47, 64),
            torch.uint8,
            8,
            "47x64 pixels cannot be encoded: height and width must be multiples of 2",
        ),
        ((3, 3, 48, 63), torch.uint8, 8, "multiples of 2"),
        ((3, 3, 48, 64), torch.float32, 8, "must be uint8 .* not torch.float32"),
        ((3, 48, 64, 3), torch.uint8, 8, r"not torch.uint8 of shape \(3, 48, 64, 3\)"),
        ((0, 3, 48, 64), torch.uint8, 8, r"shape \(0, 3, 48, 64\)"),
        ((3, 3, 48, 64), torch.uint8, 0, "fps must be a positive number, not 0"),
        ((3, 3, 48, 64), torch.uint8, float("nan"), "fps must be a positive number"),
    ],
)
def test_frames_that_cannot_be_written(tmp_path, shape, dtype, fps, message):
    with pytest.raises(VideoError, match=message):
        write_video(tmp_path / "clip.mp4", torch.zeros(shape, dtype=dtype), fps)
    assert list(tmp_path.iterdir()) == []


def test_only_mp4_is_written(tmp_path, frames):
    with pytest.raises(VideoError, match=r"must end in .mp4"):
        write_video(tmp_path / "clip.avi", frames, 8)


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path, clip, frames):
    before, (soft, hard) = clip.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    said = "Cannot write .*clip.mp4: the file would be larger than is allowed here"
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(StorageError, match=said):
            write_video(clip, frames.flip(0), 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(StorageError, match="there is no such folder"):
        write_video(tmp_path / "nowhere" / "clip.mp4", frames, 8)
    assert clip.read_bytes() == before and list(tmp_path.iterdir()) == [clip]


def test_a_clip_is_frozen(clip):
    with pytest.raises(dataclasses.FrozenInstanceError):
        read_video(clip).fps = 5
