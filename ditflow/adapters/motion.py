"""Put a motion on a diffusers pipeline, as one puts a LoRA on it.

The pipeline stays stock: nothing of it is copied or subclassed. Before each pass of its transformer
a hook asks the same control that `inject_motion` uses where the tokens are. The initial noise moves
along where the pipeline prepares it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial, wraps
from inspect import signature
from numbers import Real
from typing import Any, NoReturn, Self, cast
from weakref import WeakKeyDictionary, ref

import torch
from diffusers import DiffusionPipeline
from diffusers.hooks.hooks import BaseState, HookRegistry, ModelHook, StateManager
from diffusers.utils.torch_utils import unwrap_module
from torch import nn

from ditflow.adapters.call import Acting, Call
from ditflow.adapters.pipeline import as_it_was, model_of, transformers_of
from ditflow.bank.kinds import AnyEntry
from ditflow.compatibility import Injection
from ditflow.core.given import check_kind
from ditflow.core.sizes import VideoSize
from ditflow.fields.field import MotionField
from ditflow.models.placing import PositionSlot
from ditflow.models.taps import Args, Kwargs, taps
from ditflow.models.taps.hooks import register
from ditflow.sampling.placement import check_strength

# transformers that have a motion, and which one; its hooks on them keep it alive
LOADED: WeakKeyDictionary[nn.Module, ref[LoadedMotion]] = WeakKeyDictionary()


class LoadedMotion:
    """A motion on a pipeline, until `remove`; as a context manager, until the block ends.

    Change `strength` at any time: 0 is the plain pipeline, 1 the motion as it is. While it is
    loaded, use the transformer through this pipeline alone. Raises what `load_motion` raises.
    """

    def __init__(self, pipe: Any, motion: AnyEntry | MotionField, how: Injection) -> None:
        check_free(pipe)
        with as_it_was(pipe):
            self._model = model_of(pipe)
        self._pipe, self._motion, self._how = pipe, motion, how
        Acting.of(self._model, motion, how)  # refuses what does not fit before anything changes
        self._slot = PositionSlot()
        self._call: Call | None = None
        with ExitStack() as stack:  # unwinds what is there if one of them fails
            for transformer in transformers_of(pipe):
                self._install(stack, transformer)
            self._install_noise(stack)
            self._stack = stack.pop_all()

    @property
    def strength(self) -> float:
        """How much of the motion there is: 0 none of it, 1 all."""
        return self._how.strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._how = replace(self._how, strength=checked_strength(strength))
        if self._call is not None:
            acting = Acting.of(self._model, self._motion, self._how, self._call.size)
            self._call = replace(self._call, acting=acting, last=None)

    def remove(self) -> None:
        """Make the pipeline what it was. A second time it does nothing."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _install(self, stack: ExitStack, transformer: Any) -> None:
        """The hooks of one transformer. The first of them fills the slot that the others read."""
        inner, layout, told = unwrap_module(transformer), self._model.layout, _PassName()
        LOADED[inner] = ref(self)
        stack.callback(LOADED.pop, inner, None)
        for copied in (transformer, inner):  # a compiled one and what it compiles, or one twice
            vars(copied)["__reduce_ex__"] = _refuse_copy
            stack.callback(vars(copied).pop, "__reduce_ex__", None)
        registry = HookRegistry.check_if_exists_or_initialize(inner)
        stack.callback(registry.invalidate_child_registries_cache)
        # a compiled transformer must not be compiled again for each step's numbers
        enter = torch.compiler.disable(partial(self._enter, told))
        enter = transformer.register_forward_pre_hook(enter, with_kwargs=True)
        stack.callback(enter.remove)
        self._slot.install(stack, transformer, layout, self._model.spec.position)
        stack.enter_context(taps(inner, layout))
        register(stack, inner.get_submodule(layout.tail), told)
        registry.invalidate_child_registries_cache()

    def _install_noise(self, stack: ExitStack) -> None:
        """Where the pipeline prepares its latents, a call begins."""
        prepare, given_before = self._pipe.prepare_latents, vars(self._pipe).get("prepare_latents")
        told = signature(prepare)

        @wraps(prepare)
        def prepared(*args: Any, **kwargs: Any) -> Any:
            given = told.bind(*args, **kwargs)
            given.apply_defaults()
            size = VideoSize(*(given.arguments[name] for name in ("num_frames", "height", "width")))
            self._model.device = self._pipe._execution_device  # it may have moved
            acting = Acting.of(self._model, self._motion, self._how, size)
            videos = given.arguments["batch_size"]
            self._call = call = Call.of(self._pipe, self._model, size, videos, acting)
            made = prepare(*args, **kwargs)
            return (call.moved(made[0]), *made[1:]) if type(made) is tuple else call.moved(made)

        def restore() -> None:
            del self._pipe.prepare_latents
            if given_before is not None:
                self._pipe.prepare_latents = given_before

        self._pipe.prepare_latents = prepared
        stack.callback(restore)

    def _enter(self, told: _PassName, _: nn.Module, args: Args, kwargs: Kwargs) -> None:
        """Before a pass: the position that it is given."""
        if self._call is not None:
            latents, timestep = kwargs["hidden_states"], float(kwargs["timestep"].max())
            self._slot.position = self._call.position(latents, timestep, told())


class _PassName(ModelHook):
    """Hears from the pipeline which pass of classifier-free guidance runs, as caches do."""

    _is_stateful = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.told = StateManager(BaseState)  # type: ignore[arg-type]

    def reset_state(self, module: nn.Module) -> nn.Module:  # of a cache; here there is none
        return module

    def __call__(self) -> str:
        """Empty where the pipeline says nothing."""
        try:
            return str(self.told.context.name)
        except ValueError:
            return ""


def _refuse_copy(*_: object) -> NoReturn:
    """In place of what `copy.deepcopy` and pickle ask a module for: a copy would have hooks that
    still belong to this pipeline, and that nothing could remove.
    """
    raise ValueError(
        "the transformer has a motion, and is neither copied nor pickled with it: remove the "
        "motion by ditflow.unload_motion(pipe), and load it on the copy as well."
    )


def checked_strength(strength: object) -> float:
    """Raises ValueError for what is no number, or beyond what `Placement` takes."""
    if isinstance(strength, bool) or not isinstance(strength, Real):
        raise ValueError(
            f"strength is {strength!r:.80}, but it is a number: 0 none of the motion, 1 all."
        )
    check_strength(cast(float, strength))
    return float(strength)


def loaded_on(pipe: Any) -> list[LoadedMotion]:
    """The motions on a pipeline's transformers. Raises ValueError for what is no pipeline."""
    check_kind("load_motion", pipe, DiffusionPipeline, "a pipeline of diffusers")
    found = (LOADED.get(unwrap_module(transformer)) for transformer in transformers_of(pipe))
    return [motion for one in found if one is not None and (motion := one()) is not None]


def check_free(pipe: Any) -> None:
    """Raise ValueError for a pipeline whose transformer has a motion already."""
    if loaded_on(pipe):
        raise ValueError(
            "the pipeline has a motion already: remove it by ditflow.unload_motion(pipe), or make "
            "one motion of two fields with ditflow.fields.operations."
        )
