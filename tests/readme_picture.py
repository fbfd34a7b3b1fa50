"""Draw the README's picture: ``python tests/readme_picture.py .github/phantom.png``."""

from __future__ import annotations

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import daskroi as dr


def draw(path: str) -> None:
    """The phantom with its regions, and series before and after cleaning beside the truth."""
    run = dr.make_phantom((61, 73, 61), n_time=150)
    columns = list(run.regressors)
    raw = dr.extract(run.image, run.atlas).compute()
    clean = dr.extract(
        run.image, run.atlas, confounds=run.confounds[columns], detrend=True
    ).compute()
    z = 30
    volume = np.asarray(run.image[0, z].data)
    labels = np.ma.masked_equal(run.atlas.labels[z], 0)

    figure = plt.figure(figsize=(10, 3.6), layout="constrained")
    brain, *axes = figure.subplot_mosaic(
        [["brain", "a"], ["brain", "b"], ["brain", "c"]], width_ratios=[1, 2.6]
    ).values()
    brain.imshow(volume, cmap="gray", origin="lower")
    brain.imshow(labels % 20, cmap="tab20", alpha=0.55, origin="lower", interpolation="nearest")
    brain.set_title("a run and an atlas", fontsize=10)
    brain.axis("off")
    for ax, i in zip(axes, (0, 7, 14), strict=True):
        ax.plot(raw.time, raw[:, i] - raw[:, i].mean(), color="0.75", label="region mean")
        ax.plot(clean.time, clean[:, i], color="C0", lw=2.2, label="cleaned")
        truth = run.signals.iloc[:, i]
        ax.plot(clean.time, truth, color="k", lw=0.8, ls="--", label="truth")
        ax.set_ylabel(str(raw.region_name.values[i]).replace("_", "\n", 1), fontsize=8)
        ax.tick_params(labelsize=8)
        ax.label_outer()
    axes[0].set_title("region time series", fontsize=10)
    axes[0].legend(ncols=3, fontsize=8, loc="upper right", frameon=False)
    axes[-1].set_xlabel("time (s)", fontsize=8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(sys.argv[1])
