"""Open a video file with FFmpeg's libraries (PyAV), and the errors for those that are no good."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ditflow.video.source import VideoError

MAX_PIXELS = 1 << 26  # of a frame: 8192 x 8192
PLAYLISTS = {"hls", "dash", "concat", "concatf", "imf", "sdp"}  # formats that name other files
REPAIR = "To keep what can still be shown, run: ffmpeg -i FILE -c:v libx264 REPAIRED.mp4"


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container of a file, and its first video stream. A cover picture does not count.

    No other file is read, even if this one names it. Raises VideoError.
    """
    import av
    from av.stream import Disposition

    name = str(path.resolve())  # absolute: "concat:a|b" is never taken for a protocol
    try:
        container = av.open(name, options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OverflowError) as error:
        raise no_video(path) from error
    with container:
        if container.format.name in PLAYLISTS:
            raise VideoError(f"{path} is a playlist, not a video. Name the video that it lists.")
        cover = Disposition.attached_pic
        streams = [film for film in container.streams.video if not film.disposition & cover]
        if not streams:
            raise VideoError(f"{path} holds no video. Give a file with a video stream.")
        _check_claims(path, container.format.name, streams[0])
        yield container, streams[0]


def no_video(path: Path, why: str = "") -> VideoError:
    """The error for a file that FFmpeg cannot open as a video."""
    reason = f": {why}" if why else ""
    return VideoError(f"{path} is not a video that can be decoded, or it was cut off{reason}.")


def damaged(path: Path, what: str) -> VideoError:
    """The error for a file that is damaged; `what` says how and where."""
    return VideoError(f"{path} is damaged or was cut off: {what}. {REPAIR}")


def _check_claims(path: Path, name: str, stream: Any) -> None:
    """Raise VideoError for absurd numbers in the header, before memory is allocated for them."""
    if stream.codec_context is None:
        raise no_video(path, "its codec is unknown")
    frames, pixels = stream.frames, stream.width * stream.height
    many = frames > path.stat().st_size and name != "avi"  # which claims 2^30 where it was piped
    if many or not 0 < pixels <= MAX_PIXELS:
        claims = f"its header claims {frames} frames of {pixels} pixels"
        raise VideoError(f"{path} is damaged: {claims}. Copy or download it again.")
