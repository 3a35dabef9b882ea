"""Secrets of the machine, and how keys follow from them.

The manual says of what a key depends, not how it is made. Ours: AES-CMAC under a root key for each key name,
over all dependencies packed in the order of the manual's table 'Key Derivation'. Same inputs give the same
key, any other input another; nothing else may be relied on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from swsgx.isa.flags import KeyName
from swsgx.isa.layout import Buffer
from swsgx.isa.sigstruct import Einittoken

__all__ = ["Dependencies", "Secrets", "cmac", "derive", "launch_key"]


@dataclass(frozen=True, slots=True)
class Secrets:
    """What manufacturing and boot put into a processor.

    Attributes:
        roots: one 16-byte root key for each :class:`KeyName`, in their order.
        owner_epoch: 16 bytes; the machine's owner may change it.
    """

    roots: tuple[bytes, ...]
    owner_epoch: bytes = bytes(16)

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> Secrets:
        """Fresh secrets out of ``random``."""
        return cls(tuple(random(16) for _ in KeyName))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """All that a key can depend on; what a key name leaves out stays zero."""

    keyname: KeyName
    owner_epoch: bytes = bytes(16)
    attributes: bytes = bytes(16)
    attributemask: bytes = bytes(16)
    miscselect: int = 0
    miscmask: int = 0
    cpusvn: bytes = bytes(16)
    isvsvn: int = 0
    isvprodid: int = 0
    mrenclave: bytes = bytes(32)
    mrsigner: bytes = bytes(32)
    isvfamilyid: bytes = bytes(16)
    isvextprodid: bytes = bytes(16)
    configid: bytes = bytes(64)
    configsvn: int = 0
    keypolicy: int = 0
    keyid: bytes = bytes(32)
    padding: bytes = bytes(352)

    def packed(self) -> bytes:
        """All of them, integers in their manual's width, little-endian."""
        return b"".join(
            (
                int(self.keyname).to_bytes(2, "little"),
                self.owner_epoch,
                self.attributes,
                self.attributemask,
                self.miscselect.to_bytes(4, "little"),
                self.miscmask.to_bytes(4, "little"),
                self.cpusvn,
                self.isvsvn.to_bytes(2, "little"),
                self.isvprodid.to_bytes(2, "little"),
                self.mrenclave,
                self.mrsigner,
                self.isvfamilyid,
                self.isvextprodid,
                self.configid,
                self.configsvn.to_bytes(2, "little"),
                self.keypolicy.to_bytes(2, "little"),
                self.keyid,
                self.padding,
            )
        )


def cmac(key: bytes, data: Buffer) -> bytes:
    """AES-128-CMAC (RFC 4493), 16 bytes."""
    mac = CMAC(AES(key))
    mac.update(bytes(data))
    return mac.finalize()


def derive(secrets: Secrets, dependencies: Dependencies) -> bytes:
    """The 16-byte key that follows from the secrets and the dependencies."""
    return cmac(secrets.roots[dependencies.keyname], dependencies.packed())


def launch_key(secrets: Secrets, token: Einittoken, launch_signer: bytes, padding: bytes) -> bytes:
    """The key of EINITTOKEN.MAC, as the launch enclave that made the token had it from EGETKEY.

    Args:
        secrets: the machine's.
        token: says of its maker: CPUSVNLE, ISVPRODIDLE, ISVSVNLE, masked attributes, KEYID.
        launch_signer: IA32_SGXLEPUBKEYHASH, 32 bytes.
        padding: 352 bytes of signature encoding, the same for every valid signature.
    """
    return derive(
        secrets,
        Dependencies(
            keyname=KeyName.EINITTOKEN,
            owner_epoch=secrets.owner_epoch,
            attributes=bytes(token.buffer[240:256]),
            miscselect=token.maskedmiscselectle,
            cpusvn=token.cpusvnle,
            isvsvn=token.isvsvnle,
            isvprodid=token.isvprodidle,
            mrsigner=launch_signer,
            keyid=token.keyid,
            padding=padding,
        ),
    )
