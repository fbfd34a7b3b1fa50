"""Execute the notebooks as a newcomer would, and keep what they show.

``python tests/notebookdata.py`` executes all again and stores their outputs;
``python tests/notebookdata.py 04`` those whose names begin with 04.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = tuple(sorted(FOLDER.glob("*.ipynb")))
# a cell with this tag shows what differs from run to run: seconds, ports, how far it came
VARIES = "varies"
TIMEOUT = 60  # seconds per cell
# pages of 1.5 MB, and what GitHub takes the style from: their text says enough
_ONLY_TEXT = re.compile(r"xr-wrap|<iframe|<script", re.I)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def read(path: Path) -> Any:
    """A notebook, which must be valid."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_of(notebook: Any) -> list[Any]:
    """Its code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def varies(cell: Any) -> bool:
    """Whether what it shows is not the same every time."""
    return VARIES in cell.metadata.get("tags", ())


def digest(notebook: Any) -> str:
    """Of all code: tells whether outputs are those of this code."""
    code = "\0".join(cell.source for cell in code_of(notebook))
    return hashlib.sha256(code.encode()).hexdigest()


def execute(notebook: Any, folder: Path, environment: Mapping[str, str] | None = None) -> Any:
    """Execute in a fresh kernel that finds no data; a cell that fails raises.

    Parameters
    ----------
    notebook : NotebookNode
        Is changed.
    folder : Path
        Where it runs, with a home of its own.
    """
    from nbclient import NotebookClient

    with _environment(folder, environment or {}):
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            startup_timeout=TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
    return tidy(notebook, folder)


@contextmanager
def _environment(folder: Path, more: Mapping[str, str]) -> Iterator[None]:
    import matplotlib.font_manager  # a kernel that has to look for fonts first says so

    home = folder / "home"
    home.mkdir(exist_ok=True)
    new = {
        "HOME": str(home),
        # nothing answers there: data by name are not found, on no machine
        "DASKROI_DATASETS_URL": "http://127.0.0.1:9",
        "DASKROI_CACHE": str(home / "cache"),
        # with the fonts that were found
        "MPLCONFIGDIR": matplotlib.get_cachedir(),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        **{name: str(home / name.lower()) for name in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR")},
        **more,
    }
    old = dict(os.environ)
    for name in ("NILEARN_DATA", "NILEARN_SHARED_DATA", "FSLDIR", "TEMPLATEFLOW_HOME"):
        os.environ.pop(name, None)
    os.environ.update(new)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(old)


def tidy(notebook: Any, folder: Path) -> Any:
    """Leave nothing of the machine and the moment in it: paths become relative to ``folder``."""
    # a notebook makes itself a folder in the temporary one and works there
    made = re.compile(rf"({re.escape(str(folder))}|{re.escape(tempfile.gettempdir())}/tmp\w+)/")
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "daskroi": {"code_sha256": digest(notebook)},
    }
    for cell in code_of(notebook):
        cell.metadata.pop("execution", None)
        for output in cell.outputs:
            output.pop("transient", None)
            if "text" in output:
                output.text = made.sub("", output.text)
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output.data[kind] = made.sub("", value)
            if "data" in output:
                output.metadata = {}
                if _ONLY_TEXT.search(output.data.get("text/html", "")):
                    del output.data["text/html"]
                if "image/png" in output.data:
                    output.data["image/png"] = _smaller(output.data["image/png"])
    return notebook


def _smaller(png: str) -> str:
    """A picture of 200 colours: half the size, and plots look the same."""
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        few = picture.convert("RGB").quantize(
            200, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
    buffer = io.BytesIO()
    few.save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def text_of(cell: Any) -> str:
    """What a cell shows as text, white space aside."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif "data" in output and "image/png" not in output.data:
            parts.append(output.data.get("text/plain", ""))
    return " ".join(_ESCAPES.sub("", "\n".join(parts)).split())


def pictures_of(cell: Any) -> int:
    """How many pictures it shows."""
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def main(beginnings: list[str]) -> None:
    """Execute and store."""
    import nbformat

    for path in NOTEBOOKS:
        if beginnings and not path.name.startswith(tuple(beginnings)):
            continue
        notebook = read(path)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, Path(folder))
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
