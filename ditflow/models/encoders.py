"""A VAE and a T5 text encoder in a diffusers folder or hub repository, loaded when first needed and
freed on request.
"""

# B batch, T pixel frames, C channels, Y X pixel rows and columns, F latent frames, Hl Wl latent
# rows and columns, L text tokens, E its channels

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ditflow.models.base import ModelError
from ditflow.models.convolution import DirectConvolution
from ditflow.quiet import no_progress_bars

PARTS = {
    "vae": "VAE",
    "text_encoder": "text encoder",
}  # what a subfolder is called in an error, where not by its own name
PICKLES = ("bin", "pt", "pth", "ckpt")
TILE = (
    240,
    360,
)  # pixels; larger frames are encoded and decoded in tiles of this size, as in the published setup


class Encoders:
    """`folder` holds the subfolders vae, tokenizer and text_encoder."""

    def __init__(
        self, folder: str, text_tokens: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.folder, self.text_tokens, self.device, self.dtype = folder, text_tokens, device, dtype
        self._vae: Any = None
        self._text: Any = None
        self._tokenizer: Any = None

    def release(self) -> None:
        """Free what is large."""
        self._vae = self._text = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (B, T, C, Y, X) -> float32 (B, F, C, Hl, Wl)."""
        vae = self._load_vae()
        pixels = (
            frames.to(self.device).float().div(127.5).sub(1).transpose(1, 2)
        )  # (B, C, T, Y, X) in [-1, 1]
        with DirectConvolution():
            latents = torch.cat(
                [vae.encode(clip[None].to(self.dtype)).latent_dist.mode() for clip in pixels]
            )
        return latents.float().mul(vae.config.scaling_factor).transpose(1, 2)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """float (B, F, C, Hl, Wl) -> uint8 (B, T, C, Y, X)."""
        vae = self._load_vae()
        scaled = latents.to(self.device).float().div(vae.config.scaling_factor).transpose(1, 2)
        with DirectConvolution():
            pixels = torch.cat([vae.decode(clip[None].to(self.dtype)).sample for clip in scaled])
        return (
            pixels.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).transpose(1, 2)
        )

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """(B, L, E), padded to L without a mask: padding is seen by the transformer, as in
        training.
        """
        tokenizer, encoder = self._load_tokenizer(), self._load_text()
        for prompt in prompts:
            if len(tokenizer(prompt, verbose=False).input_ids) > self.text_tokens:
                warnings.warn(f"prompt cut to {self.text_tokens} tokens: {prompt!r}", stacklevel=3)
        tokens = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.text_tokens,
            truncation=True,
            return_tensors="pt",
        )
        embedding: Tensor = encoder(tokens.input_ids.to(self.device))[0]
        return embedding

    def _load_vae(self) -> Any:
        if self._vae is None:
            from diffusers import AutoencoderKLCogVideoX

            with loading(self.folder, "vae"):
                vae = AutoencoderKLCogVideoX.from_pretrained(
                    self.folder, subfolder="vae", dtype=self.dtype, use_safetensors=True
                )
            self._vae = vae.to(self.device).eval().requires_grad_(False)
            self._vae.enable_tiling(*TILE)
        return self._vae

    def words(self, prompts: Sequence[str], subjects: Sequence[str | int]) -> Tensor:
        """int64 (B, L): 0 padding, 1 a word, 2 a word of the subject. Raises ValueError for a
        prompt without it.
        """
        tokens = self._load_tokenizer()(
            list(prompts),
            padding="max_length",
            max_length=self.text_tokens,
            truncation=True,
            return_tensors="pt",
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        words: Tensor = 1 - tokens.special_tokens_mask
        start, stop = tokens.offset_mapping.unbind(-1)  # (B, L)
        for row, (prompt, subject) in enumerate(zip(prompts, subjects, strict=True)):
            for first, last in spans(prompt, subject):
                touched = (start[row] < last) & (stop[row] > first) & words[row].bool()
                if not touched.any():
                    raise ValueError(
                        f"{prompt[first:last]!r} of prompt {prompt!r} lies beyond the {self.text_tokens} tokens that are read: shorten it."
                    )
                words[row, touched] = 2
        return words.to(self.device)

    def _load_tokenizer(self) -> Any:
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            with loading(self.folder, "tokenizer"):
                self._tokenizer = AutoTokenizer.from_pretrained(self.folder, subfolder="tokenizer")
        return self._tokenizer

    def _load_text(self) -> Any:
        if self._text is None:
            from transformers import T5EncoderModel

            with loading(self.folder, "text_encoder"):
                encoder: Any = T5EncoderModel.from_pretrained(
                    self.folder, subfolder="text_encoder", dtype=self.dtype, use_safetensors=True
                )
            self._text = encoder.to(self.device).eval().requires_grad_(False)
        return self._text


def spans(prompt: str, subject: str | int) -> list[tuple[int, int]]:
    """Where each word of the subject stands in the prompt, case aside, or the word at that place.
    Raises ValueError where one is not there.
    """
    words = [match.span() for match in re.finditer(r"\w+", prompt)]
    if isinstance(subject, int):
        if not -len(words) <= subject < len(words):
            raise ValueError(
                f"prompt {prompt!r} has no word {subject}, counted from 0: it has {len(words)}. Name its subject by a word that is in it."
            )
        return [words[subject]]
    wanted = re.findall(r"\w+", subject.lower())
    missing = [
        word for word in wanted if word not in [prompt[first:last].lower() for first, last in words]
    ]
    if missing or not wanted:
        raise ValueError(
            f"prompt {prompt!r} does not have the subject word {(missing or [subject])[0]!r}: name words that are in it."
        )
    return [(first, last) for first, last in words if prompt[first:last].lower() in wanted]


@contextmanager
def loading(folder: str, part: str) -> Iterator[None]:
    """While a part of a backbone is loaded: no progress bars, and whatever goes wrong with its
    files is a ModelError of one sentence.
    """
    where = f"the {PARTS.get(part, part)} of backbone {folder!r} cannot be loaded"
    if _is_pickled(Path(folder) / part):
        raise ModelError(
            f"{where}: its weights are pickled (.bin), and unpickling can run code. Save it with safe_serialization=True, as safetensors."
        )
    try:
        with no_progress_bars():
            yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # broken files raise errors of all kinds
        said = " ".join(str(error).split(". ")[0].split()).rstrip(".")
        raise ModelError(
            f"{where} ({type(error).__name__}: {said}). Save or download the backbone again."
        ) from error


def _is_pickled(folder: Path) -> bool:
    """Whether a local folder has weights in pickles only."""
    return any(any(folder.glob(f"*.{ending}")) for ending in PICKLES) and not any(
        folder.glob("*.safetensors")
    )
