"""Which files a scoring run reads, here or behind a URL, and how it is noticed that one was changed."""

from __future__ import annotations

import glob
import gzip
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.fingerprint import file_fingerprint
from appliedpapers.core.sheets import SUFFIX, is_sheet
from appliedpapers.core.tables import FORMATS, kind_of

_KNOWN = f"one of {', '.join((*FORMATS, SUFFIX))}"
_SHEET = "xlsx"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_LOCAL = "file://"
_LOOKED_AT_BYTES = 1 << 18


@dataclass(frozen=True)
class Fragment:
    """One input file.

    Attributes:
        name: The path or URL as the user gave it, for messages.
        place: Where it lies: an absolute path, or a URL.
        kind: ``parquet``, ``csv``, ``jsonl``, ``arrow`` or ``xlsx``.
        size: Its bytes.
        fingerprint: Of a file by :func:`~appliedpapers.core.fingerprint.file_fingerprint`; behind a URL what
            the store says of it, such as its ETag.
        state: What the file system said of it just before; compared while it is read.
    """

    name: str
    place: str
    kind: str
    size: int
    fingerprint: str
    state: str

    @property
    def remote(self) -> bool:
        """Whether it lies behind a URL."""
        return _URL.match(self.place) is not None

    def source(self) -> pa.NativeFile:
        """Open it as Arrow reads best."""
        return pa.PythonFile(_open_url(self.place), mode="r") if self.remote else pa.OSFile(self.place)

    def rows(self) -> int | None:
        """Return about how many rows it has; None where it would have to be read to know."""
        if self.remote or self.place.lower().endswith(".gz") or self.kind in ("arrow", _SHEET):
            return None
        with suppress(pa.ArrowException, OSError):
            if self.kind == "parquet":
                import pyarrow.parquet as pq

                return int(pq.read_metadata(self.place).num_rows)
            with Path(self.place).open("rb") as file:
                start = file.read(_LOOKED_AT_BYTES)
            return round(start.count(b"\n") * self.size / len(start))
        return None

    def text(self) -> Any:
        """Open it as a stream of bytes, unpacked where its name ends with ``.gz``."""
        packed = self.place.lower().endswith(".gz")
        if self.remote:
            raw = _open_url(self.place)
            return gzip.GzipFile(fileobj=raw) if packed else raw
        opened = gzip.open if packed else open
        return opened(self.place, "rb")

    def beside(self, path: str) -> str:
        """Return the absolute path of a file that a row names relative to this one.

        Raises:
            DataError: This one lies behind a URL, and the path is not absolute.
        """
        if self.remote and not Path(path).is_absolute():
            raise DataError(
                f"{self.name}: it names '{path}' beside it, and files that rows name are read from disk.",
                hint="Copy the manifest with its files to this machine, or write absolute paths into it.",
            )
        return path if self.remote else str(Path(self.place).parent / path)

    def require_unchanged(self) -> None:
        """Check that the file is still the one whose fingerprint was taken.

        Raises:
            DataError: It was changed or removed.
        """
        try:
            now = _state(self.place)
        except (OSError, DataError):
            now = ""
        if now != self.state:
            raise DataError(
                f"{self.name}: it was changed while it was read.",
                hint="No changed row was scored. Wait until it is complete; the same command continues.",
            )


def find_fragments(inputs: Sequence[str], output: Path) -> list[Fragment]:
    """Return the files that paths, folders, globs and URLs name, each once, in a fixed order.

    Files below ``output`` that a folder or a glob happens to name are left out.

    Raises:
        ConfigError: No input at all, a file below ``output`` was named outright, or a URL needs a package.
        DataError: A path or glob names nothing, a file is empty, unreadable or of an unknown format.
    """
    if not inputs:
        raise ConfigError(
            "no input was given.", hint="Give --input with a file or a glob such as 'data/*.parquet'."
        )
    inside = output.resolve()
    fragments: dict[str, Fragment] = {}
    for given in inputs:
        # what stands behind file:// is a path like any other
        plain = given[len(_LOCAL) :] if given.lower().startswith(_LOCAL) else given
        if _URL.match(plain):
            for url in _expand_url(plain):
                fragments.setdefault(url, _fragment(url, url))
            continue
        for name in _expand(plain):
            path = Path(name).resolve()
            if path.is_relative_to(inside):
                if name == plain:
                    raise ConfigError(f"{name}: lies in the output folder.", hint="Choose another --output.")
                continue
            if str(path) not in fragments:
                fragments[str(path)] = _fragment(name, str(path))
    if not fragments:
        raise DataError(
            f"{', '.join(inputs)}: only files of the output folder.", hint="Choose another --output."
        )
    return list(fragments.values())


