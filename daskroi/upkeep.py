"""Of a run's results: what is there, is it current, and what is to be done.

This is the only place where results on disk are compared with what they would be made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from daskroi import store
from daskroi.partfiles import sweep
from daskroi.runstable import failed_before

if TYPE_CHECKING:
    from daskroi.work import Job, Work

__all__ = ["Needs", "everything", "look"]


@dataclass(frozen=True)
class Needs:
    """What a run lacks; a few strings, which travel with it.

    Parameters
    ----------
    series : tuple of str
        Atlases whose series are to be made of the image: they are not there, or are of other input.
    beside : tuple of str
        Atlases whose series are up to date, while something that belongs beside them is missing:
        that is made of the series, and no image is read.
    reason : str
        Why series that are there are made again.
    failed_before : str
        Why the run has failed with this very input.

    Examples
    --------
    >>> Needs().status, Needs(beside=("AAL",)).status
    ('skipped', 'to do')
    >>> Needs(("AAL",), failed_before="bold.nii: is truncated.").status
    'failed'
    """

    series: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    reason: str = ""
    failed_before: str = ""

    @property
    def status(self) -> str:
        """As the table of runs has it, before anything is done: "to do", "skipped", "failed"."""
        if not (self.series or self.beside):
            return "skipped"
        return "failed" if self.failed_before else "to do"


def everything(work: Work) -> Needs:
    """As if nothing were there."""
    return Needs(series=tuple(work.atlases))


def look(work: Work, job: Job) -> Needs:
    """What a run lacks. No image is opened; what killed writers have left there is removed.

    Parameters
    ----------
    work : Work
    job : Job

    Raises
    ------
    DaskroiError
        A file of the run is not there, or cannot be reached.
    """
    identities = work.identities(job)
    series, beside = [], []
    changes: dict[str, None] = {}  # in order, each once
    for name, paths in work.paths_of(job).items():
        sweep(paths.sidecar.parent, f"{job.prefix}_atlas-")
        changed = store.stale(paths, identities[name], part=True)
        if changed != []:
            series.append(name)
            changes |= dict.fromkeys(changed or ())
        elif not all(kind.is_current(paths) for kind in work.beside):
            beside.append(name)
    if not (series or beside):
        return Needs()
    return Needs(
        tuple(series),
        tuple(beside),
        f"made again, with other {', '.join(changes)}" if changes else "",
        failed_before(work.out, job, work.key_of(identities)) or "",
    )
