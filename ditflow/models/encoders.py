"""The VAE, the text encoder and the image encoder of a diffusers folder or hub repository.

Each is loaded at its first use and freed on request.
"""

# B batch, T pixel frames, C channels, Y X pixel rows and columns
# F latent frames, Hl Wl latent rows and columns, L text tokens, V image tokens, E their channels

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional

from ditflow.models.convolution import DirectConvolution
from ditflow.models.loading import loading
from ditflow.warning import warn


class Encoders:
    """The VAE, the text encoder and the image encoder of one checkpoint.

    `folder` holds the subfolders vae, tokenizer and text_encoder, and for a model that takes image
    tokens image_processor and image_encoder (CLIP). A family subclasses this and
    names the classes of its parts. A `masked` text encoder sees no padding, and its embeddings are
    0 there. Frames larger than `tile` are encoded and decoded in tiles.
    """

    vae_class: ClassVar[str]  # name of a diffusers class
    text_class: ClassVar[str]  # name of a transformers class
    masked: ClassVar[bool] = False
    tile: ClassVar[tuple[int, int] | None] = None

    def __init__(
        self, folder: str, text_tokens: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.folder, self.text_tokens, self.device, self.dtype = folder, text_tokens, device, dtype
        self._vae: Any = None
        self._text: Any = None
        self._tokenizer: Any = None
        self._vision: Any = None
        self._lent = False
        self.before_load: Callable[[], None] = lambda: None

    @classmethod
    def of(cls, pipe: Any, text_tokens: int, device: torch.device, dtype: torch.dtype) -> Self:
        """Those of a diffusers pipeline, which stay its own: `release` does not free them."""
        encoders = cls("", text_tokens, device, dtype)
        encoders._vae, encoders._text = pipe.vae, pipe.text_encoder
        encoders._tokenizer = pipe.tokenizer
        if getattr(pipe, "image_encoder", None) is not None:
            encoders._vision = pipe.image_processor, pipe.image_encoder
        encoders._lent = True
        return encoders

    def release(self) -> None:
        """Free the memory of the VAE, the text encoder and the image encoder."""
        if self._lent:
            return
        self._vae = self._text = self._vision = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Latents float32 (B, F, C, Hl, Wl) of frames uint8 (B, T, C, Y, X)."""
        return self._latents(self._pixels(frames))

    @torch.no_grad()
    def encode_first(self, images: Tensor, frames: int) -> Tensor:
        """Latents of videos of so many frames: images uint8 (B, C, Y, X), and grey after them."""
        first = self._pixels(images[:, None])
        return self._latents(functional.pad(first, (0, 0, 0, 0, 0, frames - 1)))

    @torch.no_grad()
    def image_tokens(self, images: Tensor) -> Tensor:
        """(B, V, E) of images uint8 (B, C, Y, X): the last layer but one of CLIP's vision."""
        processor, encoder = self._load_vision()
        pictures = list(images.permute(0, 2, 3, 1).cpu().numpy())
        pixels = processor(images=pictures, return_tensors="pt").pixel_values
        seen = encoder(pixels.to(self.device, self.dtype), output_hidden_states=True)
        tokens: Tensor = seen.hidden_states[-2]
        return tokens

    def _pixels(self, frames: Tensor) -> Tensor:
        """(B, C, T, Y, X) in [-1, 1] of frames uint8 (B, T, C, Y, X)."""
        return frames.to(self.device).float().div(127.5).sub(1).transpose(1, 2)

    def _latents(self, pixels: Tensor) -> Tensor:
        vae = self._load_vae()
        with DirectConvolution():
            latents = torch.cat(
                [vae.encode(clip[None].to(vae.dtype)).latent_dist.mode() for clip in pixels]
            )
        return self.normalised(latents.float(), vae.config).transpose(1, 2)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Frames uint8 (B, T, C, Y, X) of latents float (B, F, C, Hl, Wl)."""
        vae = self._load_vae()
        scaled = self.denormalised(latents.to(self.device).float().transpose(1, 2), vae.config)
        with DirectConvolution():
            pixels = torch.cat([vae.decode(clip[None].to(vae.dtype)).sample for clip in scaled])
        return (
            pixels.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).transpose(1, 2)
        )

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """(B, L, E), padded to L. The transformer sees the padding; it is zero where `masked`."""
        tokenizer, encoder = self._load_tokenizer(), self._load_text()
        for prompt in prompts:
            if len(tokenizer(prompt, verbose=False).input_ids) > self.text_tokens:
                warn(f"prompt cut to {self.text_tokens} tokens: {prompt!r:.200}")
        tokens = tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.text_tokens,
            truncation=True,
            return_tensors="pt",
        )
        mask = tokens.attention_mask.to(self.device) if self.masked else None
        embedding: Tensor = encoder(tokens.input_ids.to(self.device), attention_mask=mask)[0]
        return embedding if mask is None else embedding * mask[..., None].to(embedding.dtype)

    def normalised(self, latents: Tensor, config: Any) -> Tensor:
        """Latents (B, C, F, Hl, Wl) of the VAE in the scale that the transformer was trained on."""
        return latents.mul(config.scaling_factor)

    def denormalised(self, latents: Tensor, config: Any) -> Tensor:
        """The inverse of `normalised`."""
        return latents.div(config.scaling_factor)

    def _load_vae(self) -> Any:
        if self._vae is None:
            self.before_load()
            import diffusers

            with loading(self.folder, "vae"):
                vae = getattr(diffusers, self.vae_class).from_pretrained(
                    self.folder, subfolder="vae", dtype=self.dtype, use_safetensors=True
                )
            self._vae = vae.to(self.device).eval().requires_grad_(False)
            if self.tile is not None:
                self._vae.enable_tiling(*self.tile)
        return self._vae

    def words(self, prompts: Sequence[str], subjects: Sequence[str | int]) -> Tensor:
        """The kind of each text token, int64 (B, L): 0 padding, 1 a word, 2 a word of the subject.

        Raises ValueError if a prompt lacks its subject, or has it beyond the L tokens.
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
                        f"{prompt[first:last]!r} of prompt {prompt!r} lies beyond the "
                        f"{self.text_tokens} tokens that are read: shorten it."
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
            self.before_load()
            import transformers

            with loading(self.folder, "text_encoder"):
                encoder: Any = getattr(transformers, self.text_class).from_pretrained(
                    self.folder, subfolder="text_encoder", dtype=self.dtype, use_safetensors=True
                )
            self._text = encoder.to(self.device).eval().requires_grad_(False)
        return self._text

    def _load_vision(self) -> tuple[Any, Any]:
        if self._vision is None:
            self.before_load()
            from transformers import CLIPVisionModel
            from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

            with loading(self.folder, "image_processor"):
                processor = CLIPImageProcessorPil.from_pretrained(
                    self.folder, subfolder="image_processor"
                )
            with loading(self.folder, "image_encoder"):
                encoder: Any = CLIPVisionModel.from_pretrained(
                    self.folder, subfolder="image_encoder", dtype=self.dtype, use_safetensors=True
                )
            self._vision = processor, encoder.to(self.device).eval().requires_grad_(False)
        processor, encoder = self._vision
        return processor, encoder


def spans(prompt: str, subject: str | int) -> list[tuple[int, int]]:
    """First and last character of each word of the subject in the prompt, ignoring case.

    A subject that is a number names the word at that place, from 0. Raises ValueError if a word is
    not in the prompt.
    """
    words = [match.span() for match in re.finditer(r"\w+", prompt)]
    if isinstance(subject, int):
        if not -len(words) <= subject < len(words):
            raise ValueError(
                f"prompt {prompt!r} has no word {subject}, counted from 0: it has {len(words)}. "
                "Name its subject by a word that is in it."
            )
        return [words[subject]]
    wanted = re.findall(r"\w+", subject.lower())
    present = [prompt[first:last].lower() for first, last in words]
    missing = [word for word in wanted if word not in present]
    if missing or not wanted:
        raise ValueError(
            f"prompt {prompt!r} does not have the subject word {(missing or [subject])[0]!r}: "
            "name words that are in it."
        )
    return [(first, last) for first, last in words if prompt[first:last].lower() in wanted]
