"""Whether a file is what its owner said it is: IMA's references, digests and signatures, and their check.

A file's reference is the extended attribute ``security.ima``, or a file ``NAME.sig`` beside it, as evmctl writes
either. It is a digest, which anybody who may write the attribute can renew, or a signature.

Not supported, and refused as such: signatures of version 1 and 3, and the portable ones of EVM; kernels of today make
none of them for ordinary files without fs-verity.

Source: Linux, security/integrity: integrity.h (enum evm_ima_xattr_type, struct signature_v2_hdr), digsig_asymmetric.c
(asymmetric_verify), ima/ima_appraise.c (xattr_verify); include/uapi/linux/hash_info.h; ima-evm-utils, calc_keyid_v2.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from swsgx.trace import Reason

__all__ = [
    "HASHES",
    "AppraisalError",
    "DigestReference",
    "Keyring",
    "PrivateKey",
    "PublicKey",
    "Reference",
    "SignatureReference",
    "appraise",
    "key_id",
    "parse_reference",
    "read_reference",
    "sign_digest",
]

#: The kernel's numbers of hash algorithms (enum hash_algo), of those that are taken here.
HASHES: dict[int, str] = {
    2: "sha1",
    4: "sha256",
    5: "sha384",
    6: "sha512",
    7: "sha224",
    20: "sha3_256",
    21: "sha3_384",
    22: "sha3_512",
}
_NUMBERS = {name: number for number, name in HASHES.items()}

_DIGEST_SHA1, _SIGNATURE, _DIGEST_NG = 0x01, 0x03, 0x04
_OTHERS = {0x02: "an HMAC of EVM", 0x05: "a portable signature of EVM", 0x06: "a signature of fs-verity"}
#: Type, version, algorithm, key, size of the signature; the last two big-endian.
_SIGNATURE_HEADER = struct.Struct(">BBBIH")
_ATTRIBUTE = "security.ima"
_LARGEST = 65536

_SOURCE = "Linux, security/integrity/ima/ima_appraise.c (ima_appraise_measurement)"

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class AppraisalError(Exception):
    """A reference or a key is not in a form that is understood; the message says what it is."""


@dataclass(frozen=True, slots=True)
class DigestReference:
    """A file's digest, as its owner had it stored.

    Attributes:
        algorithm: as hashlib names it.
        digest: of the whole file.
    """

    algorithm: str
    digest: bytes

    def packed(self) -> bytes:
        """The attribute's value."""
        return bytes([_DIGEST_NG, _NUMBERS[self.algorithm]]) + self.digest


@dataclass(frozen=True, slots=True)
class SignatureReference:
    """A signature over a file's digest, of version 2.

    Attributes:
        algorithm: of the digest, as hashlib names it.
        key: the last four bytes of the SHA-1 of the public key, as a number.
        signature: PKCS#1 v1.5 for RSA, DER for ECDSA.
    """

    algorithm: str
    key: int
    signature: bytes

    def packed(self) -> bytes:
        """The attribute's value."""
        header = (_SIGNATURE, 2, _NUMBERS[self.algorithm], self.key, len(self.signature))
        return _SIGNATURE_HEADER.pack(*header) + self.signature


Reference = DigestReference | SignatureReference


def parse_reference(value: bytes) -> Reference:
    """What the attribute, or the signature file, holds.

    Raises:
        AppraisalError: it is empty, cut off, too long, or of a kind or algorithm that is not supported.
    """
    if not value:
        raise AppraisalError("an empty reference")
    kind = value[0]
    if kind == _DIGEST_SHA1:
        return _digest("sha1", value[1:])
    if kind == _DIGEST_NG:
        return _digest(_algorithm(value[1:2]), value[2:])
    if kind != _SIGNATURE:
        raise AppraisalError(f"a reference of type {kind:#x}: {_OTHERS.get(kind, 'unknown')}; not supported")
    if len(value) < _SIGNATURE_HEADER.size:
        raise AppraisalError(f"a signature of {len(value)} bytes, less than its header has")
    _, version, number, key, size = _SIGNATURE_HEADER.unpack_from(value)
    if version != 2:
        raise AppraisalError(f"a signature of version {version}; version 2 is supported")
    signature = value[_SIGNATURE_HEADER.size :]
    if len(signature) != size or not size:
        raise AppraisalError(f"a signature of {len(signature)} bytes that claims to have {size}")
    return SignatureReference(_algorithm(bytes([number])), key, signature)


