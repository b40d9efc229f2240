"""How good an embedded backbone is, on held-out clips of the world: does attention find the motion,
do prompts work, does motion move over?

python -m tests.benchmarks.embedded_backbone tiny-rope --clips 48 --variables latents
rotary_positions
"""

# B batch, T frames, F latent frames, S tokens per frame, P frame pairs
from __future__ import annotations

import argparse
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from datamodules.synthetic import SyntheticClip, World, obeys
from ditflow.bank import Provenance
from ditflow.compatibility import entry_control
from ditflow.metrics import motion_cosine
from ditflow.models import Model, load_backbone
from ditflow.models.dtypes import native_dtype
from ditflow.models.presets import recommended
from ditflow.motion.amf import AttentionMotionFlow
from ditflow.provenance import entries_of
from ditflow.sampling.control import Prompt
from ditflow.sampling.guidance import MotionGuidance
from ditflow.sampling.loop import sample
from ditflow.sampling.optimise import motion_control
from ditflow.sampling.recipe import Recipe
from ditflow.sampling.reference import reference_motion
from ditflow.sampling.state import State, clip_generator, initial_noise
from ditflow.transfer import recommended_guidance

BATCH = 8


def batches(items: list[Any]) -> Iterator[list[Any]]:
    return (items[i : i + BATCH] for i in range(0, len(items), BATCH))


def interval(values: list[float], repeats: int = 2000) -> tuple[float, float, float]:
    """Mean, and the ends of its 95 % bootstrap interval over clips."""
    draw = random.Random(0)
    means = sorted(sum(draw.choices(values, k=len(values))) / len(values) for _ in range(repeats))
    return sum(values) / len(values), means[int(0.025 * repeats)], means[int(0.975 * repeats)]


