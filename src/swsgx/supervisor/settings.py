"""What the user asked of a run: which machine, which kernel, how strict, and where to write what."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from swsgx.isa.cpuid import CpuModel
    from swsgx.linux.profile import Profile
    from swsgx.supervisor.security import Security

__all__ = ["Settings"]

_DEFAULT_EPC = 128 << 20


class Settings(NamedTuple):
    """One run's.

    Attributes:
        epc_size: bytes, whole pages.
        isolation: ``auto``, ``hidden`` or ``off``.
        cpu: ``sgx1`` or ``sgx2``.
        kernel: a name of :data:`swsgx.linux.profile.PROFILES`.
        patch: whether ENCLU and CPUID sites may be patched.
        explain: say on stderr why a call was refused.
        shadow: hide nodes that the host really has.
        trace: descriptor of a file for events; none: -1.
        log: descriptor of what is said to the user.
        security: security modules; None: the plain driver.
    """

    epc_size: int = _DEFAULT_EPC
    isolation: str = "auto"
    cpu: str = "sgx2"
    kernel: str = ""
    patch: bool = True
    explain: bool = False
    shadow: bool = False
    trace: int = -1
    log: int = 2
    security: Security | None = None

    @property
    def hides(self) -> bool:
        """Whether enclaves are out of reach while no thread is inside."""
        return self.isolation != "off"

    def profile(self) -> Profile:
        """Which driver to be."""
        from swsgx.linux.profile import PROFILES, UPSTREAM_6_12

        return PROFILES[self.kernel] if self.kernel else UPSTREAM_6_12

    def model(self) -> CpuModel:
        """The CPU, with the extended state that the real one has."""
        from swsgx.native.host import host_model
        from swsgx.native.images import Monitor

        return host_model(Monitor(), self.epc_size, sgx2=self.cpu != "sgx1")

    def tell(self, text: str) -> None:
        """A message for the user."""
        with contextlib.suppress(OSError):
            os.write(self.log, f"swsgx run: {text}\n".encode("utf-8", "backslashreplace"))

    @property
    def files(self) -> set[int]:
        """Descriptors that the supervisor must keep."""
        kept = {fd for fd in (self.trace, self.log) if fd >= 0}
        return kept | (self.security.files if self.security is not None else set())
