"""Load a CLIP by name: the embedded one, a local folder, or a hub id.

The embedded CLIP knows the synthetic world only. Every CLIP is a stock transformers class with
safetensors weights.
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


class ClipModel:
    """A CLIP that embeds frames and prompts as vectors of length 1 in one space.

    `name` is the instrument in the rows that it makes.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, processor: Any) -> None:
        self.name, self.model, self.tokenizer, self.processor = name, model, tokenizer, processor
        self.memory = Memory()

    def images(self, frames: Tensor) -> Tensor:
        """Embeddings float32 (T, E) of frames, uint8 (T, C, Y, X)."""
        return self.memory.recall(
            lambda: torch.cat([self._embed(batch) for batch in frames.split(BATCH)]), frames
        )

    @torch.no_grad()
    def texts(self, prompts: list[str]) -> Tensor:
        """Embeddings float32 (len(prompts), E); prompts are cut to the context of the model."""
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


def load_clip(name: str = "tiny-clip") -> ClipModel:
    """Load a frozen CLIP, onto the first GPU if there is one.

    `name` is the name of a shipped CLIP, a folder that transformers saved, or a hub id. Raises
    MetricError if no CLIP with safetensors weights is found there.
    """
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = str(shipped("checkpoints", name) or name)
    if Path(folder).is_dir() and not (Path(folder) / "config.json").is_file():
        raise MetricError(
            f"folder {name!r} is not a CLIP: it has no config.json. "
            "Give a folder that a transformers CLIPModel and its CLIPProcessor were saved to."
        )
    try:
        with no_progress_bars():
            model = CLIPModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
            parts = (
                CLIPTokenizer.from_pretrained(folder),
                CLIPImageProcessorPil.from_pretrained(folder),
            )
    # a broken folder or a missing network raises errors of many classes, of three libraries
    except Exception as error:
        raise MetricError(
            f"there is no CLIP {name!r} to be used ({type(error).__name__}): it is not shipped, "
            "and no CLIPModel with safetensors weights can be read from a folder or hub id of that "
            "name. Check the name; without network give a folder, or tiny-clip. Pickled weights "
            "are not read: where a model has no others, the hub keeps converted safetensors as a "
            "revision, for `hf download ID --revision refs/pr/NUMBER --local-dir FOLDER`."
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ClipModel(name, model.eval().requires_grad_(False).to(device), *parts)


def _units(features: Any) -> Tensor:
    return functional.normalize(features.pooler_output.float().cpu(), dim=-1)
