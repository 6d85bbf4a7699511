"""What a dataset promises: splits that can be read in parts, samples that can be sent."""

from __future__ import annotations

import pyarrow as pa

from appliedpapers.core.conformance.subject import CheckFailed, Subject, groups, require
from appliedpapers.core.data import Split
from appliedpapers.core.errors import AppsError
from appliedpapers.core.fingerprint import table_fingerprint
from appliedpapers.core.tables import write_table


def splits(subject: Subject) -> str:
    """Splits give the same rows in batches of any size, no key twice, and as many examples as asked for."""
    require(subject.dataset.test.num_rows > 0, "the test split is empty")
    sizes = []
    for name in ("train", "valid", "test"):
        split: Split = getattr(subject.dataset, name)
        sizes.append(f"{name} {split.num_rows}")
        _require_batches(split, name)
        keys = split.keys()
        distinct = keys.group_by(keys.column_names).aggregate([]).num_rows
        require(distinct == keys.num_rows, f"{name}: {keys.num_rows - distinct} keys stand there twice")
        _require_example(subject, split, name)
    return ", ".join(sizes)


def sample(subject: Subject) -> str:
    """The sample that ``apps config init`` writes can be read again and predicted."""
    catalog, folder = subject.task.load("datasets"), subject.fresh("sample")
    path = folder / "sample.csv"
    try:
        write_table(catalog.sample(folder, subject.config), path)
        rows = subject.predict(catalog.inputs(path, subject.config)).num_rows
    except AppsError as error:
        raise CheckFailed(f"DATASETS.sample is not what DATASETS.inputs reads: {error.render()}") from None
    return f"{rows} rows"


def _require_batches(split: Split, name: str) -> None:
    batches = list(split.batches())
    rows = sum(batch.num_rows for batch in batches)
    if not rows:
        return
    limit = max(rows // 3, 1)
    small = list(split.batches(limit))
    largest = max(batch.num_rows for batch in small)
    require(largest <= limit, f"{name}: batches({limit}) yields {largest} rows at once")
    prints = [table_fingerprint(pa.Table.from_batches(each)) for each in (batches, small)]
    require(prints[0] == prints[1], f"{name}: batches({limit}) yields other rows than batches()")


def _require_example(subject: Subject, split: Split, name: str) -> None:
    schema = subject.model.input_schema
    for limit in (1, 2):
        example = split.example(limit)
        found = len(groups(example, schema))
        what = "groups" if schema.group_by else "rows"
        right = found <= limit and (found > 0 or not split.num_rows)
        require(right, f"{name}: example({limit}) returns {found} {what}")
        known = schema.arrow_schema().names
        strange = [column for column in example.column_names if column not in known]
        require(not strange, f"{name}: example holds '{', '.join(strange)}', which predict does not take")
