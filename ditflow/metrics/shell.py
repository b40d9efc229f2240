"""The torchmetrics class around a metric's function: one row a sample, over all processes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Literal

import torch
import torchmetrics
from torch import Tensor

from ditflow.metrics.base import MetricError, Row, Sample

Measured = tuple[float, dict[str, float]]


class Metric(torchmetrics.Metric, ABC):
    """A metric over many samples.

    Its state is its rows, kept as bytes, so that shards of any size, even empty ones, can be joined
    over processes.

    Attributes:
        label: name of the metric in a table.
        better: direction of improvement.
        of_entries: a row is for all videos of an entry, not for one video.
    """

    label: ClassVar[str]
    better: ClassVar[Literal["higher", "lower", "none"]] = "higher"
    of_entries: ClassVar[bool] = False
    full_state_update = False
    records: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("records", default=[], dist_reduce_fx="cat")

    @property
    @abstractmethod
    def instrument(self) -> str:
        """Name of what measures. Numbers of different instruments cannot be compared."""

    @abstractmethod
    def measure(self, sample: Sample) -> Measured:
        """The value of a sample, and details that help to judge it. Raises MetricError."""

    def score(self, sample: Sample) -> float:
        """The value of one sample; no row is kept. Raises MetricError with the clip's name."""
        try:
            return self.measure(sample)[0]
        except MetricError as error:
            raise MetricError(_named(sample, error)) from error

    def update(self, samples: Sequence[Sample]) -> None:
        """Add a row for each sample.

        A sample that cannot be measured gets a row that says why. The others are still measured.
        """
        assert isinstance(self.records, list)
        self.records += [_packed(self.record(sample), self.device) for sample in samples]

    def record(self, sample: Sample) -> dict[str, Any]:
        """The JSON that is kept of a sample: its row."""
        return asdict(self._row(sample))

    def compute(self) -> Tensor:
        """Mean, float64, of the values in the rows of all processes; NaN if there are none."""
        values = [row.value for row in self.read(self._records()) if row.value is not None]
        return torch.tensor(values, dtype=torch.float64).mean()

    def rows(self) -> list[Row]:
        """The rows of all processes, sorted by clip, prompt and entry.

        Every process of a distributed run must call this.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return sorted(
                self.read(self._records()), key=lambda row: (row.clip, row.prompt, row.entry)
            )

    def read(self, records: list[dict[str, Any]]) -> list[Row]:
        """Rows from the records that were kept."""
        return [Row(**record) for record in records]

    def sync(self, *arguments: Any, **options: Any) -> None:
        if not len(self.records):  # an empty shard takes part, with a tensor of no bytes
            self.records = [_packed(None, self.device)]
        super().sync(*arguments, **options)

    def _row(self, sample: Sample) -> Row:
        names = (sample.clip, sample.prompt, sample.entry or sample.clip, self.instrument)
        try:
            value, details = self.measure(sample)
        except MetricError as error:
            return Row(*names, value=None, error=_named(sample, error))
        return Row(*names, value=value, details=details)

    def _records(self) -> list[dict[str, Any]]:
        parts = self.records if isinstance(self.records, list) else [self.records]
        text = b"".join(bytes(part.cpu().tolist()) for part in parts).decode()
        return [json.loads(line) for line in text.splitlines()]


def _packed(record: dict[str, Any] | None, device: torch.device) -> Tensor:
    text = b"" if record is None else json.dumps(record).encode() + b"\n"
    return torch.tensor(list(text), dtype=torch.uint8, device=device)


def _named(sample: Sample, error: MetricError) -> str:
    return f"clip {sample.clip!r}: {error}" if sample.clip else str(error)
