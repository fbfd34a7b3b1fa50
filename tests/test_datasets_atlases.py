"""Atlases by name: nilearn's, FSL's and TemplateFlow's; what nilearn's fetchers return."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from smalldatasets import (
    ADULT,
    NETWORKS,
    write_development,
    write_fsl,
    write_schaefer,
    write_templateflow,
    xml,
)

import daskroi as dr
from daskroi import datasets

pytestmark = pytest.mark.usefixtures("bare_machine")


def test_bad_choices() -> None:
    with pytest.raises(dr.DaskroiError, match="age_group='adults' is not known"):
        datasets.development_fmri(age_group="adults")
    with pytest.raises(dr.DaskroiError, match="atlas_name='cort-maxprob-thr30-2mm' is not known"):
        datasets.harvard_oxford("cort-maxprob-thr30-2mm")
    with pytest.raises(dr.DaskroiError, match="n_rois=150 is not known"):
        datasets.schaefer(150)
    with pytest.raises(dr.DaskroiError, match="yeo_networks=8 is not known"):
        datasets.schaefer(yeo_networks=8)
    with pytest.raises(dr.DaskroiError, match="resolution_mm=3 is not known"):
        datasets.schaefer(resolution_mm=3)


def test_real_harvard_oxford_in_fsl(
    real_data: Path, harvard_oxford: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsl = write_fsl(tmp_path / "fsl")
    shutil.copyfile(harvard_oxford, fsl / "data/atlases/HarvardOxford" / harvard_oxford.name)
    expected = pd.read_table(real_data / "atlases" / "harvard_oxford_expected_sizes.tsv")
    # FSL's spelling
    names = [n.replace("Opercular", "Operculum") for n in expected["region_name"]]
    (fsl / "data/atlases/HarvardOxford-Cortical.xml").write_text(xml(names))
    monkeypatch.setenv("FSLDIR", str(fsl))
    atlas = datasets.harvard_oxford("cort-maxprob-thr25-2mm")
    assert isinstance(atlas, dr.Atlas)
    assert atlas.names == expected["region_name"].tolist()
    np.testing.assert_array_equal(atlas.ids, expected["label_value"])
    np.testing.assert_array_equal(atlas.table["size_mm3"], expected["size_mm3"])
    np.testing.assert_array_equal(
        atlas.table["relative_size_percent"], expected["relative_size_percent"]
    )
    assert (atlas.name, atlas.template) == ("HarvardOxfordCortMaxprobThr25", "MNI152NLin6Asym")


def test_harvard_oxford_is_nilearns(tmp_path: Path) -> None:
    from nilearn.datasets import fetch_atlas_harvard_oxford

    write_fsl(tmp_path / "fsl")
    for name in ("cort-maxprob-thr25-2mm", "cortl-maxprob-thr0-1mm", "sub-maxprob-thr50-2mm"):
        theirs = fetch_atlas_harvard_oxford(name, data_dir=tmp_path, verbose=0)
        # a data folder, or an FSL installation
        for folder in (tmp_path, tmp_path / "fsl"):
            ours = datasets.harvard_oxford(name, folder, name="HO")
            assert ["Background", *ours.names] == theirs.labels
            assert ours.name == "HO"
    assert ours.names[1:3] == ["Frontal Opercular Cortex", "Left Lateral Ventricle"]
    theirs = fetch_atlas_harvard_oxford("cort-prob-2mm", data_dir=tmp_path, verbose=0)
    maps = datasets.harvard_oxford("cort-prob-2mm", tmp_path)
    assert isinstance(maps, dr.MapsAtlas)
    assert ["Background", *maps.names] == theirs.labels
    assert (maps.name, maps.template) == ("HarvardOxfordCortProb", theirs.template)


@pytest.mark.parametrize("named", [True, False], ids=["TEMPLATEFLOW_HOME", "default"])
def test_templateflows_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool) -> None:
    home = tmp_path / ("tf" if named else "home/.cache/templateflow")
    if named:
        monkeypatch.setenv("TEMPLATEFLOW_HOME", str(home))
    folder = write_templateflow(home / "tpl-MNI152NLin6Asym")
    atlas = datasets.harvard_oxford("sub-maxprob-thr25-2mm")
    assert atlas.names[1:3] == ["Frontal Opercular Cortex", "Left Lateral Ventricle"]
    assert str(atlas.source).startswith(str(folder))
    atlas = datasets.schaefer(100, 17, 1)
    assert (atlas.name, atlas.template) == ("Schaefer100Networks17", "MNI152NLin6Asym")
    # the image has four of them; the axis is the table's
    assert len(atlas.table) == 100
    assert set(atlas.table["network"]) == {f"{n}A" for n in NETWORKS}


def test_placeholders_and_pointers_are_not_data(tmp_path: Path) -> None:
    folder = write_templateflow(tmp_path / "home/.cache/templateflow/tpl-MNI152NLin6Asym")
    image = folder / "tpl-MNI152NLin6Asym_res-02_atlas-HOSPA_desc-th25_dseg.nii.gz"
    table = folder / "tpl-MNI152NLin6Asym_atlas-HOSPA_dseg.tsv"
    image.write_bytes(b"")
    table.unlink()
    table.symlink_to(".git/annex/objects/x/y")
    fsl = write_fsl(tmp_path / "home/nilearn_data/fsl") / "data/atlases"
    (fsl / "HarvardOxford/HarvardOxford-sub-maxprob-thr25-2mm.nii.gz").write_bytes(b"not gzip")
    (fsl / "HarvardOxford-Subcortical.xml").write_text("/annex/objects/MD5E-s3--abc.xml\n")
    with pytest.raises(dr.DaskroiError) as caught:
        datasets.harvard_oxford("sub-maxprob-thr25-2mm", verbose=0)
    message = str(caught.value)
    assert f"{image} (empty: a placeholder of TemplateFlow's" in message
    assert f"{table} (a broken link: datalad get)" in message
    assert "thr25-2mm.nii.gz (not gzip)" in message
    assert "HarvardOxford-Subcortical.xml (only a pointer: datalad get)" in message


@pytest.mark.parametrize("networks", [7, 17])
def test_schaefer_is_nilearns_and_keeps_regions_without_voxels(
    tmp_path: Path, networks: int
) -> None:
    from nilearn.datasets import fetch_atlas_schaefer_2018

    write_schaefer(tmp_path / "schaefer_2018", 200, networks)
    ours = datasets.schaefer(200, networks, 2, tmp_path)
    with pytest.warns(UserWarning, match="missing from the atlas image"):
        theirs = fetch_atlas_schaefer_2018(200, networks, 2, data_dir=tmp_path, verbose=0)
    assert ["Background", *ours.names] == theirs.labels
    assert ours.table["n_voxels"].tolist()[-1] == 0
    assert ours.table["n_voxels"].min() == 0 < ours.table["n_voxels"][0]
    assert ours.table["hemisphere"].tolist() == ["LH"] * 100 + ["RH"] * 100
    assert ours.table["color"][0] == "#781200"
    assert ours.template == theirs.template
    assert ours.name == ("Schaefer200" if networks == 7 else "Schaefer200Networks17")


@pytest.fixture
def nilearns(tmp_path: Path) -> SimpleNamespace:
    """What nilearn's fetchers give of a run and three atlases."""
    import nilearn.datasets as theirs

    write_development(tmp_path / "development_fmri", [ADULT])
    write_fsl(tmp_path / "fsl")
    write_schaefer(tmp_path / "schaefer_2018")
    with pytest.warns(UserWarning, match="missing from the atlas image"):
        schaefer = theirs.fetch_atlas_schaefer_2018(100, resolution_mm=2, data_dir=tmp_path)
    return SimpleNamespace(
        folder=tmp_path,
        runs=theirs.fetch_development_fmri(1, data_dir=tmp_path, verbose=0),
        harvard_oxford=theirs.fetch_atlas_harvard_oxford(
            "cort-maxprob-thr25-2mm", data_dir=tmp_path, verbose=0
        ),
        maps=theirs.fetch_atlas_harvard_oxford("cort-prob-2mm", data_dir=tmp_path, verbose=0),
        schaefer=schaefer,
    )


