"""swsgx: SGX in software. Build, measure, sign, load, enter and inspect enclaves on any x86-64 Linux machine.

Gives no confidentiality: whoever owns the machine can read the EPC. For development, tests, CI and teaching.

Where to start: :mod:`swsgx.image` reads enclave files, :mod:`swsgx.identity` measures and signs,
:mod:`swsgx.inprocess` runs enclaves in this process, :mod:`swsgx.cpu` and :mod:`swsgx.linux` are the machine and the
driver as models. Nothing is imported here, since each costs time that not everybody wants to pay.
"""

__version__ = "0.1.0"