class Bench:
    """A backbone with held-out clips, and what is measured of them by name: one value a clip."""

    def __init__(
        self, backbone: Model, clips: int, first: int = 0, motion: str | None = None
    ) -> None:
        self.backbone, self.world = backbone, World(backbone.spec.size)
        self.clips = [self.world.clip(first + seed, motion) for seed in range(clips)]
        self.advice = recommended(backbone.spec)
        self.schedule = backbone.schedule(self.advice.steps, self.advice.guidance_scale)
        self.values: dict[str, list[float]] = defaultdict(list)
        self.grid, self.shape = (
            backbone.spec.compression.grid(backbone.spec.size),
            backbone.spec.compression.latent_shape(backbone.spec.size),
        )
        self.latents = torch.cat(
            [
                backbone.encode(torch.stack([clip.frames for clip in part]))
                for part in batches(self.clips)
            ]
        )

    def other(self, clip: SyntheticClip, number: int = 0) -> str:
        return other_prompt(self.world, clip, number)

    def text(self, prompts: list[str]) -> Tensor:
        return self.backbone.embed(prompts)

    def judge(
        self, name: str, clips: list[SyntheticClip], prompts: list[str], latents: Tensor
    ) -> None:
        """Decode and measure: motion against the reference's exact one, and the prompt's
        palette.
        """
        for clip, prompt, frames in zip(clips, prompts, self.backbone.decode(latents), strict=True):
            cosine = motion_cosine(clip.flows(), frames)
            self.values[f"{name}/motion"].append(cosine)
            self.values[f"{name}/motion/{clip.motion}"].append(cosine)
            self.values[f"{name}/prompt"].append(float(obeys(frames, prompt)))

    def measure_world(self) -> None:
        """The instruments themselves: on the references, and on their reconstructions by the
        VAE.
        """
        for clip in self.clips:
            self.values["reference/motion"].append(motion_cosine(clip.flows(), clip.frames))
            self.values["reference/prompt"].append(float(obeys(clip.frames, clip.prompt)))
        for part, latents in zip(batches(self.clips), self.latents.split(BATCH), strict=True):
            self.judge("reconstruction", part, [clip.prompt for clip in part], latents)

    def measure_amf(self) -> None:
        """End-point error of the attention motion flow against the exact flow, in tokens, over
        tokens that move and stay in sight; by block.
        """
        empty = self.text([""])
        errors: dict[str, list[float]] = defaultdict(list)
        exact = [token_flow(clip, self.grid.frames, self.grid.height) for clip in self.clips]
        for block in range(self.backbone.spec.blocks):
            signal = AttentionMotionFlow(block)
            seen = [
                reference_motion(self.backbone, signal, part, empty, ["x"] * len(part), noise=part)
                for part in self.latents.split(BATCH)
            ]
            found = torch.cat([reference.motion for reference in seen])
            for flow, (truth, counted) in zip(found, exact, strict=True):
                errors[f"amf/block {block}"].append(
                    float((flow - truth).norm(dim=-1)[counted].mean())
                )
        for truth, counted in exact:
            errors["amf/no motion"].append(float(truth.norm(dim=-1)[counted].mean()))
        self.values.update(errors)

    def measure_decided(self) -> None:
        """When motion is decided: the reference noised to a step and denoised from there, with
        another prompt.
        """
        for index in range(0, len(self.schedule), 2):
            part, latents = self.clips[:BATCH], self.latents[:BATCH]
            generators = [clip_generator(clip.name, 1) for clip in part]
            noise, step = initial_noise(self.shape, generators), self.schedule[index]
            prompts = [self.other(clip) for clip in part]
            negative = self.text([""]).expand(len(part), -1, -1)
            begun = State.begin(step.level.mix(latents, noise), generators)
            begun, prompt = replace(begun, step=index), Prompt(self.text(prompts), negative)
            x = sample(self.backbone, self.schedule, prompt, begun).latents
            self.judge(f"from step {index}", part, prompts, x)

    def measure_plain(self) -> None:
        for part in batches(self.clips):
            prompts = [self.other(clip) for clip in part]
            generators = [clip_generator(clip.name, 0) for clip in part]
            noise = initial_noise(self.shape, generators)
            negative = self.text([""]).expand(len(part), -1, -1)
            prompt, begun = Prompt(self.text(prompts), negative), State.begin(noise, generators)
            x = sample(self.backbone, self.schedule, prompt, begun).latents
            self.judge("plain", part, prompts, x)

    def measure_transfer(
        self, name: str, guidance: MotionGuidance, inject_too: bool = True
    ) -> None:
        """Optimise with one prompt and seed, then inject the entry with another prompt and seed."""
        began = time.monotonic()
        for part, latents in zip(batches(self.clips), self.latents.split(BATCH), strict=True):
            prompts = [self.other(clip) for clip in part]
            names, negative = [clip.name for clip in part], self.text([""])
            state = guidance.start(self.backbone, self.backbone.spec.size, names, [0] * len(part))
            reference = reference_motion(
                self.backbone, guidance.signal, latents, negative, names, noise=state.noise
            )
            text, negatives = self.text(prompts), negative.expand(len(part), -1, -1)
            control = motion_control(self.backbone, guidance, self.schedule, reference)
            prompt = Prompt(text, negatives)
            state = sample(self.backbone, self.schedule, prompt, state, control)
            self.values[f"{name}/loss first"] += state.losses[0][0].tolist()
            self.values[f"{name}/loss last"] += state.losses[-1][-1].tolist()
            self.judge(f"{name}/optimised", part, prompts, state.latents)
            sources = [
                Provenance(clip.name, "0" * 64, prompt, "", 0)
                for clip, prompt in zip(part, prompts, strict=True)
            ]
            window = guidance.check(self.backbone, self.schedule)
            recipe = Recipe(self.backbone, guidance, self.schedule, window, "")
            entries = entries_of(recipe, self.backbone.spec.size, state, sources, 0.0)
            if inject_too:
                self.inject(f"{name}/injected", part, entries)
            print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)

    def inject(self, name: str, clips: list[SyntheticClip], entries: list[Any]) -> None:
        prompts = [self.other(clip, 1) for clip in clips]
        videos = []
        for clip, entry, prompt in zip(clips, entries, prompts, strict=True):
            generators = [clip_generator(f"{clip.name} new", 7)]
            begun = State.begin(initial_noise(self.shape, generators), generators)
            words, control = (
                Prompt(*self.text([prompt, ""]).split(1)),
                entry_control(self.backbone, entry),
            )
            video = sample(self.backbone, self.schedule, words, begun, control).latents
            videos.append(video)
        self.judge(name, clips, prompts, torch.cat(videos))

    def table(self) -> dict[str, list[float]]:
        return {
            name: [round(x, 3) for x in interval(values)] for name, values in self.values.items()
        }


