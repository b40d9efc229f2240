"""Pictures of motion: displacement as colour, sheets of stills, and a page that shows videos side by side."""

from __future__ import annotations

from ditflow.visual.flow_wheel import flow_colours, flow_strip, wheel
from ditflow.visual.grids import contact_sheet, enlarged, png, still
from ditflow.visual.page import Panel, Row, Table, render_page, write_page

__all__ = ["Panel", "Row", "Table", "contact_sheet", "enlarged", "flow_colours", "flow_strip", "png", "render_page", "still", "wheel", "write_page"]
