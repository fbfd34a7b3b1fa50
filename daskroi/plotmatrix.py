"""Plot of a connectome: region names, networks, a scale with white at 0."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from daskroi.connectome import vec_to_sym_matrix
from daskroi.errors import DaskroiError
from daskroi.plotparts import (
    GONE,
    in_memory,
    label_regions,
    mark_networks,
    names_of,
    networks_of,
    new_axes,
    order_of,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["matrix"]


def matrix(
    connectome: xr.DataArray,
    *,
    networks: Any = None,
    vmax: float | None = None,
    cmap: Any = "RdBu_r",
    colorbar: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw a connectome with region names, and lines between networks.

    Parameters
    ----------
    connectome : DataArray, dims (region, other_region) or (edge,)
        From `daskroi.connectome`; computed if it is lazy.
    networks : optional
        Regions of a network are drawn together: a table with ``index`` and ``network``, an atlas
        with such a table, a mapping of id or name to network, or a list in the order of the
        regions. None: coordinate ``network``, or what names of the Schaefer atlas say. False: none.
    vmax : float, optional
        End of the scale, which is symmetric about 0; the largest value off the diagonal if not
        given.
    cmap : matplotlib colormap
        Diverging. The default can be told apart by the colour-blind.
    colorbar : bool
    ax : matplotlib Axes, optional
        A new figure if not given.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    DaskroiError
        Several runs; networks that do not fit; matplotlib is not installed.

    Notes
    -----
    NaN is grey. Names are thinned to what fits; zooming in shows the others.

    Examples
    --------
    >>> from daskroi.plot import matrix
    >>> import daskroi as dr, matplotlib
    >>> matplotlib.use("Agg")
    >>> run = dr.make_phantom((12, 14, 12), n_time=40, n_regions=4)
    >>> ax = matrix(dr.connectome(dr.extract(run.image, run.atlas)), networks=["a", "b", "b", "a"])
    >>> ax.images[0].get_array().shape
    (4, 4)
    """
    from matplotlib import colormaps

    if getattr(connectome, "dims", ()) == ("edge",):
        connectome = vec_to_sym_matrix(connectome)
    what = "what daskroi.connectome returns of one run"
    connectome = in_memory(connectome, what, ("region", "other_region"))
    n_region = connectome.sizes["region"]
    found = networks_of(connectome, networks)
    order = order_of(found, n_region)
    values = connectome.values[np.ix_(order, order)]
    if vmax is not None and not (isinstance(vmax, Real) and 0 < vmax < np.inf):
        raise DaskroiError(f"vmax={vmax!r} is no end of a scale. Give a number above 0, or None.")
    if isinstance(cmap, str) and cmap not in colormaps:
        raise DaskroiError(f"cmap={cmap!r} is not known to matplotlib. See matplotlib.colormaps.")
    if vmax is None:
        off = np.abs(values[~np.eye(n_region, dtype=bool)])
        vmax = float(off[np.isfinite(off)].max(initial=0.0)) or 1.0
    ax = new_axes(ax, 8, 7)
    image = ax.imshow(
        np.ma.masked_invalid(values),
        cmap=colormaps.get_cmap(cmap).with_extremes(bad=GONE),
        vmin=-vmax,
        vmax=vmax,
        interpolation="nearest",
    )
    names = names_of(connectome)
    ordered = [names[i] for i in order]
    label_regions(ax, ordered, "y")
    label_regions(ax, ordered, "x")
    if found is not None:
        mark_networks(ax, [found[i] for i in order], "xy")
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label=_label(connectome.attrs), shrink=0.7, pad=0.02)
    return ax


def _label(attrs: Any) -> str:
    kind = str(attrs.get("kind", ""))
    return f"Fisher's z of {kind}" if attrs.get("transform", "none") != "none" else kind
