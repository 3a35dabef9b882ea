"""Registers: emulated ones, and the commands that are sent to a TPM. A real one: tests/conformance/test_readers.py."""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.lsm.pcr import ALGORITHMS, COUNT, PcrError, SoftwarePcrs, Tpm, open_pcrs


def _digests(data: bytes) -> dict[str, bytes]:
    return {name: hashlib.new(name, data).digest() for name in ALGORITHMS}


def test_registers_start_at_zero_and_those_of_a_dynamic_launch_at_ones() -> None:
    pcrs = SoftwarePcrs()
    assert pcrs.read("sha256", 10) == bytes(32)
    assert pcrs.read("sha384", 17) == b"\xff" * 48
    assert pcrs.read("sha1", 23) == bytes(20)


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=5), st.integers(0, COUNT - 1))
def test_register_is_the_hash_of_its_old_value_and_the_digest(data: list[bytes], pcr: int) -> None:
    pcrs = SoftwarePcrs()
    for item in data:
        before = {name: pcrs.read(name, pcr) for name in ALGORITHMS}
        pcrs.extend(pcr, _digests(item))
        for name, old in before.items():
            new = hashlib.new(name, old + _digests(item)[name]).digest()
            assert pcrs.read(name, pcr) == new


def test_digest_of_another_length_changes_no_bank() -> None:
    pcrs = SoftwarePcrs()
    with pytest.raises(PcrError, match="PCR 10: its sha512 bank takes 64 bytes, and was given 32"):
        pcrs.extend(10, {**_digests(b"a"), "sha512": bytes(32)})
    assert pcrs.text("sha1") == SoftwarePcrs().text("sha1")


@pytest.mark.parametrize("pcr", [-1, 24])
def test_register_that_does_not_exist_is_refused(pcr: int) -> None:
    with pytest.raises(PcrError, match="there are 0 to 23"):
        SoftwarePcrs().extend(pcr, _digests(b"a"))
    with pytest.raises(PcrError, match="no such register"):
        SoftwarePcrs().read("sha1", pcr)


def test_bank_that_does_not_exist_is_refused() -> None:
    with pytest.raises(PcrError, match="PCR banks: md5; there are sha1, sha256, sha384, sha512"):
        SoftwarePcrs(["sha1", "md5"])


@pytest.mark.parametrize("tcti", ["", "mssim:", "swtpm:port=x", "swtpm:path=/a,port=1", "device"])
def test_tcti_that_is_not_spoken_names_those_that_are(tcti: str) -> None:
    with pytest.raises(PcrError, match=r"expected swtpm:host=HOST,port=PORT|cannot be reached"):
        Tpm(tcti)


def test_tpm_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PcrError, match="/tpm: the TPM cannot be reached: No such file or directory"):
        open_pcrs(f"device:{tmp_path}/tpm")
    with pytest.raises(PcrError, match="/socket: the TPM cannot be reached: No such file or directory"):
        open_pcrs(f"swtpm:path={tmp_path}/socket")


# ---- a TPM that answers as it is told -------------------------------------------------------------------------------

_BANKS = struct.pack(">BI I", 0, 5, 2) + struct.pack(">HB3s", 0x0B, 3, b"\xff\xff\xff")
_BANKS += struct.pack(">HB3s", 0x04, 3, b"\0\0\0")


def _answer(body: bytes, status: int = 0) -> bytes:
    return struct.pack(">HII", 0x8001, 10 + len(body), status) + body


class _Scripted:
    """A socket that records commands and gives prepared answers, in two pieces each."""

    def __init__(self, path: Path, answers: list[bytes]) -> None:
        self.commands: list[bytes] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            for answer in self._answers:
                self.commands.append(connection.recv(4096))
                connection.sendall(answer[:7])
                connection.sendall(answer[7:])

    def stop(self) -> None:
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def where(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_banks_without_registers_are_left_out_and_extend_has_the_libraries_form(where: Path) -> None:
    served = _Scripted(where, [_answer(_BANKS), _answer(b"")])
    tpm = Tpm(f"swtpm:path={where}")
    tpm.extend(10, {"sha256": bytes(range(32))})
    tpm.close()
    served.stop()
    assert tpm.algorithms == ("sha256",)
    # Tag with sessions, size, TPM_CC_PCR_Extend, the register, a password session without a password, one digest.
    expected = "8002 00000041 00000182 0000000a 00000009 40000009 0000 00 0000 00000001 000b"
    assert served.commands[1] == bytes.fromhex(expected.replace(" ", "")) + bytes(range(32))


def test_refusal_of_the_tpm_is_told_with_its_code(where: Path) -> None:
    served = _Scripted(where, [_answer(b"", 0x100)])
    with pytest.raises(PcrError, match="refused command 0x17a with 0x100; was it started up"):
        Tpm(f"swtpm:path={where}")
    served.stop()


@pytest.mark.parametrize("answer", [b"", b"\x80\x01", _answer(_BANKS)[:-2], _answer(_BANKS[:-4])])
def test_answer_that_is_none_is_an_error_of_one_sentence(where: Path, answer: bytes) -> None:
    served = _Scripted(where, [answer])
    with pytest.raises(PcrError, match=r"bytes that are no answer|is cut off"):
        Tpm(f"swtpm:path={where}")
    served.stop()


@pytest.mark.parametrize("answer", [b"", b"\x80\x01", _answer(b"")[:-2]])
def test_tpm_that_has_not_answered_is_not_asked_again(where: Path, answer: bytes) -> None:
    served = _Scripted(where, [_answer(_BANKS), answer])
    tpm = Tpm(f"swtpm:path={where}")
    digests = {"sha256": bytes(32)}
    with pytest.raises(PcrError, match="bytes that are no answer"):
        tpm.extend(10, digests)
    served.stop()
    for again in (lambda: tpm.extend(10, digests), lambda: tpm.read("sha256", 10)):
        with pytest.raises(PcrError, match="it is not asked again"):
            again()
    tpm.close()
    assert len(served.commands) == 2


def test_tpm_that_refuses_a_command_is_asked_the_next(where: Path) -> None:
    served = _Scripted(where, [_answer(_BANKS), _answer(b"", 0x922), _answer(b"")])
    tpm = Tpm(f"swtpm:path={where}")
    with pytest.raises(PcrError, match="refused command 0x182 with 0x922"):
        tpm.extend(10, {"sha256": bytes(32)})
    tpm.extend(10, {"sha256": bytes(32)})
    tpm.close()
    served.stop()
