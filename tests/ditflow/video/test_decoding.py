"""Read video files of every kind, whose frames show their number, so that no decoder is needed."""

from __future__ import annotations

import gc
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from ditflow.video import TooShortError, VideoError, read_video, video_length
from ditflow.video.packets import file_source
from tests.numbered import numbered, numbers, write_numbered

ROOT = Path(__file__).parents[3]
PIXELS = {
    **dict.fromkeys(("mjpeg", "ljpeg"), "yuvj420p"),
    **dict.fromkeys(("png", "qtrle", "jpegls", "libx264rgb", "cinepak"), "rgb24"),
    **dict.fromkeys(("prores", "prores_ks", "v210", "cfhd"), "yuv422p10le"),
    "huffyuv": "yuv422p",
    "zlib": "bgr24",
    "msvideo1": "rgb555le",
    "svq1": "yuv410p",
    "gif": "rgb8",
}
OPTIONS = {
    "libx265": {"x265-params": "log-level=none:keyint=12"},
    **dict.fromkeys(("libx264", "mpeg2video", "mpeg4"), {"bf": "2", "g": "12"}),
}
CODECS = {
    "mp4": "libx264 libx265 libvpx-vp9 libsvtav1 mpeg4 mpeg2video mpeg1video mjpeg ffv1 png "
    "jpeg2000 libx264rgb",
    "m4v": "libx264 mpeg4",
    "mov": "libx264 libx265 mpeg4 mpeg2video mpeg1video mjpeg prores_ks prores png qtrle msmpeg4 "
    "magicyuv jpeg2000 v210 svq1 cinepak cfhd libx264rgb",
    "mkv": "libx264 libx265 libvpx libvpx-vp9 libsvtav1 mpeg4 mpeg2video mpeg1video mjpeg ffv1 "
    "prores_ks rawvideo msmpeg4 jpeg2000 snow",
    "webm": "libvpx libvpx-vp9 libsvtav1",
    "avi": "mpeg4 libx264 mpeg2video mpeg1video mjpeg ffv1 huffyuv ffvhuff png rawvideo h263p flv "
    "msmpeg4 msmpeg4v2 wmv1 wmv2 utvideo magicyuv jpeg2000 v210 snow svq1 cinepak zlib cfhd asv1 "
    "libx264rgb msvideo1 ljpeg jpegls libvpx libvpx-vp9 libsvtav1",
    "ts": "libx264 libx265 mpeg4 mpeg2video mpeg1video",
    "flv": "libx264 flv",
    "mpg": "mpeg2video mpeg1video",
    "wmv": "wmv2 msmpeg4",
}
FILES = [(container, codec) for container, codecs in CODECS.items() for codec in codecs.split()]


@pytest.fixture
def write(tmp_path):
    def write(name: str, codec: str, count: int = 40, **arguments):
        options = OPTIONS.get(codec, {}) | {"strict": "-2"} | arguments.pop("options", {})
        arguments.setdefault("pixels", PIXELS.get(codec, "yuv420p"))
        return write_numbered(tmp_path / name, codec, count, options=options, **arguments)

    return write


def read(path, **arguments) -> list[int | None]:
    return numbers(read_video(path, **arguments).frames)


def seeks_exactly(path, count: int = 40) -> bool:
    """Whether each frame read alone is the one that decoding from the start gives."""
    whole = read_video(path).frames
    alone = (read_video(path, start=start, frames=1).frames[0] for start in range(count))
    return all(torch.equal(*pair) for pair in zip(alone, whole, strict=True))


def picture(number: int, *size: int) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(numbered(number, *size), format="rgb24")


@pytest.mark.parametrize(("container", "codec"), FILES)
def test_every_container_and_codec(write, container, codec):
    """All frames, some of them from wherever decoding can begin, and some by time.

    Of 25 frames a second at 10, the earlier of two that are equally near is taken.
    """
    path = write(f"clip.{container}", codec)
    assert read(path) == list(range(40)) and read_video(path).fps == pytest.approx(25, rel=1e-6)
    assert read(path, start=3, stride=2) == list(range(3, 40, 2))
    for start in (1, 11, 13, 25, 38):
        assert read(path, start=start, frames=2) == [start, start + 1]
    assert read(path, fps=10) == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37]
    assert video_length(path) == 40 and video_length(path, fps=10) == 16
    assert video_length(path, start=3, stride=2) == 19


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "mpeg4"])
@pytest.mark.parametrize(
    "options",
    [
        {"bf": "0"},
        {"bf": "3", "g": "8"},
        {"bf": "2", "g": "6", "x264-params": "open-gop=1"},
        {"g": "1", "bf": "0"},
    ],
)
def test_groups_of_pictures(write, container, codec, options):
    """Without and with B-frames, open and closed groups, key frames only."""
    path = write(f"clip.{container}", codec, 30, options=options)
    assert read(path) == list(range(30))
    for start in range(0, 25, 3):
        assert read(path, start=start, frames=3, stride=2) == [start, start + 2, start + 4]


