"""The comment of a video file: any text comes back, and a file without one is as it always was."""

from __future__ import annotations

import io

import av
import pytest
import torch

from ditflow.video import VideoError, encode_video, read_comment, read_video

FRAMES = torch.arange(3 * 3 * 16 * 32, dtype=torch.int32).view(3, 3, 16, 32).to(torch.uint8)


def mdat(content: bytes) -> bytes:
    """The coded pictures of an mp4 file, whose boxes have their length before their name."""
    boxes, place = {}, 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        boxes[content[place + 4 : place + 8]] = content[place + 8 : place + length]
        place += length
    return boxes[b"mdat"]


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "Grüße 😀 \"a\" 'b' \\ = ; #",
        "line\nline\r\n\tend",
        " around ",
        "x" * 300_000,
        "\x7f\u2028",
    ],
)
def test_text_comes_back(tmp_path, text):
    (tmp_path / "one.mp4").write_bytes(encode_video(FRAMES, 8, comment=text))
    assert read_comment(tmp_path / "one.mp4") == text


def test_without_a_comment_the_file_has_no_metadata_and_the_pictures_are_the_same(tmp_path):
    plain, told = encode_video(FRAMES, 8), encode_video(FRAMES, 8, comment="a")
    assert plain == encode_video(FRAMES, 8, comment="")
    assert mdat(plain) == mdat(told) and b"cmt" in told and b"cmt" not in plain
    (tmp_path / "plain.mp4").write_bytes(plain)
    assert read_comment(tmp_path / "plain.mp4") == ""


def test_a_comment_outlives_another_container(tmp_path):
    """Matroska writes the names of its tags in capitals."""
    source = io.BytesIO(encode_video(FRAMES, 8, comment="a"))
    with av.open(source) as old, av.open(str(tmp_path / "copy.mkv"), "w") as new:
        new.metadata.update({"comment": old.metadata["comment"]})
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert read_comment(tmp_path / "copy.mkv") == "a"


def test_text_in_another_encoding_does_not_make_a_clip_unreadable(tmp_path):
    told = encode_video(FRAMES, 8, comment="é" * 8)
    (tmp_path / "old.mp4").write_bytes(told.replace("é".encode() * 8, b"\xe9" * 16))
    assert len(read_video(tmp_path / "old.mp4").frames) == 3
    assert set(read_comment(tmp_path / "old.mp4")) == {"\ufffd"}


def test_what_is_no_video(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    for name, sentence in (("no.mp4", "is not a video"), ("absent.mp4", "There is no file")):
        with pytest.raises(VideoError, match=sentence):
            read_comment(tmp_path / name)
