"""Motion as pictures: displacement as colour, sheets of stills, pages of videos side by side."""

from __future__ import annotations

from ditflow.visual.curves import Chart, Curve, Mark
from ditflow.visual.flow_wheel import distance_colours, distance_scale, flow_colours, wheel
from ditflow.visual.gallery import Card, Film, Gallery, Order, write_gallery
from ditflow.visual.grids import contact_sheet, png, still
from ditflow.visual.page import Cell, Group, Page, Panel, Picture, Section, Table, write_page
from ditflow.visual.previews import Preview, preview

__all__ = [
    "Card",
    "Cell",
    "Chart",
    "Curve",
    "Film",
    "Gallery",
    "Group",
    "Mark",
    "Order",
    "Page",
    "Panel",
    "Picture",
    "Preview",
    "Section",
    "Table",
    "contact_sheet",
    "distance_colours",
    "distance_scale",
    "flow_colours",
    "png",
    "preview",
    "still",
    "wheel",
    "write_gallery",
    "write_page",
]