def other_prompt(world: World, clip: SyntheticClip, number: int) -> str:
    """A prompt of the clip's kind that does not name its palette."""
    kind = [p for p in world.prompts() if (" over " in p) == (" over " in clip.prompt)]
    fitting = [p for p in kind if clip.palette not in p.split()]
    return random.Random(f"{clip.name} {number}").choice(fitting)


def token_flow(clip: SyntheticClip, frames: int, tokens: int) -> tuple[Tensor, Tensor]:
    """Exact displacement (F, F, S, 2) of tokens in tokens, and where it counts: bool (F, F, S),
    moving by half a token at least and in sight.
    """
    side = clip.size.height // tokens
    times = [max(0, 4 * frame - 2) for frame in range(frames)]
    flow = torch.stack(
        [
            torch.stack(
                [functional.avg_pool2d(clip.flow(i, j)[None], side)[0] / side for j in times]
            )
            for i in times
        ]
    )
    seen = torch.stack(
        [
            torch.stack(
                [
                    functional.avg_pool2d(clip.visible(i, j)[None, None].float(), side)[0, 0]
                    for j in times
                ]
            )
            for i in times
        ]
    )
    flow = flow.flatten(-2).transpose(-1, -2)
    return flow, (seen.flatten(-2) > 0.99) & (flow.norm(dim=-1) >= 0.5)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("backbone")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--motion")
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["world", "amf", "decided", "plain"],
        choices=["world", "amf", "decided", "plain", "none"],
    )
    parser.add_argument("--variables", nargs="*", default=[])
    parser.add_argument("--block", type=int)
    parser.add_argument("--window", type=float)
    parser.add_argument(
        "--rate", type=float, help="the first learning rate; the last is half of it"
    )
    parser.add_argument("--inner", type=int)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--injection", type=int, nargs="*")
    parser.add_argument("--dtype", help="by default what the device computes natively")
    parser.add_argument("--inject", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = options.dtype or native_dtype(device)
    backbone = load_backbone(options.backbone, device=device, dtype=dtype)
    print(f"{backbone.spec.name} in {backbone.dtype} on {device}", flush=True)
    bench = Bench(backbone, options.clips, options.first, options.motion)
    for part in [part for part in options.parts if part != "none"]:
        getattr(bench, f"measure_{part}")()
        print(json.dumps(bench.table(), indent=0), flush=True)
    for variable in options.variables:
        guidance = replace(recommended_guidance(bench.backbone), variable=variable)
        guidance = replace(guidance, learning_rate=bench.advice.learning_rates[variable])
        given = {
            "signal": AttentionMotionFlow(
                options.block if options.block is not None else guidance.signal.block,
                options.temperature,
            ),
            "window": options.window,
            "learning_rate": options.rate and (options.rate, options.rate / 2),
            "inner_steps": options.inner,
            "injection_blocks": options.injection
            if options.injection is None
            else tuple(options.injection),
        }
        guidance = replace(
            guidance, **{key: value for key, value in given.items() if value is not None}
        )
        print(guidance, guidance.signal.describe())
        bench.measure_transfer(variable, guidance, inject_too=options.inject)
        print(
            json.dumps(
                {k: v for k, v in bench.table().items() if k.startswith(variable)}, indent=0
            ),
            flush=True,
        )
    if options.out:
        Path(options.out).write_text(
            json.dumps({"table": bench.table(), "values": bench.values}, indent=1)
        )


if __name__ == "__main__":
    main()