def _algorithm(number: bytes) -> str:
    if not number or number[0] not in HASHES:
        raise AppraisalError(f"hash algorithm {number.hex() or 'missing'}; there are {', '.join(_NUMBERS)}")
    return HASHES[number[0]]


def _digest(algorithm: str, digest: bytes) -> DigestReference:
    expected = hashlib.new(algorithm).digest_size
    if len(digest) != expected:
        raise AppraisalError(f"a {algorithm} digest of {len(digest)} bytes, not {expected}")
    return DigestReference(algorithm, digest)


def read_reference(
    path: Path,
    fd: int | None = None,
    *,
    get: Callable[[int | Path, str], bytes] = os.getxattr,
) -> bytes | None:
    """A file's reference: its attribute, else a file beside it that is called like it with ``.sig`` at the end.

    Args:
        path: of the file.
        fd: the file, open; without it the path is looked up again.
        get: reads an extended attribute.

    Returns: the bytes, unread; None if there is none.

    Raises:
        AppraisalError: there is one that cannot be read.
    """
    try:
        return get(path if fd is None else fd, _ATTRIBUTE)
    except OSError:
        # No such attribute, a filesystem without any, or one that is not ours to read.
        pass
    beside = path.with_name(path.name + ".sig")
    try:
        with beside.open("rb") as file:
            return file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise AppraisalError(f"{beside}: cannot be read: {error.strerror}") from None


# ---- keys -----------------------------------------------------------------------------------------------------------


def key_id(key: PublicKey) -> int:
    """The number by which a signature names its key."""
    if isinstance(key, rsa.RSAPublicKey):
        raw = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    else:
        raw = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return int.from_bytes(hashlib.sha1(raw, usedforsecurity=False).digest()[-4:])


