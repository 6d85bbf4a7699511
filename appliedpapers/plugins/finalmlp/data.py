"""The datasets of the click task: the simulator, published logs, and the user's own tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from appliedpapers.core.data import Dataset, Provenance
from appliedpapers.core.errors import ConfigError, did_you_mean
from appliedpapers.core.features.classes import check_labels
from appliedpapers.core.features.columns import check_columns
from appliedpapers.core.features.cut import Cut, Method, cut_rows
from appliedpapers.core.features.fields import Fields, FieldSpec, check_fields, column_of
from appliedpapers.core.features.infer import infer_fields
from appliedpapers.core.features.leaks import duplicate_rows, single_field_leak
from appliedpapers.core.features.rows import RowSource, TableRows, find_files, open_rows
from appliedpapers.core.sources import SIMULATED, DatasetCatalog, PublishedDataset
from appliedpapers.core.tables import FORMATS
from appliedpapers.plugins.finalmlp.config import FinalMlpConfig
from appliedpapers.plugins.finalmlp.published_data import DEFINITIONS, PUBLISHED, open_published
from appliedpapers.plugins.finalmlp.simulator import simulate
from appliedpapers.plugins.finalmlp.simulator_options import VARIANTS, SimulatorOptions
from appliedpapers.plugins.finalmlp.splits import ClickSplit

if TYPE_CHECKING:
    import pyarrow as pa

_USERS = ("user", "member", "visitor", "customer")


@dataclass(frozen=True)
class ClickDataset(Dataset):
    """A cut click log.

    Attributes:
        suspects: Columns that may give the label away; models are shown without them, too.
    """

    suspects: tuple[str, ...] = ()


class ClickDatasets(DatasetCatalog[FinalMlpConfig]):
    """Frappe and two samples that are fetched on the owner's terms, the simulator, and the user's tables."""

    published = PUBLISHED
    formats = (
        f"a table with a 0/1 label, one row an impression: {', '.join(FORMATS)}; a file, a folder, or hive "
        "partitions of Parquet; apps data describe shows how columns are read"
    )

    elsewhere = MappingProxyType({name: one.obtain for name, one in DEFINITIONS.items() if one.obtain})

    def simulated(self, config: FinalMlpConfig) -> Dataset:
        """Simulate a click log (data card ``simulated-clicks``)."""
        wanted = config.data.simulator
        options = SimulatorOptions(**{**VARIANTS[wanted.variant], **wanted.options()})
        made = simulate(config.seed, options)
        provenance = Provenance.of_simulator("appliedpapers.plugins.finalmlp.simulator")
        best = made.bayes
        return build_dataset(
            TableRows(made.table, "simulated clicks"),
            config.data.fields or made.fields,
            config,
            name=SIMULATED,
            provenance=provenance,
            truth=made.p_true,
            protocol="" if wanted.variant == "default" else f"{wanted.variant}, ",
            notes=(
                f"nobody can do better than AUC {best.auc:.4f} and logloss {best.logloss:.4f} on all rows",
            ),
        )

    def from_user(self, path: Path, config: FinalMlpConfig) -> Dataset:
        """Read the user's own table."""
        source = open_rows(path)
        notes: tuple[str, ...] = ()
        fields: Fields = config.data.fields
        if not fields:
            inferred = infer_fields(source, label=config.data.label)
            fields, notes = inferred.fields, inferred.warnings
            notes = (*notes, "roles of columns were inferred; apps data describe writes them to a file")
        provenance = Provenance.of_user(path, find_files(path))
        return build_dataset(source, fields, config, name=path.name, provenance=provenance, notes=notes)

    def from_published(self, entry: PublishedDataset, folder: Path, config: FinalMlpConfig) -> Dataset:
        """Open a published log whose files are verified."""
        definition = DEFINITIONS[entry.id]
        opened = open_published(entry.id, folder)
        return build_dataset(
            TableRows(opened.table, entry.id),
            config.data.fields or definition.fields,
            config,
            name=entry.id,
            provenance=entry.provenance(folder, opened.files, source=entry.id),
            named_protocol=opened.protocol,
            usual_split=definition.split,
            notes=definition.notes,
            suspects=definition.suspects,
        )

    def prepare(self, entry: PublishedDataset, folder: Path) -> None:
        """Turn the downloaded files of Frappe into one table with names."""
        if entry.id == "frappe":
            from appliedpapers.plugins.finalmlp.frappe import prepare_frappe

            prepare_frappe(folder)

    def inputs(self, path: Path, config: FinalMlpConfig) -> pa.Table:
        """Read rows for ``predict``, in any of the formats."""
        import pyarrow as pa

        source = open_rows(path)
        return pa.Table.from_batches(list(source.batches()), source.schema)


