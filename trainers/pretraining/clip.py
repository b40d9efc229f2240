"""Pretraining of the embedded CLIP: the stock transformers class, small enough for a laptop, on
stills of the synthetic world.

    python -m trainers.pretraining.backbone fit --config configs/pretrain/clip.yaml

It resumes from its last checkpoint and, at its end, writes an ordinary folder of a model and its
processor. The world has few prompts, so that an image is
compared with all of them, and a prompt with all images of a batch: of these several may be its own,
and share its probability.
"""

# B batch of images, P prompts of the world, C colours, Y X pixel rows and columns, E embedding
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from datamodules.synthetic import World
from trainers.pretraining.schedules import scheduled

TEXT_TOKENS, SIDE = 16, 64
MEAN, DEVIATION = [0.5] * 3, [0.3] * 3


def tiny_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with the byte pairs of the world's prompts, which make each of its words one
    token, and all letters besides.
    """
    bytes_and_ends = sorted(
        {letter + end for letter in pre_tokenizers.ByteLevel.alphabet() for end in ("", "</w>")}
    )
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer, bpe.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=10_000, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(World().prompts(), trainer)
    merges = [tuple(pair) for pair in _model(bpe)["merges"]]
    words = [
        "<|startoftext|>",
        "<|endoftext|>",
        *bytes_and_ends,
        *dict.fromkeys(first + second for first, second in merges),
    ]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=merges,
        model_max_length=TEXT_TOKENS,
    )


def tiny_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP of about a million parameters for images of 64 x 64 pixels."""
    vision = {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 16,
    }
    text = {
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": TEXT_TOKENS,
    }
    tokens = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return CLIPModel(
        CLIPConfig(
            vision_config=vision,
            text_config=text | tokens | {"pad_token_id": tokenizer.pad_token_id},
            projection_dim=64,
        )
    )


class CLIPPretraining(L.LightningModule):
    """Images and the world's prompts drawn together where they belong together. `out` is the folder
    that the trained CLIP is written to.
    """

    def __init__(
        self, out: str = "checkpoints/tiny-clip", learning_rate: float = 1e-3, warmup: int = 50
    ) -> None:
        super().__init__()
        self.out, self.learning_rate, self.warmup = Path(out), learning_rate, warmup
        self.tokenizer = tiny_tokenizer()
        self.clip = tiny_clip(self.tokenizer)
        self.tokens = dict(self.tokenizer(World().prompts(), padding=True, return_tensors="pt"))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        images = self.clip.get_image_features(normalised(batch["image"])).pooler_output  # (B, E)
        texts = self.clip.get_text_features(
            **{name: ids.to(self.device) for name, ids in self.tokens.items()}
        ).pooler_output  # (P, E)
        logits = (
            functional.normalize(images, dim=-1)
            @ functional.normalize(texts, dim=-1).mT
            * self.clip.logit_scale.exp().clamp(max=100)
        )
        accuracy = (logits.argmax(1) == batch["prompt"]).float().mean()
        loss = contrastive_loss(logits, batch["prompt"])
        self.log_dict({"loss": loss, "accuracy": accuracy}, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.clip.parameters(), lr=self.learning_rate, weight_decay=0.05
        )
        return scheduled(optimizer, self.trainer.max_steps, self.warmup)

    def on_train_end(self) -> None:
        self.clip.save_pretrained(self.out)
        self.tokenizer.save_pretrained(self.out)
        size = {"height": SIDE, "width": SIDE}
        CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size=size, image_mean=MEAN, image_std=DEVIATION
        ).save_pretrained(self.out)


def contrastive_loss(logits: Tensor, prompt: Tensor) -> Tensor:
    """Half of each direction: every image's own prompt among all (B, P), and every prompt of the
    batch's own images, which share its probability.
    """
    own = functional.one_hot(prompt, logits.shape[1]).mT.float()  # (P, B)
    present = own.sum(1) > 0
    shares = own[present] / own[present].sum(1, keepdim=True)
    return (
        functional.cross_entropy(logits, prompt)
        + functional.cross_entropy(logits.mT[present], shares)
    ) / 2


def normalised(images: Tensor) -> Tensor:
    """uint8 images (B, C, Y, X) as the processor gives them to the model."""
    return (images / 255 - torch.tensor(MEAN, device=images.device)[:, None, None]) / torch.tensor(
        DEVIATION, device=images.device
    )[:, None, None]


def _model(tokenizer: Tokenizer) -> dict[str, Any]:
    return dict(json.loads(tokenizer.to_str())["model"])
