"""Our ioctl numbers and layouts against those of the kernel's headers, compiled."""

from __future__ import annotations

import pytest

from swsgx.isa.layout import Layout
from swsgx.isa.sigstruct import Sigstruct
from swsgx.isa.structs import Pageinfo, Secinfo, Secs, Tcs
from swsgx.linux import uapi
from tests.conformance.kernel_build import Built

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(1800)]

#: The kernel's structure, ours, and where the two have other words for one field.
STRUCTURES: tuple[tuple[str, type[Layout], dict[str, str]], ...] = (
    (
        "sgx_secs",
        Secs,
        {
            "base": "baseaddr",
            "ssa_frame_size": "ssaframesize",
            "config_id": "configid",
            "isv_prod_id": "isvprodid",
            "isv_svn": "isvsvn",
            "config_svn": "configsvn",
        },
    ),
    (
        "sgx_tcs",
        Tcs,
        {
            "ssa_offset": "ossa",
            "ssa_index": "cssa",
            "nr_ssa_frames": "nssa",
            "entry_offset": "oentry",
            "exit_addr": "aep",
            "fs_offset": "ofsbase",
            "gs_offset": "ogsbase",
            "fs_limit": "fslimit",
            "gs_limit": "gslimit",
        },
    ),
    ("sgx_secinfo", Secinfo, {}),
    ("sgx_pageinfo", Pageinfo, {"addr": "linaddr", "contents": "srcpge", "metadata": "secinfo"}),
    (
        "sgx_sigstruct",
        Sigstruct,
        {
            "misc_mask": "miscmask",
            "attributes_mask": "attributemask",
            "xfrm_mask": "xfrmmask",
            "mrenclave": "enclavehash",
        },
    ),
    ("sgx_enclave_create", uapi.EnclaveCreate, {}),
    ("sgx_enclave_add_pages", uapi.EnclaveAddPages, {}),
    ("sgx_enclave_init", uapi.EnclaveInit, {}),
    ("sgx_enclave_provision", uapi.EnclaveProvision, {}),
    ("sgx_enclave_restrict_permissions", uapi.EnclaveRestrictPermissions, {}),
    ("sgx_enclave_modify_types", uapi.EnclaveModifyTypes, {}),
    ("sgx_enclave_remove_pages", uapi.EnclaveRemovePages, {}),
)


@pytest.mark.parametrize(("name", "ours", "renamed"), STRUCTURES, ids=[row[0] for row in STRUCTURES])
def test_structure_has_the_kernels_size_and_offsets(
    name: str, ours: type[Layout], renamed: dict[str, str], kernel: Built
) -> None:
    assert ours.size_of == kernel.uapi[f"sizeof({name})"]
    theirs = {}
    for field, offset in kernel.uapi.items():
        if field.startswith(f"{name}."):
            member = field.rsplit(".", 1)[1]
            theirs[renamed.get(member, member)] = offset
    assert theirs
    offsets = {field.name: field.offset for field in ours.fields()}
    assert {member: offsets.get(member) for member in theirs} == theirs


def test_each_enclave_ioctl_of_the_kernel_has_our_number(kernel: Built) -> None:
    theirs = {name: value for name, value in kernel.uapi.items() if name.startswith("SGX_IOC_ENCLAVE_")}
    assert len(theirs) == 7
    assert {name: getattr(uapi, name) for name in theirs} == theirs


def test_the_measure_flag_is_the_kernels(kernel: Built) -> None:
    assert kernel.uapi["SGX_PAGE_MEASURE"] == uapi.PAGE_MEASURE
