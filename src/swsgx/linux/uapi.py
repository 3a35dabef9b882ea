"""The ioctl interface: numbers and argument structures, upstream's and those of the 2019 series.

Offsets computed by compiling the public header (uapi asm/sgx.h); the v23 ones from the posted patch.
"""

from __future__ import annotations

from swsgx.isa.layout import Layout, u64

__all__ = [
    "PAGE_MEASURE",
    "SGX_IOC_ENCLAVE_ADD_PAGES",
    "SGX_IOC_ENCLAVE_ADD_PAGES_V23",
    "SGX_IOC_ENCLAVE_CREATE",
    "SGX_IOC_ENCLAVE_INIT",
    "SGX_IOC_ENCLAVE_MODIFY_TYPES",
    "SGX_IOC_ENCLAVE_PROVISION",
    "SGX_IOC_ENCLAVE_REMOVE_PAGES",
    "SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS",
    "SGX_MAGIC",
    "EnclaveAddPages",
    "EnclaveAddPagesV23",
    "EnclaveCreate",
    "EnclaveInit",
    "EnclaveModifyTypes",
    "EnclaveProvision",
    "EnclaveRemovePages",
    "EnclaveRestrictPermissions",
    "ioctl_name",
]

_HEADER = "Linux 6.12 uapi asm/sgx.h"

#: The type byte of all SGX ioctls.
SGX_MAGIC = 0xA4

_WRITE = 1
_READ = 2

#: ADD_PAGES flag: extend MRENCLAVE with the contents.
PAGE_MEASURE = 1


class EnclaveCreate(Layout, size=8, align=8, source=f"{_HEADER}, struct sgx_enclave_create"):
    """Argument of CREATE."""

    src = u64(0, "address of the SECS page")


class EnclaveAddPages(Layout, size=48, align=8, source=f"{_HEADER}, struct sgx_enclave_add_pages"):
    """Argument of ADD_PAGES since series v24."""

    src = u64(0, "address of the pages' contents, page aligned")
    offset = u64(8, "bytes from the enclave's base, page aligned")
    length = u64(16, "bytes, whole pages")
    secinfo = u64(24, "address of a SECINFO")
    flags = u64(32, "PAGE_MEASURE; others are ignored")
    count = u64(40, "out: bytes done")


class EnclaveAddPagesV23(
    Layout, size=40, align=8, source="SGX patch series v23, 12/24, struct sgx_enclave_add_pages"
):
    """Argument of ADD_PAGES in series v23; src, offset and length are advanced by what was done."""

    src = u64(0, "address of the pages' contents, page aligned")
    offset = u64(8, "bytes from the enclave's base, page aligned")
    length = u64(16, "bytes, whole pages")
    secinfo = u64(24, "address of a SECINFO")
    flags = u64(32, "PAGE_MEASURE; others are ignored")


class EnclaveInit(Layout, size=8, align=8, source=f"{_HEADER}, struct sgx_enclave_init"):
    """Argument of INIT."""

    sigstruct = u64(0, "address of the SIGSTRUCT")


class EnclaveProvision(Layout, size=8, align=8, source=f"{_HEADER}, struct sgx_enclave_provision"):
    """Argument of PROVISION (SET_ATTRIBUTE in series v23)."""

    fd = u64(0, "file descriptor of the provision node; the low 32 bits count")


class EnclaveRestrictPermissions(
    Layout, size=40, align=8, source=f"{_HEADER}, struct sgx_enclave_restrict_permissions"
):
    """Argument of RESTRICT_PERMISSIONS."""

    offset = u64(0, "bytes from the enclave's base, page aligned")
    length = u64(8, "bytes, whole pages")
    permissions = u64(16, "R 1, W 2, X 4")
    result = u64(24, "out: the SGX error code, if one stopped it; 0 on entry")
    count = u64(32, "out: bytes done; 0 on entry")


class EnclaveModifyTypes(Layout, size=40, align=8, source=f"{_HEADER}, struct sgx_enclave_modify_types"):
    """Argument of MODIFY_TYPES."""

    offset = u64(0, "bytes from the enclave's base, page aligned")
    length = u64(8, "bytes, whole pages")
    page_type = u64(16, "PT_TCS or PT_TRIM")
    result = u64(24, "out: the SGX error code, if one stopped it; 0 on entry")
    count = u64(32, "out: bytes done; 0 on entry")


class EnclaveRemovePages(Layout, size=24, align=8, source=f"{_HEADER}, struct sgx_enclave_remove_pages"):
    """Argument of REMOVE_PAGES."""

    offset = u64(0, "bytes from the enclave's base, page aligned")
    length = u64(8, "bytes, whole pages")
    count = u64(16, "out: bytes done; 0 on entry")


def _ioc(direction: int, number: int, argument: type[Layout]) -> int:
    return direction << 30 | argument.size_of << 16 | SGX_MAGIC << 8 | number


SGX_IOC_ENCLAVE_CREATE = _ioc(_WRITE, 0, EnclaveCreate)
SGX_IOC_ENCLAVE_ADD_PAGES = _ioc(_READ | _WRITE, 1, EnclaveAddPages)
SGX_IOC_ENCLAVE_ADD_PAGES_V23 = _ioc(_READ | _WRITE, 1, EnclaveAddPagesV23)
SGX_IOC_ENCLAVE_INIT = _ioc(_WRITE, 2, EnclaveInit)
SGX_IOC_ENCLAVE_PROVISION = _ioc(_WRITE, 3, EnclaveProvision)
SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS = _ioc(_READ | _WRITE, 5, EnclaveRestrictPermissions)
SGX_IOC_ENCLAVE_MODIFY_TYPES = _ioc(_READ | _WRITE, 6, EnclaveModifyTypes)
SGX_IOC_ENCLAVE_REMOVE_PAGES = _ioc(_READ | _WRITE, 7, EnclaveRemovePages)

_NAMES = {
    SGX_IOC_ENCLAVE_CREATE: "SGX_IOC_ENCLAVE_CREATE",
    SGX_IOC_ENCLAVE_ADD_PAGES: "SGX_IOC_ENCLAVE_ADD_PAGES",
    SGX_IOC_ENCLAVE_ADD_PAGES_V23: "SGX_IOC_ENCLAVE_ADD_PAGES",
    SGX_IOC_ENCLAVE_INIT: "SGX_IOC_ENCLAVE_INIT",
    SGX_IOC_ENCLAVE_PROVISION: "SGX_IOC_ENCLAVE_PROVISION",
    SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS: "SGX_IOC_ENCLAVE_RESTRICT_PERMISSIONS",
    SGX_IOC_ENCLAVE_MODIFY_TYPES: "SGX_IOC_ENCLAVE_MODIFY_TYPES",
    SGX_IOC_ENCLAVE_REMOVE_PAGES: "SGX_IOC_ENCLAVE_REMOVE_PAGES",
}


def ioctl_name(code: int) -> str:
    """``"SGX_IOC_ENCLAVE_INIT"``, or the number for one that is not SGX's."""
    return _NAMES.get(code, f"ioctl {code:#x}")
