"""The plots people expect, on matplotlib: ``pip install 'daskroi[plot]'``.

`series` with region names, `carpet` of all regions, `matrix` of a connectome, `regions` on slices.
Each takes ``ax`` and returns matplotlib axes. For all else, xarray's own ``ts.plot`` knows the
labels and units.
"""

from __future__ import annotations

from daskroi.plotmatrix import matrix
from daskroi.plotregions import regions
from daskroi.plotseries import carpet, series

__all__ = ["carpet", "matrix", "regions", "series"]
