"""The embedded CLIP is an ordinary one, knows its world, and nothing but safetensors is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import CLIPModel, CLIPProcessor

from datamodules.synthetic import (
    PALETTES,
    SPRITE_MOTIONS,
    SyntheticClip,
    World,
    background_prompt,
    obeys,
)
from ditflow.metrics import (
    ClipModel,
    MetricError,
    appearance_leakage,
    load_clip,
    prompt_fidelity,
    temporal_consistency,
)
from ditflow.resources import shipped

WORLD = World()
FOLDER = shipped("checkpoints", "tiny-clip")
BACKGROUNDS = [background_prompt(palette) for palette in PALETTES]


@pytest.fixture(scope="module")
def clip() -> ClipModel:
    return load_clip("tiny-clip")


def test_it_ships_and_is_small() -> None:
    assert FOLDER is not None
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) < 8e6


def test_stock_transformers_gives_the_same(clip: ClipModel) -> None:
    """By the processor and the forward pass of the library's own page."""
    model, processor = CLIPModel.from_pretrained(FOLDER), CLIPProcessor.from_pretrained(FOLDER)
    frames, prompts = WORLD.clip(0).frames[:3], ["red clouds", "a blue disc over green clouds"]
    inputs = processor(
        text=prompts,
        images=list(frames.permute(0, 2, 3, 1).numpy()),
        return_tensors="pt",
        padding=True,
    )
    with torch.no_grad():
        logits = model(**inputs).logits_per_image
    cosines = clip.images(frames) @ clip.texts(prompts).mT
    torch.testing.assert_close(
        cosines * model.logit_scale.detach().exp(), logits, rtol=0, atol=1e-3
    )


def test_every_word_of_the_world_is_one_token(clip: ClipModel) -> None:
    for word in {word for prompt in WORLD.prompts() for word in prompt.split()}:
        assert len(clip.tokenizer.tokenize(word)) == 1
    assert (
        clip.tokenizer.unk_token_id not in clip.tokenizer("a xylophone, 3 ünits!").input_ids[1:-1]
    )  # other words are spelt


def test_embeddings_have_length_1_whatever_the_size_and_the_padding(clip: ClipModel) -> None:
    large = torch.nn.functional.interpolate(
        WORLD.clip(0).frames[:2].float(), size=(128, 192), mode="nearest"
    ).to(torch.uint8)
    torch.testing.assert_close(clip.images(large).norm(dim=-1), torch.ones(2))
    alone, together = (
        clip.texts(["red clouds"])[0],
        clip.texts(["red clouds", "a blue disc over green clouds " * 9])[0],
    )
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)


def test_it_knows_the_clouds_of_held_out_clips(clip: ClipModel) -> None:
    """Which of eight colours the clouds have, where chance is 1 in 8."""
    texts = clip.texts(BACKGROUNDS)
    clips = [WORLD.clip(seed, "pan") for seed in range(24)]
    right = [
        BACKGROUNDS[int((clip.images(c.frames[::8]) @ texts.mT).mean(0).argmax())] == c.prompt
        for c in clips
    ]
    assert sum(right) >= 20


def test_it_knows_sprites_of_held_out_clips(clip: ClipModel) -> None:
    """The right one of 192 prompts is among the best 10 for most clips; chance is 1 in 19."""
    prompts = WORLD.prompts()[len(PALETTES) :]
    texts = clip.texts(prompts)
    clips = [WORLD.clip(seed, SPRITE_MOTIONS[seed % 3]) for seed in range(24)]
    found = [
        prompts.index(c.prompt) in (clip.images(c.frames[::8]) @ texts.mT).mean(0).topk(10).indices
        for c in clips
    ]
    assert sum(found) >= 15


def first_clip(start: int, prompt: str) -> SyntheticClip:
    """The first clip from a seed on that has this prompt and shows it."""
    clips = map(WORLD.clip, range(start, 400))
    return next(c for c in clips if c.prompt == prompt and obeys(c.frames, prompt))


def test_metrics_see_what_they_are_for(clip: ClipModel) -> None:
    red, same = first_clip(0, "red clouds"), first_clip(200, "red clouds")
    other = first_clip(0, "cyan clouds")
    assert red.name != same.name
    assert (
        prompt_fidelity(clip, red.frames, "red clouds")
        > prompt_fidelity(clip, red.frames, "cyan clouds") + 0.2
    )
    assert (
        appearance_leakage(clip, red.frames, same.frames)
        > appearance_leakage(clip, red.frames, other.frames) + 0.2
    )
    # changes its colour in every frame
    mixed = torch.stack([red.frames, other.frames], 1).flatten(0, 1)
    assert temporal_consistency(clip, red.frames) > temporal_consistency(clip, mixed) + 0.2


@pytest.mark.parametrize("damage", ["no config", "pickled weights", "cut weights", "no tokenizer"])
def test_a_folder_that_is_no_clip(damage: str, tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "clip")
    weights = folder / "model.safetensors"
    match damage:
        case "no config":
            (folder / "config.json").unlink()
        case "pickled weights":
            torch.save(CLIPModel.from_pretrained(FOLDER).state_dict(), folder / "pytorch_model.bin")
            weights.unlink()
        case "cut weights":
            weights.write_bytes(weights.read_bytes()[:5000])
        case "no tokenizer":
            (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    sentence = (
        "it has no config.json"
        if damage == "no config"
        else r"there is no CLIP .* to be used \(\w+\).*safetensors.*--revision refs/pr/"
    )
    with pytest.raises(MetricError, match=sentence):
        load_clip(str(folder))


def test_images_are_embedded_once(clip: ClipModel) -> None:
    frames = WORLD.clip(7).frames[:2]
    assert clip.images(frames) is clip.images(frames.clone())
