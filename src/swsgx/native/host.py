"""The real processor, as far as the emulated one must have what it has: extended state, at its real offsets."""

from __future__ import annotations

from swsgx.isa.cpuid import DEFAULT_EPC_SIZE, CpuModel
from swsgx.isa.ssa import INTEL_COMPONENTS, XsaveComponent
from swsgx.native.images import Monitor

__all__ = ["host_model", "xsave_components"]

#: CPUID leaf that enumerates XSAVE components.
_XSTATE_LEAF = 0x0D
#: XFRM bits that the model's CPU accepts, if the real one has them: x87, SSE, AVX, AVX-512.
_XFRM = 0xE7


def xsave_components(monitor: Monitor) -> dict[int, tuple[int, int]]:
    """``{bit: (offset, size)}`` of each XSAVE component beyond SSE that is enabled, bytes, standard format."""
    xcr0 = monitor.xcr0()
    found = {}
    for bit in range(2, 63):
        if xcr0 >> bit & 1:
            size, offset, _, _ = monitor.cpuid(_XSTATE_LEAF, bit)
            found[bit] = (offset, size)
    return found


def host_model(monitor: Monitor, epc_size: int = DEFAULT_EPC_SIZE, *, sgx2: bool = True) -> CpuModel:
    """An SGX CPU with the extended state that this machine really has, at its real offsets.

    Args:
        monitor: executes CPUID.
        epc_size: bytes, whole pages.
        sgx2: with the SGX2 leaves.
    """
    names = {component.bit: component.name for component in INTEL_COMPONENTS}
    components = tuple(
        XsaveComponent(bit, names.get(bit, f"component {bit}"), offset, size)
        for bit, (offset, size) in sorted(xsave_components(monitor).items())
    )
    make = CpuModel.with_sgx2 if sgx2 else CpuModel.with_sgx1
    return make(epc_size=epc_size, xfrm_mask=_XFRM & monitor.xcr0(), components=components)