def cut(source, target, first: int, shown: int) -> None:
    """Copy the frames from `first` on into a file that shows those from `shown` on.

    `ffmpeg -ss ... -c copy` writes such files.
    """
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        ticks = sorted(packet.pts for packet in old.demux(stream) if packet.pts is not None)
        old.seek(0)
        for packet in old.demux(stream):
            if packet.dts is not None and packet.pts >= ticks[first]:
                packet.pts, packet.dts = packet.pts - ticks[shown], packet.dts - ticks[shown]
                packet.stream = copy
                new.mux(packet)


@pytest.mark.parametrize("shown", [8, 10, 13, 25])
def test_what_an_edit_list_cuts_away_is_not_there(write, tmp_path, shown):
    whole = write("whole.mp4", "libx264", options={"g": "8", "bf": "0", "sc_threshold": "0"})
    cut(whole, tmp_path / "cut.mp4", shown // 8 * 8, shown)
    assert b"elst" in (tmp_path / "cut.mp4").read_bytes()
    assert read(tmp_path / "cut.mp4") == list(range(shown, 40))
    assert read(tmp_path / "cut.mp4", start=2, stride=3) == list(range(shown + 2, 40, 3))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_stream_cut_out_of_another_one(write, tmp_path, codec):
    """From the second group on, which is open: frames that refer to the first cannot be shown."""
    whole = write(
        "whole.ts", codec, options={"g": "8", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}
    )
    with av.open(str(whole)) as old, av.open(str(tmp_path / "cut.ts"), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        keys = 0
        for packet in old.demux(video=0):
            keys += packet.is_keyframe
            if keys > 1 and packet.dts is not None:
                packet.stream = copy
                new.mux(packet)
    found = read(tmp_path / "cut.ts")
    assert found == list(range(found[0], 40)) and 5 < found[0] < 10


TURNS = {
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
}


def turn_by(path, matrix: tuple[int, int, int, int]) -> None:
    """Write (a, b, c, d) into a track's matrix, in units of 2 ** -16.

    A player shows a point (x, y) at (a x + c y, b x + d y).
    """
    data = bytearray(path.read_bytes())
    begin = data.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[begin + place : begin + place + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)


@pytest.mark.parametrize("turn", TURNS)
def test_a_turned_or_mirrored_clip_stands_upright(write, turn):
    """A quarter turn to the right takes x to y, and y to -x."""
    path = write("clip.mp4", "libx264", 4)
    straight = read_video(path).frames
    turn_by(path, tuple(value << 16 for value in TURNS[turn]))
    wanted = {"mirrored": straight.flip(-1), "upside down": straight.flip(-2)}.get(turn)
    if wanted is None:
        wanted = torch.rot90(straight, -turn // 90, dims=(-2, -1))
    assert torch.equal(read_video(path).frames, wanted)


def test_a_clip_turned_by_a_part_of_a_quarter_is_refused(write):
    path = write("clip.mp4", "libx264", 4)
    turn_by(path, (46341, 46341, -46341, 46341))
    with pytest.raises(VideoError, match="turned by an angle that is no quarter turn"):
        read_video(path)


TIMES = [0, 40, 80, 120, 400, 440, 480, 900, 940, 980, 1020, 1060]  # milliseconds


VARIABLE = {"mp4": "libx264", "mkv": "libx264", "webm": "libvpx-vp9", "mov": "mjpeg"}


@pytest.mark.parametrize(("container", "codec"), [*VARIABLE.items(), ("avi", "mpeg4")])
def test_a_variable_rate(write, container, codec):
    """Taking frames by number warns. Taking the nearest in time does not."""
    options = {"bf": "0"} if container == "avi" else {}
    path = write(f"clip.{container}", codec, len(TIMES), times=TIMES, options=options)
    said = "has a variable frame rate, so every 2 frames .* with fps, such as fps=12.5"
    with pytest.warns(UserWarning, match=said) as caught:
        assert read(path, stride=2) == [0, 2, 4, 6, 8, 10]
    assert len(caught) == 1 and str(path) in str(caught[0].message)
    nearest = [min(range(12), key=lambda n: (abs(TIMES[n] - 125 * k), n)) for k in range(9)]
    assert read(path, fps=8) == nearest == [0, 3, 3, 4, 6, 6, 7, 7, 9]
    assert read_video(path, fps=8, frames=3).fps == 8


def test_a_part_at_a_constant_rate_does_not_warn(write, recwarn):
    path = write("clip.mkv", "libx264", len(TIMES), times=TIMES)
    assert read(path, frames=4) == [0, 1, 2, 3] and read(path, start=7) == [7, 8, 9, 10, 11]
    assert read_video(path, frames=4).fps == pytest.approx(25, rel=1e-3) and not recwarn


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), 60, 120, 15])
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi", "flv"])
def test_a_constant_rate_does_not_warn(write, container, rate, recwarn):
    """Matroska and Flash round times to milliseconds."""
    codec = "mpeg4" if container == "avi" else "libx264"
    clip = read_video(write(f"clip.{container}", codec, 30, rate=rate))
    assert clip.fps == pytest.approx(float(rate), rel=0.01) and not recwarn


