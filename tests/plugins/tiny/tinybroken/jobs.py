"""Defective jobs, and models that are careless with files."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from tinyplugins.scenes.data import read_grid
from tinyplugins.scenes.model import OUTPUT, ScenesModel

from appliedpapers.core.errors import DataError, UnusableGroups
from appliedpapers.core.files import sha256_file
from appliedpapers.core.model import GroupProblem
from appliedpapers.core.progress import SilentProgress
from appliedpapers.core.schema import OutputSchema


class StartsOver(ScenesModel):
    """Throws its scratch away."""

    def predict(self, table, *, files=None):
        for path in files.glob("*scratch"):
            shutil.rmtree(path)
        for path in files.glob("*.map.json"):
            path.unlink()
        return super().predict(table, files=files)


class NoScratch(ScenesModel):
    """Keeps nothing that it could go on from."""

    def _map(self, name, grid, files):
        return None, None


class NoProgress(ScenesModel):
    """Shows nobody how far it is."""

    progress = property(lambda self: SilentProgress(), lambda self, progress: None)


class Swallows(ScenesModel):
    """Tries again whatever happens."""

    def _map(self, name, grid, files):
        try:
            return super()._map(name, grid, files)
        except BaseException:
            return super()._map(name, grid, files)


class OtherWhenResumed(ScenesModel):
    """What was begun before comes out otherwise."""

    def _map(self, name, grid, files):
        resumed = any(files.glob("*scratch"))
        path, digest = super()._map(name, grid, files)
        return path, "resumed" if resumed else digest


class ClearsAll(ScenesModel):
    """A finished item takes the scratch of all others away."""

    def _map(self, name, grid, files):
        found = super()._map(name, grid, files)
        shutil.rmtree(*files.glob("*scratch"))
        return found


class Mapped(ScenesModel):
    """Changes what is said of a written map."""

    def _map(self, name, grid, files):
        path, digest = super()._map(name, grid, files)
        return (path, digest) if files is None else self.change(files / path, digest)

    def change(self, path, digest):
        return path, digest


class Unnamed(Mapped):
    """No column says what was written."""

    def change(self, path, digest):
        return None, None


class AbsolutePath(Mapped):
    """Paths of this machine stand in the table."""

    def change(self, path, digest):
        return str(path), digest


class NotThere(Mapped):
    """The second map is taken away again."""

    def change(self, path, digest):
        if len(list(path.parent.glob("*.map.json"))) == 2:
            path.unlink()
        return path.name, digest


class WrongChecksum(Mapped):
    """The checksum is taken before the last write."""

    def change(self, path, digest):
        path.write_text(path.read_text() + "\n")
        return path.name, digest


class LeftBehind(Mapped):
    """A file that was being written stays."""

    def change(self, path, digest):
        path.with_suffix(".part").touch()
        return path.name, digest


class ClockInFile(Mapped):
    """The map says when it was made."""

    def change(self, path, digest):
        path.write_text(str(time.time_ns()))
        return path.name, sha256_file(path)


class NumberedMaps(Mapped):
    """Maps are numbered: the first of each table has one name."""

    def change(self, path, digest):
        number = len(list(path.parent.glob("map-*")))
        return path.rename(path.with_name(f"map-{number}.json")).name, digest


class NamedByCompany(ScenesModel):
    """The name of a map says how many scenes were sent with it."""

    def predict(self, table, *, files=None):
        output = super().predict(table, files=files)
        names = [f"{output.num_rows}-{name}" for name in output.column("map").to_pylist()]
        for name in names:
            (files / name[2:]).rename(files / name)
        return output.set_column(2, "map", pa.array(names))


class CrashesWithoutFiles(ScenesModel):
    """Writes also where it was given no folder."""

    def _map(self, name, grid, files):
        (files / "maps").mkdir(exist_ok=True)
        return super()._map(name, grid, files)


class RefusesWithoutHint(ScenesModel):
    """Refuses to work without a folder, and says no more."""

    def predict(self, table, *, files=None):
        if files is None:
            raise DataError("no.")
        return super().predict(table, files=files)


class NamesWithoutFiles(ScenesModel):
    """Names a map that it did not write."""

    def _map(self, name, grid, files):
        return super()._map(name, grid, files) if files else (f"{name}.map.json", None)


class OtherWithoutFiles(ScenesModel):
    """The level depends on whether a map was asked for."""

    def predict(self, table, *, files=None):
        output = super().predict(table, files=files)
        levels = [level + (files is None) for level in output.column("level").to_pylist()]
        return output.set_column(1, "level", pa.array(levels))


class Undeclared(ScenesModel):
    """Does not say which column names its maps."""

    output_schema = OutputSchema(
        tuple(replace(column, file=None) for column in OUTPUT.columns), rows="per_group", keys=("scene",)
    )


class OneForAll(ScenesModel):
    """Refuses every scene because of one file."""

    def predict(self, table, *, files=None):
        for cell in table.column("raster").to_pylist():
            self.look(cell)
        return super().predict(table, files=files)

    def look(self, cell):
        read_grid(cell)


class NamesAll(ScenesModel):
    """Names every scene where one cannot be used."""

    def predict(self, table, *, files=None):
        try:
            return super().predict(table, files=files)
        except UnusableGroups:
            names = dict.fromkeys(table.column("scene").to_pylist())
            raise UnusableGroups([GroupProblem((name,), "cannot be used") for name in names]) from None


class OpensBlindly(OneForAll):
    """Lets the traceback of a file out."""

    def look(self, cell):
        Path(cell).read_bytes()
