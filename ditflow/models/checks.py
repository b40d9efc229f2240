"""What a model refuses, in one sentence each."""

from __future__ import annotations

from collections.abc import Collection

from ditflow.core.picture import Picture
from ditflow.models.loading import ModelError
from ditflow.models.parts import Parts


class Checks(Parts):
    """Parts that say what cannot be done with them."""

    _tapped = False

    def check_blocks(self, blocks: Collection[int]) -> None:
        """Raise ModelError unless all of these blocks exist."""
        for block in blocks:
            if not 0 <= block < self.spec.blocks:
                raise ModelError(
                    f"there is no block {block}: {self.spec.name!r} has blocks 0 to "
                    f"{self.spec.blocks - 1}. Choose one of these."
                )

    def check_steps(self, steps: int) -> None:
        """Raise ModelError for a number of steps that the scheduler cannot take."""
        trained = self.scheduler.config.num_train_timesteps
        if not 1 <= steps <= trained:
            raise ModelError(
                f"{steps} denoising steps were asked for; {self.spec.name!r} can take 1 to "
                f"{trained}."
            )

    def no_timestep(self, timestep: float, last: float) -> ModelError:
        """What to raise for a timestep beyond 0 to the last."""
        return ModelError(
            f"there is no timestep {timestep} to look at the reference: those of "
            f"{self.spec.name!r} are 0 to {last}."
        )

    def check_picture(self, picture: Picture | None) -> None:
        """Raise ModelError where a picture is given and none is taken, or one is missing."""
        given = picture is not None
        if self.spec.picture == ("none" if given else "required"):
            said = "makes a picture move, and none was given. Make it with look()."
            if given:
                said = "takes no picture, and one was given. Leave it out."
            raise ModelError(f"{self.spec.name!r} {said}")

    def check_tapped(self) -> None:
        """Raise ModelError outside of `tapped`, where nothing applies a rotary position."""
        if not self._tapped:
            raise ModelError(
                "a rotary position is applied by hooks: call predict inside "
                "`with backbone.tapped():`."
            )
