"""Clips of the synthetic world for pretraining the embedded backbone: as pixels for its VAE, as latents for its transformer."""

# T frames, C channels, Y X pixel rows and columns, F latent frames, Hl Wl latent rows and columns
from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.synthetic import HELD_OUT, World


class SyntheticVideos(L.LightningDataModule):
    """Clips as {"video": (C, T, Y, X) in [-1, 1]}, cut to `frames` consecutive frames and a square of `crop` pixels."""

    def __init__(self, clips: int = 20_000, batch_size: int = 8, frames: int = 25, crop: int = 64) -> None:
        super().__init__()
        self.clips, self.batch_size, self.frames, self.crop = clips, batch_size, frames, crop

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(_Videos(self.clips, self.frames, self.crop), batch_size=self.batch_size, shuffle=True)


class SyntheticLatents(L.LightningDataModule):
    """Clips as {"latents": scaled (F, C, Hl, Wl), "prompt": str}; the latents of all clips are made once by the VAE in folder `vae` and kept in `cache`."""

    def __init__(self, vae: str = "runs/pretrain/vae", cache: str = "runs/pretrain/latents.safetensors", clips: int = 6_000, batch_size: int = 16) -> None:
        super().__init__()
        self.vae, self.cache, self.clips, self.batch_size = vae, Path(cache), clips, batch_size

    def prepare_data(self) -> None:
        if not self.cache.exists():
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            partial = self.cache.with_suffix(".partial")
            save_file({"latents": encode_clips(self.vae, self.clips)}, partial)
            partial.rename(self.cache)

    def setup(self, stage: str) -> None:
        world = World()
        latents = load_file(self.cache)["latents"]
        self.samples = [{"latents": latents[i], "prompt": world.clip(HELD_OUT + i).prompt} for i in range(self.clips)]

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(self.samples, batch_size=self.batch_size, shuffle=True, drop_last=True, collate_fn=_collate)  # type: ignore[arg-type]


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
        videos = [world.clip(HELD_OUT + i).frames.transpose(0, 1) / 127.5 - 1 for i in range(start, min(clips, start + batch_size))]
        latents = model.encode(torch.stack(videos)).latent_dist.mode() * model.config.scaling_factor
        parts.append(latents.transpose(1, 2).half())
        print(f"\rencoded {start + len(videos)} of {clips} clips", end="", flush=True)
    return torch.cat(parts)


def _collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"latents": torch.stack([s["latents"] for s in samples]).float(), "prompt": [s["prompt"] for s in samples]}