DATASETS = ClickDatasets()


def build_dataset(
    source: RowSource,
    fields: Mapping[str, FieldSpec],
    config: FinalMlpConfig,
    *,
    name: str,
    provenance: Provenance,
    truth: NDArray[np.float64] | None = None,
    named_protocol: str | None = None,
    usual_split: Method = "auto",
    protocol: str = "",
    notes: tuple[str, ...] = (),
    suspects: tuple[str, ...] = (),
) -> ClickDataset:
    """Cut a source by the options of ``config.data`` and describe it.

    Args:
        source: All rows.
        fields: Roles of the columns.
        config: Resolved configuration.
        name: Id of the dataset, or name of the user's file.
        provenance: Where it comes from.
        truth: True probability of every row, where it is known.
        named_protocol: Name of the published way to cut; it holds where nothing else is asked for.
        usual_split: The method of that way.
        protocol: What stands before the name of our own way to cut.
        notes: Sentences for the report.
        suspects: Columns that may give the label away.

    Raises:
        ConfigError: Roles contradict one another.
        DataError: Columns do not fit their roles, or a part lacks rows of one class.
    """
    check_fields(fields)
    unnamed = check_columns(fields, source.schema)
    data = config.data
    method = usual_split if data.split == "auto" else data.split
    cut = cut_rows(source, fields, method=method, shares=data.shares, seed=config.seed)
    zeros, ones = check_labels(source, fields, cut)["train"]
    gauc = gauc_column(fields, data.gauc)
    train, valid, test = (
        ClickSplit(source, fields, cut, part, truth, gauc) for part in ("train", "valid", "test")
    )
    usual = data.split == "auto" and named_protocol is not None
    rate = ones / (zeros + ones)
    inputs = sum(field.role in ("categorical", "numeric", "sequence") for field in fields.values())
    return ClickDataset(
        name=name,
        protocol=f"{named_protocol}" if usual else f"{protocol}{cut.protocol}",
        provenance=provenance,
        train=train,
        valid=valid,
        test=test,
        summary=f"{source.num_rows:,} rows × {inputs} inputs, {100 * rate:.2f} % of train rows positive",
        split_note=cut.note,
        disjoint=(),
        notes=(
            *notes,
            *_unused(unnamed),
            *cut.warnings,
            *_repeats(train, source, cut),
            *_leaks(source, fields, cut, truth),
        ),
        suspects=suspects,
    )


def gauc_column(fields: Fields, wanted: str) -> str | None:
    """Return the column within which rows are ranked for ``gauc``.

    Raises:
        ConfigError: The column that was asked for has no role.
    """
    if wanted != "auto":
        if wanted not in fields:
            raise ConfigError(f"option 'data.gauc': no column '{wanted}'.", hint=did_you_mean(wanted, fields))
        return wanted
    group = column_of(fields, "group")
    if group is not None:
        return group
    named = (
        name
        for name, field in fields.items()
        if field.role == "categorical" and name.lower().replace("-", "_").split("_")[0] in _USERS
    )
    return next(named, None)


def _unused(columns: Sequence[str]) -> tuple[str, ...]:
    return (f"columns without a role are not used: {', '.join(columns)}",) if columns else ()


def _repeats(train: ClickSplit, source: RowSource, cut: Cut) -> tuple[str, ...]:
    """Say how many rows repeat earlier ones where nothing makes rows unique: no leak, but worth knowing."""
    if train.unique_columns():
        return ()
    names = [name for name, field in train.fields.items() if field.role not in ("split", "ignore")]
    counts = duplicate_rows(source, cut, names)
    return tuple(
        f"{count:,} {later} rows repeat a {earlier} row; rows have neither time nor id, so that may be chance"
        for (earlier, later), count in counts.items()
    )


def _leaks(source: RowSource, fields: Fields, cut: Cut, truth: NDArray[np.float64] | None) -> tuple[str, ...]:
    if truth is not None:
        return ()
    found = single_field_leak(source, fields, cut)
    return tuple(
        f"suspected leak: '{name}' alone reaches AUC {auc:.4f} on valid rows; is it known before the outcome?"
        for name, auc in found.items()
    )