def _expand(given: str) -> list[str]:
    path = Path(given).expanduser()
    if path.is_dir():
        found = sorted(
            str(file)
            for file in path.rglob("*")
            if file.is_file() and _kind(file) and not _hidden(file.relative_to(path))
        )
        if not found:
            raise DataError(f"{given}: no file that can be read.", hint=f"Expected {_KNOWN}.")
        return found
    if path.exists():
        return [str(path) if given.startswith("~") else given]
    if not glob.has_magic(given):
        raise DataError(f"{given}: no such file.", hint="Check the path given to --input.")
    found = sorted(name for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not found:
        raise DataError(f"{given}: matches no file.", hint="Check the glob given to --input, and quote it.")
    return found


def _expand_url(given: str) -> list[str]:
    with _system(given) as (system, root):
        if not glob.has_magic(root) and system.isfile(root):
            return [given]
        if glob.has_magic(root):
            found = [path for path in system.glob(root) if system.isfile(path)]
        elif system.isdir(root):
            inner = (PurePosixPath(path).relative_to(root) for path in system.find(root))
            found = [f"{root}/{path}" for path in inner if _kind(Path(path)) and not _hidden(path)]
        else:
            found = []
        if not found:
            raise DataError(
                f"{given}: nothing there that can be read.", hint="Check the URL given to --input."
            )
        return [system.unstrip_protocol(path) for path in sorted(found)]


def _hidden(path: PurePosixPath | Path) -> bool:
    return any(part.startswith((".", "_", "~$")) for part in path.parts)


def _kind(path: Path) -> str | None:
    return _SHEET if is_sheet(path) else kind_of(path)


def _fragment(name: str, place: str) -> Fragment:
    kind = _kind(Path(place))
    if kind is None:
        ending = PurePosixPath(place).suffix or PurePosixPath(place).name
        raise DataError(f"{name}: unknown format '{ending}'.", hint=f"Expected {_KNOWN}.")
    state, size = _state(place), _size(place)
    if not size:
        raise DataError(f"{name}: empty file.", hint="Expected at least one row; leave the file out.")
    fingerprint = state if _URL.match(place) else file_fingerprint(Path(place))
    return Fragment(name, place, kind, size, fingerprint, state)


def _state(place: str) -> str:
    if _URL.match(place):
        with _system(place) as (system, path):
            system.invalidate_cache()
            return f"url:{system.ukey(path)}"
    status = Path(place).stat()
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


def _size(place: str) -> int:
    if _URL.match(place):
        with _system(place) as (system, path):
            # some servers do not say: an empty file is then found out when it is read
            return int(system.info(path).get("size") or 1)
    return Path(place).stat().st_size


def _open_url(url: str) -> Any:
    with _system(url) as (system, path):
        return system.open(path, "rb")


@contextmanager
def _system(url: str) -> Iterator[tuple[Any, str]]:
    """Yield the file system behind a URL and the path on it; its errors become ours."""
    scheme = url.partition("://")[0]
    try:
        import fsspec
        from fsspec.registry import known_implementations
    except ImportError:
        raise ConfigError(
            f"{url}: reading URLs needs fsspec.", hint="Install it: pip install fsspec"
        ) from None
    try:
        system, path = fsspec.core.url_to_fs(url)
        yield system, path
    except ImportError as error:
        said = known_implementations.get(scheme, {}).get("err", str(error))
        raise ConfigError(f"{url}: {scheme}:// cannot be read here.", hint=f"{said}.") from error
    except ValueError as error:
        raise ConfigError(f"{url}: {error}.", hint="Expected a URL that fsspec knows.") from error
    except DataError:
        raise
    except Exception as error:
        # each kind of store has exceptions of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{url}: cannot be read ({reason}).", hint="Check the URL and your rights."
        ) from error
