"""What every model that makes a picture move is shown of it."""

from __future__ import annotations

import pytest
import torch

from ditflow.models import ModelError, load_backbone
from tests.registry import (
    PICTURED,
    WAN,
    frames_of,
    picture_for,
    size_of,
    tiny_backbone,
    tiny_folder,
)
from tests.tapped import latents_of

TI2V = ("wan22-5b", "wan22-5b-i2v")  # which may be shown a picture


@pytest.mark.parametrize("kind", [*PICTURED, "wan22-5b"])
def test_what_is_shown_of_a_picture(kind: str) -> None:
    """It is of the picture alone: known in the first frame, and grey or nothing after it. CogVideoX
    1.5 is shown it in the scale that it was trained with by mistake.
    """
    backbone, image = tiny_backbone(kind), frames_of(1)[0, :1]
    frames = size_of(backbone).frames
    picture, first = backbone.look(image, frames), backbone.encode(image[None])
    if picture.first is not None:
        assert picture.latents is None and kind in TI2V
        latents = picture.first
    elif kind in WAN:
        mask, latents = picture.latents.split([4, 4], dim=2)
        assert (mask[:, 0] == 1).all() and not mask[:, 1:].any()
    else:
        latents = picture.latents
        assert not latents[:, 1:].any()
        factor = backbone.encoders._load_vae().config.scaling_factor
        first = first / factor**2 if kind == "cogvideox15-i2v" else first
    torch.testing.assert_close(latents[:, :1], first)
    if kind in WAN:  # a causal VAE knows nothing of later frames in the first
        torch.testing.assert_close(latents[:, :1], backbone.encode(frames_of(1))[:, :1])
    blank = backbone.blank(latents_of(backbone, 1))
    for one, none in zip(picture[::2], blank[::2], strict=True):
        assert one is none is None or (one.shape == none.shape and not none.any())
    assert (picture.tokens is None) == (blank.tokens is None) == (kind != "wan-i2v")
    assert picture.tokens is None or picture.tokens.shape == (1, 5, 24)
    two = backbone.look(torch.cat([image, 255 - image]), frames)
    for one, both in zip(picture, two, strict=True):
        if one is not None:
            torch.testing.assert_close(both[:1], one)
            assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize("kind", ["rotary", "wan"])
def test_a_model_of_text_looks_at_no_picture(kind: str) -> None:
    backbone = tiny_backbone(kind)
    assert backbone.look(frames_of(1)[0, :1], 9) is None
    assert backbone.blank(latents_of(backbone, 1)) is None


@pytest.mark.parametrize("kind", PICTURED)
def test_a_picture_is_seen_and_has_no_gradient_of_its_own(kind: str) -> None:
    """Optimised latents are those of the video; all parts of the picture change the output."""
    backbone = load_backbone(str(tiny_folder(kind)), device="cpu")
    latents = latents_of(backbone).requires_grad_()
    picture, text = picture_for(backbone, latents), torch.randn(1, 16, 32)
    own = backbone.predict(latents, 500, text, picture=picture)
    assert own.shape == latents.shape
    (gradient,) = torch.autograd.grad(own.square().sum(), latents)
    moved = gradient.abs().flatten(2).sum(2).gt(0)
    assert moved[:, 1:].all() and (moved[:, 0] == (picture.first is None)).all()
    for part in (name for name, value in picture._asdict().items() if value is not None):
        other = picture._replace(**{part: -getattr(picture, part)})
        assert not torch.allclose(backbone.predict(latents, 500, text, picture=other), own)
    if kind not in TI2V:
        with pytest.raises(ModelError, match="makes a picture move, and none was given"):
            backbone.predict(latents, 500, text)
    with pytest.raises(ModelError, match="takes no picture, and one was given"):
        tiny_backbone("wan").predict(latents, 500, text, picture=picture)
