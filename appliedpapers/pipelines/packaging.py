"""A bundle as an MLflow model: made from one fixed code file, explicit requirements, our own signature."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import appliedpapers
from appliedpapers.core import plugin as plugins
from appliedpapers.core.bundle import BundleInfo, load_bundle, read_info
from appliedpapers.core.errors import BundleError, DataError
from appliedpapers.core.files import sha256_file
from appliedpapers.core.json_rows import cells, plain

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from appliedpapers.core.schema import TableSchema

CODE_FILE = Path(__file__).with_name("mlflow_model.py")
_LOADER = "mlflow.pyfunc.loaders.code_model"


class BundleAnswer:
    """A bundle behind MLflow's pyfunc interface.

    Args:
        folder: The bundle.
    """

    def __init__(self, folder: str | Path) -> None:
        self._model, _ = load_bundle(Path(folder))

    def __call__(self, model_input: Any) -> pd.DataFrame:
        """Predict for a data frame, a dict of columns or a list of records.

        Returns:
            The output columns; timestamps as ISO 8601 text, arrays as nested lists, missing values as None.

        Raises:
            MlflowException: The input breaks the model's contract; MLflow's server shows the message.
        """
        from mlflow.exceptions import MlflowException

        from appliedpapers.core.inference import predict_all

        try:
            return to_frame(predict_all(self._model, from_pyfunc(model_input, self._model.input_schema)))
        except DataError as error:
            raise MlflowException.invalid_parameter_value(error.render()) from None


def write_model(
    bundle: Path,
    folder: Path,
    *,
    run_id: str | None = None,
    model_id: str | None = None,
    artifact_location: str | None = None,
    example: pa.Table | None = None,
) -> None:
    """Write a bundle as an MLflow model folder.

    Requirements are stated, not inferred, and the model is not loaded: 0.1 s instead of many.

    Raises:
        BundleError: The bundle is corrupt.
    """
    import warnings

    from mlflow import pyfunc
    from mlflow.models import Model

    info = read_info(bundle)
    description = {"plugin": info.plugin, "task": info.task, "package_version": info.package_version}
    model = Model(
        artifact_path=artifact_location,
        run_id=run_id,
        model_uuid=model_id,
        model_id=model_id,
        metadata={"applied_papers": description | {"input_schema": info.input_schema.to_json()}},
    )
    with warnings.catch_warnings():
        # an example is optional for us: the schema carries one for each column
        warnings.filterwarnings("ignore", message=".*input example was not provided.*")
        pyfunc.save_model(
            path=str(folder),
            python_model=str(CODE_FILE),
            artifacts={"bundle": str(bundle)},
            pip_requirements=requirements(info.plugin),
            signature=signature(info),
            input_example=None if example is None else to_frame(example),
            mlflow_model=model,
        )


def verify_model(folder: Path) -> Path:
    """Check that a logged model runs our code file and nothing else, and return its bundle.

    Args:
        folder: An MLflow model folder.

    Raises:
        BundleError: The code file is not ours, the model is of another make, or the bundle is absent.
    """
    import yaml

    hint = "It was changed or not written by apps run; restore the store or train again."
    try:
        document = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        flavor = document["flavors"]["python_function"]
        loader, code = flavor["loader_module"], Path(flavor["model_code_path"]).name
        bundle = folder / str(flavor["artifacts"]["bundle"]["path"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        raise BundleError(f"{folder}: not a model of Applied Papers.", hint=hint) from None
    if loader != _LOADER or code != CODE_FILE.name or not (folder / code).is_file():
        raise BundleError(f"{folder}: MLmodel names another loader than ours.", hint=hint)
    found = sha256_file(folder / code)
    if found not in accepted_code():
        raise BundleError(f"{folder / code}: not the code file of Applied Papers ({found[:8]}…).", hint=hint)
    if not bundle.is_dir() or not bundle.resolve().is_relative_to(folder.resolve()):
        raise BundleError(f"{folder}: it holds no bundle.", hint=hint)
    return bundle


def accepted_code() -> frozenset[str]:
    """Return the sha256 sums of the code files that a logged model may carry."""
    return frozenset({sha256_file(CODE_FILE)})


def requirements(plugin_id: str) -> list[str]:
    """Return the pip requirements that a model of this plugin is loaded with."""
    found = next((item for item in plugins.discover() if item.id == plugin_id), None)
    spec = found.spec if found else None
    own = plugins.BUILT_IN_DISTRIBUTION
    extra = spec.extra if spec and spec.extra and spec.extra.startswith(f"{own}[") else own
    pins = [f"{extra}=={appliedpapers.__version__}"]
    others = [name for name in (found.distributions if found else ()) if name != own]
    modules = [module.partition(".")[0].replace("_", "-") for module in (spec.requires if spec else ())]
    for name in (*others, "mlflow", "numpy", "pyarrow", *modules):
        try:
            # a local version such as 2.13.0+cpu is not on the index
            pins.append(f"{name}=={importlib.metadata.version(name).partition('+')[0]}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return list(dict.fromkeys(pins))


def signature(info: BundleInfo) -> Any:
    """Return the MLflow signature of a bundle.

    Inputs are not typed. MLflow refuses whole numbers in typed arrays, in a ``double`` column of a frame
    and where text is expected, such as categories that are codes, and its server turns 3.7 into 3 for
    ``long`` and a missing value into false for ``boolean`` before a model sees them; ``any`` leaves the cell
    as it came, and our schema judges.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    typed = {"bool": DataType.boolean, "string": DataType.string, "timestamp": DataType.string}
    typed |= dict.fromkeys(("float64", "float32"), DataType.double)
    typed |= dict.fromkeys(("int64", "int32"), DataType.long)

    inputs = [ColSpec(AnyType(), c.name, required=c.required) for c in info.input_schema.columns]
    outputs = [
        ColSpec(typed[c.dtype] if c.shape is None else AnyType(), c.name, required=not c.nullable)
        for c in info.output_schema.columns
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def from_pyfunc(model_input: Any, schema: TableSchema) -> pa.Table:
    """Build a loosely typed Arrow table from what MLflow hands to a model; NaN means missing.

    Raises:
        DataError: It is neither a data frame, a dict of columns nor a list of records.
    """
    import pandas as pd

    from appliedpapers.core.validation import from_columns, from_records

    if isinstance(model_input, pd.DataFrame):
        columns = {str(name): model_input[name].tolist() for name in model_input.columns}
    elif isinstance(model_input, Mapping):
        columns = {str(name): _listed(values) for name, values in model_input.items()}
    elif isinstance(model_input, list):
        return from_records(model_input, schema)
    else:
        raise DataError(
            f"request: a {type(model_input).__name__} is not a table.",
            hint="Send dataframe_split, dataframe_records or a dict of columns.",
        )
    return from_columns({name: [_plain(cell) for cell in cells] for name, cells in columns.items()}, schema)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a table as the data frame that MLflow's server can write as JSON."""
    import pandas as pd

    return pd.DataFrame(
        {name: _frame_column(table.column(name)) for name in table.column_names}, columns=table.column_names
    )


def _listed(values: Any) -> list[Any]:
    listed = values.tolist() if hasattr(values, "tolist") else values
    return list(listed) if isinstance(listed, list | tuple) else [listed]


def _plain(cell: Any) -> Any:
    import pandas as pd

    if cell is pd.NaT or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell)):
        return None
    if isinstance(cell, pd.Timestamp):
        return cell.to_pydatetime()
    return _nested(cell) if hasattr(cell, "tolist") or isinstance(cell, list | tuple) else cell


def _nested(cell: Any) -> Any:
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    return [_nested(item) for item in cell] if isinstance(cell, list | tuple) else cell


def _frame_column(column: pa.ChunkedArray) -> Any:
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        values = column.to_numpy()
        finite = column.null_count == 0 and (values.dtype.kind != "f" or bool(np.isfinite(values).all()))
        if finite:
            return values
    return pd.Series([plain(cell) for cell in cells(column)], dtype=object)
