"""One of everything: what daskroi computes and writes, as digests, in a process of its own.

    python tests/everything.py INPUTS OUT

prints a JSON object of what → SHA-256. The inputs are made once, by `make_inputs`, so that two
processes read the same files (a sidecar names them, with their time). With the variable
``DASKROI_ODD``, everything that must not matter is odd: NumPy raises and prints two digits, Dask
cuts small and schedules otherwise, dictionaries are filled backwards.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (13, 15, 12)  # z, y, x
N_TIME, N_REGIONS = 60, 7
CLEANED = {"detrend": True, "high_pass": 0.01, "low_pass": 0.1, "standardize": "zscore_sample"}


def make_inputs(folder: Path) -> None:
    """A phantom as files of many kinds, a soft atlas, and a cohort."""
    import cohorts
    import nibabel as nib

    import daskroi as dr

    phantom = dr.make_phantom(SHAPE, N_TIME, n_regions=N_REGIONS, chunks=7)
    paths = dr.write_phantom(folder / "run", phantom)
    values = phantom.image.values.T
    affine = np.array(phantom.atlas.grid.affine)
    for name, dtype in (("run.nii", "<f4"), ("big.nii", ">f4"), ("double.nii.gz", "<f8")):
        image = nib.Nifti1Image(values.astype(dtype), affine, dtype=np.dtype(dtype))
        image.header.set_data_dtype(dtype)
        image.header.set_zooms((*image.header.get_zooms()[:3], 2.0))
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, folder / name)
    dr.to_zarr(folder / "run.nii", folder / "run.nii.zarr")
    labels = phantom.atlas.labels.T
    soft = np.stack([(labels == i) * (0.1 + 0.01 * r) for r, i in enumerate(phantom.atlas.ids)], -1)
    soft += 0.003 * np.roll(soft, 1, 0)
    nib.save(nib.Nifti1Image(soft, affine), folder / "maps.nii.gz")
    (folder / "names.json").write_text(json.dumps({k: str(v) for k, v in paths.items()}))
    cohorts.write_cohort(folder / "cohort", 3, 30)
    other = cohorts.atlas()
    image = nib.Nifti1Image(other.labels.T.astype("i4"), np.array(other.grid.affine))
    nib.save(image, folder / "cohort.nii.gz")


def results(folder: Path) -> Iterator[tuple[str, Any]]:
    """Name and lazy DataArray, one of every way through daskroi."""
    import daskroi as dr
    from daskroi.kernels import REDUCERS

    paths = json.loads((folder / "names.json").read_text())
    atlas = dr.load_atlas(paths["atlas"], lut=paths["labels"])
    maps = dr.load_atlas(folder / "maps.nii.gz")
    seeds = dr.load_atlas([(-10, -20, 10), (20, 0, 0)], radius=25, labels=["left", "right"])
    run, mask, table = paths["image"], paths["mask"], paths["confounds"]
    for strategy in REDUCERS:
        yield strategy, dr.extract(run, atlas, strategy=strategy, mask_img=mask)
    for name in ("run.nii", "big.nii", "double.nii.gz", "run.nii.zarr"):
        yield name, dr.extract(folder / name, atlas, mask_img=mask, **CLEANED)
    yield "memory", dr.extract(dr.open_image(folder / "run.nii").compute(), atlas)
    yield (
        "median of memory",
        dr.extract(dr.open_image(folder / "run.nii").compute(), atlas, strategy="median"),
    )
    yield "maps", dr.extract(run, maps)
    yield "lstsq", dr.extract(run, maps, maps_method="lstsq")
    yield "spheres", dr.extract(run, seeds, strategy="median")
    several = {"a": atlas, "b": maps, "c": seeds}
    order = reversed(list(several)) if "DASKROI_ODD" in os.environ else list(several)
    together = dr.extract(run, {name: several[name] for name in order})
    yield from ((f"{name} of three", together[name]) for name in several)
    yield "smoothed", dr.extract(run, atlas, smoothing_fwhm=6)
    yield "smoothed voxelwise", dr.extract(run, atlas, smoothing_fwhm=6, spatial="voxelwise")
    coarse = dr.make_phantom((9, 11, 8), 2, n_regions=5).atlas
    for target in ("data", "labels"):
        yield f"target {target}", dr.extract(run, coarse, resampling_target=target)
    yield (
        "clipped",
        dr.extract(folder / "run.nii", coarse, resampling_target="labels", resampling_clip=True),
    )
    yield (
        "confounds",
        dr.extract(run, atlas, confounds=table, columns=["trans_?", "rot_?", "csf"], **CLEANED),
    )
    yield "censored", dr.extract(
        run, atlas, sample_mask=np.arange(N_TIME) % 7 != 3, confounds=table, columns=["csf"],
        standardize="psc", high_pass=0.02,
    )  # fmt: skip
    yield "cosine", dr.extract(run, atlas, filter="cosine", high_pass=0.01)
    yield "high variance", dr.extract(run, atlas, high_variance_confounds=True)
    yield "components", dr.high_variance_confounds(folder / "run.nii", n_confounds=3)
    yield "smooth", dr.smooth(dr.open_image(folder / "run.nii"), 5)
    yield "resample", dr.resample(dr.open_image(folder / "run.nii"), coarse.grid)


def connectomes(ts: Any) -> Iterator[tuple[str, Any]]:
    """Name and matrices of three runs."""
    import daskroi as dr

    runs = [ts.isel(time=slice(first, first + 40)) for first in (0, 10, 20)]
    for kind in ("correlation", "covariance", "partial correlation", "precision", "tangent"):
        yield kind, dr.connectome(runs, kind=kind)
    yield "mean", dr.mean_connectome(dr.connectome(runs), fisher_z=True)


def files(folder: Path, out: Path) -> None:
    """Write all that daskroi writes."""
    import daskroi as dr
    from daskroi.cli import main

    paths = json.loads((folder / "names.json").read_text())
    atlas = dr.load_atlas(paths["atlas"], lut=paths["labels"])
    ts = dr.extract(paths["image"], atlas, confounds=paths["confounds"], columns=["csf"]).compute()
    ts.drop_vars("region_name").to_netcdf(out / "ts.nc")
    ts.to_zarr(out / "ts.zarr", consolidated=False)
    dr.report(ts, atlas, paths["image"], confounds=paths["confounds"]).save_as_html(out / "r.html")
    image = dr.open_image(folder / "run.nii")
    dr.to_nifti(image, out / "copy.nii.gz")
    dr.smooth(image, 5).roi.to_nifti(out / "smooth.nii")
    masker = dr.NiftiLabelsMasker(paths["atlas"], standardize="zscore_sample").fit()
    signals = masker.transform(paths["image"])
    masker.inverse_transform(signals).to_filename(out / "inverse.nii.gz")
    atlases = f"Phantom={paths['atlas']}"
    commands = {
        "extract": f"extract {paths['image']} --output {out}/extract --atlas {atlases} "
        f"--labels-table Phantom={paths['labels']} --connectome correlation",
        "bids": f"bids {folder}/cohort {out}/bids participant --atlases {folder}/cohort.nii.gz "
        "-p trans_x csf --connectome correlation --output-format parquet",
        "group": f"bids {folder}/cohort {out}/bids group",
        "convert": f"convert {folder}/run.nii {out}/c.nii.zarr",
        "back": f"convert {out}/c.nii.zarr {out}/c.nii.gz",
        "report": f"report {out}/bids",
    }
    for command in commands.values():
        with redirect_stdout(sys.stderr):
            main(command.split(), standalone_mode=False)


def digest(values: Any) -> str:
    """Of an array: its type and bits."""
    found = hashlib.sha256(repr((values.dtype.str, values.shape)).encode())
    found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()


@contextmanager
def odd() -> Iterator[None]:
    """Everything that must not matter, otherwise."""
    if "DASKROI_ODD" not in os.environ:
        yield
        return
    # others open files in whatever encoding the locale has; daskroi may not
    warnings.filterwarnings("ignore", category=EncodingWarning)
    warnings.filterwarnings("error", category=EncodingWarning, module="daskroi")
    import dask

    with ExitStack() as stack:
        stack.enter_context(np.errstate(all="raise"))
        stack.enter_context(np.printoptions(precision=2, threshold=3, suppress=True))
        config = {
            "array.chunk-size": "10kiB",
            "array.slicing.split-large-chunks": True,
            "optimization.fuse.active": False,
            "scheduler": "synchronous",
        }
        stack.enter_context(dask.config.set(config))
        yield


def main(folder: Path, out: Path) -> dict[str, str]:
    """Digests of all of it."""
    found = {}
    with odd():
        for name, lazy in results(folder):
            found[f"key {name}"] = str(lazy.data.name)
            done = lazy.compute()
            found[f"values {name}"] = digest(done.values)
            if name == "confounds":
                for kind, matrix in connectomes(done):
                    found[f"values {kind}"] = digest(matrix.values)
        out.mkdir()
        files(folder, out)
    for path in sorted(out.rglob("*")):
        if path.is_file():
            found[f"file {path.relative_to(out)}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
