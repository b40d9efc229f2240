"""Hooks on a frozen, stock diffusers transformer: give each clip and step its own rotary tables,
record q/k/v and features, stop early.

The rotary table is taken out of the call of each self-attention, so that the stock processor skips
its own (in-place) rotation, and the outputs of the query and key norms are rotated here instead.
With the model's own table the result is bit-identical to stock. The table travels as a call
argument: recomputation under gradient checkpointing sees the one that the forward pass saw.
Children carry diffusers' `ModelHook` (survives `torch.compile`), the root plain torch hooks
(survive model offload). Under checkpointing, stay inside the context until backward has finished.
"""

# B batch (b: 1 or B), L text tokens, N video tokens, A heads, D head dim, E hidden dim

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook
from torch import Tensor, nn

from ditflow.core.positions import rotate
from ditflow.core.tokens import KeyValue, Recording

Side = Literal[0, 1]  # of a rotary position: 0 query, 1 key


class StopForward(Exception):
    """Raised inside the transformer when all that was asked for has been recorded."""


@dataclass(frozen=True)
class Layout:
    """Where a family of transformers keeps what the taps touch. Text tokens come first; norms see
    (B, A, L+N, D).
    """

    blocks: str = "transformer_blocks"
    attention: str = "attn1"
    rotary: str = "image_rotary_emb"  # the attention's argument
    tail: str = "norm_final"  # what runs after the last block, on video tokens

    def followers(self, transformer: nn.Module) -> list[nn.Module]:
        """For each block the module that reads its output."""
        return [
            *list(transformer.get_submodule(self.blocks).children())[1:],
            transformer.get_submodule(self.tail),
        ]


@contextmanager
def taps(
    transformer: nn.Module,
    layout: Layout,
    *,
    capture: Collection[int] = (),
    features: Collection[int] = (),
    stop_early: bool = False,
    key_value: KeyValue | None = None,
) -> Iterator[Recording]:
    """Install the hooks; everything is removed on leaving, also after an exception.

    `capture` and `features` are the blocks to record, `key_value` replaces keys and values of video
    tokens. A captured key is the block's own, before replacement. With `stop_early` a forward pass
    raises `StopForward` once the deepest of them is recorded: inside its key norm for `capture`.
    """
    recording, injected = Recording(), key_value or {}
    last = max([*capture, *features], default=-1) if stop_early else -1
    with ExitStack() as stack:
        stack.callback(transformer.register_forward_pre_hook(recording.begin).remove)
        stack.callback(transformer.register_forward_hook(recording.end, always_call=True).remove)
        for index, block in enumerate(transformer.get_submodule(layout.blocks).children()):
            attention: Any = block.get_submodule(layout.attention)
            stops = index == last and index not in features
            tap = _AttentionTap(
                layout,
                attention.heads,
                recording,
                index if index in capture else None,
                injected.get(index),
                stops,
            )
            _hook(stack, attention, before=tap.enter)
            _hook(stack, attention.get_submodule("norm_q"), after=tap.query)
            _hook(stack, attention.get_submodule("norm_k"), after=tap.key)
            if index in capture or index in injected:
                _hook(stack, attention.get_submodule("to_v"), after=tap.value)
        for index, follower in enumerate(layout.followers(transformer)):
            if index in features:
                _hook(
                    stack, follower, before=_FeatureTap(recording, index, stops=index == last).enter
                )
        yield recording


@contextmanager
def added_position(patch_embed: Any, position: Tensor | None) -> Iterator[None]:
    """Let the patch embedding add `position` (b, N, E) to the video tokens in place of its own
    table; None keeps its own.
    """
    if position is None:
        yield
        return

    def add(_: nn.Module, __: Any, embeds: Tensor) -> Tensor:
        text, video = embeds[:, : -position.shape[1]], embeds[:, -position.shape[1] :]
        return torch.cat([text, video + position.to(embeds)], dim=1)

    own = bool(patch_embed.use_positional_embeddings)
    handle = patch_embed.register_forward_hook(add)
    try:
        patch_embed.use_positional_embeddings = False
        yield
    finally:
        patch_embed.use_positional_embeddings = own
        handle.remove()


