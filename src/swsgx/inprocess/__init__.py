"""Enclaves in our own process: build, enter, resume and look, from Python, without a helper process."""

from swsgx.inprocess.enclave import Enclave, Exit
from swsgx.inprocess.errors import DriverError, EnclaveFault
from swsgx.inprocess.sgx import Sgx, host_model

__all__ = ["DriverError", "Enclave", "EnclaveFault", "Exit", "Sgx", "host_model"]
