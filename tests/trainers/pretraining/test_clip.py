"""The recipe of the embedded CLIP: its loss, its input, and two steps of it from the configuration
that ships.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from datamodules.pretraining import world_stills
from datamodules.synthetic import HELD_OUT, World
from ditflow.metrics import load_clip
from trainers.pretraining.backbone import main
from trainers.pretraining.clip import contrastive_loss, normalised

ROOT = Path(__file__).resolve().parents[3]


def test_loss_of_certainty_and_of_ignorance() -> None:
    """Three images of four prompts, of which two share one: being sure costs log 2 for that one of
    two prompts, ignorance the logarithms of the choices.
    """
    prompt = torch.tensor([2, 0, 2])
    sure = torch.nn.functional.one_hot(prompt, 4) * 100.0
    assert contrastive_loss(sure, prompt).item() == pytest.approx((math.log(2) / 2) / 2, abs=1e-5)
    assert contrastive_loss(torch.zeros(3, 4), prompt).item() == pytest.approx(
        (math.log(4) + math.log(3)) / 2, abs=1e-5
    )


def test_stills_carry_their_prompt() -> None:
    stills = world_stills(range(HELD_OUT, HELD_OUT + 3), 2)
    assert stills["image"].shape == (6, 3, 64, 64) and stills["image"].dtype == torch.uint8
    assert stills["prompt"][::2].equal(stills["prompt"][1::2])
    clip = World().clip(HELD_OUT + 2)
    assert World().prompts()[int(stills["prompt"][4])] == clip.prompt
    torch.testing.assert_close(stills["image"][4:], clip.frames[[0, -1]])


def test_training_sees_what_the_processor_gives() -> None:
    frames = World().clip(0).frames[:2]
    given = load_clip("tiny-clip").processor(
        images=list(frames.permute(0, 2, 3, 1).numpy()), return_tensors="pt"
    )["pixel_values"]
    torch.testing.assert_close(normalised(frames.float()), given, rtol=0, atol=1e-5)


def test_two_steps_make_a_folder_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [
        "--model.init_args.out=clip",
        "--data.init_args.clips=4",
        "--data.init_args.batch_size=8",
        "--trainer.max_steps=2",
        "--trainer.accelerator=cpu",
    ]
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "pretraining",
            "fit",
            f"--config={ROOT / 'configs' / 'pretrain' / 'clip.yaml'}",
            "--trainer.enable_progress_bar=false",
            *settings,
        ],
    )
    main()
    clip = load_clip("clip")
    assert clip.images(World().clip(0).frames[:1]).shape == (1, 64) and clip.texts(
        ["red clouds"]
    ).shape == (1, 64)