@dataclass
class _AttentionTap:
    """The hooks of one self-attention. `rotary` and `text` belong to the call that is running."""

    layout: Layout
    heads: int
    recording: Recording
    captured: int | None  # the block's index where it is recorded
    injected: tuple[Tensor, Tensor] | None
    stops: bool
    rotary: Any = None
    text: int = 0

    def enter(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.rotary, self.text = (
            kwargs[self.layout.rotary],
            kwargs["encoder_hidden_states"].shape[1],
        )
        return args, {**kwargs, self.layout.rotary: None}

    def query(self, output: Tensor) -> Tensor:
        text, video = self._split(output.transpose(1, 2), side=0)
        self._record(self.recording.query, video)
        return torch.cat([text, video], dim=1).transpose(1, 2)

    def key(self, output: Tensor) -> Tensor:
        text, video = self._split(output.transpose(1, 2), side=1)
        self._record(self.recording.key, video)
        self._record(self.recording.text_key, text)
        if self.stops and self.recording.live:
            raise StopForward
        video = video if self.injected is None else self.injected[0].to(video).expand_as(video)
        return torch.cat([text, video], dim=1).transpose(1, 2)

    def value(self, output: Tensor) -> Tensor:
        text, video = output[:, : self.text], output[:, self.text :]  # (B, L, E), (B, N, E)
        self._record(self.recording.value, video.view(*video.shape[:-1], self.heads, -1))
        video = (
            video
            if self.injected is None
            else self.injected[1].to(video).flatten(2).expand_as(video)
        )
        return torch.cat([text, video], dim=1)

    def _split(self, output: Tensor, side: Side) -> tuple[Tensor, Tensor]:
        """Text tokens, and rotated video tokens, of (B, L+N, A, D)."""
        text, video = output[:, : self.text], output[:, self.text :]
        return text, video if self.rotary is None else rotate(
            video, *_tables(self.rotary, side, video.device)
        )

    def _record(self, into: dict[int, Tensor], tokens: Tensor) -> None:
        if self.captured is not None and self.recording.live:
            into[self.captured] = tokens


@dataclass(frozen=True)
class _FeatureTap:
    """Reads the output of a block where its follower receives it."""

    recording: Recording
    block: int
    stops: bool

    def enter(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.recording.live:
            self.recording.features[self.block] = args[0] if args else kwargs["hidden_states"]
            if self.stops:
                raise StopForward
        return args, kwargs


def _tables(
    rotary: Tensor | tuple[Tensor, Tensor], side: Side, device: torch.device
) -> tuple[Tensor, Tensor]:
    """cos and sin (b, N, 1, D) of a position (b, 2, 2, N, D), or of the model's own pair of (N,
    D).
    """
    cos, sin = (
        rotary[:, side].unbind(1)
        if isinstance(rotary, Tensor)
        else (table[None] for table in rotary)
    )
    return cos[:, :, None].to(device), sin[:, :, None].to(device)


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


def _hook(
    stack: ExitStack,
    module: nn.Module,
    *,
    before: Callable[..., Any] | None = None,
    after: Callable[..., Any] | None = None,
) -> None:
    """Register on the module until the stack unwinds, and then leave its __dict__ as it was."""
    added = [name for name in ("forward", "_diffusers_hook") if name not in module.__dict__]
    registry = HookRegistry.check_if_exists_or_initialize(module)
    hook = _Hook(before, after)
    name = f"ditflow_{id(hook)}"

    def remove() -> None:
        registry.remove_hook(name, recurse=False)
        hook.before = hook.after = (
            # diffusers leaves a hook in a cycle: what was recorded must not wait there for the
            # garbage collector
            None
        )
        if not registry.hooks:
            for attribute in added:
                module.__dict__.pop(attribute, None)

    stack.callback(remove)
    registry.register_hook(hook, name)
