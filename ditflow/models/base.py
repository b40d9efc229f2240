"""What ditflow needs of a video diffusion transformer, whichever family it is of.

Nothing else in the project knows a family. A family is one file: a subclass of `Model` that fills
in the abstract members and the class attributes, and one line in `registry.py`.
"""

# B batch (b: 1 or B), T pixel frames, C channels, Y X pixel rows and columns, F latent frames,
# Hl Wl latent rows and columns, N video tokens, L text tokens, E hidden dim, A heads, D head dim

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from ditflow.core.noise import NoiseLevel, separate
from ditflow.core.picture import Picture
from ditflow.core.positions import Positions
from ditflow.core.schedule import DenoisingSchedule, GuidanceKind, Scale, Step
from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import KeyValue, Recording
from ditflow.models.checks import Checks
from ditflow.models.loading import ModelError
from ditflow.models.spec import Kept, ModelSpec
from ditflow.models.taps import Backend, Layout, compile_blocks, taps

__all__ = ["Model", "ModelError", "ModelSpec"]


class Model(Checks):
    """A frozen video diffusion transformer with its VAE, text encoder and scheduler.

    Latents are float32 (B, F, C, Hl, Wl), scaled, whatever order the family has. A position is one
    float32 tensor: rotary (b, 2, 2, N, D) of [query, key][cos, sin], or (b, 2, 2, N, A, D) where
    heads differ, or sinusoidal (b, N, E); None means the model's own. Weights never require
    gradients; gradients flow to latents and positions.
    """

    layout: ClassVar[Layout]
    kept: ClassVar[Kept]

    compiled = False  # whether its blocks are

    @abstractmethod
    def schedule(
        self, steps: int, guidance_scale: Scale = 7.0, guidance: GuidanceKind | None = None
    ) -> DenoisingSchedule:
        """The scheduler's steps, so many of them.

        `guidance` None means the published kind for this scheduler. Raises ModelError for a number
        of steps that the scheduler cannot take.
        """

    @abstractmethod
    def level(self, timestep: float) -> NoiseLevel:
        """The noise of the forward process at a timestep.

        Raises ModelError for a timestep that the scheduler does not have.
        """

    @abstractmethod
    def timestep_of(self, share: float) -> float:
        """The timestep at which noise has this share of the variance, or nearly."""

    @abstractmethod
    def positions(self, grid: TokenGrid) -> Tensor:
        """Where the model's own positions put its tokens: float32 (N, 3) of (t, y, x)."""

    @abstractmethod
    def tables(self, positions: Tensor) -> Tensor:
        """Rotary tables of positions (..., N, 3): (..., 2, N, D) of [cos, sin], differentiable.

        (..., 2, N, A, D) where heads differ. The model's own positions give its own table, bit by
        bit.
        """

    @abstractmethod
    def predict(
        self,
        latents: Tensor,
        timestep: float,
        text: Tensor,
        position: Tensor | None = None,
        picture: Picture | None = None,
    ) -> Tensor | None:
        """The transformer's output in float32, shaped like the latents; None if a tap stopped it.

        `text` is (b, L, .) as `embed` makes it, and `picture` as `look` does. Runs in the
        transformer's dtype.
        """

    def position_at(self, positions: Tensor) -> Tensor:
        """The position that puts tokens at places (b, N, 3) of (t, y, x), for queries and keys.

        Differentiable. The model's own places give its own position, bit by bit.
        """
        tables = self.tables(positions)
        return tables[:, None].expand(-1, 2, *tables.shape[1:])

    def stock_position(self, grid: TokenGrid) -> Tensor:
        """The model's own position, b = 1."""
        return self.position_at(self.positions(grid)[None])

    def placed(self, position: Tensor | None, latents: Tensor) -> Tensor | None:
        """What a pass puts in the place of the model's own position; None leaves it.

        Blocks that are compiled see one position for each clip, also the model's own: all passes
        look alike to them.
        """
        if not self.compiled or self.spec.position == "sinusoidal":
            return position
        if position is None:
            position = self.stock_position(self.spec.compression.grid_of(latents))
        position = position.expand(len(latents), *position.shape[1:])
        return position.clone(memory_format=torch.contiguous_format)

    def guided(
        self,
        latents: Tensor,
        step: Step,
        text: Tensor,
        negative: Tensor,
        positions: Positions = Positions(),  # noqa: B008  a value that nobody changes
        picture: Picture | None = None,
    ) -> Tensor:
        """The output of a step after classifier-free guidance (Ho and Salimans, 2207.12598).

        It takes as many passes as the spec says, here two, and one more for a motion scale. At a
        scale of 1 the negative prompt has no weight and takes none. All of them see the picture;
        where it stands in the place of the first frame, the output leads that frame to it.
        """
        scale = step.guidance_scale

        def passed(condition: Tensor, position: Tensor | None) -> Tensor:
            output = self.predict(latents, step.timestep, condition, position, picture)
            assert output is not None
            return output

        unconditional = None if scale == 1 else passed(negative, positions.unconditional)

        def prompted(output: Tensor) -> Tensor:
            if unconditional is None:
                return output
            return unconditional + scale * (output - unconditional)

        conditional = passed(text, positions.conditional)
        if positions.motion_scale is None:
            output = prompted(conditional)
        else:
            still = passed(text, positions.unconditional)
            output = prompted(still) + positions.motion_scale * (conditional - still)
        if picture is None:
            return output
        return picture.led(output, latents, step.level, self.spec.prediction)

    def advance(
        self,
        output: Tensor,
        step: Step,
        latents: Tensor,
        memory: Tensor | None,
        generators: Sequence[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        """One step of the scheduler: the next latents, and what the solver remembers.

        `memory` (B, M, F, C, Hl, Wl) is that of the step before; the clean latents predicted now
        come first in it. `generators` are one for each clip, for solvers that add noise. Here it is
        the deterministic step: DDIM, or Euler on a flow.
        """
        clean, noise = separate(latents, output, step.level, self.spec.prediction)
        return step.next_level.mix(clean, noise), clean[:, None]

    def compile(self, backend: Backend = "inductor") -> None:
        """Compile the blocks, once with gradients and once without; see `taps.compiled`."""
        for expert in self.experts:
            compile_blocks(expert, self.layout, backend)
        self.compiled = True

    @contextmanager
    def tapped(
        self,
        capture: Collection[int] = (),
        features: Collection[int] = (),
        text: Collection[int] = (),
        *,
        stop_early: bool = False,
        key_value: KeyValue | None = None,
        checkpointing: bool = False,
        seen_as: float | None = None,
    ) -> Iterator[Recording]:
        """Record or replace what the transformer computes; see `ditflow.models.taps.taps`.

        `predict` takes a rotary position inside this context only. With `seen_as` it runs the
        expert of that timestep, whatever timestep it is told. Raises ModelError for a block that
        does not exist.
        """
        assert not self._tapped, "taps do not nest: one context records and replaces all"
        self.check_blocks([*capture, *features, *text, *(key_value or {})])
        wanted: dict[str, Any] = {"capture": capture, "features": features, "text": text}
        wanted |= {"stop_early": stop_early, "key_value": key_value}
        recording = Recording()
        with ExitStack() as stack:
            for expert in self.experts:
                stack.enter_context(taps(expert, self.layout, recording, **wanted))
                stack.callback(
                    setattr, expert, "gradient_checkpointing", expert.gradient_checkpointing
                )
                if checkpointing:
                    expert.enable_gradient_checkpointing()
            stack.callback(vars(self).update, _tapped=False, seen_as=None)
            self._tapped, self.seen_as = True, seen_as
            yield recording
