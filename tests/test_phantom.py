"""The phantom must be exactly what it says, or every test that leans on it means nothing."""

from __future__ import annotations

import json
import pickle

import dask
import nibabel
import numpy as np
import pandas as pd
import pytest

from daskroi.errors import DaskroiError
from daskroi.image import grid_of
from daskroi.phantom import make_phantom
from daskroi.phantomfiles import write_phantom

SMALL = {"shape": (11, 13, 12), "n_time": 40, "n_regions": 7}


def region_means(phantom, voxels):
    """Plain NumPy means in double, columns as in the phantom's tables."""
    labels = phantom.atlas.labels
    return np.stack(
        [voxels[:, labels == i].mean(axis=1, dtype=np.float64) for i in phantom.signals.columns],
        axis=1,
    )


def test_voxels_do_not_depend_on_chunks():
    whole = make_phantom(**SMALL, chunks=-1).image
    reference = whole.values
    assert reference.dtype == np.float32
    for chunks in (1, 7, (5, 4, 13, 5), ((39, 1), (11,), (6, 7), (12,))):
        image = make_phantom(**SMALL, chunks=chunks).image
        # the voxels are one thing, the blocks another: equal names would mix up their graphs
        assert image.data.name != whole.data.name
        np.testing.assert_array_equal(image.values, reference)


def test_any_frame_can_be_made_alone():
    phantom = make_phantom(**SMALL)
    np.testing.assert_array_equal(phantom.frames(17, 18)[0], phantom.image.values[17])
    np.testing.assert_array_equal(phantom.image[17].values, phantom.frames(0, 40)[17])


def test_same_arguments_same_graph_and_any_other_argument_another():
    name = make_phantom(**SMALL).image.data.name
    assert make_phantom(**SMALL).image.data.name == name
    others = {
        "shape": (11, 13, 14), "n_time": 41, "n_regions": 8, "t_r": 1.5, "dtype": "float64",
        "affine": np.diag([3.0, 3, 3, 1]), "signal": 1, "noise": 1, "drift": 1, "motion": 1,
        "physio": 1, "seed": 1, "slope": 2.0, "inter": 1.0, "chunks": 8,
    }  # fmt: skip
    names = {make_phantom(**(SMALL | {k: v})).image.data.name for k, v in others.items()}
    assert len(names | {name}) == len(others) + 1


@pytest.mark.parametrize(
    "kwargs",
    [
        {"dtype": "float64"},
        {"dtype": "float32"},
        {"dtype": "int16"},
        {"dtype": ">i2", "slope": 0.1, "inter": 1000.0},
        {"dtype": "uint8", "slope": 8.0},
        {"dtype": "float32", "slope": 0.3, "inter": -7.0},
        {"dtype": "int32", "slope": -0.01, "noise": 200.0, "motion": 1.0},
        {"dtype": "float64", "noise": 0.0, "seed": 3},
    ],
    ids=str,
)
def test_region_means_are_as_expected(kwargs):
    phantom = make_phantom(**SMALL, **kwargs)
    means = region_means(phantom, phantom.image.values)
    assert np.abs(means - phantom.expected()).max(axis=None) <= phantom.tolerance
    # and the tolerance means something: far below the signals, tight for floats
    assert phantom.tolerance < (5 if "slope" in kwargs else 0.51)
    if kwargs["dtype"] == "float64":
        assert phantom.tolerance < 1e-8


def test_parts_add_up():
    phantom = make_phantom(**SMALL)
    still = phantom.expected(signals=False, drift=False, confounds=False)
    assert still.nunique().eq(1).all()
    assert still.iloc[0].between(600, 1400).all()
    parts = still + phantom.signals + phantom.drift
    pd.testing.assert_frame_equal(parts, phantom.expected(confounds=False))
    assert (phantom.expected() - parts).std().min() > 0.1  # confounds reach every region


