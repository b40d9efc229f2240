"""Clips in, mp4 files out: the one place where video is decoded and encoded. Read `clip.py` first.

`clip.py` reads a clip and `selection.py` chooses its frames. `decoding.py` knows video files, with
`whole.py` for their containers; `pictures.py` knows animations and folders of pictures.
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
