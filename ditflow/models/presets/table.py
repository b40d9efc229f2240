"""README's table of models, made from the presets: `python -m ditflow.models.presets.table`."""

from __future__ import annotations

from collections.abc import Sequence

from ditflow.models.presets import Preset, presets

COLUMNS = (
    "Model",
    "Positions",
    "Optimised",
    "Frames and size",
    "Memory",
    "Time a clip",
    "Licence",
    "Values",
)


def table() -> str:
    """The presets as a Markdown table, embedded models first."""
    ordered = sorted(presets(), key=lambda preset: "/" in preset.checkpoint)
    rows = [COLUMNS, ["---"] * len(COLUMNS), *map(_row, ordered)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(preset: Preset) -> Sequence[str]:
    height, width = preset.size
    return (
        f"`{preset.checkpoint}`",
        str(preset.model["position"]),
        f"`{preset.recommended.variable}` at block {preset.recommended.block}",
        f"{preset.frames} of {height} x {width}",
        preset.memory or "not measured",
        preset.time or "not measured",
        preset.licence,
        preset.status,
    )


if __name__ == "__main__":
    print(table())
