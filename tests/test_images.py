"""Tests of images: folders and zips, crop and size, what is cached, what is refused."""

import io
import os
import types
import warnings
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from centroidlib import draw_faces, load_images, sources
from centroidlib import images as module


def picture(width=20, height=24, mode="RGB", seed=0):
    """A smooth random image."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def array(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def encoded(image, kind="png"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def zipped(path, entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def folder(tmp_path):
    """Six good images, named out of order."""
    folder = tmp_path / "faces"
    (folder / "b" / "deep").mkdir(parents=True)
    for seed, name in enumerate(["a.png", "b/1.png", "b/2.PNG", "b/deep/x.png", "c.png", "d.png"]):
        (folder / name).write_bytes(encoded(picture(seed=seed)))
    return folder


@pytest.fixture
def no_decoding(monkeypatch):
    """Called, it forbids the decoding of any image from then on."""

    def refuse(*args):
        raise AssertionError("an image was decoded again")

    return lambda: monkeypatch.setattr(module, "_decode_all", refuse)


def listing(folder):
    return sorted((path.relative_to(folder), path.stat().st_size) for path in folder.rglob("*"))


# Folders and zips


def test_a_folder_is_read_with_its_subfolders_in_order_of_names(folder):
    before = listing(folder)
    found = load_images(folder, 20)
    assert found.shape == (6, 3, 20, 20)
    assert found.dtype == torch.uint8
    for seed in range(6):
        assert torch.equal(found[seed], array(picture(seed=seed))[:, 2:22])
    assert listing(folder) == before


def test_a_path_may_be_text(folder):
    assert torch.equal(load_images(str(folder), 16), load_images(folder, 16))


def test_a_zip_is_read_in_place(folder, tmp_path, cache):
    entries = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}
    path = zipped(tmp_path / "faces.zip", dict(sorted(entries.items(), reverse=True)))
    before = listing(tmp_path)
    assert torch.equal(load_images(path, 16), load_images(folder, 16))
    assert listing(tmp_path) == before
    assert {file.suffix for file in cache.iterdir()} == {".npy", ".json"}


@pytest.mark.parametrize("kind", ["jpg", "jpeg", "png", "webp"])
def test_kinds_of_files(tmp_path, kind):
    data = encoded(picture(), {"jpg": "jpeg"}.get(kind, kind))
    (tmp_path / f"a.{kind}").write_bytes(data)
    expected = array(Image.open(io.BytesIO(data)).convert("RGB"))[:, 2:22]
    assert torch.equal(load_images(tmp_path, 20)[0], expected)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_grey_images_become_three_equal_channels(tmp_path, mode):
    grey = picture(mode="L")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    (wide if mode == "I;16" else grey.convert(mode)).save(tmp_path / "a.png")
    found = load_images(tmp_path, 20)[0]
    expected = np.asarray(grey.convert("1").convert("L") if mode == "1" else grey)[2:22]
    for channel in found:
        np.testing.assert_array_equal(channel.numpy(), expected)


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK"])
def test_other_colour_modes_become_rgb(tmp_path, mode):
    picture(mode=mode).save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    found = load_images(tmp_path, 20)[0].float()
    assert (found - array(picture())[:, 2:22].float()).abs().mean() < 20


def test_a_palette_with_transparency_needs_no_warning(tmp_path):
    picture(mode="P").save(tmp_path / "a.png", transparency=bytes(range(256)))
    expected = array(picture(mode="P").convert("RGB"))[:, 2:22]
    assert torch.equal(load_images(tmp_path, 20)[0], expected)


def test_files_that_systems_leave_are_passed_over(folder, tmp_path):
    expected = load_images(folder, 16)
    (folder / "__MACOSX").mkdir()
    for name in (".DS_Store", "b/Thumbs.db", "desktop.ini", "__MACOSX/._a.png", "._a.png"):
        (folder / name).write_bytes(b"no image")
    assert torch.equal(load_images(folder, 16), expected)


# Crop, resize


@pytest.mark.parametrize("filter_", list(module.FILTERS))
@pytest.mark.parametrize(("width", "height"), [(40, 49), (49, 40), (41, 48), (40, 40)])
@pytest.mark.parametrize("crop", [1.0, 0.6])
def test_crop_and_resize_are_torchvisions(tmp_path, filter_, width, height, crop):
    image = picture(width, height)
    image.save(tmp_path / "a.png")
    square = functional.center_crop(image, round(crop * min(width, height)))
    mode = functional.InterpolationMode(filter_)
    expected = array(functional.resize(square, [16, 16], mode, antialias=True))
    assert torch.equal(load_images(tmp_path, 16, crop=crop, resize=filter_)[0], expected)


def test_filters_differ(tmp_path):
    picture(40, 40).save(tmp_path / "a.png")
    found = [load_images(tmp_path, 16, resize=filter_) for filter_ in module.FILTERS]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_celebas_square_begins_at_row_20(tmp_path):
    image = picture(178, 218)
    image.save(tmp_path / "a.png")
    assert torch.equal(load_images(tmp_path, 178)[0], array(image)[:, 20:198])


def test_antialiasing_averages(tmp_path):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "a.png")
    assert (load_images(tmp_path, 8)[0, :, :, 1:-1].float() - 127.5).abs().max() < 10


# Count, arguments


def test_count_takes_the_first(folder):
    assert torch.equal(load_images(folder, 16, count=2), load_images(folder, 16)[:2])
    with pytest.raises(ValueError, match=r"faces holds 6 images, fewer than the 7 asked for"):
        load_images(folder, 16, count=7)


def test_files_beyond_count_are_not_looked_at(folder):
    (folder / "d.png").write_bytes(b"no image")
    assert len(load_images(folder, 16, count=5)) == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resize": "nearest"}, "resize is one of bilinear, bicubic, lanczos, not 'nearest'"),
        ({"crop": 0.0}, "crop is a fraction of the width, above 0 and at most 1, not 0.0"),
        ({"crop": 1.5}, "crop is a fraction of the width, above 0 and at most 1, not 1.5"),
        ({"crop": float("nan")}, "crop is a fraction"),
        ({"on_corrupt": "ignore"}, "on_corrupt is 'stop' or 'skip', not 'ignore'"),
        ({"count": 0}, r"count is the number of images to take, at least 1 \(or None for all\), not 0"),
        ({"size": 0}, "size is the number of pixels a side, at least 1, not 0"),
        ({"size": -64}, "size is the number of pixels a side, at least 1, not -64"),
    ],
)
def test_wrong_arguments_are_refused(folder, cache, wrong, message):
    with pytest.raises(ValueError, match=message):
        load_images(folder, **{"size": 16} | wrong)
    assert list(cache.iterdir()) == []


def test_images_smaller_than_the_size_need_upscale(folder, cache):
    with pytest.raises(ValueError, match=r"cut from a\.png is 20×20 pixels, smaller than the 32×32 asked for.*upscale=True"):
        load_images(folder, 32)
    assert list(cache.iterdir()) == []
    found = load_images(folder, 32, upscale=True)
    expected = picture().crop((0, 2, 20, 22)).resize((32, 32), Image.Resampling.BILINEAR)
    assert torch.equal(found[0], array(expected))


def test_a_crop_can_make_an_image_too_small(folder):
    with pytest.raises(ValueError, match="is 10×10 pixels, smaller than the 16×16"):
        load_images(folder, 16, crop=0.5)
    with pytest.raises(ValueError, match="is 10×10 pixels, smaller than the 16×16"):
        load_images(folder, 16, crop=0.5, on_corrupt="skip")


# Images as they are


def test_without_a_size_images_are_taken_as_they_are(folder):
    found = load_images(folder, None)
    assert found.shape == (6, 3, 24, 20)
    assert torch.equal(found[0], array(picture(seed=0)))
    assert load_images(folder, 20).shape == (6, 3, 20, 20)  # kept apart in the cache
    assert torch.equal(load_images(folder, None), found)


def test_without_a_size_images_must_be_of_one_size(folder):
    (folder / "e.png").write_bytes(encoded(picture(21, 24)))
    with pytest.raises(ValueError, match=r"e\.png is 21×24 pixels, an image before it 20×24: give images of one size, or a size"):
        load_images(folder, None)


def test_without_a_size_nothing_is_cropped(folder):
    with pytest.raises(ValueError, match="With size None images are taken whole: leave crop at 1, or give a size"):
        load_images(folder, None, crop=0.5)


def test_without_a_size_unreadable_images_are_named_or_skipped(folder):
    (folder / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 of 6 files are not readable images: a\.png"):
        load_images(folder, None)
    with pytest.warns(UserWarning, match=r"a\.png\. They were left out"):
        assert load_images(folder, None, on_corrupt="skip").shape == (5, 3, 24, 20)


@pytest.mark.parametrize("content", [[], [".DS_Store"]])
def test_an_empty_source_is_refused(tmp_path, content):
    (tmp_path / "empty").mkdir()
    for name in content:
        (tmp_path / "empty" / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"The folder .*empty holds no images: jpg, png and webp files are looked for"):
        load_images(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"The zip .*empty\.zip holds no images: jpg, png and webp"):
        load_images(zipped(tmp_path / "empty.zip", dict.fromkeys(content, b"")))


def test_a_path_that_is_not_there_is_told_with_the_data_sets_names(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder or zip .*nowhere, nor a data set.*synthetic, celeba, celeba:train"):
        load_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no folder or zip synthethic"):
        load_images("synthethic")


def test_a_file_that_is_no_zip_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match=r"a\.png is neither a folder nor a zip of images"):
        load_images(folder / "a.png")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match=r"text\.zip is not a zip archive, or its end is missing"):
        load_images(tmp_path / "text.zip")
    whole = zipped(tmp_path / "cut.zip", {"a.png": encoded(picture())})
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cut\.zip is not a zip archive, or its end is missing"):
        load_images(whole)


# Corrupt files among good ones


def broken(folder):
    """Makes three of the six unreadable, each in its own way."""
    (folder / "b" / "1.png").write_bytes(encoded(picture())[:100])
    (folder / "b" / "deep" / "x.png").write_text("no image")
    (folder / "c.png").rename(folder / "c.txt")
    return "3 of 6 files are not readable images: b/1.png, b/deep/x.png, c.txt"


def test_corrupt_files_are_named_and_counted(folder, cache):
    message = broken(folder)
    with pytest.raises(ValueError, match=f"{message}. Repair or remove them, or set on_corrupt='skip'"):
        load_images(folder, 16)
    assert list(cache.iterdir()) == []


def test_corrupt_files_can_be_skipped_with_a_warning(folder, no_decoding):
    expected = load_images(folder, 16)[[0, 2, 5]]
    message = broken(folder)
    with pytest.warns(UserWarning, match=f"{message}. They were left out"):
        found = load_images(folder, 16, on_corrupt="skip")
    assert torch.equal(found, expected)
    no_decoding()
    with pytest.warns(UserWarning, match=message):  # from the cache, the same
        assert torch.equal(load_images(folder, 16, on_corrupt="skip"), expected)


def test_skipping_everything_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"1 of 1 files are not readable images: a\.png"):
        load_images(tmp_path, on_corrupt="skip")


def test_many_corrupt_files_are_counted_and_five_named(tmp_path):
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"8 of 8 .*: 0\.png, 1\.png, 2\.png, 3\.png, 4\.png, …\. Repair"):
        load_images(tmp_path)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_no_damage_of_a_file_goes_beyond_it(tmp_path, kind):
    rng = np.random.default_rng(0)
    whole = encoded(picture(), kind)
    (tmp_path / "00.png").write_bytes(encoded(picture()))
    for i in range(1, 60):
        data = bytearray(whole[: rng.integers(1, len(whole) + 1)] if i % 2 else whole)
        for position in rng.integers(0, len(data), 8):
            data[position] = rng.integers(0, 256)
        (tmp_path / f"{i:02}.{kind}").write_bytes(data)
    with pytest.warns(UserWarning, match=r"of 60 files are not readable images: \d\d\."):
        found = load_images(tmp_path, 4, upscale=True, on_corrupt="skip")
    assert torch.equal(found[0], load_images(tmp_path, 4, count=1)[0])


def test_damage_inside_a_zip_is_named(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(20):
        path = zipped(
            tmp_path / f"{i}.zip", {"a.png": encoded(picture()), "b.png": encoded(picture(seed=1)), "c.txt": b"x" * 999}
        )
        data = bytearray(path.read_bytes())
        begin = data.index(b"b.png") + 5
        for position in rng.integers(begin, data.index(b"PK", begin), 1 + i):
            data[position] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"2 of 3 files are not readable images: b\.png, c\.txt"):
            load_images(path, 16)


def test_an_encrypted_zip_is_told(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.png": encoded(picture())})
    data = bytearray(path.read_bytes())
    for begin in (data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8):
        data[begin] |= 1  # the flag that says: encrypted
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"1 of 1 files are not readable images: a\.png"):
        load_images(path, 16)


# The cache


def test_what_was_decoded_is_not_decoded_again(folder, no_decoding, cache):
    first = load_images(folder, 16)
    no_decoding()
    assert torch.equal(load_images(folder, 16), first)
    with pytest.raises(AssertionError, match="decoded again"):
        load_images(folder, 15)
    assert len(list(cache.glob("*.npy"))) == 1


@pytest.mark.parametrize("options", [{"crop": 0.9}, {"resize": "bicubic"}, {"count": 3}, {"size": 15}])
def test_other_options_are_other_images(folder, options):
    first = load_images(folder, 16)
    other = load_images(folder, **{"size": 16} | options)
    assert other.shape != first.shape or not torch.equal(other, first)


@pytest.mark.parametrize("what", ["size", "time"])
def test_a_changed_file_is_decoded_again(folder, what):
    data = [encoded(picture(seed=seed)) for seed in (0, 9)]
    if what == "time":
        data = [png.ljust(max(map(len, data)), b"\0") for png in data]
    (folder / "a.png").write_bytes(data[0])
    before = (folder / "a.png").stat().st_mtime_ns
    first = load_images(folder, 16)
    (folder / "a.png").write_bytes(data[1])
    later = before + 10**9 if what == "time" else before
    os.utime(folder / "a.png", ns=(later, later))
    assert not torch.equal(load_images(folder, 16)[0], first[0])


def test_a_changed_zip_is_read_again(tmp_path):
    path = tmp_path / "a.zip"
    first = load_images(zipped(path, {"a.png": encoded(picture())}), 16)
    assert not torch.equal(load_images(zipped(path, {"a.png": encoded(picture(seed=1))}), 16), first)


def test_changing_the_images_leaves_the_cache_as_it_was(folder):
    first = load_images(folder, 16)
    kept = first.clone()
    first.zero_()
    assert torch.equal(load_images(folder, 16), kept)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "record"])
def test_a_damaged_cache_is_decoded_again_with_a_warning(folder, cache, damage):
    first = load_images(folder, 16).clone()
    (path,) = cache.glob("*.npy")
    if damage == "record":
        path.with_suffix(".json").write_text("{")
    else:
        path.write_bytes({"cut": path.read_bytes()[:1000], "empty": b"", "text": b"no array"}[damage])
    with pytest.warns(UserWarning, match=rf"The cached images {path.name} are damaged and are decoded again"):
        assert torch.equal(load_images(folder, 16), first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_images(folder, 16)


def test_an_interrupted_decoding_leaves_no_cache(folder, cache, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sources, "_open", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_images(folder, 16)
    assert list(cache.iterdir()) == []
    assert len(load_images(folder, 16)) == 6


def test_a_disk_too_small_for_the_cache_is_told_before_decoding(folder, cache, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: types.SimpleNamespace(free=6 * 3 * 16 * 16 - 1))
    monkeypatch.setattr(sources, "_open", None)
    with pytest.raises(OSError, match=r"The disk is full: images-\w+\.npy could not be written"):
        load_images(folder, 16)
    assert list(cache.iterdir()) == []


def test_synthetic_is_the_drawn_faces(cache):
    assert torch.equal(load_images("synthetic", 32, count=5, seed=3), draw_faces(5, size=32, seed=3)[0])
    assert list(cache.iterdir()) == []
