"""Tests of `python -m centroidlib.evaluation`: other people's images, and what is wrong with them, in sentences."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import scipy
from PIL import Image

import centroidlib as cl
from centroidlib.evaluation.__main__ import main
from centroidlib.metrics import Gaussian


def write(folder, faces):
    folder.mkdir(parents=True, exist_ok=True)
    for i, face in enumerate(faces):
        Image.fromarray(face.permute(1, 2, 0).numpy()).save(folder / f"{i:04d}.png")
    return str(folder)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Folders of 60 real and 45 generated images, 32×48 pixels, as PNG."""
    home = tmp_path_factory.mktemp("sources")
    real, fake = (cl.draw_faces(count, size=48, seed=seed)[0][..., 8:40] for count, seed in ((60, 0), (45, 1)))
    return write(home / "real", real), write(home / "fake", fake)


def run(*options, capsys):
    status = main(list(options))
    return status, *capsys.readouterr()


def test_two_folders_give_a_table_and_a_file(sources, torch_home, tmp_path, capsys):
    real, fake = sources
    file = tmp_path / "metrics.json"
    status, out, err = run("--real", real, "--fake", fake, "--vgg", "random", "--json", str(file), capsys=capsys)
    assert status == 0, err
    whole = json.loads(file.read_text())
    assert set(whole) == {"fingerprint", "protocol", "metrics", "made_with"}
    assert whole["made_with"]["packages"]["torch"]
    entries = whole["metrics"]
    space = "fd_vgg16_random_relu3_3"
    assert {space, "recall_vgg16_random_relu3_3", "inside_d_ref", "centre_offset"} <= set(entries)
    assert (entries[space]["n_real"], entries[space]["n_fake"], entries[space]["floor_n"]) == (60, 45, 30)
    assert not any(entry["seen_by_loss"] for name, entry in entries.items() if name.startswith("fd"))
    for name in entries:
        assert f"`{name}`" in out
    assert "`fid` was left out. The weights of pytorch-fid's Inception are not on this machine" in out
    assert "`lpips_alex` was left out." in out
    assert "d = 256" not in out
    assert "Note: 45 fake images for 256 dimensions" in err


def test_a_zip_measures_as_its_folder_does(sources, torch_home, tmp_path, capsys):
    real, fake = sources
    with zipfile.ZipFile(tmp_path / "fake.zip", "w") as archive:
        for i in range(45):
            archive.write(f"{fake}/{i:04d}.png", f"{i:04d}.png")
    tables = [
        run("--real", real, "--fake", source, "--vgg", "random", capsys=capsys)[1]
        for source in (fake, str(tmp_path / "fake.zip"))
    ]
    assert tables[0] == tables[1]


def test_held_out_images_stand_beside_the_floors(sources, torch_home, tmp_path, capsys):
    real, _ = sources
    held_out = write(tmp_path / "held_out", cl.draw_faces(50, size=48, seed=2)[0][..., 8:40])
    file = tmp_path / "m.json"
    status, _, err = run(
        "--real", real, "--fake", real, "--held-out", held_out, "--vgg", "random", "--json", str(file), capsys=capsys
    )
    assert status == 0, err
    nearest = json.loads(file.read_text())["metrics"]["nearest_vgg16_random_relu3_3"]
    assert nearest["value"] < 1e-4 < 0.5 * nearest["floor"] < nearest["floor_heldout"]  # the generated images are copies


def test_the_inception_of_published_weights_and_lpips_are_measured(sources, real_weights, tmp_path, capsys):
    real, fake = sources
    file, statistics = tmp_path / "m.json", tmp_path / "real.npz"
    options = ["--real", real, "--fake", fake, "--dims", "64", "--json", str(file), "--save-stats", str(statistics)]
    status, _, err = run(*options, capsys=capsys)
    assert status == 0, err
    first = json.loads(file.read_text())["metrics"]
    assert {"fid_64", "kid_64", "lpips_alex"} <= set(first)
    assert not any("vgg16" in name or "d_ref" in name for name in first)
    status, out, err = run("--real", str(statistics), "--fake", fake, "--dims", "64", "--json", str(file), capsys=capsys)
    assert status == 0, err
    second = json.loads(file.read_text())["metrics"]
    assert second["fid_64"]["value"] == pytest.approx(first["fid_64"]["value"], rel=1e-9)
    assert second["fid_64"]["n_real"] is None
    assert "kid_64" not in second
    assert "holds mean and covariance only" in out