@pytest.mark.filterwarnings("ignore::daskroi.DaskroiWarning")
def test_bunches_of_nilearn_give_the_same_as_our_atlases(nilearns: SimpleNamespace) -> None:
    func, confounds = nilearns.runs.func[0], nilearns.runs.confounds[0]
    ours = {
        "harvard_oxford": datasets.harvard_oxford("cort-maxprob-thr25-2mm", nilearns.folder),
        "schaefer": datasets.schaefer(100, 7, 2, nilearns.folder),
    }
    for name, atlas in ours.items():
        bunch = getattr(nilearns, name)
        loaded = dr.load_atlas(bunch)
        assert (loaded.names, loaded.template) == (atlas.names, "MNI152NLin6Asym")
        a = dr.extract(func, bunch, confounds=confounds, t_r=nilearns.runs.t_r).compute()
        b = dr.extract(func, atlas, confounds=confounds, t_r=2.0).compute()
        # nilearn turns the image round, so sums run in another order
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
        assert a["region_name"].values.tolist() == atlas.names
    maps = datasets.harvard_oxford("cort-prob-2mm", nilearns.folder)
    assert dr.load_atlas(nilearns.maps).names == maps.names


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_masker_with_bunches_of_nilearn(nilearns: SimpleNamespace) -> None:
    from nilearn.maskers import NiftiLabelsMasker

    func, confounds = nilearns.runs.func[0], nilearns.runs.confounds[0]
    bunch = nilearns.harvard_oxford
    ours = datasets.harvard_oxford(data_dir=nilearns.folder)
    masker = NiftiLabelsMasker(bunch.maps, lut=bunch.lut, standardize=None)
    expected = masker.fit_transform(func, confounds=confounds)
    for masker in (
        dr.NiftiLabelsMasker(bunch.maps, lut=bunch.lut, standardize=None),
        dr.NiftiLabelsMasker(bunch.maps, labels=bunch.labels, standardize=None),
        dr.NiftiLabelsMasker(bunch, standardize=None),
        dr.NiftiLabelsMasker(ours, standardize=None),
    ):
        signals = masker.fit(func).transform(func, confounds=confounds)
        np.testing.assert_allclose(signals, expected, rtol=1e-6)
