"""Ask the Hugging Face hub for a backbone: once, without retries, and with one clear error."""

from __future__ import annotations

from typing import Any

from ditflow.models.loading import ModelError
from ditflow.quiet import only_errors

INDEX = "model_index.json"
PATIENCE = 5.0  # seconds until the hub counts as unreachable


def hub_index(name: str) -> dict[str, Any]:
    """The model index of a hub id, from the local cache if it was downloaded before.

    Raises ModelError if there is no such backbone, or if the hub cannot be reached.
    """
    from diffusers import DiffusionPipeline

    with only_errors("huggingface_hub"):  # its client logs each of its attempts
        _check_exists(name)
        try:
            return dict(DiffusionPipeline.load_config(name))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the {INDEX} of backbone {name!r} on the hub cannot be read "
                f"({type(error).__name__}). Try again, or check the name."
            ) from error


def _check_exists(name: str) -> None:
    """Ask for the size of the index, which is quick: a download would be tried again and again."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    nowhere = f"there is no backbone {name!r}: it is not a shipped one, not a folder here,"
    try:
        if not isinstance(try_to_load_from_cache(name, INDEX), str):
            get_hf_file_metadata(hf_hub_url(name, INDEX), timeout=PATIENCE)
    except HFValidationError as error:
        raise ModelError(f"{nowhere} and not written like a hub id. Check the path.") from error
    except GatedRepoError as error:
        raise ModelError(
            f"backbone {name!r} is gated on the hub: accept its terms on its page, "
            "then log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{nowhere} and the hub has nothing by that id. Check the name; "
            "for a private one log in with `hf auth login`."
        ) from error
    except EntryNotFoundError as error:
        raise ModelError(
            f"{name!r} on the hub is not a backbone: it has no {INDEX}. "
            "Give one that a diffusers pipeline was saved to."
        ) from error
    # the class of a network error differs between versions of the hub's client
    except Exception as error:
        raise ModelError(_unreachable(name, error)) from error


def _unreachable(name: str, error: Exception) -> str:
    folder = name.rpartition("/")[2]
    return (
        f"there is no backbone {name!r} here, neither shipped nor as a folder, and the hub cannot "
        f"be reached to look there ({type(error).__name__}). Where there is network, download it "
        f"first: `hf download {name} --local-dir {folder}`; "
        f"then give the folder {folder!r} as the backbone."
    )