def test_the_whole_path_is_that_of_pytorch_fids_own_command(real_weights, tmp_path, capsys):
    if tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 18):
        pytest.skip("pytorch-fid 0.3.0 needs SciPy below 1.18")
    real, fake = (write(tmp_path / name, cl.draw_faces(25, seed=seed)[0]) for name, seed in (("real", 0), ("fake", 1)))
    command = [sys.executable, "-m", "pytorch_fid", real, fake, "--dims", "768", "--num-workers", "0", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = float(done.stdout.split("FID:")[1])
    file = tmp_path / "m.json"
    status, _, err = run("--real", real, "--fake", fake, "--dims", "768", "--lpips", "--json", str(file), capsys=capsys)
    assert status == 0, err
    ours = json.loads(file.read_text())["metrics"]["fid_768"]["value"]
    assert ours == pytest.approx(theirs, rel=1e-3)
    assert theirs > 0.1


def test_it_runs_as_a_module(sources):
    real, fake = sources
    command = [sys.executable, "-m", "centroidlib.evaluation", "--real", real, "--fake", fake + "/none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "There is no folder or zip" in done.stderr
    assert "Traceback" not in done.stderr


# Bad input.


@pytest.mark.parametrize("option", ["--held-out", "--save-stats"])
def test_statistics_have_no_images_to_hold_out_or_save(sources, tmp_path, option, capsys):
    status, _, err = run("--real", "real.npz", "--fake", sources[1], option, str(tmp_path / "x"), capsys=capsys)
    assert status == 1
    assert "--held-out and --save-stats need real images; real.npz holds their statistics only." in err


def test_statistics_of_another_network_are_never_saved_as_pytorch_fids(sources, torch_home, tmp_path, capsys):
    real, fake = sources
    status, _, err = run(
        "--real", real, "--fake", fake, "--vgg", "random", "--save-stats", str(tmp_path / "x.npz"), capsys=capsys
    )
    assert status == 1
    assert "pytorch-fid's statistics need its Inception, which is not there." in err
    assert "pt_inception-2015-12-05-6726825d.pth" in err
    assert not (tmp_path / "x.npz").exists()


def test_no_pairs_are_refused(sources, capsys):
    status, _, err = run("--real", sources[0], "--fake", sources[1], "--pairs", "0", capsys=capsys)
    assert status == 1
    assert "--pairs is the number of image pairs for LPIPS, at least 1, not 0" in err


def test_images_too_small_for_lpips_are_measured_without_it(real_weights, tmp_path, capsys):
    real, fake = (write(tmp_path / name, cl.draw_faces(20, size=28, seed=seed)[0]) for name, seed in (("a", 0), ("b", 1)))
    status, out, err = run("--real", real, "--fake", fake, "--dims", "64", capsys=capsys)
    assert status == 0, err
    assert "LPIPS was left out: it needs images of at least 32×32 pixels, and these have 28×28." in out
    assert "`fid_64`" in out


def test_nothing_to_measure_with_is_an_error(sources, torch_home, capsys):
    real, fake = sources
    status, out, err = run("--real", real, "--fake", fake, capsys=capsys)
    assert (status, out) == (1, "")
    assert "Nothing is left to measure with; --vgg random needs no file." in err
    assert "pt_inception-2015-12-05-6726825d.pth" in err


def test_different_resolutions_are_refused(sources, tmp_path, capsys):
    real, _ = sources
    fake = write(tmp_path / "fake", cl.draw_faces(3, size=32)[0])
    status, _, err = run("--real", real, "--fake", fake, "--vgg", "random", capsys=capsys)
    assert status == 1
    assert "--real holds images of 32×48 pixels and --fake of 32×32: bring both to one size first" in err


def test_images_of_several_sizes_in_one_folder_are_refused(sources, tmp_path, capsys):
    real, _ = sources
    fake = write(tmp_path / "fake", cl.draw_faces(3, size=32)[0])
    Image.new("RGB", (40, 20)).save(tmp_path / "fake" / "odd.png")
    status, _, err = run("--real", real, "--fake", fake, "--vgg", "random", capsys=capsys)
    assert status == 1
    assert "odd.png is 40×20 pixels, an image before it 32×32" in err


@pytest.mark.parametrize("side", ["--real", "--fake"])
def test_fewer_than_two_images_are_refused(sources, tmp_path, side, capsys):
    one = write(tmp_path / "one", cl.draw_faces(1, size=48)[0][..., 8:40])
    options = {"--real": sources[0], "--fake": sources[1]} | {side: one}
    status, _, err = run(*(part for pair in options.items() for part in pair), "--vgg", "random", capsys=capsys)
    assert status == 1
    assert f"{side} {one} holds one image; at least two are needed." in err


def test_equal_real_images_are_refused(sources, torch_home, tmp_path, capsys):
    same = write(tmp_path / "same", cl.draw_faces(1, size=48)[0][..., 8:40].repeat(8, 1, 1, 1))
    status, _, err = run("--real", same, "--fake", sources[1], "--vgg", "random", capsys=capsys)
    assert status == 1
    assert "All images have the same features, so d_ref is 0: are they all the same picture?" in err


def test_statistics_of_other_dimensions_are_refused(sources, real_weights, tmp_path, capsys):
    cl.save_statistics(tmp_path / "real.npz", Gaussian(np.zeros(192), np.eye(192)))
    status, _, err = run("--real", str(tmp_path / "real.npz"), "--fake", sources[1], "--dims", "64", capsys=capsys)
    assert status == 1
    assert "statistics of 192 dimensions, and no Inception of as many is in use: give --dims 192" in err
    assert "Traceback" not in err
