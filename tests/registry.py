"""Tiny random backbones of the real classes, built on disk where one is asked for. Contract tests
run over these tables.
"""

from __future__ import annotations

import atexit
import shutil
import string
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    AutoencoderKLWan,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ditflow import motion
from ditflow.core.picture import Picture
from ditflow.core.sizes import TokenGrid, VideoSize
from ditflow.models import Model, load_backbone
from ditflow.motion import MotionSignal
from ditflow.video import Image

SIZE = VideoSize(9, 32, 48)  # 3 x 4 x 6 tokens on most of these backbones
LONGER = VideoSize(16, 32, 48)  # 2 x 4 x 6 tokens that span two latent frames
PROMPTS = ["a cat", "the dog running"]
TRANSFORMER: dict[str, Any] = dict(
    num_attention_heads=2,
    attention_head_dim=16,
    in_channels=4,
    out_channels=4,
    time_embed_dim=8,
    text_embed_dim=32,
    num_layers=4,
    sample_width=12,
    sample_height=8,
    sample_frames=9,
    patch_size=2,
    temporal_compression_ratio=4,
    max_text_seq_length=16,
)
SCHEDULER: dict[str, Any] = dict(
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
    clip_sample=False,
)

# options of the transformer, and the scheduler with its shift of noise
ROPE = {"use_rotary_positional_embeddings": True}
LATER = {**ROPE, "patch_size_t": 2, "patch_bias": False}
COGVIDEOX: dict[str, tuple[dict[str, Any], type[SchedulerMixin], float]] = {
    "rotary": (ROPE, CogVideoXDPMScheduler, 1.0),
    "rotary-ddim": (ROPE, CogVideoXDDIMScheduler, 1.0),
    "sinusoidal": ({}, CogVideoXDDIMScheduler, 3.0),
    "cogvideox-i2v": (
        {**ROPE, "use_learned_positional_embeddings": True},
        CogVideoXDPMScheduler,
        1.0,
    ),
    "cogvideox15": (LATER, CogVideoXDDIMScheduler, 1.0),
    "cogvideox15-i2v": ({**LATER, "ofs_embed_dim": 8}, CogVideoXDPMScheduler, 1.0),
}
# options of the pipeline and of the VAE, and the scheduler: the published ones have UniPC
UNIPC: dict[str, Any] = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
TI2V: dict[str, Any] = {
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 8,
    "decoder_base_dim": 4,
}
WAN: dict[str, tuple[dict[str, Any], dict[str, Any], SchedulerMixin]] = {
    "wan": ({}, {}, FlowMatchEulerDiscreteScheduler(shift=3.0)),
    # one of four steps is the second expert's, as is a timestep below 500
    "wan22-experts": (
        {"boundary_ratio": 0.5},
        {},
        UniPCMultistepScheduler(flow_shift=2.0, **UNIPC),
    ),
    "wan22-5b": (
        {"expand_timesteps": True},
        TI2V,
        UniPCMultistepScheduler(flow_shift=5.0, **UNIPC),
    ),
    # the same with a picture
    "wan22-5b-i2v": (
        {"expand_timesteps": True},
        TI2V,
        UniPCMultistepScheduler(flow_shift=5.0, **UNIPC),
    ),
    "wan-i2v": ({}, {}, FlowMatchEulerDiscreteScheduler(shift=3.0)),
    "wan-i2v-plain": (
        {"boundary_ratio": 0.5},
        {},
        UniPCMultistepScheduler(flow_shift=2.0, **UNIPC),
    ),
}
# options of transformers that are shown a picture: of Wan in the place of the first frame as of the
# 5B of 2.2, and beside the video with CLIP as of 2.1, and without as of the others of 2.2
PICTURED: dict[str, dict[str, Any]] = {
    "cogvideox-i2v": {"in_channels": 8},
    "cogvideox15-i2v": {"in_channels": 8},
    "wan22-5b-i2v": {},
    "wan-i2v": {"in_channels": 12, "image_dim": 24, "added_kv_proj_dim": 32},
    "wan-i2v-plain": {"in_channels": 12},
}
BACKBONES = (*COGVIDEOX, *WAN)
# it has the picture of one and the tokens of the other, and stands for both where tests take long
BOTH = "cogvideox15-i2v"
SOME = tuple(kind for kind in BACKBONES if kind not in ("cogvideox-i2v", "cogvideox15"))
ROTARY = tuple(kind for kind in BACKBONES if kind != "sinusoidal")
VARIABLES = {
    "latents": BACKBONES,
    "rotary_tables": ROTARY,
    "rotary_positions": ROTARY,
    "sinusoidal": ("sinusoidal",),
}
PAIRS = [
    (backbone, variable) for variable, backbones in VARIABLES.items() for backbone in backbones
]
SOME_PAIRS = [
    (backbone, variable)
    for backbone, variable in PAIRS
    if backbone in SOME and (backbone != BOTH or variable == "rotary_positions")
]
SIGNALS: dict[str, tuple[str, dict[str, Any]]] = {
    "amf": ("amf", {}),
    "smm": ("smm", {}),
    "smm-compat": ("smm", {"compat": True}),
    "smm-match": ("smm", {"reference_timestep": "match"}),
    "moft": ("moft", {"proportion": 0.25}),  # 8 of the 32 channels there are here
    "moft-pans": (
        "moft",
        {"proportion": 0.25, "channels": "pans", "region": "frame", "reference_timestep": 200},
    ),
    "motionclone": ("motionclone", {}),
    "motionclone-self": ("motionclone", {"exclude_self": True, "reference_noise": 0.0}),
    "motionclone-frames": ("motionclone", {"mode": "frames"}),
    "motionflow": ("motionflow", {}),
    "motionflow-frames": (
        "motionflow",
        {"over": "frames", "subject": "dog", "caption_subject": -1},
    ),
    "motionflow-inverted": ("motionflow", {"reference_timestep": "inverted"}),
}


