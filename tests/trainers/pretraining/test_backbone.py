"""What the embedded backbones are trained on and with: a text encoder that tells the order of
words, and clips with as many sprites as asked for.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from datamodules.pretraining import SyntheticLatents
from datamodules.synthetic import HELD_OUT, SPRITE_MOTIONS, World
from ditflow.models import load_backbone
from trainers.pretraining.tiny import TEXT_TOKENS, tiny_text_encoder

PROMPT, SWAPPED = "a red disc over blue clouds", "a blue disc over red clouds"


def word(prompt: str, colour: str) -> Tensor:
    """What the text encoder makes of one word of a prompt."""
    tokenizer, encoder = tiny_text_encoder()
    tokens = tokenizer(
        prompt, padding="max_length", max_length=TEXT_TOKENS, return_tensors="pt"
    ).input_ids
    return encoder(tokens).last_hidden_state[
        0, tokenizer.convert_ids_to_tokens(tokens[0]).index("▁" + colour)
    ]


@pytest.mark.parametrize("colour", ["red", "blue"])
def test_a_colour_of_the_sprite_is_not_the_same_word_as_a_colour_of_the_clouds(colour: str) -> None:
    """Text tokens have no position in the transformer: whose colour it is can only be told by what
    the encoder makes of its neighbours.
    """
    assert functional.cosine_similarity(word(PROMPT, colour), word(SWAPPED, colour), dim=0) < 0.9
    assert torch.equal(word(PROMPT, colour), word(PROMPT, colour))


@pytest.mark.parametrize("name", ["tiny-rope", "tiny-sincos"])
def test_the_backbones_that_ship_have_that_encoder(name: str) -> None:
    embedded = load_backbone(name).embed([PROMPT, SWAPPED])
    tokenizer, encoder = tiny_text_encoder()
    tokens = tokenizer(
        [PROMPT, SWAPPED], padding="max_length", max_length=TEXT_TOKENS, return_tensors="pt"
    ).input_ids
    torch.testing.assert_close(
        embedded, encoder(tokens).last_hidden_state, rtol=0, atol=2e-2
    )  # half precision


@pytest.mark.parametrize(("asked", "share"), [(0.5, 0.5), (0.9, 0.9), (None, None)])
def test_sprites_come_as_often_as_asked_for(asked: float | None, share: float | None) -> None:
    torch.manual_seed(0)
    data = SyntheticLatents(clips=400, batch_size=8, sprites=asked)
    data.samples = [
        {"latents": torch.zeros(7, 8, 16, 16), "clip": World().clip(HELD_OUT + i)}
        for i in range(data.clips)
    ]
    own = sum(sample["clip"].motion in SPRITE_MOTIONS for sample in data.samples) / data.clips
    drawn = [
        data.samples[i]["clip"].motion in SPRITE_MOTIONS for i in data.train_dataloader().sampler
    ]
    assert len(drawn) == data.clips and sum(drawn) / len(drawn) == pytest.approx(
        own if share is None else share, abs=0.06 if share else 0
    )
