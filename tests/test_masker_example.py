"""nilearn's example for the masker runs line by line, on generated data and on the real run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import images
import matplotlib as mpl
import numpy as np
import pandas as pd
from maskergrids import COARSE, rng_of
from maskers import oracle, without_warnings


def mission(atlas: Any, func_filename: Any) -> tuple[Any, Any, Any]:
    """nilearn's example for this class, line by line."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    from daskroi import NiftiLabelsMasker

    masker = NiftiLabelsMasker(
        atlas.maps,
        labels=atlas.labels,
        standardize="zscore_sample",
    )
    masker.fit()
    report = masker.generate_report()
    assert "No image provided to fit in NiftiLabelsMasker" in report._repr_html_()
    masker.fit(func_filename)
    report = masker.generate_report()
    assert "No image provided" not in report._repr_html_()
    signals = masker.transform(func_filename)

    fig = plt.figure(figsize=(15, 5))
    ax = fig.add_subplot(111)
    for label_idx in range(3):
        ax.plot(
            signals[:, label_idx], linewidth=2, label=atlas.labels[label_idx + 1]
        )  # 0 is background
    ax.legend(loc=2)
    ax.set_title("Signals for first 3 regions")
    plt.close(fig)
    return signals, ax, report


def test_example_on_generated_data(tmp_path: Path) -> None:
    rng = rng_of()
    func = images.save(images.run(rng, (12, 12, 12, 15), affine=COARSE), tmp_path / "run.nii.gz")
    maps = images.labels(rng, (18, 18, 18))
    atlas = SimpleNamespace(maps=maps, labels=["Background", *"ABCD"])
    signals, ax, _ = mission(atlas, str(func))
    assert signals.shape == (15, 4)
    _, expected = oracle(maps, str(func), labels=atlas.labels, standardize="zscore_sample")
    np.testing.assert_allclose(signals, expected, rtol=1e-4, atol=1e-4)
    for k, line in enumerate(ax.lines):
        np.testing.assert_allclose(line.get_ydata(), expected[:, k], rtol=1e-4, atol=1e-4)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["A", "B", "C"]


def test_example_on_the_real_run(real_run: Path, harvard_oxford: Path, real_data: Path) -> None:
    table = pd.read_csv(real_data / "atlases" / f"{harvard_oxford.name[:-7]}_dseg.tsv", sep="\t")
    atlas = SimpleNamespace(maps=str(harvard_oxford), labels=["Background", *table["name"]])
    signals, _, report = mission(atlas, str(real_run))
    assert signals.shape == (156, 48)
    theirs, expected = oracle(
        atlas.maps, str(real_run), labels=atlas.labels, standardize="zscore_sample"
    )
    np.testing.assert_allclose(signals, expected, rtol=1e-6, atol=1e-6)
    without_warnings(theirs.generate_report)
    summary = theirs._report_content["summary"]
    assert report.regions.values.tolist() == summary.values.tolist()
    assert list(report.regions.columns) == list(summary.columns)


def test_names_that_nilearn_has_beside() -> None:
    import daskroi as dr

    run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    masker = dr.NiftiLabelsMasker(run.atlas).fit(run.image)
    assert masker.transform_single_imgs(run.image).identical(masker.transform(run.image))
    page, own = masker.generate_report(engine="plotly"), masker.generate_report()
    assert page.regions.equals(own.regions)
