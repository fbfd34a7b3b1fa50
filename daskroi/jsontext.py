"""JSON from outside: what Python's parser raises of any text is a ``ValueError``."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["from_json"]


def from_json(text: str | bytes) -> Any:
    """What a JSON text says; of a key that is there twice, the last value, as everywhere.

    Parameters
    ----------
    text : str or bytes
        Bytes are UTF-8, with or without BOM.

    Raises
    ------
    ValueError
        No JSON, no UTF-8, nested deeper than Python's stack, a number of thousands of digits.

    Examples
    --------
    >>> from_json(b'{"RepetitionTime": 2}')
    {'RepetitionTime': 2}
    >>> from_json("[" * 100_000)
    Traceback (most recent call last):
        ...
    ValueError: nested too deeply
    """
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except RecursionError:  # 1,000 brackets will do, and nothing of ours has ten
        raise ValueError("nested too deeply") from None
