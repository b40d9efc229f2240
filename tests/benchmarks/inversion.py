"""What inverting a reference is good for: masks of a sprite's words, MotionFlow with them, and the
noise that the clip comes from.

`masks` says where the attention to a sprite's words is, by block: the share of pairs of a token in
the sprite and one outside of it in which the former has more (.5 is chance), the part of the tokens
that the mask covers, and its overlap with the sprite, intersection over union. `clean`, `inverted`
and `exact` make videos by MotionFlow of clips with a sprite, with the prompt that changes it: by
how the reference is looked at, or with exact masks. `noise` makes videos that begin at the inverted
noise, and does nothing else; clips, prompts and names are those of `instant.py`.

python -m tests.benchmarks.inversion tiny-wan masks
"""

# B batch, T frames, F latent frames, S tokens per frame, Y X pixel rows and columns

from __future__ import annotations

import argparse
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.benchmark import prompts_of
from datamodules.synthetic import SPRITE_MOTIONS, SyntheticClip, World
from ditflow.metrics.clip import load_clip
from ditflow.models import Model, load_backbone
from ditflow.models.presets import recommended
from ditflow.motion import MotionFlow
from ditflow.motion.motionflow import cross_attention, subject_masks
from ditflow.sampling.control import NOTHING, Control, Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.inversion import inverted
from ditflow.sampling.loop import sample
from ditflow.sampling.optimise import motion_control
from ditflow.sampling.reference import reference_motion, words_of
from ditflow.sampling.state import State, start
from tests.benchmarks.embedded_backbone import other_prompt
from tests.benchmarks.instant_judged import judged
from tests.benchmarks.instant_table import table

SPRITES = [(seed, motion) for seed in (0, 1) for motion in SPRITE_MOTIONS]
BATCH = 8


def sprite_share(clip: SyntheticClip, rows: int) -> Tensor:
    """How much of each token the sprite covers: (F, S)."""
    shares = []
    for first in range(-3, clip.size.frames, 4):  # the first latent frame is one frame
        times = range(max(first, 0), first + 4)
        seen = torch.stack([clip.front(time, clip._pixels()[0]) for time in times])
        pooled = functional.avg_pool2d(seen.float().mean(0)[None], clip.size.height // rows)
        shares.append(pooled.flatten())
    return torch.stack(shares)


@torch.no_grad()
def masks(model: Model, clips: list[SyntheticClip], threshold: float) -> None:
    latents = model.encode(torch.stack([clip.frames for clip in clips]))
    grid = model.spec.compression.grid_of(latents)
    share = torch.stack([sprite_share(clip, grid.height) for clip in clips])
    inside, outside = share > 0.5, share < 0.1
    captions = [clip.prompt for clip in clips]
    words = model.words(captions, [_sprite(caption) for caption in captions])
    for block in range(model.spec.blocks):
        with model.tapped((block,), (), (block,), stop_early=True) as recording:
            model.predict(latents, 0, model.embed(captions))
        attention = cross_attention(
            recording.text_query[block], recording.text_key[block], grid, words
        )
        mask = subject_masks(attention, threshold) > 0
        overlap = (mask & inside).sum() / (mask | inside).sum()
        frames = (part.flatten(0, 1) for part in (attention, inside, outside))
        chosen = zip(*frames, strict=True)
        higher = torch.stack([(a[i, None] > a[None, o]).float().mean() for a, i, o in chosen])
        print(
            f"block {block}: more in the sprite {higher.nanmean():.2f}, mask covers "
            f"{mask.float().mean():.2f}, overlap {overlap:.2f}, lowest of highest "
            f"{(attention.amin(-1) / attention.amax(-1)).mean():.2f}"
        )


def motionflow(model: Model, clips: list[SyntheticClip], look: str) -> tuple[list[str], Tensor]:
    """Prompts, and videos that follow the clips."""
    advice, prompts = recommended(model.spec), [prompts_of(clip)["subject"] for clip in clips]
    told: Any = [
        SimpleNamespace(
            prompt=prompt,
            caption=clip.prompt,
            subject=_sprite(prompt),
            caption_subject=_sprite(clip.prompt),
        )
        for clip, prompt in zip(clips, prompts, strict=True)
    ]
    signal = MotionFlow(advice.block, reference_timestep="inverted" if look == "inverted" else None)
    rates = advice.learning_rate("latents", "adam")
    guidance = MotionGuidance(signal, "latents", advice.window, rates)
    names = [clip.name for clip in clips]
    state = guidance.start(model, model.spec.size, names, [0] * len(clips))
    latents, captions = _seen(model, clips)
    told_of: Any = {"noise": state.noise, "words": words_of(model, signal, told)}
    reference = reference_motion(model, signal, latents, captions, names, **told_of)
    if look == "exact":
        rows = model.spec.compression.grid_of(latents).height
        exact = torch.stack([sprite_share(clip, rows) for clip in clips]) > 0.5
        reference = replace(reference, motion=reference.motion._replace(masks=exact.float()))
    schedule = model.schedule(advice.steps, advice.guidance_scale)
    control = motion_control(model, guidance, schedule, reference)
    return prompts, _videos(model, prompts, state, control)


def noise(model: Model, clips: list[SyntheticClip]) -> tuple[list[str], Tensor]:
    """Prompts that do not name the clips' colours, and videos from the clips' noise."""
    advice, prompts = recommended(model.spec), [other_prompt(World(), clip, 1) for clip in clips]
    schedule = model.schedule(advice.steps, advice.guidance_scale)
    *_, (_, begun) = inverted(model, schedule, *_seen(model, clips))
    state = start(model, model.spec.size, [f"{clip.name} new" for clip in clips], [7] * len(clips))
    return prompts, _videos(model, prompts, replace(state, latents=begun, noise=begun))


def _seen(model: Model, clips: list[SyntheticClip]) -> tuple[Tensor, Tensor]:
    latents = model.encode(torch.stack([clip.frames for clip in clips]))
    return latents, model.embed([clip.prompt for clip in clips])


def _sprite(prompt: str) -> str:
    return " ".join(prompt.split()[1:3])


@torch.no_grad()
def _videos(model: Model, prompts: list[str], state: State, control: Control = NOTHING) -> Tensor:
    """uint8 (B, T, C, Y, X)."""
    advice = recommended(model.spec)
    schedule = model.schedule(advice.steps, advice.guidance_scale)
    prompt = Prompt(model.embed(prompts), model.embed([""]).expand(len(prompts), -1, -1))
    return model.decode(sample(model, schedule, prompt, state, control).latents)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    parser.add_argument("part", choices=["masks", "clean", "inverted", "exact", "noise"])
    parser.add_argument("--clips", type=int, default=24, help="of noise")
    parser.add_argument("--threshold", type=float, default=0.4, help="of masks")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, world, look = load_backbone(options.backbone, dtype="float32"), World(), load_clip()
    clips = [world.clip(*sprite) for sprite in SPRITES]
    if options.part == "masks":
        return masks(model, clips, options.threshold)
    if options.part == "noise":
        clips = [world.clip(seed) for seed in range(options.clips)]
    rows: list[dict[str, Any]] = []
    for first in range(0, len(clips), BATCH):
        part = clips[first : first + BATCH]
        made = (
            noise(model, part) if options.part == "noise" else motionflow(model, part, options.part)
        )
        for clip, prompt, frames in zip(part, *made, strict=True):
            told = {"clip": clip.name, "kind": clip.motion, "number": 1, "seed": 0}
            rows.append(told | judged(clip, prompt, frames, look))
    print(table({options.part: rows}))


if __name__ == "__main__":
    main()
