"""JSON lines by Arrow's reader, with what ends its process refused before it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyarrow import json

_BLOCK = 1 << 22
# from each line end to the next and not beyond: a run of empty lines is looked at once, not once for each
_NULL = re.compile(rb"[\r\n][ \t]*+(?:\xef\xbb\xbf)?[ \t]*+(?=null)")


def parse_json_lines(text: bytes, options: json.ParseOptions | None = None, *, first: int = 1) -> pa.Table:
    """Parse objects, one a line.

    Args:
        text: Whole lines in UTF-8.
        options: Arrow's options of parsing.
        first: Number of the first line in its file, for messages.

    Raises:
        ArrowInvalid: A line is not an object or not in UTF-8, or lines differ in the type of a key.
    """
    _require_readable(text, first)
    # several threads race where lines disagree about a list
    read = json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    return json.read_json(io.BytesIO(text), read, options)


def read_json_lines(path: Path) -> pa.Table:
    """Read a file of JSON lines, packed by gzip or not.

    Raises:
        OSError: The file cannot be read or unpacked.
        ArrowInvalid: A line is not an object or not in UTF-8, or lines differ in the type of a key.
    """
    for first, text in line_blocks(path):
        _require_readable(text, first)
    return json.read_json(path, json.ReadOptions(use_threads=False))


def line_blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a text file in blocks of about 4 MiB, each with the number of its first line.

    Raises:
        OSError: The file cannot be read or unpacked.
    """
    first, rest = 1, b""
    with pa.input_stream(str(path), compression="detect") as stream:
        while block := bytes(stream.read(_BLOCK)):
            whole, end, rest = (rest + block).rpartition(b"\n")
            if whole.strip():
                yield first, whole + end
            first += whole.count(b"\n") + len(end)
    if rest.strip():
        yield first, rest + b"\n"


def _require_readable(text: bytes, first: int) -> None:
    place, wrong = -1, ""
    # as the first value of a block of Arrow's, which any line may begin, null ends the process (Arrow 25)
    if b"null" in text and (found := _NULL.search(b"\n" + text)):
        place, wrong = found.end() - 1, "is null, not an object"
    try:
        text.decode()
    except UnicodeDecodeError as error:
        place, wrong = error.start, "is not in UTF-8"
    if wrong:
        raise pa.ArrowInvalid(f"JSON parse error: line {first + text.count(10, 0, place)} {wrong}")
