"""Images of every kind become the same grey pixels on white, and what cannot be read is named."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from appliedpapers.core.errors import DataError
from appliedpapers.plugins.varifocal_net import images
from appliedpapers.plugins.varifocal_net.images import png_bytes, read_chromosome, read_grey, read_images
from appliedpapers.plugins.varifocal_net.strip_tiff import read_strips

STRIPED = np.full((20, 10), 255, dtype=np.uint8)
STRIPED[4:16, 3:7] = 90
STRIPED[6:8, 3:7] = 30
PIXELS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 255))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff(values, *, bits=8, photometric=1, order="<", samples=1, colours=None, drop=(), extra=(), rows=None):
    """Write a baseline TIFF by hand; ``extra`` are tags that no reader needs."""
    height, width = values.shape[:2]
    rows = rows or height
    strips = [values[top : top + rows].tobytes() for top in range(0, height, rows)]
    heap, body = b"", b"".join(strips)
    starts = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    tags = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [bits]),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, starts),
        277: (3, [samples]),
        278: (3, [rows]),
        279: (4, [len(strip) for strip in strips]),
    }
    if colours is not None:
        tags[320] = (3, list(colours))
    entries = [(tag, *cell) for tag, cell in sorted(tags.items()) if tag not in drop] + list(extra)
    directory = 8 + len(body)
    after = directory + 2 + 12 * len(entries) + 4
    text = struct.pack(f"{order}H", len(entries))
    for tag, kind, cells in entries:
        packed = struct.pack(f"{order}{len(cells)}{'H' if kind == 3 else 'I'}", *cells)
        if len(packed) > 4:
            place, heap = struct.pack(f"{order}I", after + len(heap)), heap + packed
        else:
            place = packed.ljust(4, b"\0")
        text += struct.pack(f"{order}HHI", tag, kind, len(cells)) + place
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", directory) + body + text + bytes(4) + heap


@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, mode) for kind in ("PNG", "TIFF") for mode in ("L", "RGB", "RGBA", "P", "LA")]
    + [("BMP", mode) for mode in ("L", "RGB", "RGBA", "P")],
)
def test_every_lossless_format_and_mode_gives_the_same_pixels(kind, mode):
    image = Image.fromarray(STRIPED).convert(mode)
    assert np.array_equal(read_grey(encoded(image, kind), "x").pixels, STRIPED)


def test_jpeg_and_one_bit_images_are_read():
    jpeg = read_grey(encoded(Image.fromarray(STRIPED), "JPEG", quality=95), "x").pixels
    assert np.abs(jpeg.astype(int) - STRIPED).mean() < 3
    one = Image.fromarray(STRIPED > 200)
    assert np.array_equal(read_grey(encoded(one, "PNG"), "x").pixels, np.where(STRIPED > 200, 255, 0))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_grey_is_scaled_by_the_bits_that_it_uses(bits):
    top = (1 << bits) - 1
    deep = Image.fromarray(np.round(STRIPED / 255 * top).astype(np.uint16))
    for kind in ("PNG", "TIFF"):
        found = read_grey(encoded(deep, kind), "x").pixels
        assert np.abs(found.astype(int) - STRIPED).max() <= 1


def test_fractions_are_read_and_such_that_are_no_grey_levels_refused():
    for scale in (1.0, 1 / 255):
        found = read_grey(encoded(Image.fromarray(STRIPED.astype(np.float32) * scale), "TIFF"), "x").pixels
        assert np.array_equal(found, STRIPED)
    for bad in (np.nan, -1.0, 1e6):
        values = STRIPED.astype(np.float32)
        values[0, 0] = bad
        with pytest.raises(DataError, match=r"x: the .* is damaged"):
            read_grey(encoded(Image.fromarray(values), "TIFF"), "x")


def test_a_black_background_is_found_at_the_border_and_inverted():
    found = read_chromosome(encoded(Image.fromarray(255 - STRIPED), "PNG"), "x")
    assert found.inverted
    assert np.array_equal(found.pixels, STRIPED)
    assert not read_chromosome(encoded(Image.fromarray(STRIPED), "PNG"), "x").inverted
    dark = np.where(STRIPED == 255, 0, 255).astype(np.uint8)
    kept = read_chromosome(encoded(Image.fromarray(dark), "PNG"), "x", "white")
    assert np.array_equal(kept.pixels, dark)


def test_transparent_pixels_are_background():
    cells = np.zeros((*STRIPED.shape, 4), dtype=np.uint8)
    cells[..., :3] = STRIPED[..., None]
    cells[..., 3] = np.where(STRIPED < 255, 255, 0)
    cells[STRIPED == 255, :3] = 0
    content = encoded(Image.fromarray(cells), "PNG")
    assert np.array_equal(read_grey(content, "x").pixels, STRIPED)
    assert np.array_equal(
        read_grey(content, "x", "black").pixels, np.where(STRIPED < 255, 255 - STRIPED, 255)
    )


def test_a_background_that_is_nowhere_white_is_lifted_to_white():
    grey = np.minimum(STRIPED, 220).astype(np.uint8)
    found = read_chromosome(encoded(Image.fromarray(grey), "PNG"), "x").pixels
    assert (found[0] == 255).all()
    assert found[5, 4] == round(90 * 255 / 220)


def test_a_picture_that_stands_on_its_side_is_turned_as_it_says():
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = encoded(Image.fromarray(STRIPED[::-1, ::-1].copy()), "PNG", exif=exif)
    assert np.array_equal(read_grey(turned, "x").pixels, STRIPED)


@settings(max_examples=40, deadline=None)
@given(PIXELS)
def test_pixels_survive_png_and_back(pixels):
    assert np.array_equal(
        read_grey(png_bytes(pixels), "x", "white").pixels, images.on_white(pixels, "white").pixels
    )
    assert png_bytes(pixels) == png_bytes(pixels.copy())


@settings(max_examples=40, deadline=None)
@given(PIXELS, st.sampled_from("<>"), st.integers(1, 5))
def test_strips_are_read_as_they_were_written(pixels, order, rows):
    assert np.array_equal(read_strips(tiff(pixels, order=order, rows=rows), 10**6), pixels)
    deep = pixels.astype(f"{order}u2") * 257
    assert np.array_equal(read_strips(tiff(deep, bits=16, order=order, rows=rows), 10**6), deep)
    colours = np.stack([pixels, pixels // 2, pixels // 3], axis=-1)
    assert np.array_equal(read_strips(tiff(colours, samples=3, photometric=2, order=order), 10**6), colours)


def test_white_is_zero_palettes_and_single_bits_are_read_from_strips():
    assert np.array_equal(read_strips(tiff(255 - STRIPED, photometric=0), 10**6), STRIPED)
    palette = np.tile(np.arange(256)[::-1] * 257, 3)
    found = read_strips(tiff(255 - STRIPED, photometric=3, colours=palette), 10**6)
    assert np.array_equal(found, np.repeat(STRIPED[..., None], 3, axis=2))
    bits = np.packbits(STRIPED > 200, axis=1)
    written = tiff(bits, bits=1)
    written = written.replace(struct.pack("<HHIHH", 256, 3, 1, 2, 0), struct.pack("<HHIHH", 256, 3, 1, 10, 0))
    assert np.array_equal(read_strips(written, 10**6), np.where(STRIPED > 200, 255, 0))


@pytest.mark.parametrize(
    "broken",
    [
        {"drop": (279,)},
        {"drop": (262,)},
        {"extra": [(339, 3, [9, 9, 9])]},
        {"samples": 1, "extra": [(338, 3, [7])]},
        {"extra": [(258, 3, [8, 8, 8, 8, 8, 8])]},
    ],
)
def test_tiffs_with_broken_tags_are_read_by_the_fallback(broken):
    assert np.array_equal(read_chromosome(tiff(STRIPED, **broken), "odd.tiff").pixels, STRIPED)


def test_a_tiff_that_cannot_be_read_does_not_lose_the_others():
    good = tiff(STRIPED)
    bad = [good[:100], good[:12], b"II*\0", b"MM\0*" + b"\xff" * 40, good[:60] + b"\xff" * (len(good) - 60)]
    found = read_images([good, *bad, good], [f"{number}.tiff" for number in range(7)])
    assert sorted(found.problems) == [1, 2, 3, 4, 5]
    assert all(found.problems[row].startswith(f"{row}.tiff: ") for row in found.problems)
    assert all(np.array_equal(found.images[row], STRIPED) for row in (0, 6))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "strips"]), st.data())
def test_damaged_files_are_read_or_refused_but_never_crash(kind, data):
    content = bytearray(tiff(STRIPED) if kind == "strips" else encoded(Image.fromarray(STRIPED), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    found = read_images([bytes(content)], ["odd"])
    if found.problems:
        assert found.problems[0].startswith("odd: ")
    else:
        assert found.images[0].dtype == np.uint8
        assert found.images[0].ndim == 2


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*"]))
def test_noise_after_the_mark_of_a_tiff_is_refused_in_words(noise, mark):
    with pytest.raises(DataError, match="odd: "):
        read_chromosome(mark + noise, "odd")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"not an image at all", "not an image of a known format"),
        (png_bytes(np.full((30, 20), 255, np.uint8)), "20 x 30 px of background, no chromosome"),
        (png_bytes(np.zeros((30, 20), np.uint8)), "no chromosome"),
        (png_bytes(np.full((1, 1), 7, np.uint8)), "1 x 1 px of background"),
        (png_bytes(STRIPED)[:-30], "damaged"),
        (encoded(Image.fromarray(STRIPED), "JPEG")[:300], "damaged|known format"),
        (encoded(Image.fromarray(STRIPED), "GIF"), "known format"),
    ],
)
def test_what_shows_no_chromosome_is_refused_with_its_name(content, said):
    with pytest.raises(DataError, match=f"cell/1_1.png: .*({said})") as caught:
        read_chromosome(content, "cell/1_1.png")
    assert caught.value.hint
    assert caught.value.exit_code == 4


def test_images_of_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 199)
    for content in (png_bytes(STRIPED), tiff(STRIPED, extra=[(258, 3, [8] * 6)])):
        with pytest.raises(DataError, match=r"bomb: .*(too large|pixels)"):
            read_grey(content, "bomb")
    content = png_bytes(STRIPED)
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + content[24:29]
    bomb = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
    with pytest.raises(DataError, match=r"bomb: the image is too large"):
        read_grey(bomb, "bomb")


def test_a_missing_file_a_folder_and_an_odd_path_are_named(tmp_path):
    for path in (tmp_path / "none.png", tmp_path, "a\0b.png"):
        with pytest.raises(DataError, match="one: "):
            read_grey(path, "one")
