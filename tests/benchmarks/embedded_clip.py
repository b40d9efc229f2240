"""Measure how well a CLIP knows the synthetic world, on held-out clips.

python -m tests.benchmarks.embedded_clip tiny-clip --clips 200

A video is ranked against every prompt by the mean cosine of its frames. Half of the clips have a
sprite. The last lines give prompt fidelity, leakage and temporal consistency of the world itself,
as a scale to read results by.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from datamodules.synthetic import SPRITE_MOTIONS, SyntheticClip, World
from ditflow.metrics import ClipModel, load_clip

STRIDE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", default="tiny-clip")
    parser.add_argument("--clips", type=int, default=200, help="held-out clips, from seed 0")
    options = parser.parse_args()
    world, clip = World(), load_clip(options.clip)
    prompts, parts = world.prompts(), {"clouds": [], "sprites": []}
    for seed in range(options.clips):
        sample = world.clip(seed, SPRITE_MOTIONS[seed % len(SPRITE_MOTIONS)] if seed % 2 else None)
        parts["clouds" if len(sample.layers) == 1 else "sprites"].append(
            (sample, clip.images(sample.frames[::STRIDE]))
        )
    texts = clip.texts(prompts)
    for name, samples in parts.items():
        report(name, samples, prompts, texts)
    scale(clip, [sample for samples in parts.values() for sample in samples])


def report(
    name: str, samples: list[tuple[SyntheticClip, Tensor]], prompts: list[str], texts: Tensor
) -> None:
    """Print how often a sample's own prompt is first and in the first ten, and each word right.

    Its own prompt is ranked among those of its kind.
    """
    sprites = name == "sprites"
    own = [number for number, prompt in enumerate(prompts) if (" over " in prompt) == sprites]
    ranked = [
        (sample, (images @ texts[own].mT).mean(0).argsort(descending=True))
        for sample, images in samples
    ]
    first = [prompts[own[int(order[0])]] for _, order in ranked]
    ten = [
        any(prompts[own[int(number)]] == sample.prompt for number in order[:10])
        for sample, order in ranked
    ]
    words = [
        [a == b for a, b in zip(guess.split(), sample.prompt.split(), strict=True)]
        for guess, (sample, _) in zip(first, ranked, strict=True)
    ]
    right = torch.tensor(words).float().mean(0)
    exact = [guess == sample.prompt for guess, (sample, _) in zip(first, ranked, strict=True)]
    found = f"exact {share(exact):.2f}, in ten {share(ten):.2f}"
    print(f"{name}: {len(samples)} clips, {len(own)} prompts, {found}")
    each = zip(ranked[0][0].prompt.split(), right.tolist(), strict=True)
    print("  word by word: " + ", ".join(f"{word} {value:.2f}" for word, value in each))


def share(verdicts: list[bool]) -> float:
    return sum(verdicts) / len(verdicts)


def scale(clip: ClipModel, samples: list[tuple[SyntheticClip, Tensor]]) -> None:
    """Print metrics of the world itself."""
    means = torch.stack([images.mean(0) for _, images in samples])
    looks = torch.nn.functional.normalize(means, dim=-1)
    texts = clip.texts([sample.prompt for sample, _ in samples])
    own, other = (
        torch.stack(
            [(images @ text).mean() for (_, images), text in zip(samples, rows, strict=True)]
        )
        for rows in (texts, texts.roll(1, 0))
    )
    others = ~torch.eye(len(samples), dtype=torch.bool)
    same = torch.tensor([[a.prompt == b.prompt for a, _ in samples] for b, _ in samples])
    alike = looks @ looks.mT
    steady = torch.stack([(images[1:] * images[:-1]).sum(-1).mean() for _, images in samples])
    print(f"prompt fidelity: own prompt {own.mean():.3f}, another clip's {other.mean():.3f}")
    leaks, leaks_not = alike[same & others].mean(), alike[~same & others].mean()
    print(f"leakage between two clips: same prompt {leaks:.3f}, another {leaks_not:.3f}")
    print(f"temporal consistency every {STRIDE} frames: {steady.mean():.3f}")


if __name__ == "__main__":
    main()
