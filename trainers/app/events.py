"""What happens when a visitor does something: the studio does it, and the page says what came.

What cannot be done is said in words where it was asked for, and everything else stays as it was.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy
import torch
from torch import Tensor

from datamodules.faults import one_line
from trainers.app.layout import Parts, note
from trainers.app.motions import Motion
from trainers.app.studio import Studio, Wish, drawn
from trainers.app.visits import Stopped, Visit, Visits
from trainers.progress.view import plain

STRANGE = (TypeError, AttributeError, OverflowError)  # of values that no page sends
FAILS = (ValueError, KeyError, OSError, RuntimeError, MemoryError, *STRANGE)
STOPPED = "Stopped. Nothing of it is kept."
ONE: dict[str, Any] = {"concurrency_id": "work", "concurrency_limit": 1}
Update = Any


@dataclass(frozen=True)
class Events:
    """The functions of the page."""

    studio: Studio
    visits: Visits
    parts: Parts

    def connect(self, page: gr.Blocks) -> None:
        """Tie the functions to the components of the page."""
        to, all_of = self.parts, {"api_visibility": "private"}
        still, one = all_of | {"show_progress": "hidden"}, all_of | ONE
        seen = [to.note, to.film, to.detail, to.picture, to.region, to.row, to.name, to.kept]
        to.clip.change(self.look, [to.clip], [*seen, to.clip], show_progress_on=to.note, **one)
        to.entries.select(self.choose, None, seen, show_progress_on=to.note, **one)
        to.detail.expand(self.detail, None, to.picture, **one)
        listed = [to.entries, to.kept]
        gr.on([page.load, to.words.submit], self.find, to.words, listed, **still)
        to.keep.click(self.keep, to.name, [to.entries, to.kept], **still)
        asked = [to.prompt, to.strength, to.region, to.moving, to.seed, to.image, to.beside]
        made = [to.said, to.video, to.plain, to.before, to.download, to.download_entry]
        making = gr.on(
            [to.make.click, to.prompt.submit],
            self.make,
            asked,
            made,
            show_progress_on=to.video,
            trigger_mode="once",
            **one,
        )
        to.stop.click(self.stop, None, to.said, cancels=[making], concurrency_limit=None, **still)
        page.unload(self.leave)

    def look(self, clip: str | None, request: gr.Request) -> tuple[Update, ...]:
        """A clip that is no good is taken off the page, so that there is room for another."""
        if clip is None:
            return (gr.skip(),) * 9
        visit = self._visit(request)
        try:
            return *self._seen(visit, self.studio.look(visit, Path(clip))), gr.skip()
        except FAILS as error:
            return note(_sentence(error), wrong=True), *(gr.skip(),) * 7, None

    def choose(self, chosen: gr.SelectData, request: gr.Request) -> tuple[Update, ...]:
        visit = self._visit(request)
        try:
            name = visit.shown[int(chosen.index)]
            return self._seen(visit, self.studio.choose(visit, name))
        except (IndexError, TypeError):
            return (gr.skip(),) * 8
        except FAILS as error:
            return note(_sentence(error), wrong=True), *(gr.skip(),) * 7

    def detail(self, request: gr.Request) -> Update:
        visit = self._visit(request)
        if visit.motion is None:
            return gr.skip()
        return drawn(visit.films, visit.motion, "picture.png", Motion.picture)

    def find(self, words: str | None, request: gr.Request) -> tuple[Update, str]:
        visit = self._visit(request)
        try:
            cards = self.studio.gallery(visit, words or "")
        except FAILS as error:
            return gr.skip(), note(_sentence(error), wrong=True)
        return cards, note("" if cards or not words else "No motion of the bank is like that.")

    def keep(self, name: str, request: gr.Request) -> tuple[Update, str]:
        visit = self._visit(request)
        try:
            kept = self.studio.keep(visit, name)
            return self.studio.gallery(visit), note(f"{kept} is in the bank.")
        except FAILS as error:
            return gr.skip(), note(_sentence(error), wrong=True)

    def make(
        self,
        prompt: str,
        strength: float,
        region: dict[str, Any] | None,
        moving: bool,
        seed: float | None,
        image: str | None,
        beside: bool,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Update, ...]:
        visit, unchanged = self._visit(request), (gr.skip(),) * 5
        try:
            wish = Wish(
                prompt,
                strength,
                int(seed or 0),
                _mask(region),
                moving,
                Path(image) if image else None,
                beside,
            )
            made = self.studio.make(
                visit, wish, lambda done, of: progress((done, of), "denoising", unit="steps")
            )
        except Stopped:
            return note(STOPPED), *unchanged
        except FAILS as error:
            return note(_sentence(error), wrong=True), *unchanged
        before, visit.latest = visit.latest, made.video
        made_with = f"Made with strength {wish.strength:g} and seed {wish.seed}."
        return (
            note(" ".join([made_with, *made.doubts])),
            made.video,
            made.plain,
            gr.Video(value=before, visible=before is not None),
            gr.DownloadButton(value=made.video, interactive=True),
            gr.DownloadButton(value=made.entry, interactive=True),
        )

    def stop(self, request: gr.Request) -> str:
        self.visits.stop(str(request.session_hash))
        return note(STOPPED)

    def leave(self, request: gr.Request) -> None:
        self.visits.leave(str(request.session_hash))

    def _visit(self, request: gr.Request) -> Visit:
        return self.visits.of(str(request.session_hash))

    def _seen(self, visit: Visit, motion: Motion) -> tuple[Update, ...]:
        """What the page shows of a motion."""
        film = drawn(visit.films, motion, "film.mp4", Motion.film)
        ground = drawn(visit.films, motion, "ground.png", Motion.ground)
        words = " ".join([_capital(motion.words), *map(_capital, motion.doubts)])
        return (
            note(plain(words)),
            gr.Video(value=film, visible=film is not None),
            gr.Accordion(open=False, visible=film is not None),
            None,
            None if ground is None else {"background": ground, "layers": [], "composite": None},
            gr.Row(visible=True),
            motion.name,
            note(""),
        )


def _mask(region: dict[str, Any] | None) -> Tensor | None:
    """What was painted, (H, W) from 0 to 1; None where nothing was."""
    layers = (region or {}).get("layers") or []
    painted = [numpy.asarray(layer)[..., 3] > 0 for layer in layers]
    if not any(layer.any() for layer in painted):
        return None
    return torch.from_numpy(numpy.logical_or.reduce(painted)).float()


def _sentence(error: Exception) -> str:
    """What went wrong, as plain text that names no place of this machine. A KeyError would put it
    into quotes.
    """
    if isinstance(error, STRANGE):
        return "What came is not what this page sends: load the page anew."
    if isinstance(error, OSError) and not isinstance(error, ValueError):
        return f"This machine cannot do it now: {os.strerror(error.errno or 0)}."
    told = error.args[0] if isinstance(error, KeyError) and error.args else one_line(error)
    return plain(str(told))


def _capital(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
