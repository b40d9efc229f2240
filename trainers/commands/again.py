"""`ditflow predict --again FILE`: the options of `predict` that make the video of FILE anew.

They come from FILE, as defaults: what the user gives counts more, and is named. FILE may be a
stranger's, so it alone makes nobody read a bank or a model from the network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from datamodules.prompts import VIDEOS, video_name
from ditflow.bank import MotionBank
from ditflow.fields.changes import pictures_in, renamed
from ditflow.files import expanded
from ditflow.models import backbone_spec
from ditflow.models.weights.lora import named, parsed
from ditflow.resources import shipped
from ditflow.video import video_sha256
from ditflow.video_provenance import VideoProvenance, installed, read_provenance
from ditflow.warning import warn
from trainers.commands.methods import options_in

Value = Callable[[str], Any]
"""The value of an option in force, by its name."""
OF_MODEL = ("dtype", "steps", "guidance_scale", "guidance", "fps", "strength", "passes")
OF_MODEL += ("motion_scale", "injection_blocks", "window", "noise_share", "change")
"""Options that a provenance has under the same names."""


@dataclass(frozen=True)
class Again:
    """A video file, and how it was made."""

    file: Path
    made: VideoProvenance

    @property
    def prompts(self) -> str:
        return str(self.file.absolute())

    @property
    def options(self) -> dict[str, Any]:
        """Values of options by name. "" is a bank or a model that is not on this machine."""
        made = self.made
        frames, *sides = made.size
        bank, backbone = _here(made.bank), _here(made.backbone)
        ships = shipped("checkpoints", made.backbone) is not None
        comes_with = shipped("checkpoints/banks", made.bank) is not None
        values = {
            "bank": bank if comes_with or (bank and Path(bank).is_dir()) else "",
            "out": str(self.file.absolute().parent / "again"),
            "data.prompts": self.prompts,
            "data.entries": [made.entry],
            "data.seeds": [made.seed],
            "model.backbone": backbone if ships or Path(backbone).is_dir() else "",
            "model.lora": list(map(_lora_here, made.loras)) or None,
            "data.frames": frames,
            "data.size": tuple(sides),
        }
        values["model.quantised"] = made.quantised or "none"
        return values | {f"model.{name}": getattr(made, name) for name in OF_MODEL}

    def check(self, value: Value) -> None:
        """Print what differs from how the video was made. Raises ValueError, in one sentence, where
        what it was made from is missing or was changed, and where its new file is there already.
        """
        self._check_named(value)
        self._check_entry(value)
        self._check_model(value)
        self._check_masks(value("model.change"))
        if rank_zero_only.rank == 0:
            for option, now, was in self._differences(value):
                print(f"unlike {self.file}: --{option} is {now!r}, and was {was!r}", flush=True)
            self._check_files(value)

    def _check_named(self, value: Value) -> None:
        for option, was in (("bank", self.made.bank), ("model.backbone", self.made.backbone)):
            if not value(option):
                raise ValueError(
                    f"{self.file} was made with the {option.removeprefix('model.')} {was!r}, which "
                    f"is not a folder here: name it by --{option}."
                )
        if self.made.image_sha256 and not value("data.image"):
            raise ValueError(
                f"{self.file} begins with the picture {self.made.image!r}: name that file by "
                "--data.image."
            )

    def _check_entry(self, value: Value) -> None:
        name, bank = self.made.entry, MotionBank(value("bank"))
        if name not in (value("data.entries") or ()) or name not in bank:
            return  # which is named, or refused by all of `predict`
        if self.made.entry_sha256 not in ("", bank.content_hash(name)):
            raise ValueError(
                f"entry {name!r} of {bank.path} is not what it was when {self.file} was made: name "
                "the bank that holds it as it was by --bank, or make a video of it as it is "
                "without --again."
            )

    def _check_model(self, value: Value) -> None:
        options, changed = self.options, f"is not what it was when {self.file} was made: name the "
        if (given := value("model.backbone")) == options["model.backbone"]:
            if not backbone_spec(given).knows(self.made.backbone_fingerprint):
                raise ValueError(f"the backbone {given} {changed}former one by --model.backbone.")
        if (given := value("model.lora")) == options["model.lora"] and self._has_others(given):
            raise ValueError(f"a LoRA of {given} {changed}former ones by --model.lora.")

    def _check_masks(self, change: str | None) -> None:
        """Of the change as the file says it; the masks of another are the user's."""
        if not change or change != self.made.change:
            return
        made = {mask["file"]: mask["sha256"] for mask in self.made.masks}
        for file in pictures_in(change):
            fix = f"name its place by --model.change, which was {change!r}."
            if not expanded(file).is_file():
                raise ValueError(
                    f"{self.file} was made with the mask {file!r}, which is no file here: {fix}"
                )
            if video_sha256(file) != made.get(file):
                raise ValueError(
                    f"the mask {file!r} is not what it was when {self.file} was made: {fix}"
                )

    def _check_files(self, value: Value) -> None:
        if value("data.prompts") != self.prompts:
            return
        image = value("data.image") or ""
        for entry in value("data.entries") or ():
            for seed in value("data.seeds"):
                name = video_name(entry, self.made.prompt, seed, image)
                if (file := expanded(value("out")) / name).exists():
                    raise ValueError(
                        f"{file} is there already, and is never overwritten: remove it, or name "
                        "another folder by --out."
                    )

    def _differences(self, value: Value) -> Iterator[tuple[str, Any, Any]]:
        """Options that the user chose otherwise: name, present value, former value.

        Places may differ, as long as what is there is the same.
        """
        options = self.options
        for place in ("bank", "out"):
            del options[place]
        if not self._has_others(value("model.lora")):
            del options["model.lora"]
        if value("data.negative_prompt") is not None:
            options["data.negative_prompt"] = self.made.negative_prompt
        if (image := value("data.image")) and video_sha256(image) != self.made.image_sha256:
            options["data.image"] = self.made.image
        if self._is_same_change(value("model.change")):
            del options["model.change"]
        for option, was in options.items():
            if (now := _plain(value(option))) != (was := _plain(was)):
                yield option, now, was

    def _is_same_change(self, change: str | None) -> bool:
        """Whether a change is the same but for the places of its masks."""
        if not change or not self.made.change:
            return change == self.made.change
        names = {name: video_sha256(name) for name in pictures_in(change)}
        made = {mask["file"]: mask["sha256"] for mask in self.made.masks}
        return renamed(change, names) == renamed(self.made.change, made)

    def _has_others(self, loras: Sequence[str] | str | None) -> bool:
        """Whether these LoRAs are others, by their content and scales."""
        made = {(_expert(lora), lora["sha256"], lora["scale"]) for lora in self.made.loras}
        return made != {(one.expert, one.sha256, one.scale) for _, one in named(loras or ())}


