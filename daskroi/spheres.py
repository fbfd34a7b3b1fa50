"""Spheres around seeds: regions that are coordinates and a radius until they meet a grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from daskroi.errors import DaskroiError, some
from daskroi.grid import Grid, in_field
from daskroi.regions import RegionIndex
from daskroi.regiontable import RegionAxis, rows_in_order, with_sizes
from daskroi.seeds import Seeds, checked_radius

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SphereAtlas"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class SphereAtlas(RegionAxis):
    """Spheres around seeds with their region table. Made by `load_atlas`.

    Parameters
    ----------
    name : str
        Short name, for column headers and file names.
    seeds : float64 array, (region, 3)
        Centres (x, y, z) in mm, in the space of the images; read-only.
    radius : float or None
        Radius in mm; None takes the single voxel at each seed.
    allow_overlap : bool
        Whether spheres may share voxels.
    table : DataFrame
        The region axis: one row per seed, in the order given. Columns ``index`` (of the label
        table, else 1, 2, …), ``name``, ``size_mm3`` (geometric volume of the sphere, mm³; NaN
        without a radius), ``relative_size_percent`` (of all spheres together: all are equal),
        ``x``, ``y``, ``z``, ``radius`` (mm), then what else the table of seeds had. There is no
        ``n_voxels``: a sphere has voxels only on a grid, see `regions_on`.
    source : str or None
        None; seeds come from memory.
    template : str or None
        Template the seeds are said to be in (see `template_of`).

    Notes
    -----
    Two atlases are equal when their ``hash`` is: same seeds, radius, ``allow_overlap``, ids and
    names.

    Examples
    --------
    >>> import numpy as np
    >>> from daskroi import Grid, SphereAtlas
    >>> from daskroi.seeds import Seeds
    >>> atlas = SphereAtlas.make(Seeds.read([(0, 0, 0), (4, 0, 0)]), 2, labels=["a", "b"])
    >>> atlas
    <SphereAtlas 'spheres': 2 spheres of radius 2 mm>
    >>> atlas.table
       index name  size_mm3  relative_size_percent    x    y    z  radius
    0      1    a    33.51                   50.0  0.0  0.0  0.0     2.0
    1      2    b    33.51                   50.0  4.0  0.0  0.0     2.0
    >>> atlas.regions_on(Grid.make((3, 3, 6), np.diag([2.0, 2, 2, 1]))).counts
    array([4, 5])
    """

    name: str
    seeds: Floats
    radius: float | None
    allow_overlap: bool
    table: pd.DataFrame
    source: str | None = None
    template: str | None = None

    def __post_init__(self) -> None:
        # the hash is kept, so the seeds must not change after it
        self.seeds.setflags(write=False)

    @classmethod
    def make(
        cls,
        seeds: Seeds,
        radius: float | None = None,
        lut: Any = None,
        labels: list[str] | None = None,
        *,
        name: str | None = None,
        allow_overlap: bool = True,
        template: str | None = None,
        storage_options: dict[str, Any] | None = None,
    ) -> SphereAtlas:
        """Join seeds with their names, see `load_atlas`.

        Raises
        ------
        DaskroiError
            The radius is not positive; not as many names as seeds.
        """
        radius = checked_radius(radius)
        n, own = len(seeds.xyz), seeds.table
        if own is not None:
            own = own.rename(columns={c: str(c).strip() for c in own.columns})
            keys = {c.lower() for c in own.columns}
            if lut is None and not labels and keys & {"name", "label"}:
                lut = own
        rows = rows_in_order(n, lut, labels or [], "seeds", storage_options)
        if own is not None:
            if "index" in own.columns and lut is None:
                index = own[["index"]].assign(name=rows["name"] if labels else own["index"])
                rows = rows_in_order(n, index, [], "seeds")
            taken = {*map(str.lower, rows.columns), "label"}
            for column in own.columns:
                if column.lower() not in taken:
                    rows[column] = own[column].to_numpy()
        size = np.nan if radius is None else round(4 / 3 * pi * radius**3, 3)
        sizes = {
            "size_mm3": np.full(n, size),
            "relative_size_percent": np.full(n, round(100 / n, 2)),
            **dict(zip("xyz", seeds.xyz.T, strict=True)),
            "radius": np.full(n, np.nan if radius is None else radius),
        }
        table = with_sizes(rows, sizes)
        xyz = seeds.xyz.copy()
        return cls(name or "spheres", xyz, radius, bool(allow_overlap), table, None, template)

    def changed(
        self,
        radius: float | None = None,
        lut: Any = None,
        labels: list[str] | None = None,
        *,
        name: str | None = None,
        allow_overlap: bool = True,
        storage_options: dict[str, Any] | None = None,
    ) -> SphereAtlas:
        """The same seeds with another radius or names; itself when nothing changes."""
        if lut is None and not labels:
            same = radius in (None, self.radius) and name in (None, self.name)
            if same and (allow_overlap or not self.allow_overlap):
                return self
            lut = self.table
        return SphereAtlas.make(
            Seeds(self.seeds),
            self.radius if radius is None else radius,
            lut,
            labels,
            name=name or self.name,
            allow_overlap=allow_overlap and self.allow_overlap,
            template=self.template,
            storage_options=storage_options,
        )

    @property
    def grid(self) -> None:
        """None: spheres have no voxels of their own."""

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of seeds, radius, whether they may overlap, region ids and names."""
        said = (self.radius, self.allow_overlap, self.names)
        digest = hashlib.sha256(repr(said).encode())
        digest.update(self.seeds.astype("<f8").tobytes())
        digest.update(self.ids.astype("<i8").tobytes())
        return digest.hexdigest()

    @property
    def summary(self) -> str:
        """One line for people: spheres, radius, template."""
        many = "s" if len(self.table) != 1 else ""
        size = "one voxel each" if self.radius is None else f"radius {self.radius:g} mm"
        what = f"{len(self.table)} sphere{many} of {size}"
        return ", ".join(filter(None, (what, self.template)))

    def regions_on(self, grid: Grid, mask: NDArray[np.bool_] | None = None) -> RegionIndex:
        """Voxels of every sphere on a grid.

        Parameters
        ----------
        grid : Grid
            Of the image.
        mask : bool array, dims (z, y, x), optional
            Voxels that count.

        Returns
        -------
        RegionIndex
            Without weights. Spheres outside grid or mask have no voxel.

        Raises
        ------
        DaskroiError
            Spheres share voxels and ``allow_overlap`` is False; they are named.

        Notes
        -----
        nilearn's rule (``apply_mask_and_get_affinity``), of the voxels in the mask: those whose
        centre is at most the radius away; the one nearest to the seed; and the first one, x
        slowest, whose centre and the seed are the same whole millimetres after cutting off
        decimals. The last takes a second voxel for some seeds between two voxels; it is kept, so
        that both libraries give the same numbers.

        Examples
        --------
        >>> atlas = SphereAtlas.make(Seeds.read([(1, 1, 1)]), 1)
        >>> atlas.regions_on(Grid.make((3, 3, 3), np.eye(4))).voxels
        array([ 4, 10, 12, 13, 14, 16, 22])
        """
        inside = np.ones(grid.shape, bool) if mask is None else np.asarray(mask, bool)
        # (x, y, z) as in nilearn: x slowest decides which voxel is the first
        inside = inside.T
        inverse = np.linalg.inv(grid.matrix).astype(np.float64)
        rows = [self._voxels(seed, grid, inverse, inside) for seed in self.seeds]
        index = RegionIndex.of_rows(rows, grid.shape)
        if not self.allow_overlap:
            self._refuse_overlap(index)
        return index

    def _voxels(
        self, seed: Floats, grid: Grid, inverse: Floats, inside: NDArray[np.bool_]
    ) -> NDArray[np.intp]:
        """Flat positions of one sphere's voxels, ascending."""
        found = []
        if self.radius is not None:
            xyz = _within(_box(seed, np.full(3, self.radius), inverse, grid), inside)
            away = ((_millimetres(xyz, grid) - seed[:, None]) ** 2).sum(axis=0)
            found.append(xyz[:, away <= self.radius**2])
        nearest = np.round(inverse @ [*seed, 1])[:3, None]
        if in_field(nearest, grid).all():
            nearest = nearest.astype(np.intp)
            found.append(nearest[:, inside[tuple(nearest)]])
        whole = np.trunc(seed)
        # truncated numbers are equal less than 1 mm to either side at most
        xyz = _within(_box(whole, np.ones(3), inverse, grid), inside)
        same = (np.trunc(_millimetres(xyz, grid)) == whole[:, None]).all(axis=0)
        found.append(xyz[:, np.flatnonzero(same)[:1]])
        x, y, z = np.concatenate(found, axis=1)
        return np.unique(np.ravel_multi_index((z, y, x), grid.shape))

    def _refuse_overlap(self, index: RegionIndex) -> None:
        order = np.argsort(index.voxels, kind="stable")
        voxels, regions = index.voxels[order], index.regions[order]
        shared = voxels[1:] == voxels[:-1]
        pairs = np.unique(np.stack([regions[:-1][shared], regions[1:][shared]], 1), axis=0)
        if len(pairs):
            listed = [
                f"{self.ids[a]} {self.names[a]} and {self.ids[b]} {self.names[b]}" for a, b in pairs
            ]
            raise DaskroiError(
                f"{self.name}: spheres share voxels: {some(listed, 5)}. Use a smaller "
                "radius or allow_overlap=True."
            )

    def in_view(self, grid: Grid) -> Floats:
        """Fraction of every sphere that lies in the field of view of a grid.

        Parameters
        ----------
        grid : Grid
            Of the image.

        Returns
        -------
        float64 array, (region,)
            By 4,224 points evenly spaced in the sphere; exactly 1 when all of it is inside.
            Without a radius: 1 where the seed is in a voxel, else 0.

        Examples
        --------
        >>> atlas = SphereAtlas.make(Seeds.read([(5, 5, 5), (-0.5, 5, 5), (-9, 5, 5)]), 3)
        >>> atlas.in_view(Grid.make((11, 11, 11), np.eye(4))).round(1)
        array([1. , 0.5, 0. ])
        """
        inverse = np.linalg.inv(grid.matrix).astype(np.float64)
        centres = inverse[:3, :3] @ self.seeds.T + inverse[:3, 3:]
        if self.radius is None:
            return in_field(centres, grid).astype(np.float64)
        step = (np.arange(-10, 10) + 0.5) / 10  # no point in the planes of symmetry
        points = np.stack(np.meshgrid(step, step, step), 0).reshape(3, -1)
        points = inverse[:3, :3] @ (points[:, (points**2).sum(axis=0) <= 1] * self.radius)
        return np.array([in_field(c[:, None] + points, grid).mean() for c in centres.T])


