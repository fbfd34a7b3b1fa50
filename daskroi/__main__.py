"""``python -m daskroi``, the same as the command ``daskroi``."""

from __future__ import annotations

__all__ = ["run"]


def run() -> None:
    """The command; from its first moment to its last, Ctrl-C ends it in one line."""
    from daskroi.interrupt import until_then

    until_then()
    from daskroi.cli import main

    main(prog_name="daskroi")


# workers of a local cluster import this module again, under another name
if __name__ == "__main__":
    run()
