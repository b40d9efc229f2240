"""The stateful shell around the metrics' functions: rows of all samples, over all processes of a
run (torchmetrics).
"""

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
    """A metric over samples. Its state is its rows, kept as bytes, so that shards of any size, also
    empty ones, add up over processes.

    `label` is what a table calls it, `better` the direction of improvement, `instrument` what
    measures. Where it is `of_entries`, a row is not of one video but of all videos of an entry.
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
        """What measures: numbers of different instruments are not comparable."""

    @abstractmethod
    def measure(self, sample: Sample) -> Measured:
        """The sample's value and what should be known with it. Raises MetricError."""

    def score(self, sample: Sample) -> float:
        """The value of one sample; nothing is kept. Raises MetricError, naming the clip."""
        try:
            return self.measure(sample)[0]
        except MetricError as error:
            raise MetricError(_named(sample, error)) from error

    def update(self, samples: Sequence[Sample]) -> None:
        """Add a row for each sample. One that cannot be measured gets a row that says why, and does
        not keep the others from being measured.
        """
        assert isinstance(self.records, list)
        self.records += [_packed(self.record(sample), self.device) for sample in samples]

    def record(self, sample: Sample) -> dict[str, Any]:
        """What is kept of a sample: a row as JSON."""
        return asdict(self._row(sample))

    def compute(self) -> Tensor:
        """Mean float64 over the rows that have a value, of all processes; NaN if none has."""
        values = [row.value for row in self.read(self._records()) if row.value is not None]
        return torch.tensor(values, dtype=torch.float64).mean()

    def rows(self) -> list[Row]:
        """The rows of all processes, in the order of clip, prompt and entry. Every process of a
        distributed run has to call this.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return sorted(
                self.read(self._records()), key=lambda row: (row.clip, row.prompt, row.entry)
            )

    def read(self, records: list[dict[str, Any]]) -> list[Row]:
        """Rows from what was kept."""
        return [Row(**record) for record in records]

    def sync(self, *arguments: Any, **options: Any) -> None:
        if not len(self.records):
            self.records = [
                _packed(None, self.device)
            ]  # an empty shard takes part with as many bytes as it has: none
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
