"""Files that commands write, whole or not at all; tables that do not wrap; progress on a terminal."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import click

__all__ = ["atomic_file", "progress_of", "show_json", "show_pairs", "show_table", "table_lines", "write_file"]

#: Work below this many units is over before a bar is drawn.
_NO_BAR_BELOW = 4096


@contextmanager
def atomic_file(path: str, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file that appears under its name when the block ends well, and not at all when it does not.

    Args:
        path: where to; a device or a pipe is written directly, a symbolic link stays one.
        mode: permissions of a new file, before the umask.

    Raises:
        OSError: naming ``path``.
    """
    target = Path(os.path.realpath(path))
    try:
        kind = _kind_of(target)
        if kind == stat.S_IFREG:
            fd, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    if kind != stat.S_IFREG:
        with target.open("wb") as direct:
            yield direct
        return
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
            file.flush()
            umask = os.umask(0)
            os.umask(umask)
            os.fchmod(fd, mode & ~umask)
        Path(temporary).replace(target)
    except BaseException as error:
        with suppress(OSError):
            Path(temporary).unlink()
        if isinstance(error, OSError) and error.filename in (None, temporary):
            raise OSError(error.errno, error.strerror, path) from error
        raise


def _kind_of(target: Path) -> int:
    """What is there, S_IFREG if nothing is.

    Raises:
        OSError: a folder is there, or none to put a file in.
    """
    try:
        kind = stat.S_IFMT(target.stat().st_mode)
    except FileNotFoundError:
        return stat.S_IFREG
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return kind


def write_file(path: str, data: bytes | memoryview, mode: int = 0o666) -> None:
    """Write a whole file, or leave what was there; see :func:`atomic_file`."""
    with atomic_file(path, mode) as file:
        file.write(data)


def show_json(value: object) -> None:
    """One JSON document on standard output; bytes are shown in hexadecimal."""
    click.echo(json.dumps(value, indent=2, default=lambda b: bytes(b).hex()))


def show_pairs(pairs: Mapping[str, object], indent: str = "") -> None:
    """One ``name  value`` a line, values below each other."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        click.echo(f"{indent}{name:<{width}}  {value}".rstrip())


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()) -> None:
    """:func:`table_lines` on standard output."""
    click.echo("\n".join(table_lines(columns, rows, right)))


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str] = ()
) -> list[str]:
    """A table whose cells are never cut or wrapped, line by line.

    Args:
        columns: their headings.
        rows: cells, shown with ``str``.
        right: columns that are aligned to the right.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    # A pipe has no width: as much as the table needs.
    console.width = max(console.width, console.measure(table).maximum) if console.is_terminal else 10_000
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


@contextmanager
def progress_of(label: str, total: int) -> Iterator[Callable[[int], object] | None]:
    """A bar on standard error while the block runs: only on a terminal, and only if there is much to do.

    Yields:
        what to call with the units done since the last call, or None.
    """
    if total < _NO_BAR_BELOW or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.advance(task, done)
