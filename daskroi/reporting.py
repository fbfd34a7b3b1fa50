"""The report of a masker: nilearn's method, and what of the fitted image it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskroi.reportpage import Report

__all__ = ["Reporting"]


class Reporting:
    """Adds `generate_report` to a masker that sets ``_fitted``, ``_image_name`` and ``_shown``.

    Examples
    --------
    >>> import daskroi as dr
    >>> run = dr.make_phantom((12, 14, 12), n_time=20, n_regions=4)
    >>> masker = dr.NiftiLabelsMasker(run.atlas).fit(run.image)
    >>> len(masker.generate_report().regions)
    4
    """

    _shown: Any = None  # the fitted image, of which a report shows a volume

    def generate_report(
        self,
        title: str | None = None,
        *,
        engine: str = "matplotlib",
        signals: Any = None,
        confounds: Any = None,
    ) -> Report:
        """Make an interactive report: shown by Jupyter, opened or saved as one HTML file.

        Parameters
        ----------
        title : str, optional
            "NiftiLabelsMasker" if not given.
        engine : str
            nilearn's choice of who draws. Without effect: there is one page, and it is interactive.
        signals : DataArray, DataFrame or array, dims (time, region), optional
            What ``transform`` returned, computed: shown as series, carpet and correlations.
        confounds : DataFrame, path, URL, array or Confounds, optional
            Shown beside ``signals``.

        Returns
        -------
        Report
            Sizes are those of ``labels_img_``. Of the fitted image, one volume is read here.
            Without ``fit``, or with ``reports=False``, the report has no region table, and it and
            a warning say so.
        """
        from daskroi.maskerreport import report_of

        masker: Any = self
        return report_of(
            type(self).__name__,
            masker.get_params(),
            getattr(self, "_fitted", None),
            getattr(self, "_image_name", ""),
            title,
            shown=self._shown,
            signals=signals,
            confounds=confounds,
        )

    def __getstate__(self) -> dict[str, Any]:
        # a pickle of a masker must not hold a run
        return self.__dict__ | {"_shown": None}
