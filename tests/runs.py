"""A run folder as `ditflow test` writes it, made from clips of the synthetic world: a method's
videos move like the reference, more or less.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from datamodules.synthetic import CAMERA_MOTIONS, SyntheticClip, World
from ditflow.video import write_video
from trainers.benchmark.methods import ZERO_SHOT

KINDS = ("caption", "subject", "scene")
METRICS = (
    ("motion_fidelity", "Motion fidelity", "higher"),
    ("prompt_fidelity", "Prompt fidelity", "higher"),
    ("appearance_leakage", "Leakage", "lower"),
)
METHODS = ("backbone", "ditflow-latents")


def write_run(
    folder: Path,
    clips: Sequence[str] = ("pan", "zoom"),
    methods: Sequence[str] = METHODS,
    kinds: Sequence[str] = KINDS,
    prompt: str | None = None,
) -> Path:
    """All results have this prompt, or one each that fits its video. Zero-shot methods, by their
    names, have no videos of the first kind.

    The numbers follow a rule, so that a test knows them: motion fidelity is (clip index + 10 *
    method index + kind index) / 100.
    """
    for place in ("references", *(f"results/{method}" for method in methods)):
        (folder / place).mkdir(parents=True, exist_ok=True)
    worlds = [
        World().clip(index, CAMERA_MOTIONS[index % len(CAMERA_MOTIONS)])
        for index in range(len(clips))
    ]
    for name, clip in zip(clips, worlds, strict=True):
        _video(folder / "references", name, clip, 1.0)
    for m, method in enumerate(methods):
        for c, clip in enumerate(clips):
            for k, kind in list(enumerate(kinds))[method.endswith(ZERO_SHOT) :]:
                other = World().clip(1000 + 7 * c + k, worlds[c].motion)
                _video(
                    folder / "results" / method, f"{clip}--{kind}", other, (m + 1) / len(methods)
                )
                _write(
                    folder / "results" / method / f"{clip}--{kind}.json",
                    result(method, m, clip, c, kind, k, other.prompt if prompt is None else prompt),
                )
    described = {
        "schema": 1, "ditflow": "1.0", "backbone": "tiny-rope",
        "fingerprint": "f" * 16, "size": [25, 64, 64], "grid": [7, 8, 8],
        "date": "2026-01-02T03:04:05",
        "tracker": "lucas-kanade", "clip_model": "tiny-clip", "baseline": "ditflow-latents",
        "methods": [
            {
                "name": method, "label": method, "setup": method, "variable": "latents",
                "zero_shot": method.endswith(ZERO_SHOT),
            }
            for method in methods
        ],
        "clips": list(clips), "prompt_kinds": list(kinds),
        "metrics": [
            dict(zip(("name", "label", "better"), metric, strict=True)) for metric in METRICS
        ],
    }  # fmt: skip
    _write(folder / "run.json", described)
    return folder


def repeat_clip(folder: Path, clips: Sequence[str]) -> None:
    """More clips in a run, whose files are copies of the first one's: a large run at no cost."""
    described = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    first = described["clips"][0]
    for file in [
        *(folder / "references").glob(f"{first}.*"),
        *(folder / "results").glob(f"*/{first}--*"),
    ]:
        for clip in clips:
            shutil.copy(file, file.with_name(clip + file.name.removeprefix(first)))
    _write(folder / "run.json", described | {"clips": [*described["clips"], *clips]})


def result(method: str, m: int, clip: str, c: int, kind: str, k: int, prompt: str) -> dict:
    fidelity = (c + 10 * m + k) / 100
    losses = (
        [
            [math.exp(-(step * 5 + update) / (10 + 2 * m)) * (1 + 0.1 * m) for update in range(5)]
            for step in range(4)
        ]
        if m
        else []
    )
    return {
        "method": method, "clip": clip, "kind": kind, "prompt": prompt, "seed": c,
        "video": None, "flow": None, "seconds": 1.5 + m, "peak_memory_bytes": 10**9,
        "forward_equivalents": 50.0 * (1 + m), "entry_bytes": 4096 * m, "losses": losses,
        "zero_shot_from": None, "error": None,
        "metrics": {
            "motion_fidelity": fidelity, "prompt_fidelity": 0.3 - fidelity / 10,
            "appearance_leakage": None if m == 0 and c == 0 else 0.5 + fidelity,
        },
    }  # fmt: skip


def _video(folder: Path, name: str, clip: SyntheticClip, obeyed: float) -> None:
    path = folder / f"{name}.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, clip.frames, 8.0)
    save_file({"flow": (_flow(clip) * obeyed).half()}, path.with_name(f"{path.stem}.safetensors"))


def _flow(clip: SyntheticClip) -> Tensor:
    """Exact displacement (6, 2, 8, 8), in tokens of 8 pixels, from each fourth frame to the
    next.
    """
    flows = torch.stack(
        [clip.flow(frame, frame + 4) for frame in range(0, clip.frames.shape[0] - 1, 4)]
    )
    return torch.nn.functional.avg_pool2d(flows, 8) / 8


def _write(path: Path, data: dict) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")
