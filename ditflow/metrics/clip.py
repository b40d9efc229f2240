"""CLIP by name: the embedded one, which knows the synthetic world only, a local folder, or a hub
id; always the stock class with safetensors weights.
"""

# T frames, C colours, Y X pixel rows and columns, E embedding
from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.metrics.base import Memory, MetricError
from ditflow.quiet import no_progress_bars
from ditflow.resources import shipped

BATCH = 64


class Clip:
    """A CLIP that gives frames and prompts as unit vectors of one space. `name` says which one it
    is.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, processor: Any) -> None:
        self.name, self.model, self.tokenizer, self.processor = name, model, tokenizer, processor
        self.memory = Memory()

    def images(self, frames: Tensor) -> Tensor:
        """Frames uint8 (T, C, Y, X) as float32 (T, E)."""
        return self.memory.recall(
            lambda: torch.cat([self._embed(batch) for batch in frames.split(BATCH)]), frames
        )

    @torch.no_grad()
    def texts(self, prompts: list[str]) -> Tensor:
        """Prompts as float32 (len(prompts), E); what is longer than the model's context is cut."""
        tokens = self.tokenizer(
            prompts,
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        return _units(self.model.get_text_features(**tokens.to(self.model.device)))

    @torch.no_grad()
    def _embed(self, frames: Tensor) -> Tensor:
        pixels = self.processor(
            images=list(frames.permute(0, 2, 3, 1).cpu().numpy()), return_tensors="pt"
        )["pixel_values"]
        return _units(self.model.get_image_features(pixel_values=pixels.to(self.model.device)))


def load_clip(name: str = "tiny-clip") -> Clip:
    """Load a frozen CLIP onto the first GPU if there is one: a shipped name, a folder that
    transformers saved, or a hub id.

    Raises MetricError where there is no CLIP with safetensors weights.
    """
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = str(shipped("checkpoints", name) or name)
    if Path(folder).is_dir() and not (Path(folder) / "config.json").is_file():
        raise MetricError(
            f"folder {name!r} is not a CLIP: it has no config.json. Give one that a transformers CLIPModel and its CLIPProcessor were saved to."
        )
    try:
        with no_progress_bars():
            model = CLIPModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
            parts = (
                CLIPTokenizer.from_pretrained(folder),
                CLIPImageProcessorPil.from_pretrained(folder),
            )
    # transformers, the hub's client and safetensors raise what they like for a broken folder or a
    # missing network
    except Exception as error:
        raise MetricError(
            f"there is no CLIP {name!r} to be used ({type(error).__name__}): it is not shipped, and neither a folder nor a hub id of a CLIPModel "
            "with safetensors weights that can be read from here. Check the name; without network give a folder, or tiny-clip. Pickled weights are not read: "
            "where a model has no others, the hub keeps converted ones as a revision, for `hf download ID --revision refs/pr/NUMBER --local-dir FOLDER`."
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Clip(name, model.eval().requires_grad_(False).to(device), *parts)


def _units(features: Any) -> Tensor:
    return functional.normalize(features.pooler_output.float().cpu(), dim=-1)
