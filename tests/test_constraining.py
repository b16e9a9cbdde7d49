"""Tests of what constraints punish, and of strengths of equal pull."""

import dataclasses

import pytest
import torch

import centroidlib as cl
from centroidlib.algorithm import constraint_gradient, start
from centroidlib.constraints import CONSTRAINTS, Constraint, equation_3
from centroidlib.evaluation import constraining
from centroidlib.evaluation.comparisons import figure_punished
from centroidlib.features import in_batches, to_float


@pytest.fixture(scope="module")
def drawn():
    return cl.draw_faces(80)[0]


@pytest.fixture(scope="module")
def shallow():
    return cl.VGG16Features(2, "random")


@pytest.fixture(scope="module")
def found(drawn, shallow, tmp_path_factory):
    """The family on drawn faces, and what it says of the pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CENTROIDLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        stats = cl.compute_centroid(drawn, shallow)
        family = constraining.family(drawn, shallow, stats, 16)
        return family, constraining.punish(family, constraining.punished_pictures(drawn, 16), shallow, 16)


def test_the_family_is_eq_3_and_every_member(found):
    assert list(found[0]) == ["Eq. 3", *CONSTRAINTS]


def test_pictures_are_whole_batches(drawn):
    pictures = constraining.punished_pictures(drawn, 16)
    assert {name: len(batch) for name, batch in pictures.items() if len(batch) != 16} == {"one face repeated": 256}
    assert torch.equal(pictures["real images"], drawn[:16])
    assert torch.equal(pictures["one face repeated"], drawn[:16].repeat_interleave(16, 0))
    assert pictures["flat grey"].unique().tolist() == [128]


def test_values_and_floors_are_the_constraints_own(found, drawn, shallow):
    family, table = found
    hinge = table[(table["constraint"] == "hinge") & (table["pictures"] == "one face repeated")].iloc[0]
    values = torch.stack([family["hinge"](face) for face in torch.cat([*in_batches(drawn[:16], shallow)]).split(1)])
    assert hinge["value"] == pytest.approx(float(values.mean()), rel=1e-4)
    assert hinge["free"] == (values <= family["hinge"].floor).double().mean()
    row = table[(table["constraint"] == "energy") & (table["pictures"] == "real images")].iloc[0]
    member = family["energy"]
    value = float(member(torch.cat([*in_batches(drawn[:16], shallow)])))
    assert row["value"] == pytest.approx(value)
    assert row["above"] == pytest.approx((value - member.floor) / member.scatter)


def test_what_matches_the_distribution_punishes_collapse_and_the_hinge_does_not(found):
    above = found[1].pivot(index="pictures", columns="constraint", values="above")
    for name in ("energy", "sliced", "moments"):
        assert above.loc[["flat grey", "one face repeated", "uniform noise"], name].min() > 5, name
        assert abs(above.loc["real images", name]) < 4
    assert above.loc["one face repeated", "mean"] > 5
    free = found[1].pivot(index="pictures", columns="constraint", values="free")
    assert 0.3 < free.loc["one face repeated", "Eq. 3"] < 1
    assert free.loc["one face repeated", "energy"] == 0


def test_equal_strengths_pull_alike(found, shallow):
    family = {name: found[0][name] for name in ("Eq. 3", "energy")}
    generator = start(cl.TrainingConfig(latent=8, width=2)).generator
    family["band"] = Constraint("inverse", lambda x: -x.square().mean(), 0.0, 1.0)
    strengths = constraining.equal_strengths(family, generator, shallow, 16, reference="energy", lambda_=3.0)
    fake = to_float(next(iter(cl.generated(generator, 16, 0))))
    pulls = {name: strengths[name] * constraint_gradient(fake, shallow, family[name])[0].norm() for name in ("energy", "band")}
    assert strengths["energy"] == 3.0
    torch.testing.assert_close(pulls["band"], pulls["energy"])


def test_a_reference_that_does_not_pull_is_refused(found, shallow, drawn):
    stats = dataclasses.replace(cl.compute_centroid(drawn, shallow), reference_distance=1e9)
    generator = start(cl.TrainingConfig(latent=8, width=2)).generator
    with pytest.raises(ValueError, match=r"Eq\. 3 does not pull at these images: all of them are where it costs nothing"):
        constraining.equal_strengths({"Eq. 3": equation_3(stats, "d_ref")}, generator, shallow, 16)


def test_the_picture_has_a_cell_for_each(found):
    figure = figure_punished(found[1], "made up")
    ax = figure.axes[0]
    assert len(ax.texts) == len(found[1])
    assert [label.get_text() for label in ax.get_xticklabels()] == list(found[0])
