"""No row of Frappe, Criteo or Avazu is in the repository or in what is packed from it."""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[3]

NAMES = {
    *("frappe_x1_rebuilt.parquet", "frappe_x1.parquet", "frappe_vocab.json", "frappe.csv"),
    *("mobile_frappe.zip", "train.libsvm", "valid.libsvm", "test.libsvm"),
    *("criteo_tiny.parquet", "train.tiny.csv", "test.tiny.csv"),
    *("avazu_tiny.parquet", "tr.rx.csv"),
}
COLUMNS = {
    "Frappe": {"daytime", "isweekend", "homework", "cost"},
    "Criteo": {f"C{i}" for i in range(1, 27)} | {f"I{i}" for i in range(1, 14)},
    "Avazu": {"banner_pos", "site_id", "app_id", "device_ip", "device_conn_type"},
}
# ten fields of Frappe, by global ids; 13 counts and 26 hexadecimal tokens of Criteo
LIBSVM = re.compile(r"^(1|-1|0)( \d+:1){10}\s*$")
CRITEO = re.compile(r"^[01](\t-?\d*){13}(\t([0-9a-f]{8})?){26}\s*$")
PACKED = (".pyc", ".so", ".png", ".woff2")


def findings(files: Iterable[Path]) -> list[str]:
    """Say which files hold, or are called as, rows that may not be passed on."""
    return [f"{file}: {what}" for file in files if (what := finding(file))]


def finding(file: Path) -> str | None:
    names = {file.name}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names |= {Path(member).name for member in archive.namelist()}
    if named := {name.lower() for name in names} & NAMES:
        return f"the name {min(named)}"
    for owner, columns in COLUMNS.items():
        if columns <= columns_of(file):
            return f"the columns of {owner}"
    lines = first_lines(file)
    for owner, pattern in (("Frappe", LIBSVM), ("Criteo", CRITEO)):
        if any(pattern.match(line) for line in lines):
            return f"a row of {owner}"
    return None


def columns_of(file: Path) -> set[str]:
    """Column names of a table, or the keys of a JSON document and of its first entries."""
    try:
        if file.suffix in (".parquet", ".pq"):
            return set(pq.read_schema(file).names)
        if file.suffix in (".arrow", ".feather"):
            return set(pa.ipc.open_file(file).schema.names)
        if file.suffix == ".json":
            document = json.loads(file.read_text(encoding="utf-8"))
            levels = document if isinstance(document, list) else [document]
            return {key for level in levels if isinstance(level, dict) for key in level}
    except (OSError, ValueError, pa.ArrowException):
        return set()
    header = (first_lines(file) or [""])[0]
    if header.startswith("{"):
        return set(re.findall(r'"(\w+)":', header))
    return {name.strip("\"' ") for name in re.split(r"[,;\t|]", header)}


def first_lines(file: Path) -> list[str]:
    if file.suffix in PACKED:
        return []
    try:
        with pa.input_stream(str(file), compression="detect") as stream:
            return bytes(stream.read(1 << 20)).decode("utf-8", "replace").splitlines()
    except (OSError, pa.ArrowException):
        return []


@pytest.fixture(scope="module")
def delivered() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = [ROOT / name for name in listed.stdout.split("\0") if name]
    # the wheel is packed from the folder, whatever git says of its files
    packed = [path for path in (ROOT / "appliedpapers").rglob("*") if path.suffix != ".pyc"]
    files = sorted({path for path in (*tracked, *packed) if path.is_file()})
    assert len(files) > 100
    return files


def test_repository_and_package_hold_no_row_of_frappe_criteo_or_avazu(delivered):
    assert findings(delivered) == []


LINE = "1 " + " ".join(f"{i}:1" for i in range(10))
ROW = "0\t" + "\t".join(["1", "-1", *[""] * 11, *["0a1b2c3d"] * 25, ""])


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_name_alone_is_found(tmp_path, name):
    (tmp_path / name).write_text("nothing")
    assert findings(tmp_path.iterdir()) == [f"{tmp_path / name}: the name {name}"]


@pytest.mark.parametrize("owner", COLUMNS)
@pytest.mark.parametrize("form", ["a.parquet", "a.csv", "a.tsv", "a.csv.gz", "a.jsonl", "a.json"])
def test_the_columns_are_found_in_any_form(tmp_path, owner, form):
    columns = ["row", *sorted(COLUMNS[owner])]
    path = tmp_path / form
    if form.endswith("parquet"):
        pq.write_table(pa.table({name: [1] for name in columns}), path)
    elif ".json" in form:
        path.write_text(json.dumps({name: [1] for name in columns}))
    else:
        text = ("\t" if "tsv" in form else ",").join(columns) + "\n"
        with pa.output_stream(str(path), compression="detect") as stream:
            stream.write(text.encode())
    assert findings([path]) == [f"{path}: the columns of {owner}"]


@pytest.mark.parametrize(("line", "owner"), [(LINE, "Frappe"), (ROW, "Criteo")])
def test_rows_without_names_are_found_amid_other_text(tmp_path, line, owner):
    path = tmp_path / "notes.md"
    path.write_text(f"# Notes\n\n{line}\n")
    assert findings([path]) == [f"{path}: a row of {owner}"]


def test_an_archive_is_looked_into(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/train.libsvm", "")
    assert findings([path]) == [f"{path}: the name train.libsvm"]


def test_tables_of_our_own_are_no_findings(tmp_path):
    (tmp_path / "own.csv").write_text("user,item,weekday,click\nu1,i1,w1,0\n")
    pq.write_table(pa.table({"user": ["u1"], "cost": [1]}), tmp_path / "own.parquet")
    assert findings(tmp_path.iterdir()) == []


@pytest.mark.shared
def test_the_given_files_would_be_found_under_any_name(shared, tmp_path):
    folder = shared / "data" / "finalmlp"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the published rows are on no machine but those that fetched them")
    for number, file in enumerate([*sorted(folder.glob("*.parquet")), folder / "frappe_vocab.json"]):
        other = tmp_path / f"{number}{file.suffix}"
        other.symlink_to(file)
        assert findings([other]), file.name
