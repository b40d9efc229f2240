"""What each plan for little memory takes of a large model, counted: frames x plan x GiB.

    python -m tests.benchmarks.memory CogVideoX-5b CogVideoX-2b Wan2.1-1.3B Wan2.1-14B

No weights are needed: bytes follow from the configurations of the published models, as `ditflow
fit --model.memory` counts them before it loads anything. Sizes are in bfloat16, of one clip that is
optimised as recommended, on a device of its own. A tenth of a memory is left free, so a plan of 20
GiB needs 22.3.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

from diffusers import UniPCMultistepScheduler
from diffusers import WanTransformer3DModel as Transformer

from ditflow.core.sizes import VideoSize
from ditflow.models import Model, Work, sketch_backbone
from ditflow.models.weights.choice import updates, weights_of
from ditflow.models.weights.plan import Plan, Weights
from ditflow.models.weights.work import Activations
from tests.trainers.motion.dry_run.test_plan import PUBLISHED, published_folder

WAN = {  # heads, blocks, width of the layer between
    "Wan2.1-1.3B": (12, 30, 8960),
    "Wan2.1-14B": (40, 40, 13824),
}
ENCODERS = {  # numbers, counted on published configurations: T5 XXL or UMT5 XXL, and the VAE
    "CogVideoX": 4_762_310_656 + 215_583_907,
    "Wan": 5_680_910_336 + 126_892_531,
}
FRAMES = {"CogVideoX": (24, 49), "Wan": (33, 49, 81)}
SIDES = {"CogVideoX": (480, 720), "Wan": (480, 832)}
PLANS = (
    Plan(),
    Plan(checkpointing=True),
    Plan("int8", checkpointing=True),
    Plan(offload=True, checkpointing=True),
)


def wan_folder(folder: Path, name: str) -> Path:
    """The configurations of a published Wan 2.1, without weights."""
    heads, blocks, between = WAN[name]
    sizes = dict(num_attention_heads=heads, num_layers=blocks, ffn_dim=between)
    with_defaults = {"_class_name": Transformer.__name__, "attention_head_dim": 128}
    fixed = dict(patch_size=(1, 2, 2), in_channels=16, out_channels=16, text_dim=4096)
    fixed |= dict(freq_dim=256, qk_norm="rms_norm_across_heads", cross_attn_norm=True)
    vae = dict(dim_mult=[1, 2, 4, 4], temperal_downsample=[False, True, True], z_dim=16)
    parts = {"transformer": with_defaults | fixed | sizes, "vae": vae}
    for part, config in parts.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(config))
    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True
    ).save_pretrained(folder / "scheduler")
    index = {
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "transformer": ["diffusers", Transformer.__name__],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def sketch(name: str) -> Model:
    """A published model, by its sizes."""
    make = published_folder if name in PUBLISHED else wan_folder
    with tempfile.TemporaryDirectory() as folder:
        return sketch_backbone(str(make(Path(folder), name)), dtype="bfloat16")


def peaks(model: Model, weights: Weights, size: VideoSize) -> list[int]:
    advised = updates(model.spec)
    work = Work(size, depth=advised.depth, rotary=advised.rotary)
    kept = Activations.of(model.spec, model.kept, model.dtype, work)
    return [plan.peak(weights, kept, turns=True) for plan in PLANS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help=", ".join((*PUBLISHED, *WAN)))
    print(f"| model | frames | {' | '.join(map(str, PLANS))} |")
    print(f"|---|---|{'---|' * len(PLANS)}")
    for name in parser.parse_args().models:
        family = "Wan" if name in WAN else "CogVideoX"
        model = sketch(name)
        weights = weights_of(model, {"text_encoder": Counter(F32=ENCODERS[family])})
        for frames in FRAMES[family]:
            size = VideoSize(frames, *SIDES[family])
            told = (f"{bytes_ / 2**30:.1f}" for bytes_ in peaks(model, weights, size))
            print(f"| {name} | {size} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
