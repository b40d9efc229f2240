"""What a representation of motion must offer: how it looks at its reference, what it reads from a
transformer, and how two clips differ in it.
"""

# B batch, R clips shown for each reference, F latent frames, C channels, Hl Wl latent rows and
# columns, L text tokens

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, fields, replace
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar, get_args

from torch import Tensor

from ditflow.core.sizes import TokenGrid
from ditflow.core.tokens import Recording

Motion = TypeVar(
    "Motion"
)  # what a signal keeps of its reference: a tensor (B, ...), or a tuple of such
Anew = Literal["match", "inverted"]  # looks that are taken at each guided step
Timestep = int | Anew
Subject = (
    str | int
)  # words of a prompt, or the place of one of them, counted from 0, negative from the end


class Words(NamedTuple):
    """What each text token is in the reference's caption and in the generated prompt, int (B, L): 0
    padding, 1 a word, 2 a word of the subject.
    """

    caption: Tensor
    prompt: Tensor


class View(NamedTuple):
    """How the transformer is shown a reference: at which timestep it is said to be, and with which
    share of noise in its variance, 0 clean to 1 noise.

    A timestep None is the scheduler's for that noise, a noise None the scheduler's for that
    timestep. At the timestep "match" the reference is looked at anew in each guided step, noised to
    that step; at "inverted" too, as it is there when it is inverted: by deterministic first-order
    steps over the sampler's schedule, run backwards.
    """

    timestep: Timestep | None
    noise: float | None

    @property
    def anew(self) -> bool:
        """Whether each guided step has a look of its own."""
        return isinstance(self.timestep, str)


@dataclass(frozen=True)
class MotionSignal(ABC, Generic[Motion]):
    """A representation of motion at one transformer block, with the loss that compares two of them.

    Its fields are its options. `capture` and `features` are the blocks whose query, key and value,
    or whose output, it reads. `view` is how it was published to look at its reference: with the
    clip's caption if it has `subjects`, else with the empty prompt.

    Attributes:
        block: where it is read, counted from 0; None is the block recommended for the model.
        reference_timestep: the scheduler's timestep at which the reference is shown, or match for
            that of each guided step, or inverted for that and the reference's own noise there; None
            is as published. Timestep 0 is clean, any other brings its own noise.
        reference_noise: the share of noise in the variance of the reference, 0 clean to 1 noise;
            None follows from the timestep. Without a timestep, the timestep follows from it.
    """

    name: ClassVar[str]
    view: ClassVar[View] = View(0, 0.0)

    block: int | None = None
    _: KW_ONLY
    reference_timestep: Timestep | None = None
    reference_noise: float | None = None

    def __post_init__(self) -> None:
        if not (
            self.reference_timestep in (None, *get_args(Anew))
            or _at_least_0(self.reference_timestep)
        ):
            raise ValueError(
                f"reference_timestep={self.reference_timestep!r}: it is a timestep of the "
                "scheduler, counted from 0, or 'match' or 'inverted'."
            )
        if self.reference_noise is not None and not 0 <= self.reference_noise <= 1:
            raise ValueError(
                f"reference_noise={self.reference_noise}: it is the share of noise in the "
                "variance, from 0 (clean) to 1."
            )
        if isinstance(self.reference_timestep, str) and self.reference_noise is not None:
            raise ValueError(
                f"reference_timestep {self.reference_timestep!r} takes the noise of each guided "
                "step: leave reference_noise out."
            )

    @property
    def read_block(self) -> int:
        """The block to read. Raises ValueError where neither the user nor `placed` gave one."""
        if self.block is None:
            raise ValueError(
                f"signal {self.name!r} has no block to read: give it one, such as "
                f"{type(self).__name__}(block=5)."
            )
        return self.block

    def placed(self, block: int) -> Self:
        """The same signal, read at this block unless it has a block of its own."""
        return self if self.block is not None else replace(self, block=block)

    @property
    def capture(self) -> tuple[int, ...]:
        return ()

    @property
    def features(self) -> tuple[int, ...]:
        return ()

    @property
    def text(self) -> tuple[int, ...]:
        """The blocks whose attention to text it reads."""
        return ()

    @property
    def subjects(self) -> tuple[Subject, Subject | None] | None:
        """Words of the prompt, and of the reference's caption if others, whose tokens it must know;
        None if it reads no words.
        """
        return None

    @property
    def looks(self) -> View:
        """How it looks at its reference: as asked for, else as published."""
        if self.reference_timestep is None and self.reference_noise is None:
            return self.view
        return View(
            self.reference_timestep,
            0.0
            if self.reference_timestep == 0 and self.reference_noise is None
            else self.reference_noise,
        )

    @property
    def clips_shown(self) -> int:
        """R, how many clips it must see of each reference."""
        return 1

    def shown(self, latents: Tensor, grid: TokenGrid) -> Tensor:
        """The clips (R*B, F, C, Hl, Wl) that it must see of reference latents (B, ...): these come
        first.
        """
        return latents

    @abstractmethod
    def reference(
        self, recording: Recording, grid: TokenGrid, words: Words | None = None
    ) -> Motion:
        """The motion of the reference clips, float32 and without gradient, from a recording of what
        was `shown`; `words` are there if it has `subjects`.
        """

    @abstractmethod
    def loss(self, recording: Recording, grid: TokenGrid, reference: Motion) -> Tensor:
        """How far each clip's present motion is from its reference, (B,), float32 and
        differentiable.
        """

    @abstractmethod
    def is_static(self, reference: Motion) -> Tensor:
        """bool (B,): where the reference holds no motion, so that the loss is 0 whatever is
        generated.
        """

    def describe(self) -> dict[str, Any]:
        """Its name and arguments, but for those that are None, as JSON values;
        `SIGNALS[name](**arguments)` makes it again.
        """
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"name": self.name} | {
            name: value for name, value in arguments.items() if value is not None
        }


def _at_least_0(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
