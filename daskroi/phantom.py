"""A synthetic run in which everything is known: what region means and cleaning must give back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from daskroi.anatomy import TISSUES, Anatomy
from daskroi.errors import DaskroiError
from daskroi.grid import Grid
from daskroi.lazyimage import checked_chunks
from daskroi.simulate import Model, Simulation, frames, group_means, model_of, tolerance_of

if TYPE_CHECKING:
    import dask.array as da
    import pandas as pd
    import xarray as xr

    from daskroi.atlas import Atlas

__all__ = ["Phantom", "make_phantom", "table_of"]

_MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")


@dataclass(frozen=True, eq=False)
class Phantom:
    """A run and what is true of it. Made by `make_phantom`.

    Attributes
    ----------
    image : DataArray, dims (time, z, y, x), lazy
        Stored values times slope plus inter; of the stored dtype when these are 1 and 0.
    atlas : Atlas
        Parcels of the grey matter in both hemispheres, gaps in the ids, and a last region of one
        voxel. The same for all phantoms of one grid and number of regions, whatever the seed.
    mask : DataArray, dims (z, y, x), uint8
        The brain. Outside, voxels are 0 (within half a step where integers cannot say 0).
    signals : DataFrame, index time [s], columns region id
        What the regions do, in image units around 0. Uncorrelated with the nuisances in runs that
        are long enough for it (24 frames of 2 s are), so cleaning can bring them back exactly.
    drift : DataFrame, index time [s], columns region id
        What the scanner's drift adds to the region means.
    confounds : DataFrame, index time [s]
        As fMRIPrep would write it: ``trans_*`` [mm], ``rot_*`` [rad], ``framewise_displacement``
        [mm] (NaN in the first row), ``global_signal``, ``csf``, ``white_matter`` (the exact
        means), ``cosine*`` (128 s).
    regressors : tuple of str
        Columns of ``confounds`` that, together with a straight line, span all that disturbs the
        voxels: regress these out of the region means and the signals are left.
    tolerance : float
        Largest difference between a region's mean in ``image`` and `expected`, in image units:
        half a step of an integer type, else rounding.
    """

    image: xr.DataArray
    atlas: Atlas
    mask: xr.DataArray
    signals: pd.DataFrame
    drift: pd.DataFrame
    confounds: pd.DataFrame
    regressors: tuple[str, ...]
    tolerance: float
    simulation: Simulation = field(repr=False)

    def expected(
        self, *, signals: bool = True, drift: bool = True, confounds: bool = True
    ) -> pd.DataFrame:
        """Region means of the image: contrast plus what is asked for.

        Noise is absent because its mean over every region is 0 in every frame.

        Returns
        -------
        DataFrame, index time [s], columns region id

        Examples
        --------
        >>> phantom = make_phantom((9, 11, 9), 30, n_regions=5)
        >>> list(phantom.expected().columns)
        [1, 2, 101, 102, 201]
        >>> still = phantom.expected(signals=False, drift=False, confounds=False)
        >>> bool((still.nunique() == 1).all())
        True
        """
        model = model_of(self.simulation)
        courses = model.courses.copy()
        courses[:, 0] *= drift
        courses[:, 1:] *= confounds
        means = group_means(model, model.signals * signals, courses)
        return _frame(means[:, : self.simulation.n_regions], model.anatomy.ids, self.simulation)

    def frames(self, start: int, stop: int) -> NDArray[Any]:
        """Stored values of some consecutive frames, dims (time, z, y, x), now and in NumPy."""
        return frames(self.simulation, start, stop)


def make_phantom(
    shape: tuple[int, int, int] = (45, 54, 45),
    n_time: int = 120,
    *,
    n_regions: int = 20,
    t_r: float = 2.0,
    affine: NDArray[Any] | None = None,
    dtype: DTypeLike = "float32",
    chunks: int | tuple[Any, ...] = 16,
    signal: float = 8.0,
    noise: float = 10.0,
    drift: float = 15.0,
    motion: float = 0.2,
    physio: float = 5.0,
    seed: int = 0,
    slope: float = 1.0,
    inter: float = 0.0,
) -> Phantom:
    """Make a run with known region signals, drift, noise and confounds.

    Parameters
    ----------
    shape : tuple of 3 int
        Voxels along (z, y, x). ``(91, 109, 91)`` is the usual 2 mm template grid.
    n_time : int
        Frames.
    n_regions : int
        Regions of the atlas, at least 3, the one-voxel region among them.
    t_r : float
        Seconds from frame to frame.
    affine : array, (4, 4), optional
        Voxel indices (x, y, z) to mm. By default the field of view of the MNI152NLin6Asym
        template, 182 x 218 x 182 mm, divided into ``shape``.
    dtype : dtype
        How voxels are stored: any real NIfTI type, in either byte order.
    chunks : int or tuple of 4
        Frames per chunk, or dask chunks along (time, z, y, x). The voxels do not depend on it.
        Chunks in space are cut from whole frames, because noise is balanced over whole regions.
    signal, noise, drift, physio : float
        Standard deviation of signals, of the white noise in every voxel and of the physiological
        fluctuation, and largest drift, in image units (the brain is around 900).
    motion : float
        Standard deviation of head translations, in mm. Voxels follow to first order: the contrast's
        gradient times the displacement.
    seed : int
        Another seed is another subject in the same template.
    slope, inter : float
        How stored values become intensities: ``stored * slope + inter``.

    Returns
    -------
    Phantom

    Raises
    ------
    DaskroiError
        No NIfTI type, a type too narrow for the intensities, or a grid too coarse for the regions.

    Examples
    --------
    >>> from daskroi import make_phantom
    >>> phantom = make_phantom((9, 11, 9), 30, n_regions=5, dtype="int16", slope=0.5)
    >>> phantom.image.dims, phantom.image.shape
    (('time', 'z', 'y', 'x'), (30, 9, 11, 9))
    >>> voxels = phantom.image.values[:, phantom.atlas.labels == 101]
    >>> error = voxels.mean(axis=1) - phantom.expected()[101]
    >>> bool(abs(error).max() <= phantom.tolerance)
    True
    """
    from daskroi.atlas import load_label_atlas
    from daskroi.image import make_image

    shape = Grid.make(shape, np.eye(4), "phantom").shape
    if affine is None:
        sizes = np.array([182, 218, 182]) / shape[::-1]
        affine = np.diag([*sizes, 1.0])
        affine[:3, 3] = np.array([-91, -127, -73]) + sizes / 2
    simulation = Simulation(
        grid=Grid.make(shape, affine, "phantom"),
        n_time=n_time,
        n_regions=n_regions,
        t_r=t_r,
        dtype=_dtype(dtype).str,
        signal=signal,
        noise=noise,
        drift=drift,
        motion=motion,
        physio=physio,
        seed=seed,
        slope=slope,
        inter=inter,
    )
    _check(simulation)
    grid, model = simulation.grid, model_of(simulation)
    anatomy = model.anatomy
    labels = np.zeros(grid.size, np.int32)
    labels[anatomy.brain] = np.array([*anatomy.ids, *(0 for _ in TISSUES)])[anatomy.group]
    mask = np.zeros(grid.size, np.uint8)
    mask[anatomy.brain] = 1
    loadings = anatomy.means(anatomy.maps[0])
    return Phantom(
        image=make_image(_lazy(simulation, chunks), grid, t_r=t_r, name="phantom"),
        atlas=load_label_atlas(
            make_image(labels.reshape(grid.shape), grid, name="Phantom"),
            lut=table_of(anatomy),
            name="Phantom",
        ),
        mask=make_image(mask.reshape(grid.shape), grid, name="brain_mask"),
        signals=_frame(model.signals[:, :n_regions], anatomy.ids, simulation),
        drift=_frame(np.outer(model.courses[:, 0], loadings[:n_regions]), anatomy.ids, simulation),
        confounds=_confounds(simulation, model),
        regressors=(
            *(_MOTION if motion else ()),
            *(("csf",) if physio else ()),
            *(f"cosine{i:02d}" for i in range(model.cosines.shape[1])),
        ),
        tolerance=tolerance_of(simulation),
        simulation=simulation,
    )


def _dtype(dtype: DTypeLike) -> np.dtype[Any]:
    with suppress(TypeError):
        kind = np.dtype(dtype)
        if kind.kind in "iuf" and kind.itemsize <= 8 and kind.name != "float16":
            return kind
    raise DaskroiError(
        f"dtype={dtype!r} is not a real NIfTI type. Use an integer, float32 or float64."
    )


def _check(simulation: Simulation) -> None:
    kind, slope, inter = np.dtype(simulation.dtype), simulation.slope, simulation.inter
    sizes = ("signal", "noise", "drift", "motion", "physio", "t_r", "slope", "inter")
    given = {name: getattr(simulation, name) for name in ("n_time", "seed", *sizes)}
    if (
        not np.isfinite(list(given.values())).all()
        or min(given[name] for name in ("seed", *sizes[:5])) < 0
        or not (given["n_time"] >= 1 and given["t_r"] > 0 and slope != 0)
    ):
        raise DaskroiError(
            f"{', '.join(f'{k}={v}' for k, v in given.items())}: no run is like that. Give at "
            "least one frame, a t_r above 0, a finite inter, a finite slope that is not 0, and "
            "nothing below 0 otherwise."
        )
    if kind.kind in "iu":
        holds = np.iinfo(kind)
        ends = (np.array(model_of(simulation).limits) - inter) / slope
        if min(ends) < holds.min or max(ends) > holds.max:
            raise DaskroiError(
                f"dtype={kind.name!r} holds {holds.min} to {holds.max}, but with slope={slope:g} "
                f"and inter={inter:g} voxels need {min(ends):.0f} to {max(ends):.0f}. "
                "Use another slope and inter, a wider type, or less noise and motion."
            )


def _lazy(simulation: Simulation, chunks: int | tuple[Any, ...]) -> da.Array:
    import dask.array as da

    shape = simulation.grid.shape
    kind = np.dtype(simulation.dtype).newbyteorder("=")
    blocks = checked_chunks((simulation.n_time, *shape), kind, chunks)
    # frames come whole and are then cut, so that no frame is made more than once
    stored = da.map_blocks(
        _block,
        simulation=simulation,
        chunks=(blocks[0], *((n,) for n in shape)),
        dtype=kind,
        meta=np.empty((0, 0, 0, 0), kind),
    ).rechunk(blocks)
    if (simulation.slope, simulation.inter) == (1, 0):
        return stored
    return stored * np.float64(simulation.slope) + np.float64(simulation.inter)


def _block(simulation: Simulation, block_info: Any = None) -> NDArray[Any]:
    (start, stop), *_ = block_info[None]["array-location"]
    return frames(simulation, start, stop)


def _frame(values: NDArray[Any], columns: Any, simulation: Simulation) -> pd.DataFrame:
    import pandas as pd

    time = pd.Index(np.arange(simulation.n_time) * simulation.t_r, name="time")
    return pd.DataFrame(values, index=time, columns=pd.Index(columns, name="region"))


def table_of(anatomy: Anatomy) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({"index": anatomy.ids, "name": anatomy.names})


def _confounds(simulation: Simulation, model: Model) -> pd.DataFrame:
    means = group_means(model, model.signals, model.courses)
    sizes = model.anatomy.sizes
    moved = np.abs(np.diff(model.courses[:, 1:7], axis=0)) @ [1, 1, 1, 50, 50, 50]  # Power 2012
    columns = dict(zip(_MOTION, model.courses[:, 1:7].T, strict=True))
    columns["framewise_displacement"] = np.array([np.nan, *moved])
    columns["global_signal"] = means @ sizes / sizes.sum()
    columns["csf"] = means[:, simulation.n_regions + TISSUES.index("csf")]
    columns["white_matter"] = means[:, simulation.n_regions + TISSUES.index("white")]
    columns |= {f"cosine{i:02d}": course for i, course in enumerate(model.cosines.T)}
    table = _frame(np.column_stack(list(columns.values())), list(columns), simulation)
    return table.rename_axis(columns=None)
