"""What to optimise, where and how fast, for each backbone: the values that `None` stands for in
MotionOptimization.

The two published CogVideoX backbones have the published values (DiTFlow, Pondaven et al., CVPR
2025); the embedded ones have what was measured best on held-out clips (BENCHMARKS.md). A backbone
is recognised by its kind of position and its depth, so a local copy or a fine-tuned one has the
same values.
Learning rates are in the unit of the variable: `rotary_positions` moves tokens, so its rates are
larger than those of tables and latents. Those of the updates `sgd` and `score` multiply the
gradient of a loss that is a mean, so that of `score` goes with the number of things that the mean
is taken over.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True)
class Recommendation:
    """`window` is the guided fraction of the steps; `learning_rates` maps a variable, or an update
    other than Adam, to its (first, last) rate.

    `checkpointing` is for backbones whose backward pass does not fit into a GPU's memory otherwise.
    """

    block: int
    variable: str
    window: float = 0.2
    checkpointing: bool = True
    steps: int = 50
    guidance_scale: float = 7.0
    negative_prompt: str = (
        "bad quality, distortions, unrealistic, distorted image, watermark, signature"
    )
    injection_blocks: tuple[int, ...] = (0,)
    learning_rates: dict[str, tuple[float, float]] = field(
        default_factory=lambda: {
            "latents": (0.002, 0.001),
            "rotary_tables": (0.002, 0.001),
            "sinusoidal": (0.002, 0.001),
            "rotary_positions": (0.04, 0.02),
            "sgd": (5.0, 5.0),  # MotionFlow's, for any variable
            "score": (
                1.4e5,
                1.4e5,
                # MotionClone's 2000 for 6 modules of 32,768 rows, for one block of 48 heads x 1,350
                # tokens x 6 frames
            ),
        }
    )


_embedded = partial(
    Recommendation,
    window=0.8,
    checkpointing=False,
    steps=25,
    guidance_scale=1.5,
    negative_prompt="",
    learning_rates={
        "latents": (0.01, 0.005),
        "rotary_tables": (0.01, 0.005),
        "sinusoidal": (0.02, 0.01),
        "rotary_positions": (0.08, 0.04),
        "sgd": (5.0, 5.0),
        "score": (650.0, 650.0),
    },
)
RECOMMENDED: dict[tuple[str, int], Recommendation] = {
    ("rotary", 42): Recommendation(block=20, variable="rotary_tables"),
    ("sinusoidal", 30): Recommendation(block=15, variable="sinusoidal"),
    ("rotary", 8): _embedded(block=5, variable="rotary_positions"),
    ("sinusoidal", 8): _embedded(block=7, variable="sinusoidal"),
}


def recommended(position: str, blocks: int) -> Recommendation:
    """The values for a backbone with that kind of position and so many blocks: unknown ones get the
    published values and their middle block.
    """
    variable = "sinusoidal" if position == "sinusoidal" else "rotary_tables"
    return RECOMMENDED.get((position, blocks), Recommendation(block=blocks // 2, variable=variable))
