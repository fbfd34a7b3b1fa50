"""How the commands talk: grouped options, one-line errors and warnings.

Nothing here imports Dask or NumPy before a command runs: ``daskroi --help`` is instant.
"""

from __future__ import annotations

import json
import os
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from daskroi.errors import DaskroiError, DaskroiWarning
from daskroi.interrupt import exit_code, interruptible
from daskroi.paths import printable

__all__ = [
    "Command",
    "Group",
    "Option",
    "say",
    "storage_option",
    "verbose_option",
]

VERBOSE = "daskroi.verbose"
OTHER = "Other"


class Option(click.Option):
    """An option that knows under which heading of ``--help`` it stands."""

    def __init__(self, *args: Any, group: str = OTHER, **kwargs: Any) -> None:
        kwargs.setdefault("show_default", True)
        super().__init__(*args, **kwargs)
        self.group = group


class Command(click.Command):
    """A command whose ``--help`` groups options, and that takes them as BIDS-Apps spell them.

    Underscores do for dashes (``--low_pass``), and options in ``lists`` take several values in a
    row (``--columns csf white_matter``), up to the next option or a path; those in ``path_lists``
    take paths too.
    """

    def __init__(
        self,
        *args: Any,
        lists: tuple[str, ...] = (),
        path_lists: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lists, self.path_lists = lists, path_lists

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with spellings made uniform first."""
        return super().parse_args(ctx, _respelled(args, self.lists, self.path_lists))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write options under their headings, in the order in which these first come."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            # arguments are in the first sentence
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", OTHER), []).append(record)
        for heading, records in sorted(groups.items(), key=lambda item: item[0] == OTHER):
            with formatter.section(heading):
                formatter.write_dl(records)


def _respelled(
    args: list[str], lists: tuple[str, ...], path_lists: tuple[str, ...] = ()
) -> list[str]:
    """Dashes for underscores, and lists as an option that is repeated."""
    out: list[str] = []
    option, filled = "", False
    for i, arg in enumerate(args):
        if arg == "--":
            return out + args[i:]
        if arg.startswith("-") and len(arg) > 1:
            name, equals, value = arg.partition("=")
            option = name.replace("_", "-") if name.startswith("--") else name
            filled = bool(equals)
            out.append(option + equals + value)
        elif filled and (option in path_lists or (option in lists and not _is_path(arg))):
            out += [option, arg]
        else:
            filled = True
            out.append(arg)
    return out


def _is_path(arg: str) -> bool:
    # the image may follow a list: no column is called like a file
    return os.sep in arg or arg.endswith((".nii", ".gz", ".img", ".hdr", ".mgz"))


class Group(click.Group):
    """Commands whose errors and warnings are one line each on stderr.

    Exit codes: 0 all done, 1 an error, 2 a mistake in the command line (click's), 130 Ctrl-C, 143
    SIGTERM.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run as the command of a process."""
        with interruptible():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and say what went wrong."""
        try:
            with _shown_warnings(ctx):
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except (KeyboardInterrupt, click.Abort) as error:
            say("Interrupted", "nothing partial was left.", "yellow")
            raise click.exceptions.Exit(exit_code(error)) from None
        except DaskroiError as error:
            _trace(ctx)
            say("Error", str(error), "red")
            raise click.exceptions.Exit(1) from error
        except Exception as error:
            hint = "" if _trace(ctx) else " Run again with -v for the traceback."
            what = f"{type(error).__name__}: {error}".rstrip(". ")
            say("Error", f"unexpected {what}.{hint}", "red")
            raise click.exceptions.Exit(1) from error


def say(kind: str, message: str, color: str | None = None) -> None:
    """Write one line on stderr: ``Error: …``.

    Examples
    --------
    >>> say("Note", "out/x.tsv is up to date.")  # on stderr
    """
    # messages quote other libraries, which like line breaks, and names of files, which may have
    # what a terminal would obey
    line = printable(" ".join(message.split()))
    click.echo(click.style(f"{kind}:", fg=color, bold=True) + f" {line}", err=True)


def _trace(ctx: click.Context) -> bool:
    if ctx.meta.get(VERBOSE):
        for line in traceback.format_exc().splitlines():
            click.echo(printable(line), err=True)
    return bool(ctx.meta.get(VERBOSE))


def _set_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    ctx.meta[VERBOSE] = value
    return value


def verbose_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-v``: tracebacks, and warnings of other libraries.

    Examples
    --------
    >>> @click.command(cls=Command)
    ... @verbose_option
    ... def hello(): ...
    >>> [parameter.name for parameter in hello.params]
    ['verbose']
    """
    return click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_set_verbose,
        cls=Option,
        help="Tracebacks of errors, and warnings of other libraries too.",
    )(function)


def _storage_options(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        *outer, last = name.strip().split(".")
        inner = found
        for key in outer:
            inner = inner.setdefault(key, {})
        if not (equals and last and isinstance(inner, dict)):
            raise click.BadParameter(
                # the value may be a secret
                f"{name!r} is not KEY=VALUE. Give, for example, anon=true or "
                "client_kwargs.endpoint_url=https://…",
                ctx,
                param,
            )
        try:
            inner[last] = json.loads(value)
        except ValueError:
            inner[last] = value
    return found or None


def storage_option(**settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--storage-option KEY=VALUE``, which gives ``storage_options``, a dict or None.

    Values are JSON where they can be (``true``, ``5``), else text; dots nest.

    Examples
    --------
    >>> @click.command(cls=Command)
    ... @storage_option()
    ... def hello(storage_options):
    ...     print(storage_options)
    >>> hello(["--storage-option", "anon=true"], standalone_mode=False)
    {'anon': True}
    """
    return click.option(
        "--storage-option",
        "storage_options",
        metavar="KEY=VALUE",
        multiple=True,
        callback=_storage_options,
        cls=Option,
        help="For URLs, an option of fsspec's filesystem, such as anon=true for a public bucket or "
        "client_kwargs.endpoint_url=https://…; repeat for several. Credentials are better left to "
        "the environment (AWS_PROFILE and the like).",
        **settings,
    )


@contextmanager
def _shown_warnings(ctx: click.Context) -> Iterator[None]:
    """Warnings as one line each, and each once; without file and line, which are ours."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = str(message)
        if text in said:
            return
        said.add(text)
        ours = issubclass(category, DaskroiWarning)
        if ours or ctx.meta.get(VERBOSE):
            prefix = "" if ours else f"{category.__name__}: "
            say("Warning", prefix + text, "yellow")

    with warnings.catch_warnings():
        warnings.simplefilter("always", DaskroiWarning)
        warnings.showwarning = show
        yield