@dataclass
class Keyring:
    """The public keys that may sign, as the kernel's keyring ``.ima``.

    Two keys can have one number; each is tried.
    """

    _keys: dict[int, list[PublicKey]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))

    def add(self, key: PublicKey, number: int | None = None) -> None:
        """Trust a key.

        Args:
            key: RSA or ECDSA.
            number: what its signatures call it; by default computed from the key.
        """
        self._keys.setdefault(key_id(key) if number is None else number, []).append(key)

    def add_file(self, path: Path) -> None:
        """Trust the key, or the certificate, in a file: PEM or DER.

        A certificate's subject key identifier names it too, as in the kernel.

        Raises:
            AppraisalError: the file cannot be read or holds neither.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise AppraisalError(f"{path}: the key cannot be read: {error.strerror}") from None
        pem = data.lstrip().startswith(b"-----BEGIN")
        try:
            certificate = (
                x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
            )
        except ValueError:
            self.add(_public(path, data, pem))
            return
        key = certificate.public_key()
        if not isinstance(key, PublicKey):
            raise AppraisalError(f"{path}: the certificate's key is neither RSA nor ECDSA")
        numbers = {key_id(key)}
        try:
            named = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
            numbers.add(int.from_bytes(named.value.digest[-4:]))
        except (x509.ExtensionNotFound, ValueError):
            pass
        for number in numbers:
            self.add(key, number)

    def named(self, number: int) -> Iterable[PublicKey]:
        """The keys that a signature can mean."""
        return tuple(self._keys.get(number, ()))


def _public(path: Path, data: bytes, pem: bool) -> PublicKey:
    load = serialization.load_pem_public_key if pem else serialization.load_der_public_key
    try:
        key = load(data)
    except (ValueError, UnsupportedAlgorithm):
        raise AppraisalError(f"{path}: is neither a public key nor a certificate, PEM or DER") from None
    if not isinstance(key, PublicKey):
        raise AppraisalError(f"{path}: the key is neither RSA nor ECDSA")
    return key


# ---- the check ------------------------------------------------------------------------------------------------------

_CRYPTOGRAPHY: dict[str, type[hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
    "sha3_256": hashes.SHA3_256,
    "sha3_384": hashes.SHA3_384,
    "sha3_512": hashes.SHA3_512,
}


def sign_digest(key: PrivateKey, algorithm: str, digest: bytes) -> SignatureReference:
    """A signature over a file's digest, as ``evmctl ima_sign`` makes it.

    Args:
        key: RSA or ECDSA.
        algorithm: of the digest, as hashlib names it.
        digest: of the whole file.
    """
    prehashed = Prehashed(_CRYPTOGRAPHY[algorithm]())
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(digest, padding.PKCS1v15(), prehashed)
    else:
        signature = key.sign(digest, ec.ECDSA(prehashed))
    return SignatureReference(algorithm, key_id(key.public_key()), signature)


def _signed_by(key: PublicKey, reference: SignatureReference, digest: bytes) -> bool:
    prehashed = Prehashed(_CRYPTOGRAPHY[reference.algorithm]())
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(reference.signature, digest, padding.PKCS1v15(), prehashed)
        else:
            key.verify(reference.signature, digest, ec.ECDSA(prehashed))
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def appraise(
    name: str,
    value: bytes | None,
    digest_of: Callable[[str], bytes],
    keys: Keyring,
    *,
    signature: bool = True,
    algorithms: Iterable[str] = ("sha256", "sha384", "sha512"),
) -> Reason | None:
    """Whether a file is what its reference says.

    Args:
        name: of the file, for messages.
        value: its reference, see :func:`read_reference`; None if it has none.
        digest_of: the whole file's digest by an algorithm. Asked only for the reference's own.
        keys: who may sign.
        signature: a digest will not do.
        algorithms: those that are accepted.

    Returns: None: it is. Else why not.
    """
    wanted = "a signature by a known key" if signature else "a signature by a known key, or a digest"

    def refused(rule: str, expected: str, found: str, remedy: str = "") -> Reason:
        return Reason("appraisal", rule, expected, f"{found} ({name})", _SOURCE, remedy)

    rule = "the file has a reference in security.ima or in NAME.sig"
    if value is None:
        return refused(rule, wanted, "none", "sign it: evmctl ima_sign --sigfile --key KEY FILE")
    try:
        reference = parse_reference(value)
    except AppraisalError as error:
        return refused(rule, wanted, str(error))
    if signature and isinstance(reference, DigestReference):
        return refused("the reference is a signature", wanted, f"a {reference.algorithm} digest")
    accepted = tuple(algorithms)
    if reference.algorithm not in accepted:
        return refused("the hash algorithm is accepted", ", ".join(accepted), reference.algorithm)
    if isinstance(reference, SignatureReference):
        candidates = keys.named(reference.key)
        if not candidates:
            return refused(
                "the signing key is in the keyring", f"key {reference.key:08x}", f"{len(keys)} others"
            )
        digest = digest_of(reference.algorithm)
        if not any(_signed_by(key, reference, digest) for key in candidates):
            found = f"{reference.algorithm}:{digest.hex()}"
            return refused(
                f"the signature by key {reference.key:08x} is over this file", "this digest", found
            )
        return None
    digest = digest_of(reference.algorithm)
    if digest != reference.digest:
        return refused("the file has the digest that is stored", reference.digest.hex(), digest.hex())
    return None
