"""Security modules of ``swsgx run``, made before anything starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from swsgx.cli.errors import EXIT_USAGE, Refused, one_line
from swsgx.lsm.appraisal import AppraisalError
from swsgx.lsm.assembly import assemble
from swsgx.lsm.audit import AuditError
from swsgx.lsm.measurement import Form, MeasurementError
from swsgx.lsm.pcr import PcrError
from swsgx.lsm.policy.errors import PolicyError
from swsgx.supervisor.security import Security

__all__ = ["Wanted", "security"]

_ERRORS = (AppraisalError, AuditError, LookupError, MeasurementError, PcrError, ValueError)


@dataclass(frozen=True)
class Wanted:
    """What a user asks for.

    Attributes:
        policy: policy files.
        modules: names of modules besides those that the files need.
        enforcing: whether refusals have an effect.
        audit: file where they are recorded; None: nowhere.
        measurements: file of the measurement list; None: it is not kept.
        form: templates of its entries, the value of a :class:`swsgx.lsm.measurement.Form`.
        tcti: a TPM; None: none.
        keys: files of keys whose signatures are good.
    """

    policy: tuple[str, ...]
    modules: tuple[str, ...]
    enforcing: bool
    audit: str | None
    measurements: str | None
    form: str
    tcti: str | None
    keys: tuple[str, ...]


class _NotGood(Refused):
    """What was asked for cannot be made: as the command line that asked for it, it makes no sense."""

    exit_code = EXIT_USAGE


def _open_files() -> set[int]:
    """Descriptors that we have open; not the one that looking takes, which is the next that anybody gets."""
    found = [int(name) for name in os.listdir("/proc/self/fd")]
    return {fd for fd in found if Path(f"/proc/self/fd/{fd}").exists()}


def _absolute(path: str) -> Path:
    # The supervisor leaves the folder that it was started in.
    return Path.cwd() / path


def security(wanted: Wanted, *, paranoid: bool) -> Security:
    """The modules that a user wants, with their policy.

    Args:
        wanted: which.
        paranoid: whether their promise is checked at each step.

    Raises:
        click.ClickException: a file, a name or a place is not good. Exit status 2.
    """
    before = _open_files()
    try:
        assembled = assemble(
            [str(_absolute(path)) for path in wanted.policy],
            modules=wanted.modules,
            enforcing=wanted.enforcing,
            audit=_absolute(wanted.audit) if wanted.audit is not None else None,
            measurements=_absolute(wanted.measurements) if wanted.measurements is not None else None,
            form=Form(wanted.form),
            tcti=wanted.tcti,
            keys=[_absolute(key) for key in wanted.keys],
        )
    except PolicyError as error:
        for problem in error.problems:
            first, *rest = problem.lines()
            click.echo("\n".join([one_line(first), *rest]), err=True)
        raise _NotGood(f"{error.file}: the policy is not good, so nothing was started") from error
    except OSError as error:
        raise _NotGood(f"{error.filename}: {error.strerror}") from error
    except _ERRORS as error:
        raise _NotGood(str(error)) from error
    # What modules have open is the supervisor's; no program inherits it, however it was opened.
    files = _open_files() - before
    for fd in files:
        os.set_inheritable(fd, False)
    return Security(assembled, files, paranoid=paranoid)