def _box(centre: Floats, reach: Floats, inverse: Floats, grid: Grid) -> list[NDArray[np.intp]]:
    """Indices along x, y and z that an ellipsoid around a point (mm) can have voxels at."""
    middle = inverse[:3, :3] @ centre + inverse[:3, 3]
    # the support function of a cube with this half edge covers sphere and cube alike
    extent = np.abs(inverse[:3, :3]) @ reach + 1e-3
    shape = np.array(grid.shape[::-1])
    low = np.clip(np.ceil(middle - extent), 0, shape).astype(np.intp)
    high = np.clip(np.floor(middle + extent) + 1, 0, shape).astype(np.intp)
    return [np.arange(a, max(a, b)) for a, b in zip(low, high, strict=True)]


def _within(box: list[NDArray[np.intp]], inside: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Voxels (x, y, z) of a box that are in the mask, (3, voxel), x slowest."""
    part = inside[np.ix_(*box)]
    return np.array([axis[i] for axis, i in zip(box, np.nonzero(part), strict=True)], np.intp)


def _millimetres(xyz: NDArray[np.intp], grid: Grid) -> Floats:
    """Centres of voxels in mm, (3, voxel), by the product nilearn forms: ties are decided by it."""
    return (grid.matrix @ np.vstack([xyz, np.ones(xyz.shape[1])]))[:3]