def test_confounds_are_the_means_they_claim_to_be():
    phantom = make_phantom(**SMALL, dtype="float64")
    voxels, table = phantom.image.values, phantom.confounds
    brain = phantom.mask.values == 1
    np.testing.assert_allclose(voxels[:, brain].mean(axis=1), table["global_signal"], rtol=1e-12)
    rest = region_means(phantom, voxels) @ [
        (phantom.atlas.labels == i).sum() for i in phantom.signals.columns
    ]
    n_rest = (brain & (phantom.atlas.labels == 0)).sum()
    outside = (voxels[:, brain].sum(axis=1) - rest) / n_rest  # white matter and fluid together
    between = table[["csf", "white_matter"]]
    assert (between.min(axis=1) <= outside).all()
    assert (outside <= between.max(axis=1)).all()
    moved = table[[c for c in table if c.startswith(("trans", "rot"))]].diff().abs()
    moved.loc[:, "rot_x":] *= 50
    np.testing.assert_allclose(
        moved.sum(axis=1, skipna=False).iloc[1:], table["framewise_displacement"].iloc[1:]
    )
    assert np.isnan(table["framewise_displacement"].iloc[0])


@pytest.mark.parametrize("kwargs", [{}, {"n_time": 200, "t_r": 0.8}, {"physio": 0, "motion": 0}])
def test_regressing_the_confounds_out_leaves_the_signals(kwargs):
    phantom = make_phantom(**(SMALL | {"dtype": "float64", "n_time": 60} | kwargs))
    n_time = phantom.image.sizes["time"]
    design = np.column_stack(
        [np.ones(n_time), np.arange(n_time), phantom.confounds[list(phantom.regressors)]]
    )
    means = region_means(phantom, phantom.image.values)
    left = means - design @ np.linalg.lstsq(design, means, rcond=None)[0]
    np.testing.assert_allclose(left, phantom.signals, atol=1e-8)
    assert phantom.signals.std().min() > 4


def test_signals_are_slow_and_share_networks():
    signals = make_phantom(**(SMALL | {"n_time": 600, "n_regions": 20})).signals
    power = np.abs(np.fft.rfft(signals.to_numpy(), axis=0)) ** 2
    frequency = np.fft.rfftfreq(600, 2.0)
    band = (frequency > 0.009) & (frequency < 0.081)
    assert power[band].sum() / power.sum() > 0.98
    assert signals[1].corr(signals[101]) > 0.6  # mirror images
    assert abs(np.corrcoef(signals.T)).min() < 0.1


def test_it_looks_like_a_head_with_an_atlas():
    phantom = make_phantom((45, 54, 45), 2, n_regions=50)
    mask, labels, table = phantom.mask.values == 1, phantom.atlas.labels, phantom.atlas.table
    assert 0.2 < mask.mean() < 0.3
    assert not phantom.image.values[:, ~mask].any()
    assert phantom.image.values[:, mask].min() > 300
    assert mask[labels > 0].all()
    ids, sizes = np.unique(labels[labels > 0], return_counts=True)
    assert list(ids) == list(phantom.signals.columns)
    assert set(ids) <= set(table["index"])
    assert len(ids) == 50
    assert 5 not in ids
    assert sizes[-1] == 1
    assert sizes[:-1].min() > 20
    # left ids on the left in mm, right ids on the right
    x = np.where(labels > 0)[2]
    side = np.sign((phantom.image.coords["x"].values - 22)[x])
    values = labels[labels > 0]
    assert (side[values < 100] < 0).all()
    assert (side[(values > 100) & (values < 200)] >= 0).all()


def test_left_follows_the_affine():
    flipped = make_phantom(**SMALL, affine=np.diag([-3.0, 3, 3, 1]))
    x = np.where((flipped.atlas.labels > 0) & (flipped.atlas.labels < 100))[2]
    assert x.min() >= 6


