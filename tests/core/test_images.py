"""Images of strangers: upright, in colours, or one line that names the file."""

import io

import numpy as np
import pytest
from PIL import Image

from appliedpapers.core.errors import DataError
from appliedpapers.core.images import read_rgb

RED = (200, 20, 30)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def plain(size=(20, 12), colour=RED, mode="RGB"):
    return Image.new(mode, size, colour)


def test_a_photo_is_turned_as_its_camera_says():
    image = plain()
    image.paste((0, 0, 255), (0, 0, 20, 6))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    found = read_rgb(encoded(image, "JPEG", quality=95, exif=exif), "photo.jpg")
    assert found.shape == (20, 12, 3)
    # what lay on top is on the right now
    assert found[10, 10, 2] > 200 > 60 > found[10, 1, 2]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_every_format_gives_the_same_colours(kind):
    found = read_rgb(encoded(plain(), kind), "photo")
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - RED).max() <= 4


@pytest.mark.parametrize("mode", ["CMYK", "P", "RGBA", "YCbCr", "LA", "L", "1"])
def test_other_colour_models_become_colours(mode):
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    image = plain().quantize(8) if mode == "P" else plain().convert(mode)
    found = read_rgb(encoded(image, kind), "photo")
    assert found.shape == (12, 20, 3)
    if mode in ("CMYK", "P", "RGBA", "YCbCr"):
        assert np.abs(found.astype(int) - RED).max() <= 30


def test_a_cmyk_jpeg_is_not_inverted():
    found = read_rgb(encoded(plain(colour=(250, 250, 250)).convert("CMYK"), "JPEG"), "photo")
    assert found.min() > 240


def test_sixteen_bits_keep_their_contrast():
    ramp = np.linspace(0, 65535, 240).astype(np.uint16).reshape(12, 20)
    found = read_rgb(encoded(Image.fromarray(ramp)), "photo")
    assert np.abs(found[..., 0] - ramp / 257).max() <= 0.51
    assert (found[..., 0] == found[..., 2]).all()
    twelve = read_rgb(encoded(Image.fromarray(ramp >> 4)), "photo")
    assert twelve.max() == 255


def test_transparent_pixels_show_the_background():
    image = plain(mode="RGBA", colour=(*RED, 0))
    assert (read_rgb(encoded(image), "photo") == 255).all()
    assert (read_rgb(encoded(image), "photo", background=0) == 0).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "photo: the file is empty"),
        (b"no image at all, but long enough to look", "photo: not an image of a known format"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "photo: HEIC and AVIF photos are not read"),
        (encoded(plain((1, 1))), "photo: 1 x 1 px are too few"),
        (encoded(plain((300, 3))), "photo: 300 x 3 px are too few"),
        (encoded(Image.effect_noise((64, 64), 90), "JPEG")[:-400], "photo: the image is damaged"),
        (encoded(Image.effect_noise((64, 64), 90))[:2000], "photo: the image is damaged"),
        (encoded(plain(), "TIFF")[:60], "photo: the TIFF is damaged|photo: not an image"),
        (encoded(plain(), "GIF"), "photo: not an image of a known format"),
    ],
)
def test_what_cannot_be_read_gives_one_line(content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_rgb(content, "photo")
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_large_image_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match="20 x 12 px is too large"):
        read_rgb(encoded_before, "photo", max_pixels=239)


encoded_before = encoded(plain())


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match="soil: no such file"):
        read_rgb(tmp_path / "none.jpg", "soil")
    with pytest.raises(DataError, match="soil: cannot be read"):
        read_rgb(tmp_path, "soil")


def test_a_large_jpeg_is_decoded_no_larger_than_needed_and_other_formats_at_their_size():
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    image = Image.fromarray(np.repeat(np.tile(ramp, (600, 1))[..., None], 3, axis=2))
    for kind, size in (("JPEG", (300, 400)), ("PNG", (600, 800))):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        whole, small = read_rgb(buffer.getvalue(), "photo"), read_rgb(buffer.getvalue(), "photo", enough=200)
        assert whole.shape[:2] == (600, 800)
        assert small.shape[:2] == size
        assert abs(float(whole.mean()) - float(small.mean())) < 1
