"""Clips of the synthetic world for pretraining: as pixels for the embedded VAE, as latents for the
transformers, as stills for the embedded CLIP.
"""

# T frames, C channels, Y X pixel rows and columns, F latent frames, Hl Wl latent rows and columns
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, WeightedRandomSampler

from datamodules.synthetic import HELD_OUT, SPRITE_MOTIONS, SyntheticClip, World
from ditflow.core.sizes import TokenGrid

PATCH = 2  # latents on the side of a token of the embedded backbone


class SyntheticVideos(L.LightningDataModule):
    """Clips as {"video": (C, T, Y, X) in [-1, 1]}, cut to `frames` consecutive frames and a square
    of `crop` pixels.
    """

    def __init__(
        self, clips: int = 20_000, batch_size: int = 8, frames: int = 25, crop: int = 64
    ) -> None:
        super().__init__()
        self.clips, self.batch_size, self.frames, self.crop = clips, batch_size, frames, crop

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(
            _Videos(self.clips, self.frames, self.crop), batch_size=self.batch_size, shuffle=True
        )


class SyntheticLatents(L.LightningDataModule):
    """Clips as {"latents": scaled (F, C, Hl, Wl), "prompt": str, "landing": (F, F, S, 2), "seen":
    (F, F, S), "side": tokens on a side}.

    `landing` is where each token of a frame is in each other frame, in tokens, and `seen` whether
    it is in sight there. The latents of all clips are made once by the VAE in folder `vae` and kept
    in `cache`. `sprites` is the share of samples with a sprite, None as they come.
    """

    def __init__(
        self,
        vae: str = "runs/pretrain/vae",
        cache: str = "runs/pretrain/latents.safetensors",
        clips: int = 6_000,
        batch_size: int = 16,
        sprites: float | None = None,
    ) -> None:
        super().__init__()
        self.vae, self.cache, self.clips, self.batch_size, self.sprites = (
            vae,
            Path(cache),
            clips,
            batch_size,
            sprites,
        )

    def prepare_data(self) -> None:
        if not self.cache.exists():
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            partial = self.cache.with_suffix(".partial")
            save_file({"latents": encode_clips(self.vae, self.clips)}, partial)
            partial.rename(self.cache)

    def setup(self, stage: str) -> None:
        world = World()
        latents = load_file(self.cache)["latents"]
        self.samples = [
            {"latents": latents[i], "clip": world.clip(HELD_OUT + i)} for i in range(self.clips)
        ]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        sampler = (
            RandomSampler(self.samples)
            if self.sprites is None
            else WeightedRandomSampler(self._weights(self.sprites), self.clips)
        )
        return DataLoader(
            self.samples,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=True,
            collate_fn=_collate,
        )  # type: ignore[arg-type]

    def _weights(self, sprites: float) -> list[float]:
        moving = [sample["clip"].motion in SPRITE_MOTIONS for sample in self.samples]
        share = sum(moving) / len(moving)
        return [sprites / share if one else (1 - sprites) / (1 - share) for one in moving]


class SyntheticStills(L.LightningDataModule):
    """Stills as {"image": uint8 (C, Y, X), "prompt": its index in `World().prompts()`}, `stills` of
    each clip, half of the clips with a sprite.

    They are made once and kept in `cache`; each is shown mirrored, turned and blurred at random,
    which changes no prompt.
    """

    def __init__(
        self,
        cache: str = "runs/pretrain/stills.safetensors",
        clips: int = 4_000,
        stills: int = 4,
        batch_size: int = 128,
    ) -> None:
        super().__init__()
        self.cache, self.clips, self.stills, self.batch_size = (
            Path(cache),
            clips,
            stills,
            batch_size,
        )

    def prepare_data(self) -> None:
        if not self.cache.exists():
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            partial = self.cache.with_suffix(".partial")
            save_file(world_stills(range(HELD_OUT, HELD_OUT + self.clips), self.stills), partial)
            partial.rename(self.cache)

    def setup(self, stage: str) -> None:
        tensors = load_file(self.cache)
        self.samples = [
            {"image": image, "prompt": prompt}
            for image, prompt in zip(tensors["image"], tensors["prompt"], strict=True)
        ]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(
            self.samples,
            batch_size=self.batch_size,
            shuffle=True,
            drop_last=True,
            collate_fn=_varied,
        )  # type: ignore[arg-type]


