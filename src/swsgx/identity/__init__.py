"""Who an enclave is: its measurement, its signature, its signer.

Nothing is imported here, since each module costs something else: :mod:`~swsgx.identity.measure` needs numpy,
:mod:`~swsgx.identity.signer` and :mod:`~swsgx.identity.rsakey` need cryptography,
:mod:`~swsgx.identity.signature` and :mod:`~swsgx.identity.sigstruct` neither.
"""
