"""Reading clips and writing mp4 files. Read `clip.py` first.

`clip.py` reads a clip, and `selection.py` chooses its frames. For a video file, `packets.py` finds
when each frame is shown, and `decoding.py` decodes the pictures. `container.py`, `whole.py` and
`matroska.py` check the container. `pictures.py` reads animations and folders of pictures, and
`image.py` the picture that a video is to begin with, or a mask. `encoding.py` writes mp4 files, and
`comment.py` reads the text that one may carry. No other part of the project decodes or encodes
video.
"""

from ditflow.video.clip import READER, Clip, TooShortError, read_video, video_length, video_sha256
from ditflow.video.comment import read_comment
from ditflow.video.encoding import encode_video, write_video
from ditflow.video.image import Image, Mask, read_image, read_mask
from ditflow.video.source import VideoError

__all__ = [
    "READER",
    "Clip",
    "Image",
    "Mask",
    "TooShortError",
    "VideoError",
    "encode_video",
    "read_comment",
    "read_image",
    "read_mask",
    "read_video",
    "video_length",
    "video_sha256",
    "write_video",
]