def signal_of(name: str, block: int = 2) -> MotionSignal[Any]:
    """A signal as one of the table."""
    kind, arguments = SIGNALS[name]
    return motion.SIGNALS[kind](block, **arguments)


def tiny_backbone(kind: str, dtype: torch.dtype = torch.float32) -> Model:
    """A fresh random backbone: 4 blocks, 2 heads of 16, compression 4 x 4 x 4, patch 2.

    Where a test does not say which picture it sees, it sees that of `picture_for`.
    """
    model = load_backbone(str(tiny_folder(kind)), device="cpu", dtype=dtype)
    if kind in PICTURED:
        predict = model.predict

        def shown(
            latents: Tensor,
            timestep: float,
            text: Tensor,
            position: Tensor | None = None,
            picture: Picture | None = None,
        ) -> Tensor | None:
            picture = picture_for(model, latents) if picture is None else picture
            return predict(latents, timestep, text, position, picture)

        model.predict = shown  # type: ignore[method-assign]
    return model


def image_of(kind: str, seed: int = 0) -> Image | None:
    """A picture of noise that a video begins with; None for a model that takes none."""
    pixels = frames_of(1)[0, seed]
    return Image(pixels, Path("cat.png"), f"{seed}" * 64) if kind in PICTURED else None


def picture_for(model: Model, latents: Tensor) -> Picture | None:
    """A picture of noise, the same for all clips; None for a model that is shown none."""
    blank = model.blank(latents[:1])
    if blank is None or KINDS.get(model.spec.name) not in PICTURED:
        return None
    draw = torch.Generator().manual_seed(5)
    return Picture(*(x if x is None else torch.randn(x.shape, generator=draw) for x in blank))