def again_of(words: Sequence[str]) -> Again | None:
    """The video that the words of a command line ask to make anew, or None.

    Raises ValueError for a file that does not say how `predict` made it. Warns where versions
    differ.
    """
    asked = [value for option, value in options_in(words) if option == "--again"]
    if not asked or not asked[-1]:
        return None
    file = expanded(asked[-1])
    made = read_provenance(file)
    if file.suffix.lower() not in VIDEOS:
        raise ValueError(f"{file} must end in {' or '.join(VIDEOS)}.")
    if made.command == "fit":
        raise ValueError(
            f"{file} was made by `ditflow fit`, while the motion of {made.clip!r} was optimised: "
            "`ditflow fit` alone makes it anew."
        )
    if not made.entry:
        raise ValueError(
            f"{file} was made in Python from the motion of {made.clip!r}, which was in no bank: "
            "`ditflow predict` makes videos of the entries of a bank."
        )
    if rank_zero_only.rank == 0:
        _warn_of_versions(file, made)
    return Again(file, made)


def _warn_of_versions(file: Path, made: VideoProvenance) -> None:
    now, then = installed(), made.versions or {}
    if others := [name for name in now if now[name] != then.get(name)]:
        was, are = (", ".join(f"{name} {of.get(name)}" for name in others) for of in (then, now))
        warn(f"{file} was made with {was}, and here is {are}: its pixels may differ.")


def _expert(lora: dict[str, Any]) -> str:
    return parsed(lora["file"])[0]


def _lora_here(lora: dict[str, Any]) -> str:
    """A LoRA as an option names it."""
    expert, path, _ = parsed(lora["file"])
    place = f"{_here(str(path))}:{lora['scale']}"
    return f"{expert}={place}" if expert else place


def _here(name: str) -> str:
    """A place by its name, in which "~" may stand for the user's home folder."""
    return str(expanded(name)) if name.startswith("~") else name


def _plain(value: Any) -> Any:
    """As JSON has it, where tuples are lists."""
    return json.loads(json.dumps(value))