@pytest.mark.parametrize(
    ("name", "codec", "arguments"),
    [
        ("odd.mkv", "libx264", {"pixels": "yuv444p", "size": (47, 63)}),
        ("odd.mkv", "ffv1", {"pixels": "yuv444p", "size": (45, 61)}),
        ("odd.mkv", "libvpx-vp9", {"size": (47, 63)}),
        ("interlaced.mkv", "libx264", {"options": {"x264-params": "interlaced=1:bff=0"}}),
        ("interlaced.ts", "mpeg2video", {"options": {"flags": "+ildct+ilme"}}),
    ],
)
def test_odd_sizes_and_interlaced_frames(write, name, codec, arguments):
    frames = read_video(write(name, codec, 16, **arguments)).frames
    assert frames.shape[2:] == arguments.get("size", (48, 64))
    assert numbers(frames) == list(range(16))


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("ten.mkv", "libx265", "yuv420p10le"),
        ("ten.mkv", "libx264", "yuv420p10le"),
        ("ten.mkv", "ffv1", "yuv444p10le"),
        ("ten.mov", "prores_ks", "yuv422p10le"),
        ("alpha.webm", "libvpx-vp9", "yuva420p"),
        ("alpha.mov", "png", "rgba"),
        ("alpha.mov", "qtrle", "argb"),
        ("alpha.mov", "prores_ks", "yuva444p10le"),
        ("grey.mkv", "ffv1", "gray"),
    ],
)
def test_depth_and_alpha(write, name, codec, pixels):
    """Grey levels come through but for the rounding of the codec: 224 and 32 of 255."""
    frames = read_video(write(name, codec, 8, pixels=pixels)).frames
    assert numbers(frames) == list(range(8))
    wanted = torch.from_numpy(np.stack([*map(numbered, range(8))])).permute(0, 3, 1, 2)
    assert (frames.float() - wanted.float()).abs().median() <= 3


@pytest.mark.parametrize("codec", ["libx264", "ffv1"])
def test_full_and_limited_range(write, codec):
    """In both ranges 32 and 224 stay as they are, and are not stretched to 19 and 238."""
    for name, full in (("limited.mkv", False), ("full.mkv", True)):

        def edit(output, stream, full=full):
            stream.codec_context.color_range = 2 if full else 1

        frames = read_video(write(name, codec, 4, edit=edit, pixels="yuv420p", full=full)).frames
        levels = sorted(frames.float().flatten().quantile(torch.tensor([0.25, 0.75])).tolist())
        assert levels == pytest.approx([32, 224], abs=3)


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
def test_sound_first_and_several_videos(tmp_path, container):
    """The first of several videos is taken, wherever it stands."""
    path = tmp_path / f"clip.{container}"
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=44100)
        first, second = (output.add_stream("libx264", rate=25) for _ in range(2))
        for stream in (first, second):
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(30):
            wave = np.zeros((1, 1024), np.float32)
            silence = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            silence.rate, silence.pts = 44100, 1024 * number
            output.mux(sound.encode(silence))
            for stream, shift in ((first, 0), (second, 30)):
                output.mux(stream.encode(picture(number + shift)))
        for stream in (sound, first, second):
            output.mux(stream.encode(None))
    assert read(path) == list(range(30))


