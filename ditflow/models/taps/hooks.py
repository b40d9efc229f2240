"""Hooks that leave nothing behind on a stock diffusers model.

Modules inside the model carry diffusers' `ModelHook`, which survives `torch.compile`; see
`ditflow.models.taps` for what is done with them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from diffusers.hooks.hooks import HookRegistry, ModelHook
from torch import nn


class _Hook(ModelHook):
    def __init__(self, before: Callable[..., Any] | None, after: Callable[..., Any] | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before, self.after = before, after

    def pre_forward(
        self, module: nn.Module, *args: Any, **kwargs: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self.before(args, kwargs) if self.before is not None else (args, kwargs)

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        return self.after(output) if self.after is not None else output


def hook(
    stack: ExitStack,
    module: nn.Module,
    *,
    before: Callable[..., Any] | None = None,
    after: Callable[..., Any] | None = None,
) -> None:
    """Hook a module until the stack unwinds, and then leave its `__dict__` as it was.

    `before` takes and returns (args, kwargs) of a call, `after` its output.
    """
    own = _Hook(before, after)
    # diffusers leaves a hook in a cycle: what it holds must not wait for the garbage collector
    stack.callback(vars(own).update, before=None, after=None)
    register(stack, module, own)


def register(stack: ExitStack, module: nn.Module, own: ModelHook) -> None:
    """Let a module carry a hook of diffusers until the stack unwinds, and then be as it was."""
    added = [name for name in ("forward", "_diffusers_hook") if name not in module.__dict__]
    registry = HookRegistry.check_if_exists_or_initialize(module)
    name = f"ditflow_{id(own)}"

    def remove() -> None:
        outer = vars(module).get("forward")
        _remove(registry, name)
        if outer is not ours and vars(module).get("forward") is not outer:
            # accelerate has wrapped it since, and keeps what it wraps under this name
            vars(module).update(_old_forward=module.forward, forward=outer)
        elif not registry.hooks:
            for attribute in added:
                module.__dict__.pop(attribute, None)

    stack.callback(remove)
    registry.register_hook(own, name)
    ours = vars(module)["forward"]


def _remove(registry: HookRegistry, name: str) -> None:
    """Take a hook out. One that was registered after it, and that replaces the forward pass, keeps
    doing so: diffusers (0.42) would put what it replaces in its place.
    """
    following = registry._fn_refs[registry._hook_order.index(name) + 1 :][:1]
    replacing = [(ref, ref.forward) for ref in following if ref.original_forward is not None]
    registry.remove_hook(name, recurse=False)
    for ref, forward in replacing:
        ref.original_forward, ref.forward = ref.forward, forward


def watch(
    stack: ExitStack, root: nn.Module, *, begin: Callable[..., None], end: Callable[..., None]
) -> None:
    """Call `begin` before each forward pass and `end` after it, also after one that failed."""
    stack.callback(root.register_forward_pre_hook(begin).remove)
    stack.callback(root.register_forward_hook(end, always_call=True).remove)