def test_subjects_share_the_template_and_nothing_else():
    one, two = make_phantom(**SMALL), make_phantom(**SMALL, seed=2)
    np.testing.assert_array_equal(one.atlas.labels, two.atlas.labels)
    np.testing.assert_array_equal(one.mask, two.mask)
    assert abs(one.signals.corrwith(two.signals)).max() < 0.8
    noise = [p.image.values - make_phantom(**SMALL, seed=s, noise=0).image.values
             for s, p in ((0, one), (2, two))]  # fmt: skip
    brain = one.mask.values == 1
    assert abs(np.corrcoef(noise[0][:, brain].ravel(), noise[1][:, brain].ravel())[0, 1]) < 0.05
    assert 9 < noise[0][:, brain].std() < 11


def test_short_runs():
    for n_time in (1, 2, 5):
        phantom = make_phantom((11, 13, 12), n_time, n_regions=5, dtype="float64")
        means = region_means(phantom, phantom.image.values)
        np.testing.assert_allclose(means, phantom.expected(), atol=phantom.tolerance)
        assert phantom.signals.to_numpy().any()


def test_it_is_lazy_whatever_its_size_and_pickles_small():
    def refuse(*args, **kwargs):
        raise AssertionError("a voxel was asked for")

    with dask.config.set(scheduler=refuse):
        # 14 GB of voxels
        phantom = make_phantom((91, 109, 91), 2000, n_regions=4, dtype="float64")
        assert phantom.image.nbytes > 1.4e10
    small = make_phantom(**SMALL)
    assert len(pickle.dumps(small.image.data)) < 20_000
    copy = pickle.loads(pickle.dumps(small))
    np.testing.assert_array_equal(copy.image.values, small.image.values)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"dtype": "uint8"}, "'uint8' holds 0 to 255, but .* voxels need"),
        ({"dtype": "float16"}, "not a real NIfTI type"),
        ({"dtype": "complex64"}, "not a real NIfTI type"),
        ({"slope": 0}, "finite slope"),
        ({"inter": np.nan}, "finite inter"),
        ({"t_r": 0}, "t_r above 0"),
        ({"n_time": 0}, "at least one frame"),
        ({"noise": np.nan}, "noise=nan, .* nothing below 0"),
        ({"seed": -1}, "seed=-1, .* nothing below 0"),
        ({"dtype": "flurb"}, "dtype='flurb' is not a real NIfTI type"),
        ({"shape": (12, 14)}, r"shape=\(12, 14\) is no grid"),
        ({"n_regions": 2}, "at least 3 regions"),
        ({"n_regions": 2000}, "grey matter has"),
        ({"affine": np.zeros((4, 4))}, "affine is singular"),
    ],
)
def test_impossible_runs_are_refused(kwargs, message):
    with pytest.raises(DaskroiError, match=message):
        make_phantom(**(SMALL | kwargs))


def test_what_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    phantom = make_phantom(**SMALL)
    with pytest.raises(DaskroiError, match="file: is a file, so results cannot be written below"):
        write_phantom(tmp_path / "file" / "x", phantom)
    with pytest.raises(DaskroiError, match=r"version=3 is not known\. Use one of: 1, 2"):
        write_phantom(tmp_path, phantom, version=3)


# 3 mm voxels, x from right to left, turned by 0.2 rad about x and 0.1 rad about z
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = (
    [[np.cos(0.1), -np.sin(0.1), 0], [np.sin(0.1), np.cos(0.1), 0], [0, 0, 1]]
    @ np.array([[1, 0, 0], [0, np.cos(0.2), -np.sin(0.2)], [0, np.sin(0.2), np.cos(0.2)]])
    @ np.diag([-3.0, 3, 3])
)
OBLIQUE[:3, 3] = 40, -60, -30


