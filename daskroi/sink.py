"""Where results go: to their places, or along with the outcome to the process that sees these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from daskroi.outputs import write_together
from daskroi.partfiles import sweep
from daskroi.targets import exists

if TYPE_CHECKING:
    from daskroi.targets import Target
    from daskroi.work import Work

    Files: TypeAlias = Mapping[str, str | bytes]

__all__ = ["Sink", "deliver"]


class Sink:
    """Takes the files of a run, those of an atlas together.

    Parameters
    ----------
    work : Work
        By its token a worker knows whether it sees the output folder.
    """

    def __init__(self, work: Work) -> None:
        self._out: Any = work.out
        self.here = not work.token or exists(work.out / work.token)
        self._sent: list[Files] = []

    def put(self, files: Mapping[Target, str | bytes], prefix: str) -> None:
        """Write files of one folder, all or none; or keep them to be sent.

        Parameters
        ----------
        files : mapping
            The last one stands for their being complete.
        prefix : str
            What names of the run's results begin with: what a killed writer of these has left is
            removed.
        """
        if self.here:
            *_, last = files
            sweep(last.parent, f"{prefix}_atlas-")
            write_together(files)
        else:
            self._sent.append({p.relative_to(self._out).as_posix(): t for p, t in files.items()})

    @property
    def sent(self) -> tuple[Files, ...] | None:
        """Files to be written elsewhere, by path below the output folder; None: they are written.

        See `deliver`.
        """
        return None if self.here else tuple(self._sent)


def deliver(sent: Iterable[Files], out: Target) -> None:
    """Write what a worker has sent.

    Raises
    ------
    NotWrittenError
        It cannot be written.
    """
    for files in sent:
        write_together({out / name: content for name, content in files.items()})
