"""The SIGSTRUCT before it is signed: what the signer vouches for."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from swsgx.identity.errors import IdentityError
from swsgx.isa.flags import Attributes, Xfrm
from swsgx.isa.layout import SDM
from swsgx.isa.sigstruct import (
    RSA_EXPONENT,
    SIGSTRUCT_HEADER,
    SIGSTRUCT_HEADER2,
    Sigstruct,
)
from swsgx.trace import Reason

__all__ = ["SIGNED_SIZE", "SigstructOptions", "bcd_date", "from_signed_bytes", "redated", "unsigned"]

#: Bytes under the signature, and of the file that a two-step signer exchanges.
SIGNED_SIZE = 256

_ALL = 0xFFFF_FFFF_FFFF_FFFF
_SOURCE = f"{SDM}, 'Enclave Signature Structure (SIGSTRUCT)'"


@dataclass(frozen=True, slots=True)
class SigstructOptions:
    """All that is signed besides the measurement. A mask says which bits of its field EINIT compares.

    The defaults pin everything but DEBUG, so that one SIGSTRUCT serves debug and production.

    Attributes:
        attributes: SECS.ATTRIBUTES; INIT is set by EINIT later and not here.
        attributemask: its mask.
        xfrm: SECS.XFRM.
        xfrmmask: its mask.
        miscselect: SECS.MISCSELECT.
        miscmask: its mask.
        isvprodid: product number, 16 bits.
        isvsvn: security version, 16 bits.
        date: 0xYYYYMMDD in BCD, see :func:`bcd_date`.
        vendor: 0, or 0x8086.
        swdefined: 32 bits that the hardware ignores.
        isvfamilyid: 16 bytes, zero without KSS.
        isvextprodid: 16 bytes, zero without KSS.
    """

    attributes: int = Attributes.MODE64BIT
    attributemask: int = _ALL & ~int(Attributes.DEBUG)
    xfrm: int = Xfrm.X87 | Xfrm.SSE
    xfrmmask: int = _ALL
    miscselect: int = 0
    miscmask: int = 0xFFFF_FFFF
    isvprodid: int = 0
    isvsvn: int = 0
    date: int = 0
    vendor: int = 0
    swdefined: int = 0
    isvfamilyid: bytes = bytes(16)
    isvextprodid: bytes = bytes(16)


def bcd_date(day: datetime.date) -> int:
    """A day as SIGSTRUCT.DATE holds it: 29 February 2024 is 0x20240229."""
    return int(f"{day.year:04}{day.month:02}{day.day:02}", 16)


def unsigned(mrenclave: bytes, options: SigstructOptions | None = None) -> Sigstruct:
    """A SIGSTRUCT that only lacks the key: modulus, signature, Q1 and Q2 are zero.

    Args:
        mrenclave: the measurement to vouch for, 32 bytes.
        options: everything else that is signed; None for the defaults.

    Raises:
        IdentityError: a value does not fit its field.
    """
    given = SigstructOptions() if options is None else options
    try:
        return Sigstruct.of(
            header=SIGSTRUCT_HEADER,
            vendor=given.vendor,
            date=given.date,
            header2=SIGSTRUCT_HEADER2,
            swdefined=given.swdefined,
            exponent=RSA_EXPONENT,
            miscselect=given.miscselect,
            miscmask=given.miscmask,
            isvfamilyid=given.isvfamilyid,
            attributes=given.attributes,
            xfrm=given.xfrm,
            attributemask=given.attributemask,
            xfrmmask=given.xfrmmask,
            enclavehash=mrenclave,
            isvextprodid=given.isvextprodid,
            isvprodid=given.isvprodid,
            isvsvn=given.isvsvn,
        )
    except ValueError as error:
        field, _, found = str(error).partition(": ")
        raise IdentityError(
            Reason(
                "SIGSTRUCT",
                f"{field} fits its field",
                f"{vars(Sigstruct)[field].size} bytes, integers unsigned",
                found,
                _SOURCE,
            )
        ) from None


def from_signed_bytes(data: bytes) -> Sigstruct:
    """A SIGSTRUCT out of its 256 signed bytes, as a two-step signer keeps them; all else zero but the exponent.

    Raises:
        IdentityError: not 256 bytes.
    """
    if len(data) != SIGNED_SIZE:
        raise IdentityError(
            Reason(
                "SIGSTRUCT",
                "the signed bytes are 0 to 127 and 900 to 1027",
                f"{SIGNED_SIZE} bytes",
                f"{len(data)} bytes",
                _SOURCE,
            )
        )
    made = Sigstruct.of(exponent=RSA_EXPONENT)
    made.buffer[0:128] = data[:128]
    made.buffer[900:1028] = data[128:]
    return made


def redated(sigstruct: Sigstruct, data: bytes) -> Sigstruct:
    """The second step of signing in two: a new SIGSTRUCT like the given one, with the date of the first step.

    Args:
        sigstruct: made again from the enclave and its options, on whatever day.
        data: the 256 bytes that went to the signer.

    Raises:
        IdentityError: they differ in more than the date, so the signature would be for something else.
    """
    before = from_signed_bytes(data)
    made = Sigstruct.copy_of(bytes(sigstruct))
    made.date = before.date
    if made.signed_bytes() != data:
        for field in Sigstruct.fields():
            now, then = (bytes(s.buffer[field.offset : field.end]) for s in (made, before))
            if now != then and not 128 <= field.offset < 900 and field.offset < 1028:
                raise IdentityError(
                    Reason(
                        "SIGSTRUCT",
                        "the signed bytes are those of this enclave and these options",
                        f"{field.name} {now.hex()}",
                        then.hex(),
                        _SOURCE,
                        remedy="sign again from the first step, or give the options of the first step",
                    )
                )
    return made
