"""Platform configuration registers: emulated ones, and those of a TPM.

A register can only be extended: the new value is the hash of the old one and a digest. One register has a value in
each bank, and a bank is a hash algorithm. Emulated banks live as long as the process, as IMA's do without a TPM.

A TPM is spoken to directly, since three commands of fixed form are all that is needed: no library, no program of
tpm2-tools, and no process started for each measurement. It may be swtpm's socket or a device of the kernel.

Source: Trusted Platform Module Library (TCG), Part 3: TPM2_PCR_Extend, TPM2_PCR_Read, TPM2_GetCapability;
Part 2: TPML_DIGEST_VALUES, TPML_PCR_SELECTION; PC Client Platform TPM Profile, "PCR initial and reset values".
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["ALGORITHMS", "COUNT", "PcrError", "PcrSink", "SoftwarePcrs", "Tpm", "open_pcrs"]

#: The banks known here, and their numbers in a TPM.
ALGORITHMS: dict[str, int] = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}

#: Registers in a bank.
COUNT = 24

#: Registers that are all ones at start: those of a dynamic launch.
_DYNAMIC = range(17, 23)

_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_PCR_READ, _PCR_EXTEND, _GET_CAPABILITY = 0x17E, 0x182, 0x17A
_CAP_PCRS = 5
_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
_HEADER = struct.Struct(">HII")
_SECONDS = 30.0
_LARGEST = 4096


class PcrError(Exception):
    """A register cannot be read or extended; the message says where and why."""


class PcrSink(Protocol):
    """Registers that measurements are extended into."""

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The banks, like ``"sha256"``."""
        ...

    def extend(self, pcr: int, digests: Mapping[str, bytes]) -> None:
        """Extend one register in all banks.

        Args:
            pcr: its number.
            digests: for each bank, by the bank's own algorithm.

        Raises:
            PcrError: it was not extended.
        """
        ...

    def read(self, algorithm: str, pcr: int) -> bytes:
        """The value of a register in one bank.

        Raises:
            PcrError: there is no such bank or register, or the TPM does not answer.
        """
        ...


def _checked(pcr: int, digests: Mapping[str, bytes], algorithms: Sequence[str]) -> None:
    if not 0 <= pcr < COUNT:
        raise PcrError(f"PCR {pcr}: there are 0 to {COUNT - 1}")
    for algorithm in algorithms:
        expected = hashlib.new(algorithm).digest_size
        found = len(digests.get(algorithm, b""))
        if found != expected:
            raise PcrError(f"PCR {pcr}: its {algorithm} bank takes {expected} bytes, and was given {found}")


class SoftwarePcrs:
    """Emulated registers.

    Args:
        algorithms: the banks.
    """

    def __init__(self, algorithms: Sequence[str] = tuple(ALGORITHMS)) -> None:
        unknown = [name for name in algorithms if name not in ALGORITHMS]
        if unknown or not algorithms:
            raise PcrError(f"PCR banks: {', '.join(unknown) or 'none'}; there are {', '.join(ALGORITHMS)}")
        self._banks = {
            name: [
                (b"\xff" if pcr in _DYNAMIC else b"\0") * hashlib.new(name).digest_size
                for pcr in range(COUNT)
            ]
            for name in algorithms
        }

    @property
    def algorithms(self) -> tuple[str, ...]:
        return tuple(self._banks)

    def extend(self, pcr: int, digests: Mapping[str, bytes]) -> None:
        # All of them are looked at before the first is changed.
        _checked(pcr, digests, self.algorithms)
        for name, bank in self._banks.items():
            bank[pcr] = hashlib.new(name, bank[pcr] + digests[name]).digest()

    def read(self, algorithm: str, pcr: int) -> bytes:
        if algorithm not in self._banks or not 0 <= pcr < COUNT:
            raise PcrError(f"PCR {pcr}: no such register in a bank {algorithm}")
        return self._banks[algorithm][pcr]

    def text(self, algorithm: str) -> str:
        """One bank, in the lines of the kernel's TPM 1.2 ``pcrs`` file; ``evmctl --pcrs`` reads it."""
        bank = self._banks[algorithm]
        return "".join(f"PCR-{pcr:02}: {value.hex(' ').upper()} \n" for pcr, value in enumerate(bank))


class _Socket:
    """One connection to swtpm's command port."""

    def __init__(self, family: socket.AddressFamily, address: str | tuple[str, int]) -> None:
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(_SECONDS)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def ask(self, command: bytes) -> bytes:
        self._socket.sendall(command)
        answer = self._socket.recv(_LARGEST)
        while answer and (len(answer) < 6 or len(answer) < int.from_bytes(answer[2:6])):
            more = self._socket.recv(_LARGEST)
            if not more:
                break
            answer += more
        return answer

    def close(self) -> None:
        self._socket.close()


