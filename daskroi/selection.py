"""Which runs were asked for: labels, and filters as fMRIPrep and PyBIDS write them."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from daskroi.entities import ENTITIES, INDICES, long_name, short_name
from daskroi.errors import DaskroiError, DaskroiTypeError, warn
from daskroi.jsontext import from_json

__all__ = ["Condition", "Selection"]

ANY, NONE, EITHER = object(), object(), object()
_WORDS = {ANY: "any", NONE: "absent", EITHER: "any or absent"}
_QUERIES = {"NONE": NONE, "OPTIONAL": EITHER, "ANY": ANY, "REQUIRED": ANY}
# PyBIDS' other words for what a file is
FILE_WORDS = ("suffix", "extension", "datatype")


@dataclass(frozen=True)
class Condition:
    """What one entity may be.

    Parameters
    ----------
    asked : str
        The name the user gave it.
    entity : str
        Long name.
    wanted : tuple
        Labels, `ANY` (present), `NONE` (absent) or `EITHER`; one is enough.
    regex : bool
        Labels are patterns.
    """

    asked: str
    entity: str
    wanted: tuple[Any, ...]
    regex: bool = False

    def holds(self, label: str | None) -> bool:
        """Whether the label is one of those wanted; None where the entity is absent."""
        return any(self._is(value, label) for value in self.wanted)

    def _is(self, value: Any, label: str | None) -> bool:
        if value is EITHER or (value is ANY and label is not None):
            return True
        if not isinstance(value, str) or label is None:
            return value is NONE and label is None
        if self.regex:
            return re.search(value, label) is not None
        if self.entity in INDICES and value.isdecimal() and label.isdecimal():
            return int(value) == int(label)
        return value == label

    def unmet(self, labels: Iterable[str]) -> list[str]:
        """Labels that were asked for and that nothing has."""
        return [
            value
            for value in self.wanted
            if isinstance(value, str) and not any(self._is(value, label) for label in labels)
        ]

    def __str__(self) -> str:
        words = [v if isinstance(v, str) else _WORDS[v] for v in self.wanted]
        return f"{self.asked}={' or '.join(words)}"


@dataclass(frozen=True)
class Selection:
    """Conditions that a run must meet, all of them."""

    conditions: tuple[Condition, ...] = ()

    @classmethod
    def of(
        cls, asked: Mapping[str, Any], bids_filter: Any = None, storage_options: Any = None
    ) -> Selection:
        """Conditions from keywords and from a filter, given as dict or file.

        Examples
        --------
        >>> chosen = Selection.of({"task_id": "rest", "run": [1, 2]}, {"bold": {"session": None}})
        >>> print(chosen)
        task_id=rest, run=1 or 2, session=absent
        >>> chosen.failed({"task": "rest", "run": "02"}) is None
        True
        """
        found = [_condition(k, v) for k, v in asked.items() if v is not None]
        if bids_filter is not None:
            found += _of_filter(bids_filter, storage_options)
        return cls(tuple(found))

    def failed(
        self, entities: Mapping[str, str], leave_out: Iterable[str] = ()
    ) -> Condition | None:
        """The first condition not met, None if all are."""
        out = set(leave_out)
        for condition in self.conditions:
            if condition.entity not in out and not condition.holds(entities.get(condition.entity)):
                return condition
        return None

    def names(self, entity: str) -> bool:
        """Whether there is a condition on an entity."""
        return any(c.entity == entity for c in self.conditions)

    def enters(self, folder: str) -> bool:
        """Whether a folder may hold runs that are wanted, by its name."""
        key, dash, label = folder.partition("-")
        entity = {"sub": "subject", "ses": "session"}.get(key)
        if not dash or entity is None:
            return True
        return all(c.holds(label) for c in self.conditions if c.entity == entity)

    def check_entities(self, seen: Iterable[str]) -> None:
        """Raise for an entity that neither BIDS nor the dataset knows: a typing mistake."""
        known = {*ENTITIES, *FILE_WORDS, *seen}
        for condition in self.conditions:
            if condition.entity not in known:
                words = sorted({*known, *(short_name(e) for e in known)})
                close = difflib.get_close_matches(condition.asked, words, n=1)
                raise DaskroiError(
                    f"{condition.asked}: is no BIDS entity, and no name in the dataset has it. "
                    f"{f'Did you mean {close[0]}?' if close else 'Use task, run, space ...'}"
                )

    def __str__(self) -> str:
        return ", ".join(map(str, self.conditions))


# the command line's names for some entities
_FLAGS = {"participant_label": "subject", "session_id": "session", "task_id": "task"}
_FLAGS |= {"run_id": "run", "participant": "subject"}


def _condition(asked: str, given: Any, *, null: bool = False, regex: bool = False) -> Condition:
    entity = long_name(_FLAGS.get(asked, asked))
    several = not isinstance(given, str) and isinstance(given, Iterable)
    if isinstance(given, Mapping | bytes):
        raise DaskroiTypeError(f"{asked}={given!r}: give one label, or a list of labels.")
    values = list(given) if several else [given]
    if not values:
        raise DaskroiError(f"{asked}: an empty list selects nothing. Leave it out for all.")
    wanted = tuple(_wanted(asked, entity, v, null) for v in values)
    for pattern in (v for v in wanted if regex and isinstance(v, str)):
        try:
            re.compile(pattern)
        except re.error as error:
            raise DaskroiError(
                f"{asked}={pattern!r}: is no pattern ({error}). Repair it."
            ) from None
    return Condition(asked, entity, wanted, regex)


def _wanted(asked: str, entity: str, value: Any, null: bool) -> Any:
    if value is None and null:
        return NONE
    if isinstance(value, bool) or not isinstance(value, str | Integral):
        raise DaskroiTypeError(f"{asked}={value!r}: a label is text or a whole number.")
    text = str(value)
    # PyBIDS' enumeration, as a configuration that was saved has it
    query = re.fullmatch(r"<?Query\.(NONE|ANY|OPTIONAL|REQUIRED)\b.*", text)
    if query:
        return _QUERIES[query[1]]
    if text == "*":
        return ANY
    if entity == "extension":
        return f".{text.lstrip('.')}"
    return text.removeprefix(f"{short_name(entity)}-")


def _of_filter(given: Any, storage_options: Any) -> list[Condition]:
    culprit, found = "bids_filter", given
    if isinstance(given, str | os.PathLike):
        culprit = os.fspath(given)
        found = _read(culprit, storage_options)
    if not isinstance(found, Mapping) or not all(isinstance(v, Mapping) for v in found.values()):
        raise DaskroiError(
            f"{culprit}: a filter names the files it is for, then their entities. "
            'Write it as {"bold": {"task": ["rest"], "session": null}}.'
        )
    if "bold" not in found:
        warn(f"{culprit}: has no entry 'bold', so it selects nothing. All runs are taken.")
    bold = dict(found.get("bold", {}))
    bold.pop("scope", None)  # which of several datasets PyBIDS is to look in; here is but one
    regex = bool(bold.pop("regex_search", False))
    return [_condition(str(k), v, null=True, regex=regex) for k, v in bold.items()]


def _read(path: str, storage_options: Any) -> Any:
    from daskroi.bytesource import ByteSource

    content = ByteSource.of(path, storage_options).read()
    try:
        return from_json(content)
    except ValueError as error:
        raise DaskroiError(f"{path}: is no JSON ({error}). Repair the filter file.") from error
