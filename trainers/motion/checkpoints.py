"""Lightning's checkpoints, as safetensors: another carrier of the batch in flight. Nothing is
pickled, and nothing is ever unpickled.

The bank is the checkpoint, and it alone says which clips are done. So a checkpoint holds no more
than the batch that a rank was at, and going on from one puts this back into the bank, unless the
bank knows of a later step. Where Lightning's loops were says nothing about what is left, and is
left out.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO

from ditflow.bank.errors import EntryError
from ditflow.bank.file_format import pack, read_header, read_tensors
from ditflow.bank.validation import Check, integer, json_object, normal, text
from ditflow.files import atomic_file, make_folder

KIND = "ditflow checkpoint"
FIELDS: dict[str, Check] = {
    "epoch": integer(0, 1 << 40),
    "global_step": integer(0, 1 << 40),
    "pytorch-lightning_version": text(64),
    "batch": json_object,
}
NOTHING: dict[str, Any] = {
    "state_dict": {},
    "callbacks": {},
    "optimizer_states": [],
    "lr_schedulers": [],
}  # which Lightning looks for


class RecordIO(CheckpointIO):
    """Writes and reads the keys of `FIELDS`, and the tensors under "tensors"."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        make_folder(Path(path).parent)
        with atomic_file(path) as file:
            for buffer in pack(
                KIND,
                "",
                {name: checkpoint.get(name, {}) for name in FIELDS},
                checkpoint.get("tensors", {}),
            ):
                file.write(buffer)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Raises EntryError for what is no checkpoint of ditflow's, FileNotFoundError for what is
        not there.
        """
        with open(path, "rb") as file:
            header = read_header(file, os.fstat(file.fileno()).st_size, f"checkpoint {path}")
            if header.kind != KIND:
                raise EntryError(f"{header.subject} is no {KIND} but a {header.kind!r:.80}.")
            try:
                fields = normal(FIELDS, header.metadata)
            except ValueError as error:
                raise EntryError(f"{header.subject} {error}.") from None
            return fields | {"tensors": read_tensors(file, header)} | NOTHING

    def remove_checkpoint(self, path: Any) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