@cache
def tiny_folder(kind: str) -> Path:
    """A diffusers folder of the kind, made once a process."""
    folder = Path(mkdtemp(prefix=f"ditflow-{kind}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_pipeline(kind).save_pretrained(folder)
    KINDS[str(folder)] = kind
    return folder


KINDS: dict[str, str] = {}  # by folder


def size_of(model: Model) -> VideoSize:
    """Of a video that a backbone takes: SIZE, or LONGER."""
    return SIZE if model.spec.compression.patch_time == 1 else LONGER


def size_for(kind: str) -> VideoSize:
    """The same, without the model."""
    return LONGER if kind in COGVIDEOX and "patch_size_t" in COGVIDEOX[kind][0] else SIZE


def frames_of(batch: int = 2, size: VideoSize = SIZE) -> Tensor:
    """Videos of noise, uint8 (B, T, C, Y, X)."""
    shape = (batch, size.frames, 3, size.height, size.width)
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)


def grid_of(backbone: Model, size: VideoSize | None = None) -> TokenGrid:
    """The tokens of a video on a backbone."""
    return backbone.spec.compression.grid(size or size_of(backbone))


def tiny_pipeline(kind: str, **transformer: Any) -> DiffusionPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _wan(kind) if kind in WAN else _cogvideox(kind, **transformer)


def _cogvideox(kind: str, **transformer: Any) -> DiffusionPipeline:
    options, scheduler, snr_shift_scale = COGVIDEOX[kind]
    tokenizer = tiny_tokenizer()
    own = {**options, **PICTURED.get(kind, {}), **transformer}
    return (CogVideoXImageToVideoPipeline if kind in PICTURED else CogVideoXPipeline)(
        tokenizer=tokenizer,
        text_encoder=tiny_text_encoder(tokenizer),
        vae=tiny_vae(invert_scale_latents="patch_size_t" in options),
        transformer=tiny_transformer(**own),
        scheduler=scheduler(**SCHEDULER, snr_shift_scale=snr_shift_scale),
    )


def _wan(kind: str) -> WanPipeline | WanImageToVideoPipeline:
    """Flow matching, channels first, text in cross-attention."""
    options, vae, scheduler = WAN[kind]
    tokenizer, experts = tiny_tokenizer(), "boundary_ratio" in options
    transformer = _wan_transformer(kind)
    clip: dict[str, Any] = {}
    if transformer.config.image_dim is not None:
        clip = {"image_encoder": tiny_vision(), "image_processor": tiny_processor()}
    return (WanImageToVideoPipeline if kind in PICTURED else WanPipeline)(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(UMT5Config(**text_config(tokenizer))).eval(),
        vae=AutoencoderKLWan(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[True, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.0, 2.0, 0.5, 1.5],
            **{"scale_factor_temporal": 4, "scale_factor_spatial": 4, **vae},
        ).eval(),
        transformer=transformer,
        transformer_2=_wan_transformer(kind) if experts else None,
        scheduler=scheduler,
        **options,
        **clip,
    )


def _wan_transformer(kind: str) -> WanTransformer3DModel:
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        out_channels=4,
        text_dim=32,
        freq_dim=32,
        ffn_dim=48,
        num_layers=4,
        rope_max_seq_len=32,
        **{"in_channels": 4, **PICTURED.get(kind, {})},
    ).eval()
    widened(layer for block in transformer.blocks for layer in (block.attn1.to_q, block.attn1.to_k))
    for block in transformer.blocks:
        widened((block.attn1.norm_q, block.attn2.norm_q))
    return transformer


@torch.no_grad()
def widened(layers: Iterable[nn.Module]) -> None:
    """Weights wide enough that attention is not uniform."""
    for layer in layers:
        layer.weight.mul_(3)


def tiny_transformer(**changed: Any) -> CogVideoXTransformer3DModel:
    transformer = CogVideoXTransformer3DModel(**{**TRANSFORMER, **changed}).eval()
    for block in transformer.transformer_blocks:
        widened((block.attn1.to_q, block.attn1.to_k, block.norm1.linear))
    return transformer


def tiny_vae(**changed: Any) -> AutoencoderKLCogVideoX:
    levels = 3
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * levels,
        up_block_types=("CogVideoXUpBlock3D",) * levels,
        block_out_channels=(8,) * levels,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        **changed,
    ).eval()


def tiny_vision() -> CLIPVisionModel:
    """5 tokens a picture."""
    sizes = {"image_size": 16, "patch_size": 8, "hidden_size": 24, "intermediate_size": 32}
    layers = {"num_hidden_layers": 3, "num_attention_heads": 2}
    return CLIPVisionModel(CLIPVisionConfig(**sizes, **layers)).eval()


def tiny_processor() -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def tiny_tokenizer() -> T5Tokenizer:
    words = ("a", "the", "cat", "dog", "dance", "monkey", "running", "video")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [("▁" + word, -3.0) for word in words] + [
        (character, -6.0) for character in string.ascii_letters + string.digits + string.punctuation
    ]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=16)


def tiny_text_encoder(tokenizer: T5Tokenizer) -> T5EncoderModel:
    return T5EncoderModel(T5Config(**text_config(tokenizer))).eval()


def text_config(tokenizer: T5Tokenizer) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 37,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
    }
