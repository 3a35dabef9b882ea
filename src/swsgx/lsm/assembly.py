"""Policy files become a stack of security modules, with its audit log and its measurement list.

::

    with assemble(["acme.te", "acme.identity"], audit=Path("audit.log")) as made:
        driver = Driver(cpu, security=made.stack)

Modules are asked in one order: capability, te (or selinux), identity, integrity, no_unmeasured_exec, then those of
third parties. It decides only whose name is recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

from swsgx.linux import hooks
from swsgx.linux.device import Driver
from swsgx.lsm import registry
from swsgx.lsm.appraisal import Keyring, PublicKey
from swsgx.lsm.audit import AuditLog, ModeChange, PolicyLoad
from swsgx.lsm.identity import IdentityRules
from swsgx.lsm.integrity import Integrity, Memory
from swsgx.lsm.labels import Labels
from swsgx.lsm.measurement import Form
from swsgx.lsm.measurement_log import MeasurementLog, UnfiledLog
from swsgx.lsm.module import Module
from swsgx.lsm.no_unmeasured_exec import NoUnmeasuredExec
from swsgx.lsm.pcr import Tpm, open_pcrs
from swsgx.lsm.policy.errors import PolicyError
from swsgx.lsm.policy.load import PolicySet, check_reload, load
from swsgx.lsm.records import DecisionWriter
from swsgx.lsm.selinux import LiveTypeEnforcement
from swsgx.lsm.stack import Mode, Stack
from swsgx.lsm.te import OwnPolicy, TypeEnforcement

__all__ = ["Assembled", "assemble"]

#: Whom a policy file makes; they are not asked for by name.
_BY_POLICY = (TypeEnforcement.name, IdentityRules.name, Integrity.name)
#: In audit records of what concerns all modules.
_ALL = "swsgx"


def assemble(
    files: Sequence[str],
    *,
    modules: Iterable[str] = (),
    enforcing: bool = True,
    audit: Path | AuditLog | None = None,
    measurements: Path | None = None,
    form: Form = Form.IMA_BUF,
    tcti: str | None = None,
    keys: Iterable[Path | PublicKey] = (),
) -> Assembled:
    """Load policy files and make a stack of the modules that they are for, and of others by name.

    Args:
        files: policy files; each kind makes its module.
        modules: names of others: ``no_unmeasured_exec``, ``selinux``, and what third parties have installed.
        enforcing: refusals have an effect.
        audit: where refusals are recorded; a log that is given open stays open.
        measurements: file of the measurement list; None: it lives as long as the process, if the policy measures.
        form: templates of its entries.
        tcti: TPM whose PCRs are extended, see :func:`swsgx.lsm.pcr.open_pcrs`; None: emulated ones.
        keys: who may sign files: public keys, or files of keys and certificates.

    Raises:
        OSError: a policy file cannot be read.
        PolicyError: a policy has mistakes, all of which it tells.
        LookupError: there is no module of a name.
        ValueError: a name is that of a policy's module, or is there twice; SELinux and a file both enforce types;
            a TPM is named, and no policy measures anything.
        AuditError, MeasurementError, PcrError, AppraisalError: a log, a TPM or a key cannot be opened.
    """
    return Assembled(
        tuple(files),
        tuple(modules),
        enforcing=enforcing,
        audit=audit,
        measurements=measurements,
        form=form,
        tcti=tcti,
        keys=keys,
    )


class Assembled:
    """What :func:`assemble` has made.

    Attributes:
        stack: for the driver.
        policy: that is loaded.
        audit: the log of refusals; None: nobody keeps any.
        measurements: the measurement list; None: the policy measures nothing.
    """

    def __init__(
        self,
        files: tuple[str, ...],
        modules: tuple[str, ...],
        *,
        enforcing: bool,
        audit: Path | AuditLog | None,
        measurements: Path | None,
        form: Form,
        tcti: str | None,
        keys: Iterable[Path | PublicKey],
    ) -> None:
        self._files = files
        self._keys = Keyring()
        self._memory = Memory()
        self._form = form
        self._owns_audit = isinstance(audit, Path)
        self._tpm: Tpm | None = None
        self.audit: AuditLog | None = None
        self.measurements: MeasurementLog | UnfiledLog | None = None
        self.policy = load(files)
        _check_names(modules, self.policy)
        if tcti is not None and not _measured(self.policy):
            raise ValueError(
                f"{tcti}: no policy measures anything, so this TPM would never be extended; give an integrity policy"
            )
        others = {name: registry.make(name) for name in modules}
        for key in keys:
            if isinstance(key, Path):
                self._keys.add_file(key)
            else:
                self._keys.add(key)
        try:
            self.audit = AuditLog(audit) if isinstance(audit, Path) else audit
            if self.policy.integrity is not None or measurements is not None:
                pcrs = open_pcrs(tcti)
                self._tpm = pcrs if isinstance(pcrs, Tpm) else None
                self.measurements = (
                    MeasurementLog(measurements, pcrs) if measurements is not None else UnfiledLog(pcrs)
                )
                if isinstance(self.measurements, MeasurementLog):
                    self.measurements.check(_measured(self.policy))
            self._writer = DecisionWriter(self.audit) if self.audit is not None else None
            self.stack = Stack(
                _in_order([*self._of_policy(self.policy), *others.values()]),
                mode=Mode.ENFORCING if enforcing else Mode.PERMISSIVE,
                audit=self._writer,
            )
            self._tell_loaded(self.policy)
            if self.audit is not None and not enforcing:
                self.audit.write(ModeChange(lsm=_ALL, enforcing=False, was=True, **_login()))
        except Exception:
            self._close_logs()
            raise

    def _of_policy(self, policy: PolicySet) -> list[Module]:
        """The modules of a policy; what records their decisions learns its types, too."""
        made: list[Module] = []
        labels = Labels(policy.te) if policy.te is not None else None
        if labels is not None:
            made.append(TypeEnforcement(OwnPolicy(labels)))
        if policy.identity is not None:
            made.append(IdentityRules(policy.identity, labels))
        if policy.integrity is not None and self.measurements is not None:
            made.append(
                Integrity(policy.integrity, self.measurements, self._keys, labels, self._memory, self._form)
            )
        if self._writer is not None:
            self._writer.labels = labels
        return made

    def reload(self, driver: Driver | None = None) -> PolicySet:
        """Read the same files again and judge by them from now on; on any failure everything stays as it was.

        Args:
            driver: whose mappings are judged again at their next touch, and lose X if they would not be allowed
                now. Without it those that are mapped and touched already keep what they have.

        Returns: the new policy.

        Raises:
            OSError: a file cannot be read; or the driver's host cannot take mappings away, when the policy is new.
            PolicyError: it has mistakes, or a version goes backwards.
            ValueError: there are kinds of policies now that there were not, or the other way round.
            AuditError: that it was loaded cannot be recorded.
        """
        try:
            new = load(self._files)
            check_reload(self.policy, new)
            if _kinds(new) != _kinds(self.policy):
                raise ValueError(
                    f"a reload keeps its kinds of policies: {', '.join(_kinds(self.policy))}, "
                    f"and not {', '.join(_kinds(new))}"
                )
        except (OSError, PolicyError, ValueError) as error:
            self._tell_refused(error)
            raise
        self._tell_loaded(new)
        self.stack.replace(self._of_policy(new))
        self.policy = new
        if driver is not None:
            hooks.policy_changed(driver)
        return new

    def enforce(self, enforcing: bool, driver: Driver | None = None) -> None:
        """Change the mode of all modules, from the next decision on.

        Args:
            enforcing: or permissive.
            driver: whose mappings are judged again, as by :meth:`reload`.

        Raises:
            AuditError: it cannot be recorded, and was not done.
            OSError: as :meth:`reload`.
        """
        was = self.stack.mode is Mode.ENFORCING
        if self.audit is not None:
            self.audit.write(ModeChange(lsm=_ALL, enforcing=enforcing, was=was, **_login()))
        self.stack.mode = Mode.ENFORCING if enforcing else Mode.PERMISSIVE
        self.stack.policy_changed()
        if driver is not None:
            hooks.policy_changed(driver)

    def _tell_loaded(self, policy: PolicySet) -> None:
        if self.audit is None:
            return
        for file in policy.files:
            digest = f"sha256:{file.digest.hex()}"
            self.audit.write(
                PolicyLoad(lsm=file.kind, name=file.name, version=file.version, digest=digest, **_login())
            )

    def _tell_refused(self, error: Exception) -> None:
        if self.audit is None:
            return
        places = [problem.place.file for problem in error.problems] if isinstance(error, PolicyError) else []
        for name in dict.fromkeys(places) or self._files[:1]:
            self.audit.write(PolicyLoad(lsm=_ALL, name=name, loaded=False, **_login()))

    def close(self) -> None:
        """No driver uses the stack any more; a second time does nothing."""
        self.stack.close()
        self._close_logs()

    def _close_logs(self) -> None:
        if self.measurements is not None:
            self.measurements.close()
        if self._tpm is not None:
            self._tpm.close()
        if self.audit is not None and self._owns_audit:
            self.audit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Login(TypedDict, total=False):
    """Who logged in, and the number of that session."""

    auid: int
    ses: int


def _login() -> _Login:
    """Who logged in to do what this process does, as the kernel keeps it; nothing where it does not."""
    found = _Login()
    with contextlib.suppress(OSError, ValueError):
        found["auid"] = int(Path("/proc/self/loginuid").read_text(encoding="ascii"))
        found["ses"] = int(Path("/proc/self/sessionid").read_text(encoding="ascii"))
    return found


def _kinds(policy: PolicySet) -> tuple[str, ...]:
    return tuple(kind for kind in _BY_POLICY if getattr(policy, kind) is not None)


def _measured(policy: PolicySet) -> set[int]:
    """Registers that a policy's rules extend."""
    if policy.integrity is None:
        return set()
    return {rule.pcr for rule in policy.integrity.rules["measure"] if rule.applies}


def _check_names(modules: Sequence[str], policy: PolicySet) -> None:
    for name in modules:
        if name in _BY_POLICY:
            raise ValueError(f"the module {name} is made by its policy file, not by its name")
        if modules.count(name) > 1:
            raise ValueError(f"the module {name} is asked for twice")
    if LiveTypeEnforcement.name in modules and policy.te is not None:
        raise ValueError(
            "types are enforced by the host's SELinux, or by a file of type enforcement; choose one"
        )


def _in_order(modules: Iterable[Module]) -> list[Module]:
    """Those of this package first, in their order; the others as they came."""
    order = (
        TypeEnforcement.name,
        LiveTypeEnforcement.name,
        IdentityRules.name,
        Integrity.name,
        NoUnmeasuredExec.name,
    )
    return sorted(
        modules, key=lambda module: order.index(module.name) if module.name in order else len(order)
    )
