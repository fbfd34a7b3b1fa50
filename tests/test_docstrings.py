"""Docstrings say what is there: parameters by their names, and examples to paste that run."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import daskroi

MODULES = sorted(p.stem for p in Path(daskroi.__file__).parent.glob("*.py"))
HEADING = re.compile(r"^(\w[\w ]*)\n-{3,}$", re.MULTILINE)
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def sections(thing: Any) -> dict[str, str]:
    """Text of each numpydoc section."""
    doc = inspect.getdoc(thing) or ""
    found = list(HEADING.finditer(doc))
    ends = [*(m.start() for m in found[1:]), len(doc)]
    return {m[1]: doc[m.end() : end].strip("\n") for m, end in zip(found, ends, strict=False)}


def documented(section: str) -> list[str]:
    """Names in a "Parameters" section, without their stars."""
    lines = [line for line in section.splitlines() if line and not line.startswith(" ")]
    listed = ",".join(line.split(" : ")[0] for line in lines).split(",")
    return [name.strip().lstrip("*") for name in listed if name.strip()]


def parameters(thing: Any) -> set[str]:
    """Names in the signature of a function, or of what makes an instance."""
    names = {p for p in inspect.signature(thing).parameters if not p.startswith("_")}
    return names - {"self", "cls"}


def inherited(thing: Any) -> set[str]:
    """Fields that a class has from another, which may be documented there."""
    bases = thing.__mro__[1:] if inspect.isclass(thing) else ()
    return {f.name for b in filter(dataclasses.is_dataclass, bases) for f in dataclasses.fields(b)}


def things(module: str) -> Iterator[tuple[str, Any]]:
    """What a module defines and lists in `__all__`, and public methods."""
    loaded = importlib.import_module(f"daskroi.{module}")
    for name in getattr(loaded, "__all__", ()):
        thing = getattr(loaded, name)
        if getattr(thing, "__module__", "") != loaded.__name__ or not callable(thing):
            continue
        yield name, thing
        for key, member in vars(thing).items() if inspect.isclass(thing) else ():
            method = getattr(member, "__func__", member)
            if not key.startswith("_") and inspect.isfunction(method):
                yield f"{name}.{key}", method


def public() -> Iterator[tuple[str, Any]]:
    """What users call: `daskroi.__all__`, and the functions of its modules."""
    for name in daskroi.__all__:
        thing = getattr(daskroi, name)
        if inspect.ismodule(thing):
            yield from ((f"{name}.{inner}", getattr(thing, inner)) for inner in thing.__all__)
        elif callable(thing):
            yield name, thing


PUBLIC = dict(public())


@pytest.mark.parametrize("module", [m for m in MODULES if m not in ("__init__", "__main__")])
def test_parameters_are_those_of_the_signature(module: str) -> None:
    for name, thing in things(module):
        said = documented(sections(thing).get("Parameters", ""))
        assert len(said) == len(set(said)), name
        if said:
            assert set(said) <= parameters(thing), name
            assert parameters(thing) - inherited(thing) <= set(said), name


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_have_all_parts(name: str) -> None:
    thing, parts = PUBLIC[name], sections(PUBLIC[name])
    assert "Examples" in parts
    if inspect.isclass(thing) and issubclass(thing, BaseException | Warning):
        return
    assert "Parameters" in parts or not parameters(thing)
    if inspect.isfunction(thing) and thing.__annotations__["return"] != "None":
        assert {"Returns", "Yields"} & set(parts)


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run_as_they_are_pasted(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    # of the module they stand in they know nothing: neither its imports nor itself
    doc = inspect.getdoc(PUBLIC[name]) or ""
    example = doctest.DocTestParser().get_doctest(doc, {}, name, None, None)
    failed, tried = doctest.DocTestRunner(optionflags=OPTIONS).run(example)
    assert tried
    assert not failed, capsys.readouterr().out


def test_what_is_wrong_is_noticed() -> None:
    def function(a: int, *more: int, c: int = 0) -> None:
        """Do it.

        Parameters
        ----------
        a, *more : int
            One.
        b : int
        """

    said = documented(sections(function)["Parameters"])
    assert said == ["a", "more", "b"]
    assert set(said) ^ parameters(function) == {"b", "c"}