def test_a_cover_is_no_video(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as output:
        cover = output.add_stream("mjpeg", rate=25, options={"strict": "-2"})
        film = output.add_stream("libx264", rate=25)
        cover.disposition = av.stream.Disposition.attached_pic
        for stream, pixels in ((cover, "yuvj420p"), (film, "yuv420p")):
            stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
        for stream, shown in ((cover, [63]), (film, range(12))):
            for number in shown:
                output.mux(stream.encode(picture(number)))
            output.mux(stream.encode(None))
    with av.open(str(path)) as container:
        videos = container.streams.video
        assert videos[0].codec_context.name == "mjpeg" or len(videos) == 2
    assert read(path) == list(range(12))


def write_two_sizes(path) -> None:
    """Ten frames of 48 x 64, then ten of 96 x 128, in one stream."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        for part, size in enumerate([(48, 64), (96, 128)]):
            encoder = av.CodecContext.create("libx264", "w")
            encoder.options = {"bf": "0"}
            for film in (encoder, stream) if part == 0 else (encoder,):
                film.height, film.width, film.pix_fmt = *size, "yuv420p"
                film.time_base = Fraction(1, 25)
            for number in [*range(10 * part, 10 * part + 10), None]:
                frame = None if number is None else picture(number, *size)
                if frame is not None:
                    frame.pts = number
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, Fraction(1, 25)
                    output.mux(packet)


@pytest.mark.parametrize("size", [None, (48, 64)])
def test_a_size_that_changes_inside_the_frames_asked_for(tmp_path, size):
    path = tmp_path / "clip.ts"
    write_two_sizes(path)
    assert read(path, frames=10) == list(range(10)) and read(path, start=10) == list(range(10, 20))
    said = "changes from 64x48 to 128x96 pixels at frame 10, 0.40 s"
    with pytest.raises(VideoError, match=said):
        read_video(path, start=5, frames=10, size=size)


def test_animated_png(tmp_path, write):
    path = write("clip.apng", "apng", 12, pixels="rgb24", options={}, form="apng")
    assert read(path) == list(range(12)) and read(path, start=2, stride=4) == [2, 6, 10]
    renamed = path.rename(tmp_path / "clip.png")
    assert read(renamed) == list(range(12)) and read_video(renamed).container == "png"


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.ts"])
def test_a_clip_that_is_too_short_says_how_many_fit(write, name):
    path = write(name, "mpeg4", 24, rate=12)
    said = "has 24 frames, but frames=25 .* frames=24 would fit"
    with pytest.raises(TooShortError, match=said) as caught:
        read_video(path, frames=25)
    assert caught.value.fit == 24
    said = r"lasts 2.00 s .* at fps=8 need 2.50 s. frames=16 would fit, or fps=9.\d+"
    with pytest.raises(TooShortError, match=said) as caught:
        read_video(path, frames=20, fps=8)
    assert caught.value.fit == 16 == len(read_video(path, frames=16, fps=8).frames)
    faster = float(str(caught.value).rsplit("fps=", 1)[1].rstrip("."))
    assert len(read_video(path, frames=20, fps=faster).frames) == 20
    with pytest.raises(TooShortError, match=r"frames=16 would fit.$"):
        read_video(path, frames=25, fps=8)  # at no rate without taking frames twice


def test_a_rate_above_the_clip_s_own_takes_frames_twice_and_says_so(write):
    path = write("clip.mp4", "libx264", 8, rate=12)
    said = "has about 12 frames a second, so fps=24 takes some of them twice"
    with pytest.warns(UserWarning, match=said):
        assert read(path, fps=24) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]


@pytest.mark.parametrize(
    "options",
    [
        {"g": "8", "bf": "3"},
        {"x264-params": "open-gop=1:keyint=8:scenecut=0", "bf": "3"},
        {"x264-params": "intra-refresh=1:keyint=10"},
    ],
)
def test_seeking_gives_the_frames_that_decoding_from_the_start_gives(write, options):
    """Also where frames behind a key frame refer to frames before it."""
    assert seeks_exactly(write("clip.mkv", "libx264", options=options))


def test_times_rise(write):
    """Also in a clip whose frames are coded in another order."""
    for container in ("mp4", "mkv", "ts", "avi"):
        source = file_source(write(f"clip.{container}", "mpeg4", 20))
        steps = [b - a for a, b in pairwise(source.times)]
        assert source.times[0] == 0 and steps == pytest.approx([0.04] * 19, abs=1e-6)


def test_a_frame_is_freed_when_the_next_comes(write):
    """No frame waits for the garbage collector, which does not see how large it is."""
    source, alive = file_source(write("clip.mp4", "libx264", 60)), []
    gc.collect()
    gc.disable()
    try:
        for _ in source.decode(range(60)):
            alive.append(sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects()))
    finally:
        gc.enable()
    assert max(alive) < 30  # at the end come all frames of the decoder's threads, 16 at most


def test_many_threads_read_at_once(write):
    """In a process of its own, since threads that wait for each other would wait for ever."""
    kinds = {"a.mp4": "libx265", "b.webm": "libvpx-vp9", "c.mkv": "libx264"}
    files = [str(write(name, codec)) for name, codec in kinds.items()]
    code = f"""
from concurrent.futures import ThreadPoolExecutor
from ditflow.video import read_video
with ThreadPoolExecutor(4) as pool:
    read = pool.map(lambda path: len(read_video(path, frames=5).frames), {files} * 20)
assert sum(read) == 300
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=ROOT)


