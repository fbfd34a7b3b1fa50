"""All targets, by name."""

from __future__ import annotations

from fuzz.image_targets import image_targets
from fuzz.name_targets import name_targets
from fuzz.table_targets import table_targets

__all__ = ["TARGETS"]

TARGETS = {t.name: t for t in (*image_targets(), *table_targets(), *name_targets())}
