"""Tasks that get in each other's way."""

from __future__ import annotations

import pyarrow as pa
from tinyplugins.tasks.ahead import AheadModel
from tinyplugins.tasks.spectrum import SpectrumModel

from appliedpapers.core.schema import OutputSchema


class Spectrum(SpectrumModel):
    """Adds what lies on the class."""

    offset = 0.0

    def predict(self, table, *, files=None):
        output = super().predict(table)
        values = output.column("concentration").to_numpy() + self.offset
        return output.set_column(1, "concentration", pa.array(values))


class WritesOnTheOther(AheadModel):
    """Fitting it changes what the other task says."""

    def fit(self, train, valid, run, *, init=None):
        Spectrum.offset += 1.0
        return super().fit(train, valid, run)


class Declared(SpectrumModel):
    """Its schema lies on the class."""


class DeclaresForTheOther(AheadModel):
    """Fitting it changes what the other task declares."""

    def fit(self, train, valid, run, *, init=None):
        schema = SpectrumModel.output_schema
        Declared.output_schema = OutputSchema(schema.columns[:2], rows="per_row", keys=schema.keys)
        return super().fit(train, valid, run)


class LoadsAnother(SpectrumModel):
    """Comes back as another class."""

    @classmethod
    def read_parts(cls, config, state, folder, device):
        return SpectrumModel.read_parts(config, state, folder, device)
