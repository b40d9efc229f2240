"""What the page shows: a motion on the left, and on the right what to make of it and what came."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ditflow.models import Model
from ditflow.resources import shipped
from trainers.app.studio import LARGEST_SEED, STRONGEST, Studio

FILM: dict[str, Any] = {"autoplay": True, "loop": True, "buttons": [], "interactive": False}
BEGIN = "The motion that you send or choose is drawn here."
EMBEDDED = (
    "{name} is a small model that comes with ditflow. It makes clouds of colour and moving shapes, "
    "and nothing else: prompts such as “red clouds”."
)


@dataclass(frozen=True)
class Parts:
    """The components that something happens to, by what they are for."""

    clip: gr.Video
    words: gr.Textbox
    entries: gr.Gallery
    film: gr.Video
    note: gr.HTML
    detail: gr.Accordion
    picture: gr.Image
    row: gr.Row
    name: gr.Textbox
    keep: gr.Button
    kept: gr.HTML
    prompt: gr.Textbox
    strength: gr.Slider
    region: gr.ImageEditor
    moving: gr.Checkbox
    seed: gr.Number
    image: gr.Image
    beside: gr.Checkbox
    make: gr.Button
    stop: gr.Button
    said: gr.HTML
    video: gr.Video
    plain: gr.Video
    before: gr.Video
    download: gr.DownloadButton
    download_entry: gr.DownloadButton


def laid_out(studio: Studio) -> Parts:
    """The components, in the page that is being made."""
    gr.HTML(_head(studio.model), padding=False, elem_classes="bare")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            motion = _motion()
        with gr.Column(min_width=320):
            wish, videos = _wish(studio.model), _videos()
    return Parts(**motion, **wish, **videos)


def note(text: str, *, wrong: bool = False) -> str:
    """A line of plain text as HTML, which a screen reader says when it changes."""
    kind = "note wrong" if wrong else "note"
    return f'<p class="{kind}" role="status">{escape(text)}</p>'


def _head(model: Model) -> str:
    size, name = model.spec.size, Path(model.spec.name).name  # not where its folder is
    made = f"{name} makes {size.frames} frames of {size.width} x {size.height} pixels."
    if shipped("checkpoints", model.spec.name) is not None:
        made = EMBEDDED.format(name=name)
    lead = "Give the motion of a clip to a new video."
    return f"<header><h1>ditflow</h1><p>{lead} <span>{escape(made)}</span></p></header>"


def _title(number: int, text: str) -> None:
    gr.HTML(f"<h2><span>{number}</span> {text}</h2>", padding=False, elem_classes="bare")


def _motion() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    _title(1, "Choose a motion")
    with gr.Tabs():
        with gr.Tab("A clip"):
            parts["clip"] = gr.Video(
                label="Clip", sources=["upload"], buttons=[], height=200, elem_id="clip"
            )
        with gr.Tab("The bank"):
            parts["words"] = gr.Textbox(
                label="Find", placeholder="slow pan left", submit_btn="Find", max_length=400
            )
            parts["entries"] = gr.Gallery(
                label="Motions in the bank",
                columns=3,
                fit_columns=False,
                height="auto",
                allow_preview=False,
                buttons=[],
                interactive=False,
                elem_id="entries",
            )
    parts["note"] = gr.HTML(note(BEGIN), elem_id="note", elem_classes="bare")
    film = FILM | {"height": 240, "visible": False, "elem_id": "film"}
    parts["film"] = gr.Video(label="Its motion", **film)
    with gr.Accordion("The motion in detail", open=False, visible=False) as detail:
        parts["picture"] = gr.Image(show_label=False, buttons=["fullscreen"], interactive=False)
    parts["detail"] = detail
    with gr.Row(elem_classes="joined", visible=False) as parts["row"]:
        parts["name"] = gr.Textbox(
            label="Name", max_length=128, placeholder="name of the motion", scale=3, min_width=120
        )
        parts["keep"] = gr.Button("Keep in the bank", scale=2, min_width=140)
    parts["kept"] = gr.HTML(note(""), elem_id="kept", elem_classes="bare")
    return parts


def _wish(model: Model) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    _title(2, "Describe the video")
    parts["prompt"] = gr.Textbox(
        label="Prompt", placeholder="red clouds", max_lines=4, max_length=2000, elem_id="prompt"
    )
    parts["image"] = gr.Image(
        label="First picture",
        type="filepath",
        sources=["upload"],
        buttons=[],
        visible=model.spec.picture != "none",
    )
    parts["strength"] = gr.Slider(
        0,
        STRONGEST,
        1,
        step=0.1,
        label="Strength",
        info="0 is none of the motion, 1 the motion as it is.",
    )
    with gr.Accordion("Only a part of the picture", open=False):
        gr.HTML(note("Paint over what shall move. The rest stays where it is."), padding=False)
        parts["region"] = gr.ImageEditor(
            label="Part",
            sources=[],
            transforms=[],
            layers=False,
            buttons=[],
            brush=gr.Brush(32, colors=["#14b8a6"], color_mode="fixed"),
            canvas_size=(512, 512),
            elem_id="region",
        )
        parts["moving"] = gr.Checkbox(True, label="The part goes along with what is in it")
    with gr.Accordion("More", open=False):
        parts["seed"] = gr.Number(
            0,
            label="Seed",
            info="Another seed, another video.",
            precision=0,
            minimum=0,
            maximum=LARGEST_SEED,
        )
        parts["beside"] = gr.Checkbox(
            True, label="Also the same without the motion", info="It takes as long again."
        )
    with gr.Row():
        parts["make"] = gr.Button(
            "Make the video", variant="primary", elem_id="make", min_width=120
        )
        parts["stop"] = gr.Button("Stop", elem_id="stop", min_width=120)
    parts["said"] = gr.HTML(note(""), elem_id="said", elem_classes="bare")
    return parts


def _videos() -> dict[str, Any]:
    parts: dict[str, Any] = {}
    _title(3, "Compare")
    shown: dict[str, Any] = FILM | {"height": 230, "min_width": 200}
    with gr.Row():
        parts["video"] = gr.Video(label="New video", elem_id="video", **shown)
        parts["plain"] = gr.Video(label="Without the motion", elem_id="plain", **shown)
        hidden = shown | {"visible": False}
        parts["before"] = gr.Video(label="The one before", elem_id="before", **hidden)
    with gr.Row():
        off = {"interactive": False, "min_width": 160}
        parts["download"] = gr.DownloadButton("Download the video", **off)
        parts["download_entry"] = gr.DownloadButton("Download the motion", **off)
    return parts
