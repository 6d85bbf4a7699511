"""What a fuzzer sends: valid content with a few places changed, odd texts, and documents of odd shapes."""

from __future__ import annotations

import io
import json
import random
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

Change = Callable[[bytes, random.Random], bytes]

ODD_WORDS = (
    *("NaN", "nan", "inf", "-Infinity", "1e999", "-1e999", "1e-400", "-1", "0", "-0", "007", "1_000", "1,5"),
    *("9223372036854775808", "-9223372036854775809", "1" * 5000, "0x10", "true", "null", "~", "[]", "{}"),
    *(
        "",
        " ",
        "\t",
        "\0",
        "\r",
        "\n",
        "\r\n",
        '"',
        "'",
        ",",
        ";",
        "|",
        ":",
        "=",
        "#",
        "%",
        "&x",
        "*x",
        "!!x",
    ),
    *("2024-13-45", "2024-01-01T25:61:61Z", "0000-00-00", "99999-01-01", "../../etc/passwd", "/etc/passwd"),
    *(
        "\u202e",
        "\ufeff",
        "\u0000",
        "é",
        "e\u0301",
        "𝔘",
        "\x1b[31m",
        "a" * 300,
        "[" * 200,
        "{" * 200,
        "(" * 200,
    ),
    *("kan(grid=5)", "mlp(", "kan(grid=1e9)", "!!python/object:os.system", "<<", "? ", "- -", "{a: b}"),
    *("${HOME}", "$(id)", "`id`", "{date}", "{0.__class__}", "%s%n", "file:///etc/passwd", "con", "-"),
)
_ODD_BYTES = (
    *(b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\0\x80", b"\xff" * 8),
    *(
        b"\xed\xa0\x80",
        b"\xc3\x28",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\0" * 64,
        b"\x7f" + b"\xff" * 7,
        b"PK\3\4",
    ),
)
_WORD = re.compile(rb"[\w.+-]+")


def changed_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change a few places of any content: bits, lengths, order, odd values."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(data) + 1)
        size = min(rng.choice((1, 2, 4, 8, 64, 1024)), len(data) - at)
        kind = rng.randrange(8)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            odd = rng.choice(_ODD_BYTES)
            data[at : at + len(odd)] = odd
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data[at:at] = data[at : at + size] * rng.choice((1, 2, 50))
        elif kind == 5:
            data[at:at] = rng.choice(_ODD_BYTES)
        elif kind == 6:
            data[at : at + size] = rng.randbytes(size)
        else:
            data[at:at] = rng.choice(ODD_WORDS).encode("utf-8", "surrogatepass")
    return bytes(data)


def changed_ends(content: bytes, rng: random.Random) -> bytes:
    """Change the first or last kilobyte of a large file, where formats keep what they say of themselves."""
    if rng.random() < 0.5 or len(content) < 4096:
        return changed_bytes(content, rng)
    if rng.random() < 0.5:
        return changed_bytes(content[:1024], rng) + content[1024:]
    return content[:-1024] + changed_bytes(content[-1024:], rng)


def changed_words(content: bytes, rng: random.Random) -> bytes:
    """Replace a few words or numbers of a text by odd ones, or change its bytes."""
    words = list(_WORD.finditer(content))
    if not words or rng.random() < 0.3:
        return changed_bytes(content, rng)
    data = content
    chosen = sorted(
        rng.sample(words, min(rng.choice((1, 1, 2, 5)), len(words))), key=lambda word: -word.start()
    )
    for word in chosen:
        odd = rng.choice(words).group() if rng.random() < 0.3 else rng.choice(ODD_WORDS).encode()
        data = data[: word.start()] + odd + data[word.end() :]
    return data


def changed_members(content: bytes, rng: random.Random) -> bytes:
    """Change a member of a ZIP and pack it again, with a checksum that is right."""
    if rng.random() < 0.2:
        return changed_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    victim = rng.randrange(len(members))
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for place, (name, data) in enumerate(members):
            if place == victim:
                if rng.random() < 0.1:
                    continue
                data = changed_words(data, rng)
            archive.writestr(name, data)
    return sink.getvalue()


def changed_chunks(content: bytes, rng: random.Random) -> bytes:
    """Change a chunk of a PNG and give it a checksum that is right."""
    if rng.random() < 0.3:
        return changed_bytes(content, rng)
    parts, at = [content[:8]], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        kind, data = content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        if rng.random() < 0.3:
            data = changed_bytes(data, rng)
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        parts.append(len(data).to_bytes(4, "big") + kind + data + checksum)
        at += 12 + size
    return b"".join(parts)


def mutated(seeds: Sequence[bytes], change: Change = changed_bytes) -> st.SearchStrategy[bytes]:
    """Draw one of the seeds with a few places changed, and sometimes any bytes at all."""
    numbers = st.integers(0, 2**63 - 1)
    valid = st.builds(
        lambda seed, number: change(seed, random.Random(number)), st.sampled_from(seeds), numbers
    )
    return st.one_of(valid, valid, valid, st.binary(max_size=200))


def texts() -> st.SearchStrategy[str]:
    """Draw texts with everything in them that texts may hold, unpaired surrogates included."""
    anything = st.text(st.characters(codec=None, exclude_categories=()), max_size=30)
    return st.one_of(st.sampled_from(ODD_WORDS), anything)


def documents() -> st.SearchStrategy[Any]:
    """Draw what JSON or YAML may hold."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        texts(),
        st.sampled_from((2**63, -(2**70), 1e308)),
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts(), inner, max_size=4),
        max_leaves=12,
    )


def changed_document(document: Any, rng: random.Random, odd: Any) -> Any:
    """Return a copy of a JSON document with one place replaced by ``odd``, removed or repeated."""
    copy = json.loads(json.dumps(document))
    places = list(_places(copy))
    if not places:
        return odd
    holder, key = rng.choice(places)
    kind = rng.randrange(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.append(holder[key])
    elif kind == 2:
        holder[key] = [holder[key]]
    else:
        holder[key] = odd
    return copy


def _places(document: Any) -> Any:
    keys = (
        document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    )
    for key in keys:
        yield document, key
        yield from _places(document[key])


def json_bytes(document: Any) -> bytes:
    """Return a document as JSON, unpaired surrogates included."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


def nearly(document: Any) -> st.SearchStrategy[Any]:
    """Draw a document with one to three places changed, or any other document."""

    def change(number: int, odds: list[Any]) -> Any:
        rng, found = random.Random(number), document
        for odd in odds:
            found = changed_document(found, rng, odd) if isinstance(found, dict | list) else odd
        return found

    changed = st.builds(change, st.integers(0, 2**63 - 1), st.lists(documents(), min_size=1, max_size=3))
    return st.one_of(changed, changed, changed, documents())
