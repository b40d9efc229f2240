"""Clips in, mp4 files out: the one place where video is decoded and encoded. Read `clip.py` first.

`clip.py` reads a clip and `selection.py` chooses its frames. `packets.py` finds out when the frames
of a video file are shown, and `decoding.py` gives their pictures; `container.py`, `whole.py` and
`matroska.py` know what they lie in. `pictures.py` knows animations and folders of pictures.
`encoding.py` writes mp4 files.
"""

from ditflow.video.clip import READER, Clip, TooShortError, read_video, video_length, video_sha256
from ditflow.video.encoding import encode_video, write_video
from ditflow.video.source import VideoError

__all__ = [
    "READER",
    "Clip",
    "TooShortError",
    "VideoError",
    "encode_video",
    "read_video",
    "video_length",
    "video_sha256",
    "write_video",
]
