"""Tests of the calibration: what the pictures are, and where they lie, against NumPy."""

import numpy as np
import pytest
import torch

import centroidlib as cl
from centroidlib.evaluation.figures import figure_calibration
from centroidlib.features import to_float


@pytest.fixture(scope="module")
def real():
    return cl.draw_faces(12, seed=5)[0][:, :, ::2, ::2].contiguous()  # 32×32


@pytest.fixture(scope="module")
def pictures(real):
    return cl.calibration_pictures(real, real.float().mean(0))


def test_pictures_are_what_their_names_say(real, pictures):
    assert all(made.dtype == torch.uint8 and made.shape[1:] == real.shape[1:] for made in pictures.values())
    assert {name: len(made) for name, made in pictures.items() if len(made) != 12} == {"the mean image": 1, "flat grey": 1}
    assert torch.equal(pictures["mirrored"].flip(3), real)
    assert torch.equal(pictures["flat grey"].unique(), torch.tensor([128], dtype=torch.uint8))
    torch.testing.assert_close(pictures["the mean image"][0].float(), real.float().mean(0), atol=0.51, rtol=0)
    contrast = {
        name: made.float().std((1, 2, 3)) / real.float().std((1, 2, 3)) for name, made in pictures.items() if len(made) > 1
    }
    assert float((contrast["half the contrast"] - 0.5).abs().max()) < 0.01
    assert float(contrast["1.5 × the contrast"].min()) > 1.2  # less than 1.5 where values are clipped
    detail = {name: pictures[name].float().diff(dim=3).abs().mean() for name in ("real images", "blurred, σ 2 pixels")}
    assert detail["blurred, σ 2 pixels"] < 0.6 * detail["real images"]


def test_shuffled_patches_are_the_images_own_in_another_order(real, pictures):
    def patches(image):
        return sorted(image[:, y : y + 16, x : x + 16].flatten().tolist() for y in (0, 16) for x in (0, 16))

    shuffled = pictures["patches shuffled"]
    assert all(patches(a) == patches(b) for a, b in zip(real, shuffled, strict=True))
    assert not torch.equal(real, shuffled)
    again = cl.calibration_pictures(real, real.float().mean(0))
    assert all(torch.equal(made, again[name]) for name, made in pictures.items())


def test_images_that_patches_do_not_fill_are_refused(images):
    with pytest.raises(ValueError, match="Patches of 16 pixels do not fill images of 20×16 pixels"):
        cl.calibration_pictures(torch.zeros(2, 3, 16, 20, dtype=torch.uint8), torch.zeros(3, 16, 20))


def test_where_they_lie_is_numpys(real, pictures):
    network = cl.VGG16Features(2, "random")
    spaces, lies = cl.calibrate(real, pictures, [network])
    assert list(spaces["space"]) == ["vgg16_random_relu1_1, flattened", "vgg16_random_relu1_1, pooled"]
    assert list(spaces["dimensions"]) == [64 * 32 * 32, 64]
    for pooled, (_, ball) in zip((False, True), spaces.iterrows(), strict=True):
        own = cl.VGG16Features(2, "random", pool=pooled)
        features = {name: own(to_float(made)).double().numpy() for name, made in (pictures | {"centre's": real}).items()}
        c = features["centre's"].mean(0)
        away = {name: np.linalg.norm(x - c, axis=1) for name, x in features.items()}
        d_ref = away["centre's"].mean()
        assert ball["reference_distance"] == pytest.approx(d_ref, rel=1e-5)
        assert ball["floor"] == pytest.approx(np.maximum(away["centre's"] / d_ref - 1, 0).mean(), rel=1e-4)
        assert ball["outside"] == (away["centre's"] > d_ref).mean()
        halves = [np.linalg.norm(x - x.mean(0), axis=1).mean() for x in (features["centre's"][::2], features["centre's"][1::2])]
        assert ball["halves"] == pytest.approx(abs(halves[0] - halves[1]) / d_ref, abs=1e-5)
        assert 1 <= ball["effective_rank"] <= 11
        mine = lies[lies["space"] == ball["space"]].set_index("pictures")
        assert list(mine.index) == list(pictures)
        for name in pictures:
            assert mine.loc[name, "distance"] == pytest.approx((away[name] / d_ref).mean(), rel=1e-4)
            assert mine.loc[name, "outside"] == (away[name] > d_ref).mean()
            assert mine.loc[name, "loss"] == pytest.approx(np.maximum(away[name] / d_ref - 1, 0).mean(), rel=1e-3, abs=1e-6)
        assert mine.loc["uniform noise", "spread"] == pytest.approx((away["uniform noise"] / d_ref).std(ddof=1), rel=1e-2)
        assert np.isnan(mine.loc["flat grey", "spread"])


def test_the_figure_holds_every_number(real, pictures):
    _, lies = cl.calibrate(real, pictures, [cl.VGG16Features(2, "random")])
    figure = figure_calibration(lies)
    drawn = [text.get_text() for text in figure.axes[0].texts]
    wide = lies.pivot(index="pictures", columns="space", values="distance").loc[list(pictures), lies["space"].unique()]
    assert drawn == [f"{value:.2f}" for value in wide.to_numpy().flatten()]
