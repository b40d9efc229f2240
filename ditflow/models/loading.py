"""Loading the parts of a model from a diffusers folder or a hub repository.

Whatever is wrong with its files becomes one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ditflow.quiet import no_progress_bars, only_errors

# what a subfolder is called in an error, where not by its own name
PARTS = {
    "vae": "VAE",
    "text_encoder": "text encoder",
    "image_encoder": "image encoder",
    "image_processor": "image processor",
    "transformer_2": "transformer for little noise",
}
PICKLES = ("bin", "pt", "pth", "ckpt")


class ModelError(ValueError):
    """A model cannot be found, loaded or used. The message says what to do."""


def pipeline_config(folder: str) -> dict[str, Any]:
    """What a saved pipeline says of itself: its own options, and the class of its scheduler."""
    from diffusers import DiffusionPipeline

    with loading(folder, "scheduler"):
        config = dict(DiffusionPipeline.load_config(folder))
        return config | {"scheduler": str(config["scheduler"][1])}


def config_of(part: Any, folder: str, subfolder: str, needs: Sequence[str]) -> dict[str, Any]:
    """The configuration of a part. Raises ModelError where it lacks what is needed."""
    with loading(folder, subfolder):
        config = dict(part.load_config(folder, subfolder=subfolder))
        if missing := [key for key in needs if key not in config]:
            raise ValueError(f"its config.json has no {', '.join(missing)}")
        return config


def load_scheduler(folder: str, name: str) -> Any:
    """A scheduler by the name of its diffusers class."""
    import diffusers

    with loading(folder, "scheduler"):
        return getattr(diffusers, name).from_pretrained(folder, subfolder="scheduler")


def load_transformer(part: Any, folder: str, subfolder: str, dtype: torch.dtype, **how: Any) -> Any:
    """A transformer with its weights, which must be safetensors, and `how` else it is loaded."""
    given = {"subfolder": subfolder, "dtype": dtype, "use_safetensors": True, **how}
    # which says that int8 weights go with bfloat16 alone
    with loading(folder, subfolder), only_errors("diffusers.quantizers.torchao.torchao_quantizer"):
        return part.from_pretrained(folder, **given)


def sketch_transformer(
    part: Any, folder: str, blocks: int, device: torch.device, dtype: torch.dtype
) -> Any:
    """A transformer so many blocks deep, without its weights on "meta", else with random ones."""
    from accelerate import init_empty_weights

    config = part.load_config(folder, subfolder="transformer")
    with init_empty_weights() if device.type == "meta" else nullcontext():
        transformer = part.from_config(config, num_layers=blocks)
    # diffusers' own `to` warns of what matters for trained weights only
    torch.nn.Module.to(transformer, device, dtype)
    return transformer


@contextmanager
def loading(folder: str, part: str) -> Iterator[None]:
    """Load a part of a backbone inside this context.

    No progress bars are shown. Whatever is wrong with its files raises ModelError, in one sentence.
    """
    where = f"the {PARTS.get(part, part)} of backbone {folder!r} cannot be loaded"
    if _is_pickled(Path(folder) / part):
        raise ModelError(
            f"{where}: its weights are pickled (.bin), and unpickling can run code. Save it with "
            "safe_serialization=True, as safetensors."
        )
    try:
        with no_progress_bars():
            yield
    except (torch.OutOfMemoryError, ModelError):
        raise
    except Exception as error:  # broken files raise errors of all kinds
        said = " ".join(str(error).split(". ")[0].split()).rstrip(".")
        raise ModelError(
            f"{where} ({type(error).__name__}: {said}). Save or download the backbone again."
        ) from error


def _is_pickled(folder: Path) -> bool:
    """Whether a local folder has weights in pickles only."""
    return any(any(folder.glob(f"*.{ending}")) for ending in PICKLES) and not any(
        folder.glob("*.safetensors")
    )
