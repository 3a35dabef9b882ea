"""The structures that C and Python share, as the compiler has laid them out: read from the debug data of the image.

The generated headers assert the same when they are compiled; here the built file itself is asked, which may be stale.
"""

from __future__ import annotations

from functools import cache

import pytest
from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from swsgx.isa import ssa, structs
from swsgx.isa.layout import Layout
from swsgx.native import abi
from swsgx.native.images import IMAGES, Monitor
from swsgx.supervisor import seccomp

IMAGE = IMAGES / "swsgx-monitor.so"
#: Structures that the monitor's C uses; the debug data name no others.
SHARED: dict[str, type[Layout]] = {
    "swsgx_enclave_call": abi.EnclaveCall,
    "swsgx_enclave_head": abi.EnclaveHead,
    "swsgx_enclave_run": abi.EnclaveRun,
    "swsgx_enclave_slot": abi.EnclaveSlot,
    "swsgx_epcm_entry": abi.EpcmEntry,
    "swsgx_logical_processor": abi.LogicalProcessor,
    "swsgx_host_call": abi.HostCall,
    "swsgx_monitor_config": abi.MonitorConfig,
    "swsgx_registers": abi.Registers,
    "swsgx_request": abi.Request,
    "swsgx_target_state": abi.TargetState,
    "swsgx_thread_record": abi.ThreadRecord,
    "swsgx_grant": abi.Grant,
    "swsgx_visible_run": abi.VisibleRun,
    "sgx_tcs": structs.Tcs,
    "sgx_gprsgx": ssa.Gprsgx,
    "sgx_exinfo": ssa.Exinfo,
}


@cache
def laid_out() -> dict[str, tuple[int, dict[str, int]]]:
    """Size, and offset of each member, of each structure in the image."""
    found: dict[str, tuple[int, dict[str, int]]] = {}
    with IMAGE.open("rb") as stream:
        for unit in ELFFile(stream).get_dwarf_info().iter_CUs():
            for die in unit.iter_DIEs():
                if die.tag == "DW_TAG_structure_type" and "DW_AT_name" in die.attributes:
                    size = die.attributes.get("DW_AT_byte_size")
                    if size is not None:
                        found[name_of(die)] = (size.value, dict(members(die)))
    return found


def name_of(die: DIE) -> str:
    return bytes(die.attributes["DW_AT_name"].value).decode()


def members(die: DIE) -> list[tuple[str, int]]:
    return [
        (name_of(child), child.attributes["DW_AT_data_member_location"].value)
        for child in die.iter_children()
        if child.tag == "DW_TAG_member" and "DW_AT_name" in child.attributes
    ]


@pytest.mark.parametrize("name", SHARED)
def test_the_compiler_has_every_field_where_python_has_it(name: str) -> None:
    size, offsets = laid_out()[name]
    layout = SHARED[name]
    assert size == layout.size_of
    assert offsets == {field.name: field.offset for field in layout.fields()}


def test_every_structure_of_ours_in_the_image_is_compared() -> None:
    ours = {name for name in laid_out() if name.startswith(("swsgx_", "sgx_"))}
    assert ours <= set(SHARED)


def exported() -> set[str]:
    with IMAGE.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".dynsym")
        assert isinstance(table, SymbolTableSection)
        return {symbol.name for symbol in table.iter_symbols() if symbol.name}


def test_only_functions_of_the_interface_are_exported() -> None:
    assert {name for name in exported() if not name.startswith("swsgx_")} == set()


def test_python_finds_every_function_it_declares() -> None:
    # Each is looked up when the image is loaded.
    monitor = Monitor()
    assert monitor.xcr0() & 3 == 3
    assert len(monitor.cpuid(0)) == 4
    assert monitor.exit_common()


def test_what_the_filters_know_of_the_image_is_what_it_does() -> None:
    assert (seccomp.INJECTED, seccomp.ASK) == (abi.INJECTED_OPTION, abi.ASK_OPTION)
