"""Blocks that wait on the CPU, each until its turn, by diffusers' group offload.

A weight that leaves the device is gone from what autograd saved, too. Under checkpointing that does
no harm: a block runs again before its backward pass, which brings its weights back, and diffusers
leaves them there, because the second run ends before the block does. Here they go when the backward
pass has left them behind. Leaves (`leaf_level`) go one by one while their block still runs again,
and gradients are wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from diffusers.hooks.group_offloading import GroupOffloadingHook
from diffusers.hooks.hooks import HookRegistry, ModelHook
from torch import nn

from ditflow.models.loading import ModelError
from ditflow.models.weights.plan import KEPT

HOOK = "group_offloading"  # of diffusers


def offload_blocks(transformer: Any, blocks: Sequence[nn.Module], device: torch.device) -> None:
    """Let the blocks of a transformer wait on the CPU, and run on the device."""
    transformer.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
    )
    there: dict[int, Any] = {}
    for index, block in enumerate(blocks):
        registry = HookRegistry.check_if_exists_or_initialize(block)
        hook: Any = registry.get_hook(HOOK)
        registry.register_hook(_Leave(index, hook.group, there), "ditflow_leave")


class _Leave(ModelHook):
    """Sends blocks away that a second run has brought, once the backward pass is beyond them.

    It goes from the last block to the first. When one runs again, some of what the next one was
    given has its gradient, so all after that one are done.
    """

    def __init__(self, index: int, group: Any, there: dict[int, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.index, self.group, self.there = index, group, there

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        near = range(self.index, self.index + KEPT)
        for index in [index for index in self.there if index not in near]:
            self.there.pop(index).offload_()
        self.there[self.index] = self.group
        return args, kwargs

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        self.there.pop(self.index, None)
        return output


def check_gradients(experts: Iterable[nn.Module], *, checkpointing: bool) -> None:
    """Raise ModelError where gradients would be wrong, because of how weights are offloaded."""
    for expert in experts:
        kinds = {hook.config.offload_type.value for hook in _offloads(expert)}
        if "leaf_level" in kinds:
            raise ModelError(
                "the transformer is offloaded leaf by leaf (leaf_level), which makes gradients "
                "wrong, so nothing can be optimised on it: offload it by "
                "enable_group_offload(offload_type='block_level', num_blocks_per_group=1), or not "
                "at all. Injection works as it is."
            )
        if any((hook.config.num_blocks_per_group or 1) > 1 for hook in _offloads(expert)):
            raise ModelError(
                "the blocks of the transformer wait on the CPU in groups of several "
                "(num_blocks_per_group), which makes gradients wrong, so nothing can be optimised "
                "on it: offload it with num_blocks_per_group=1."
            )
        if kinds and not checkpointing:
            raise ModelError(
                "the blocks of the transformer wait on the CPU (group offload), and without "
                "gradient checkpointing they are gone when the backward pass needs them: use "
                "--model.gradient_checkpointing true, or MotionGuidance(checkpointing=True)."
            )


def _offloads(module: nn.Module) -> list[GroupOffloadingHook]:
    """The hooks of diffusers' group offload on a module and what is in it."""
    hooks = (_hooks(part).get(HOOK) for part in module.modules())
    return [hook for hook in hooks if isinstance(hook, GroupOffloadingHook)]


def _hooks(module: nn.Module) -> dict[str, ModelHook]:
    registry = getattr(module, "_diffusers_hook", None)
    return {} if registry is None else registry.hooks
