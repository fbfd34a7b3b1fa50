"""All targets, by name."""

from __future__ import annotations

from fuzz.image_targets import image_targets
from fuzz.index_targets import index_targets
from fuzz.name_targets import name_targets
from fuzz.table_targets import table_targets

__all__ = ["TARGETS"]

_ALL = (*image_targets(), *index_targets(), *table_targets(), *name_targets())
TARGETS = {t.name: t for t in _ALL}