@pytest.mark.parametrize("gz", [True, False])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"dtype": "int16", "slope": 0.1, "inter": 1000.0},
        {"dtype": ">i2", "affine": OBLIQUE},
        {"dtype": "uint8", "slope": 8.0, "t_r": 0.8},
        {"dtype": "float64", "n_time": 33},
    ],
    ids=["float32", "scaled", "oblique", "uint8", "float64"],
)
def test_files_are_what_nibabel_reads_back(tmp_path, gz, kwargs):
    phantom = make_phantom(**(SMALL | kwargs))
    paths = write_phantom(tmp_path, phantom, gz=gz, version=2 if kwargs == {} else 1)
    assert sorted(tmp_path.rglob("*.*")) == sorted(paths.values())  # no leftovers

    image = nibabel.load(paths["image"])
    assert image.get_data_dtype() == np.dtype(kwargs.get("dtype", "float32"))
    voxels = image.get_fdata().T
    np.testing.assert_array_equal(voxels, phantom.image.values)
    np.testing.assert_allclose(image.affine, grid_of(phantom.image).matrix, rtol=1e-5, atol=1e-5)
    qform, code = image.header.get_qform(coded=True)
    assert code == 4
    np.testing.assert_allclose(qform, image.affine, atol=1e-4)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert image.header.get_zooms()[3] == np.float32(kwargs.get("t_r", 2.0))
    slope, inter = image.dataobj.slope, image.dataobj.inter
    assert (slope, inter) == (np.float32(kwargs.get("slope", 1)), kwargs.get("inter", 0))

    assert json.loads(paths["sidecar"].read_text())["RepetitionTime"] == kwargs.get("t_r", 2.0)
    mask, atlas = nibabel.load(paths["mask"]), nibabel.load(paths["atlas"])
    np.testing.assert_array_equal(np.asarray(mask.dataobj).T, phantom.mask)
    np.testing.assert_array_equal(np.asarray(atlas.dataobj).T, phantom.atlas.labels)
    assert mask.shape == image.shape[:3]
    table = pd.read_csv(paths["labels"], sep="\t")
    assert list(table["index"]) == list(phantom.signals.columns)
    text = paths["confounds"].read_text()
    assert "\tn/a\t" in text
    written = pd.read_csv(paths["confounds"], sep="\t")
    pd.testing.assert_frame_equal(written, phantom.confounds.reset_index(drop=True))


def test_writing_again_gives_the_same_bytes_and_failure_leaves_nothing(tmp_path, monkeypatch):
    phantom = make_phantom(**SMALL)
    first, second = (write_phantom(tmp_path / f, phantom) for f in "ab")
    assert all(first[k].read_bytes() == second[k].read_bytes() for k in first)

    def fail(self, start, stop):
        raise RuntimeError("stop")

    monkeypatch.setattr(type(phantom), "frames", fail)
    with pytest.raises(RuntimeError, match="stop"):
        write_phantom(tmp_path / "c", phantom)
    assert not [p for p in (tmp_path / "c").rglob("*") if p.is_file()]


@pytest.mark.parametrize("kwargs", [{}, {"dtype": "int16", "slope": 0.1, "inter": 1000.0}], ids=str)
def test_extract_gives_back_what_was_put_in(tmp_path, kwargs):
    daskroi = pytest.importorskip("daskroi")
    phantom = make_phantom(**(SMALL | {"n_time": 60} | kwargs))
    paths = write_phantom(tmp_path, phantom)
    for source, atlas in (
        (phantom.image, phantom.atlas),
        (paths["image"], daskroi.load_atlas(paths["atlas"], lut=paths["labels"])),
    ):
        series = daskroi.extract(source, atlas).compute()
        assert list(series["region"]) == list(phantom.signals.columns)
        error = series.values - phantom.expected().to_numpy()
        assert np.abs(error).max() <= phantom.tolerance
        cleaned = daskroi.extract(
            source, atlas, detrend=True, confounds=phantom.confounds[list(phantom.regressors)]
        ).compute()
        error = cleaned.values - phantom.signals.to_numpy()
        # float32 voxels and series; integers are half a step off at most, 7 voxels at least
        assert np.abs(error).max() <= 4 * phantom.tolerance + 1e-3