def world_stills(seeds: range, stills: int) -> dict[str, Tensor]:
    """Stills spread over the clips of `seeds`: "image" uint8 (clips * stills, C, Y, X) and the
    index of its "prompt" in `World().prompts()`.
    """
    world, images, prompts = World(), [], []
    index = {prompt: number for number, prompt in enumerate(world.prompts())}
    for seed in seeds:
        clip = world.clip(
            seed, motion=SPRITE_MOTIONS[seed % len(SPRITE_MOTIONS)] if seed % 2 else None
        )
        images.append(_excerpt(clip, torch.linspace(0, clip.size.frames - 1, stills).long()).frames)
        prompts += [index[clip.prompt]] * stills
    return {"image": torch.cat(images), "prompt": torch.tensor(prompts)}


def _excerpt(clip: SyntheticClip, frames: Tensor) -> SyntheticClip:
    """A clip of some of another's frames (n): nothing else is drawn."""
    layers = tuple(
        replace(layer, matrix=layer.matrix[frames], offset=layer.offset[frames])
        for layer in clip.layers
    )
    return replace(clip, size=replace(clip.size, frames=len(frames)), layers=layers)


def _varied(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    images = torch.stack([sample["image"] for sample in samples]).float()
    if torch.rand(()) < 0.5:
        images = images.flip(-1)
    if torch.rand(()) < 0.5:  # what a small backbone draws is not as sharp as the world
        soft = torch.nn.functional.interpolate(images, scale_factor=0.5, mode="area")
        images = torch.nn.functional.interpolate(soft, size=images.shape[-2:], mode="bilinear")
    images = torch.rot90(images, int(torch.randint(4, ())), (-2, -1))
    return {"image": images, "prompt": torch.stack([sample["prompt"] for sample in samples])}


class _Videos(Dataset[dict[str, Tensor]]):
    def __init__(self, clips: int, frames: int, crop: int) -> None:
        self.clips, self.frames, self.crop, self.world = clips, frames, crop, World()

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        video = self.world.clip(HELD_OUT + index).frames
        for dim, kept in ((0, self.frames), (2, self.crop), (3, self.crop)):
            video = video.narrow(dim, int(torch.randint(video.shape[dim] - kept + 1, ())), kept)
        return {"video": video.transpose(0, 1) / 127.5 - 1}


@torch.no_grad()
def encode_clips(vae: str, clips: int, batch_size: int = 16) -> Tensor:
    """Scaled latents (clips, F, C, Hl, Wl) in half precision of the training clips."""
    from diffusers import AutoencoderKLCogVideoX

    model = AutoencoderKLCogVideoX.from_pretrained(vae).eval()
    world, parts = World(), []
    for start in range(0, clips, batch_size):
        videos = [
            world.clip(HELD_OUT + i).frames.transpose(0, 1) / 127.5 - 1
            for i in range(start, min(clips, start + batch_size))
        ]
        latents = model.encode(torch.stack(videos)).latent_dist.mode() * model.config.scaling_factor
        parts.append(latents.transpose(1, 2).half())
        print(f"\rencoded {start + len(videos)} of {clips} clips", end="", flush=True)
    return torch.cat(parts)


def token_landing(clip: SyntheticClip, frames: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Where the tokens of each latent frame are in each other, (F, F, S, 2) as (x, y) in tokens,
    and whether they are in sight there, (F, F, S).
    """
    side = clip.size.height / tokens
    times = torch.tensor([max(0, 4 * frame - 2) for frame in range(frames)])
    moved, seen = clip.advance(
        times[:, None],
        times,
        (TokenGrid(frames, tokens, tokens).coordinates("cpu") + 0.5) * side - 0.5,
    )
    return (moved + 0.5) / side - 0.5, seen


def _collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    latents, clips = (
        torch.stack([sample["latents"] for sample in samples]).float(),
        [sample["clip"] for sample in samples],
    )
    landing, seen = zip(
        *(token_landing(clip, latents.shape[1], latents.shape[-1] // PATCH) for clip in clips),
        strict=True,
    )
    return {
        "latents": latents,
        "prompt": [clip.prompt for clip in clips],
        "landing": torch.stack(landing),
        "seen": torch.stack(seen),
        "side": latents.shape[-1] // PATCH,
    }