class _Device:
    """A character device: one write is one command, one read its answer."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def ask(self, command: bytes) -> bytes:
        os.write(self._fd, command)
        return os.read(self._fd, _LARGEST)

    def close(self) -> None:
        os.close(self._fd)


def _connect(tcti: str) -> _Socket | _Device:
    """Open what a TCTI configuration string names.

    Source: tpm2-tss, Tss2_TctiLdr_Initialize and the configuration strings of its tcti-swtpm and tcti-device.
    """
    name, _, rest = tcti.partition(":")
    if name == "device":
        return _Device(rest or "/dev/tpmrm0")
    if name == "swtpm":
        options = dict(part.partition("=")[::2] for part in rest.split(",") if part)
        if set(options) == {"path"}:
            return _Socket(socket.AF_UNIX, options["path"])
        if set(options) <= {"host", "port"} and options.get("port", "2321").isdecimal():
            return _Socket(
                socket.AF_INET, (options.get("host", "localhost"), int(options.get("port", "2321")))
            )
    raise PcrError(f"{tcti}: expected swtpm:host=HOST,port=PORT, swtpm:path=SOCKET or device:/dev/tpmrm0")


class Tpm:
    """The registers of a TPM 2.0.

    It is not started up here: a TPM of the kernel is, and swtpm does it with ``--flags startup-clear``.

    One that has not answered in time, or not sensibly, is not asked again: an answer that comes late would be taken for
    that to the next command, and a TPM that was restarted has lost what was extended.

    Args:
        tcti: as tpm2-tools takes it: ``swtpm:host=HOST,port=PORT``, ``swtpm:path=SOCKET``, ``device:/dev/tpmrm0``.

    Raises:
        PcrError: there is no TPM, or it does not answer.
    """

    def __init__(self, tcti: str) -> None:
        self._name = tcti
        self._lost = ""
        try:
            self._channel = _connect(tcti)
        except OSError as error:
            raise PcrError(f"{tcti}: the TPM cannot be reached: {error.strerror or error}") from None
        try:
            self._algorithms = self._active_banks()
        except PcrError:
            self.close()
            raise

    @property
    def algorithms(self) -> tuple[str, ...]:
        return self._algorithms

    def close(self) -> None:
        """Leave the TPM; its registers stay."""
        self._channel.close()

    def extend(self, pcr: int, digests: Mapping[str, bytes]) -> None:
        _checked(pcr, digests, self.algorithms)
        values = b"".join(struct.pack(">H", ALGORITHMS[name]) + digests[name] for name in self.algorithms)
        self._command(
            _SESSIONS,
            _PCR_EXTEND,
            struct.pack(">I", pcr) + _PASSWORD + struct.pack(">I", len(self.algorithms)) + values,
        )

    def read(self, algorithm: str, pcr: int) -> bytes:
        if algorithm not in self.algorithms or not 0 <= pcr < COUNT:
            raise PcrError(f"{self._name}: no PCR {pcr} in a bank {algorithm}")
        selected = struct.pack(">IHB3s", 1, ALGORITHMS[algorithm], 3, (1 << pcr).to_bytes(3, "little"))
        body = self._command(_NO_SESSIONS, _PCR_READ, selected)
        size = hashlib.new(algorithm).digest_size
        # pcrUpdateCounter, the selection echoed, a count of one, and the digest with its size.
        if len(body) != 4 + len(selected) + 4 + 2 + size:
            raise PcrError(
                f"{self._name}: PCR {pcr} in a bank {algorithm} cannot be read: it is not allocated"
            )
        return body[-size:]

    def _active_banks(self) -> tuple[str, ...]:
        """Banks that have registers allocated."""
        body = self._command(_NO_SESSIONS, _GET_CAPABILITY, struct.pack(">III", _CAP_PCRS, 0, 1))
        numbers = {number: name for name, number in ALGORITHMS.items()}
        found = []
        try:
            (count,) = struct.unpack_from(">I", body, 5)
            at = 9
            for _ in range(count):
                number, size = struct.unpack_from(">HB", body, at)
                if any(body[at + 3 : at + 3 + size]) and number in numbers:
                    found.append(numbers[number])
                at += 3 + size
        except struct.error:
            raise PcrError(f"{self._name}: the TPM's list of PCR banks is cut off") from None
        if not found:
            raise PcrError(f"{self._name}: the TPM has none of the banks {', '.join(ALGORITHMS)}")
        return tuple(found)

    def _command(self, tag: int, code: int, body: bytes) -> bytes:
        """Send one command; what follows the header of its answer."""
        if self._lost:
            raise PcrError(f"{self._lost}; it is not asked again")
        try:
            answer = self._channel.ask(_HEADER.pack(tag, _HEADER.size + len(body), code) + body)
        except OSError as error:
            self._lost = f"{self._name}: the TPM does not answer: {error.strerror or error}"
            raise PcrError(self._lost) from None
        if len(answer) < _HEADER.size or int.from_bytes(answer[2:6]) != len(answer):
            self._lost = f"{self._name}: the TPM gave {len(answer)} bytes that are no answer"
            raise PcrError(self._lost)
        status = _HEADER.unpack_from(answer)[2]
        if status:
            hint = "; was it started up?" if status == 0x100 else ""
            raise PcrError(f"{self._name}: the TPM refused command {code:#x} with {status:#x}{hint}")
        return answer[_HEADER.size :]


def open_pcrs(tcti: str | None, algorithms: Sequence[str] = tuple(ALGORITHMS)) -> SoftwarePcrs | Tpm:
    """Registers of a TPM, or emulated ones.

    Args:
        tcti: the TPM's name; None emulates.
        algorithms: banks of the emulated ones; a TPM has its own.

    Raises:
        PcrError: the TPM cannot be reached, or a bank is unknown.
    """
    return SoftwarePcrs(algorithms) if tcti is None else Tpm(tcti)
