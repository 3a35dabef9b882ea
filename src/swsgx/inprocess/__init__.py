"""Enclaves in our own process: build, enter, resume and look, from Python, without a helper process."""

from swsgx.inprocess.enclave import RESUME, Enclave, Exit, Reentry, reenter
from swsgx.inprocess.errors import DriverError, EnclaveFault
from swsgx.inprocess.sgx import Isolation, Sgx

__all__ = [
    "RESUME",
    "DriverError",
    "Enclave",
    "EnclaveFault",
    "Exit",
    "Isolation",
    "Reentry",
    "Sgx",
    "reenter",
]
