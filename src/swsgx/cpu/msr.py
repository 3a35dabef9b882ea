"""The model-specific registers that SGX has."""

from __future__ import annotations

from swsgx.cpu.faults import GeneralProtection
from swsgx.isa.layout import SDM
from swsgx.isa.msr import DEFAULT_LAUNCH_SIGNER, FeatureControl, Msr
from swsgx.trace import Reason

__all__ = ["Msrs"]


class Msrs:
    """The registers of one machine (all its logical processors agree).

    Args:
        feature_control: IA32_FEATURE_CONTROL as firmware left it; locked, SGX and launch control on by default.

    Attributes:
        lepubkeyhash: IA32_SGXLEPUBKEYHASH0..3 as 32 bytes, as MRSIGNER has them.
    """

    def __init__(
        self,
        feature_control: FeatureControl = FeatureControl.LOCK
        | FeatureControl.SGX_LC
        | FeatureControl.SGX_ENABLE,
    ) -> None:
        self.feature_control = feature_control
        self.lepubkeyhash = DEFAULT_LAUNCH_SIGNER

    @property
    def sgx_enabled(self) -> bool:
        """Whether ENCLS and ENCLU work: locked, and SGX_ENABLE set."""
        needed = FeatureControl.LOCK | FeatureControl.SGX_ENABLE
        return self.feature_control & needed == needed

    @property
    def launch_control(self) -> bool:
        """Whether the launch hash may be written: locked, and SGX_LC set."""
        needed = FeatureControl.LOCK | FeatureControl.SGX_LC
        return self.feature_control & needed == needed

    def read(self, register: int) -> int:
        """RDMSR of one of :class:`Msr`.

        Raises:
            GeneralProtection: no such register here.
        """
        if register == Msr.FEATURE_CONTROL:
            return int(self.feature_control)
        at = 8 * (self._known(register) - Msr.SGXLEPUBKEYHASH0)
        return int.from_bytes(self.lepubkeyhash[at : at + 8], "little")

    def write(self, register: int, value: int) -> None:
        """WRMSR of one of :class:`Msr`; ``value`` has 64 bits.

        Raises:
            GeneralProtection: no such register, or not writable as FEATURE_CONTROL stands.
        """
        if register == Msr.FEATURE_CONTROL:
            if self.feature_control & FeatureControl.LOCK:
                raise self._refused(
                    "IA32_FEATURE_CONTROL is not locked", "bit 0 clear", hex(self.feature_control)
                )
            self.feature_control = FeatureControl(value)
            return
        at = 8 * (self._known(register) - Msr.SGXLEPUBKEYHASH0)
        if not self.launch_control:
            raise self._refused(
                "IA32_SGXLEPUBKEYHASHn is writable",
                "FEATURE_CONTROL locked with bit 17",
                hex(self.feature_control),
            )
        self.lepubkeyhash = self.lepubkeyhash[:at] + value.to_bytes(8, "little") + self.lepubkeyhash[at + 8 :]

    def _known(self, register: int) -> int:
        if not Msr.SGXLEPUBKEYHASH0 <= register <= Msr.SGXLEPUBKEYHASH3:
            raise self._refused("the register exists", "an SGX register", hex(register))
        return register

    def _refused(self, rule: str, expected: str, found: str) -> GeneralProtection:
        return GeneralProtection(
            Reason("RDMSR/WRMSR", rule, expected, found, f"{SDM}, 'Intel SGX Launch Control'")
        )
