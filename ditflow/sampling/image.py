"""The picture that a video begins with: who takes one, and what the model is shown of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ditflow.core.given import check_kind
from ditflow.core.picture import Picture
from ditflow.core.sizes import VideoSize
from ditflow.models.base import Model, ModelError, ModelSpec

if TYPE_CHECKING:
    from ditflow.video import Image


def shown(model: Model, image: Image | None, size: VideoSize) -> Picture | None:
    """What the model is shown of an image at the size of the video."""
    if image is None:
        return None
    return model.look(image.fitted(size.height, size.width)[None], size.frames)


def check_given(function: str, spec: ModelSpec, image: object) -> None:
    """As `check_image`, of what a function was given. Raises ValueError for what is no image."""
    from ditflow.video import Image

    if image is not None:
        check_kind(function, image, Image, "an Image, as read_image gives one")
    check_image(spec, image is not None, "image=read_image('picture.png')")


def check_image(spec: ModelSpec, given: bool, fix: str, whose: str = "the video") -> None:
    """Raise ModelError for a picture where the model takes none, and for none where it needs one.

    `fix` says how one is given.
    """
    if given and spec.picture == "none":
        raise ModelError(
            f"{spec.name!r} makes videos from text alone here, and {whose} has a picture to begin "
            "with: leave it out, or use an image-to-video model."
        )
    if spec.picture == "required" and not given:
        raise ModelError(
            f"{spec.name!r} makes a picture move, and {whose} has none to begin with: give one by "
            f"{fix}."
        )
