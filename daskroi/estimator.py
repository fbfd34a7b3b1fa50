"""What scikit-learn expects of an estimator, without scikit-learn.

`sklearn.base.clone`, pipelines and parameter searches go by methods, not by a base class, so the
few methods here are enough and scikit-learn stays out of the dependencies.
"""

from __future__ import annotations

import inspect
from typing import Any, Self

from daskroi.errors import DaskroiError, check_choice

__all__ = ["DaskroiNotFittedError", "Estimator", "describe"]

OUTPUTS = ("default", "pandas")


class DaskroiNotFittedError(DaskroiError, AttributeError):
    """Something was asked of an estimator that only ``fit`` can tell."""


class Estimator:
    """Base class of estimators: parameters are the keywords of the constructor, stored as given.

    A subclass's ``__init__`` only stores, under the same names; checks belong in ``fit``. That is
    what lets `sklearn.base.clone` copy it.

    Examples
    --------
    >>> class Scaler(Estimator):
    ...     def __init__(self, factor=1.0, names=None):
    ...         self.factor, self.names = factor, names
    >>> scaler = Scaler(factor=2.0)
    >>> scaler.get_params()
    {'factor': 2.0, 'names': None}
    >>> scaler.set_params(names=["V1", "V2"])
    Scaler(factor=2.0, names=['V1', 'V2'])
    """

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        parameters = inspect.signature(cls).parameters.values()
        return {p.name: p.default for p in parameters}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Constructor parameters and their values, sorted by name.

        Parameters
        ----------
        deep : bool
            For scikit-learn. Makes no difference: no parameter is itself an estimator.

        Returns
        -------
        dict
        """
        return {name: getattr(self, name) for name in sorted(self._defaults())}

    def set_params(self, **parameters: Any) -> Self:
        """Change constructor parameters; call ``fit`` again afterwards.

        Returns
        -------
        self

        Raises
        ------
        DaskroiError
            There is no such parameter; nothing is changed then.
        """
        known = self._defaults()
        if unknown := [name for name in parameters if name not in known]:
            raise DaskroiError(
                f"{type(self).__name__} has no parameter {', '.join(map(repr, unknown))}. "
                f"Use some of: {', '.join(known)}."
            )
        for name, value in parameters.items():
            setattr(self, name, value)
        return self

    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose what ``transform`` returns.

        Parameters
        ----------
        transform : {"default", "pandas", None}
            "default": the lazy DataArray. "pandas": a computed DataFrame with a row per frame and
            a column per region. None leaves it as it is.

        Returns
        -------
        self

        Raises
        ------
        DaskroiError
            Another value.
        """
        if transform is not None:
            check_choice("transform", transform, OUTPUTS)
            # scikit-learn's name for it: what clone copies along with the parameters
            self._sklearn_output_config = {"transform": transform}
        return self

    @property
    def _output(self) -> str:
        return getattr(self, "_sklearn_output_config", {}).get("transform", "default")

    def __sklearn_tags__(self) -> Any:
        """Tags for scikit-learn, which alone calls this, so it is there to import from."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            # images go in, not matrices
            input_tags=InputTags(two_d_array=False, allow_nan=True),
        )

    def __repr__(self) -> str:
        defaults = self._defaults()
        shown = [
            f"{name}={describe(getattr(self, name))}"
            for name, default in defaults.items()
            if not _same(getattr(self, name), default)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _same(value: Any, default: Any) -> bool:
    # only plain values are compared: an array's == is not a bool
    plain = isinstance(value, str | int | float) and type(value) is type(default)
    return value is default or (plain and value == default)


def describe(value: Any, *, whole: bool = False) -> str:
    """One line for a parameter's value: images by their shape, long lists by their length.

    Parameters
    ----------
    value : anything
    whole : bool
        Lists in full, images with their affine and file.

    Examples
    --------
    >>> describe("mean"), describe(list("abcdefgh"))
    ("'mean'", '[8 items]')
    """
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        if whole or all(isinstance(v, str | int | float) for v in value):
            return repr(value) if whole or len(value) <= 4 else f"[{len(value)} items]"
        shown = ", ".join(describe(v) for v in value[:4])
        return f"[{shown}{f', … {len(value)} items' if len(value) > 4 else ''}]"
    if not hasattr(value, "shape"):
        text = " ".join((str(value) if whole else repr(value)).split())
        return text if whole or len(text) <= 100 else f"{text[:99]}…"
    shape = " x ".join(map(str, value.shape))
    if not whole or getattr(value, "affine", None) is None:
        return f"<{kind} {shape}>"
    file = getattr(value, "get_filename", lambda: None)() or "in memory"
    rows = ", ".join(str([round(float(v), 6) for v in row]) for row in value.affine)
    return f"<{kind} {shape}, affine [{rows}], {file}>"
