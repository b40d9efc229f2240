"""A picture in its two places: beside the latents, and in the place of their first frame."""

from __future__ import annotations

import torch

from ditflow.core.noise import NoiseLevel, separate
from ditflow.core.picture import Picture

LATENTS, OUTPUT = torch.randn(2, 2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
TEXT, TOKENS = torch.ones(1, 3, 7), torch.ones(1, 2, 7)
FIRST = torch.randn(1, 1, 4, 5, 6, generator=torch.Generator().manual_seed(1))
LEVEL = NoiseLevel(0.25, 0.75)


def test_beside_latents_it_leaves_them_as_they_are() -> None:
    picture = Picture.masked(LATENTS[:1] + 1, TOKENS, 2)
    latents, text, tokens = picture.joined(LATENTS, TEXT, 8)
    own, mask, beside = latents.split([4, 2, 4], dim=2)
    assert torch.equal(own, LATENTS) and torch.equal(beside, (LATENTS[:1] + 1).expand_as(beside))
    assert mask[:, 0].all() and not mask[:, 1:].any()
    assert torch.equal(text[:, :3], TEXT) and text.shape[1] == 8 and not text[:, 3:].any()
    assert torch.equal(tokens, TOKENS.expand(2, -1, -1))
    assert picture.led(OUTPUT, LATENTS, LEVEL, "flow") is OUTPUT
    assert picture.of_clip(LATENTS) is None


def test_in_the_place_of_the_first_frame_it_leaves_the_others() -> None:
    picture = Picture(first=FIRST)
    latents, text, tokens = picture.joined(LATENTS, TEXT, 8)
    assert torch.equal(latents[:, :1], FIRST.expand(2, -1, -1, -1, -1))
    assert torch.equal(latents[:, 1:], LATENTS[:, 1:])
    assert text is TEXT and tokens is None
    output = picture.led(OUTPUT, LATENTS, LEVEL, "flow")
    assert torch.equal(output[:, 1:], OUTPUT[:, 1:])
    clean, _ = separate(LATENTS, output, LEVEL, "flow")
    torch.testing.assert_close(clean[:, :1], FIRST.expand(2, -1, -1, -1, -1))
    assert torch.equal(picture.of_clip(LATENTS).first, LATENTS[:, :1])


def test_pictures_of_a_batch() -> None:
    for one in (Picture(first=FIRST), Picture.masked(LATENTS[:1], TOKENS, 2)):
        both = Picture.stacked([one, one])
        again = both.repeated(2)
        for part, two, four in zip(one, both, again, strict=True):
            if part is None:
                assert two is four is None
            else:
                assert torch.equal(two, torch.cat([part, part]))
                assert torch.equal(four, torch.cat([two, two]))
        assert all(x is y for x, y in zip(one.repeated(3), one, strict=True))
    assert Picture.stacked([None, None]) is Picture.stacked([]) is None
