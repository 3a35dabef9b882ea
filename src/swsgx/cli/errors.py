"""How a command says no: one line on standard error, and an exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from swsgx.trace import Reason

__all__ = [
    "EXIT_BUG",
    "EXIT_REFUSED",
    "EXIT_USAGE",
    "Refused",
    "about",
    "one_line",
    "policy_mistakes",
    "usage",
]

#: The answer is no, or a file is not what it should be.
EXIT_REFUSED = 1
#: The command line makes no sense.
EXIT_USAGE = 2
#: A bug of swsgx itself.
EXIT_BUG = 3


class Refused(click.ClickException):
    """An answer of no. Exit status 1.

    Args:
        text: what is wrong, starting with the file it is about; becomes one line.
        reason: the rule behind it, if there is one, for ``--explain``.
    """

    exit_code = EXIT_REFUSED

    def __init__(self, text: str, reason: Reason | None = None) -> None:
        super().__init__(text)
        self.reason = reason


def usage(text: str) -> click.UsageError:
    """The error for options that contradict each other. Exit status 2."""
    return click.UsageError(text)


def one_line(text: str) -> str:
    """``text`` without line breaks or control characters, which file names may hold."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.splitlines()))


@contextmanager
def about(file: str) -> Iterator[None]:
    """Names ``file`` in refusals that do not name one: those of keys, signatures, the machine and the driver.

    Raises:
        Refused: in place of each.
    """
    try:
        yield
    except Exception as error:
        # IdentityError, Fault, DriverError and their like live in layers that a command may never have loaded:
        # know them by what they have in common, a Reason. Anything else is a bug and goes on.
        reason = getattr(error, "reason", None)
        if isinstance(error, Refused) or hasattr(error, "file"):
            raise
        if isinstance(reason, Reason):
            raise Refused(f"{file}: {error}", reason) from error
        if isinstance(error, OSError):
            name = file if error.filename is None else str(error.filename)
            raise Refused(f"{name}: {error.strerror or error}") from error
        raise


@contextmanager
def policy_mistakes() -> Iterator[None]:
    """Shows what is wrong with a policy on standard output, each with its line and a caret.

    Raises:
        Refused: there is something; how much.
    """
    from swsgx.lsm.policy.errors import MAX_PROBLEMS, PolicyError

    try:
        yield
    except PolicyError as error:
        for problem in error.problems:
            first, *rest = problem.lines()
            click.echo("\n".join([one_line(first), *rest]))
        count = len(error.problems)
        more = " or more" if count >= MAX_PROBLEMS else ""
        raise Refused(
            f"{error.file}: {count}{more} mistake{'s' if count != 1 else ''}", error.reason
        ) from error
