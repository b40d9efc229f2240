"""Parts of a model that take turns on a device: two experts, and transformer and encoders."""

from __future__ import annotations

from typing import Any

import torch


class Turns:
    """While encoders are on the device the transformer waits on the CPU, and they are freed when it
    runs. Blocks that wait there by themselves stay `offloaded`.
    """

    def __init__(self, model: Any, *, offloaded: bool) -> None:
        self.model, self.offloaded, self.away = model, offloaded, True
        model.encoders.before_load = self.encoders_come

    def encoders_come(self) -> None:
        """Called before an encoder is loaded."""
        if not self.away and not self.offloaded:
            self.model.transformer.to("cpu")
            if self.model.device.type == "cuda":
                torch.cuda.empty_cache()
        self.away = True

    def encoders_go(self) -> None:
        """Called before a transformer comes."""
        if self.away:
            self.model.encoders.release()

    def transformer_comes(self) -> None:
        """Called before the transformer runs."""
        if self.away:
            self.encoders_go()
            if not self.offloaded:
                self.model.transformer.to(self.model.device)
        self.away = False


def exchange(model: Any, expert: Any) -> None:
    """Put one of two experts on the device and the other one on the CPU, unless a pipeline places
    them itself.
    """
    if model.turns is not None:
        model.turns.encoders_go()
    for one, place in ((model.transformer, "cpu"), (expert, model.device)):
        layerwise = one.device.type == "meta"  # offload brings its weights by itself
        if model.moves_experts and not layerwise:
            one.to(place)
    model.transformer = expert