def test_a_key_frame_that_is_none_is_no_door(write):
    """An mp4 without a table of key frames claims that all are. Decoding then begins grey."""
    path = write("clip.mp4", "mpeg4", options={"bf": "0"})
    path.write_bytes(path.read_bytes().replace(b"stss", b"free"))
    assert seeks_exactly(path)


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_copied_cut_of_an_open_group_is_read(write, tmp_path, first):
    """The decoder reports errors for missing pictures, and gives the others whole."""
    options = {"x264-params": "open-gop=1:keyint=12:scenecut=0", "bf": "3"}
    whole = write("whole.mp4", "libx264", 60, options=options)
    with av.open(str(whole)) as container:
        keys = [packet.pts for packet in container.demux(video=0) if packet.is_keyframe]
        base = container.streams.video[0].time_base
    number = round(keys[first] * base * 25)
    cut(whole, tmp_path / "cut.mp4", number, number + 2)
    assert read(tmp_path / "cut.mp4") == list(range(number + 2, 60))


def test_joined_transport_streams(write, tmp_path):
    """Counters jump and time stamps overlap, but no frame is lost."""
    for codec in ("libx264", "mpeg2video"):
        parts = [
            write(f"{codec}{part}.ts", codec, 20, options={"bf": "2", "g": "10"})
            for part in range(2)
        ]
        (tmp_path / "joined.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
        assert read(tmp_path / "joined.ts") == [*range(20), *range(20)]


def test_a_transport_stream_that_begins_inside_a_group(write, tmp_path):
    """As recordings do. What comes before the first key frame cannot be shown."""
    whole = write("whole.ts", "libx264", 60, options={"bf": "0", "g": "15", "sc_threshold": "0"})
    data = whole.read_bytes()
    (tmp_path / "part.ts").write_bytes(data[188 * 20 :])
    found = read(tmp_path / "part.ts")
    assert found == list(range(found[0], 60)) and found[0] in (15, 30)


def test_an_avi_that_was_piped(write):
    """Its header does not state its length."""
    path = write("clip.avi", "mpeg4", options={"bf": "0"})
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff" * 4
    length = data.index(b"strh") + 8 + 32
    data[length : length + 4] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    assert read(path) == list(range(40))


def test_a_playlist_is_no_video(write, tmp_path):
    write("clip.ts", "libx264")
    (tmp_path / "clip.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\nclip.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(VideoError, match=r"clip.m3u8 is a playlist, not a video"):
        read_video(tmp_path / "clip.m3u8")


def test_the_hidden_picture_of_an_animated_png(tmp_path):
    hidden, *rest = (Image.fromarray(numbered(number)) for number in (63, 0, 1, 2))
    options = {"save_all": True, "default_image": True, "duration": 100}
    hidden.save(tmp_path / "clip.png", append_images=rest, **options)
    assert read(tmp_path / "clip.png") == [0, 1, 2]
