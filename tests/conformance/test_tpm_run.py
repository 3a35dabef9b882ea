"""``swsgx run --tpm``: what unmodified programs run in enclaves, in the registers of Debian's swtpm."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swsgx.lsm.measurement_list import parse_binary, replay
from swsgx.lsm.pcr import Tpm
from tests.conformance.swtpm import Swtpm
from tests.make import supervised
from tests.make.native_enclave import NEEDS_GCC
from tests.make.paging import Running
from tests.make.policies import Place, policed_place
from tests.make.sgx_program import Programs

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600), NEEDS_GCC]

RULES = """
measure func=ENCLAVE_LOAD mask=MAY_EXEC template=encl-load
measure func=ENCLAVE_INIT template=encl-init
measure func=ENCLAVE_AUG template=encl-aug
"""
FORMS = ["ima-buf", "own"]


@pytest.fixture
def swtpm() -> Iterator[Swtpm]:
    with tempfile.TemporaryDirectory(prefix="swtpm-") as folder:
        tpm = Swtpm(Path(folder))
        try:
            tpm.start()
            yield tpm
        finally:
            tpm.end()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    done = supervised.run(["true"])
    if done.returncode:
        pytest.skip(f"swsgx run does not work here: {done.stderr}")
    folder = tmp_path / "place"
    folder.mkdir()
    made = policed_place(Programs(tmp_path / "programs"), folder)
    made.write("measure.integrity", RULES)
    return made


def _options(place: Place, swtpm: Swtpm, form: str = "ima-buf", measured: bool = True) -> list[str]:
    listed = ["--measurements", str(place.folder / "list"), "--measurements-form", form] if measured else []
    policy = ["--policy", str(place.folder / "measure.integrity"), "--paranoid"]
    return [*policy, *listed, "--tpm", swtpm.tcti, "--audit", str(place.folder / "audit")]


def _run(place: Place, options: list[str]) -> None:
    """Two enclaves."""
    program = place.programs.build("measure_later.c")
    with Running([program], options, cwd=place.folder) as running:
        assert running.line() == "first"
        running.say("go on")
        status, said, told = running.end()
    assert (status, told) == (0, ""), said
    assert said.endswith("EXIT-SUCCESS\n"), said


def _banks(swtpm: Swtpm) -> tuple[str, ...]:
    tpm = Tpm(swtpm.tcti)
    tpm.close()
    return tpm.algorithms


def _registers(swtpm: Swtpm) -> dict[str, bytes]:
    return {algorithm: swtpm.pcr(algorithm) for algorithm in _banks(swtpm)}


def _replayed(place: Place, banks: tuple[str, ...]) -> dict[str, bytes]:
    pcrs = replay(parse_binary((place.folder / "list").read_bytes()))
    return {algorithm: pcrs.read(algorithm, 10) for algorithm in banks}


@pytest.mark.parametrize("form", FORMS)
def test_pcr_is_what_the_list_leads_to_after_each_run(form: str, place: Place, swtpm: Swtpm) -> None:
    banks = _banks(swtpm)
    assert "sha256" in banks
    assert not any(any(value) for value in _registers(swtpm).values())
    events = ["encl-load", "encl-init", "encl-aug", "encl-load", "encl-init"]
    found: list[dict[str, bytes]] = []
    for runs in (1, 2):
        _run(place, _options(place, swtpm, form))
        entries = parse_binary((place.folder / "list").read_bytes())
        assert [entry.event().template for entry in entries] == events * runs
        found.append(_registers(swtpm))
        assert found[-1] == _replayed(place, banks)
    assert found[0] != found[1]


def test_command_that_shows_a_list_shows_the_pcr_of_the_tpm(place: Place, swtpm: Swtpm) -> None:
    _run(place, _options(place, swtpm))
    done = place.swsgx("policy", "measurements", place.folder / "list", "--pcrs")
    assert swtpm.pcr("sha256").hex() in done.stdout.lower().replace(" ", "")


def test_tpm_is_extended_also_where_no_list_is_kept(place: Place, swtpm: Swtpm) -> None:
    found = []
    for _ in range(2):
        _run(place, _options(place, swtpm, measured=False))
        found.append(_registers(swtpm))
    assert found[0] != found[1]
    assert all(any(value) for values in found for value in values.values())


@pytest.mark.parametrize("gone", ["ends", "stops answering", "begins anew"])
def test_what_must_be_measured_is_refused_once_the_tpm_is_gone(gone: str, place: Place, swtpm: Swtpm) -> None:
    program = place.programs.build("measure_later.c")
    with Running([program, "refused"], _options(place, swtpm), cwd=place.folder) as running:
        assert running.line() == "first"
        if gone == "stops answering":
            swtpm.send(signal.SIGSTOP)
        else:
            swtpm.end(signal.SIGKILL)
        if gone == "begins anew":
            swtpm.start()
        running.say("go on")
        status, said, told = running.end(timeout=200)
    assert (status, told) == (0, ""), said
    assert said.endswith("EXIT-SUCCESS\n"), said
    audit = (place.folder / "audit").read_text(encoding="ascii").splitlines()
    assert sum("avc:  denied" in line for line in audit) == 6, audit
    assert sum("lsm=integrity" in line and 'reason="commit-failed"' in line for line in audit) == 6, audit
    assert all("res=deny" in line for line in audit if line.startswith("type=ENCLAVE")), audit
    # An entry more than was extended, and no more after it.
    listed = [entry.event().template for entry in parse_binary((place.folder / "list").read_bytes())]
    assert listed == ["encl-load", "encl-init", "encl-load"]
    if gone == "begins anew":
        assert not any(any(value) for value in _registers(swtpm).values())


def test_list_that_does_not_lead_to_the_tpm_starts_nothing(place: Place, swtpm: Swtpm) -> None:
    _run(place, _options(place, swtpm))
    before = _registers(swtpm)
    (place.folder / "list").rename(place.folder / "elsewhere")
    for _ in ("no list", "a list of another TPM"):
        done = place.swsgx("run", *_options(place, swtpm), "--", "/bin/touch", place.folder / "started")
        assert done.returncode == 2
        assert "the list does not lead to the TPM's PCR 10" in done.stderr
        assert _registers(swtpm) == before
        entries = (place.folder / "elsewhere").read_bytes()
        (place.folder / "list").write_bytes(entries + entries)
    assert not (place.folder / "started").exists()


@pytest.mark.parametrize("rules", ["", "dont_measure func=ENCLAVE_LOAD\n"])
def test_tpm_that_nothing_would_be_measured_into_starts_nothing(
    rules: str, place: Place, swtpm: Swtpm
) -> None:
    place.write("measure.integrity", rules)
    done = place.swsgx("run", *_options(place, swtpm), "--", "/bin/touch", place.folder / "started")
    assert done.returncode == 2
    assert "never be extended" in done.stderr or not rules
    assert not (place.folder / "started").exists()


def test_tpm_that_is_not_there_starts_nothing(place: Place, swtpm: Swtpm) -> None:
    swtpm.end()
    done = place.swsgx("run", *_options(place, swtpm), "--", "/bin/touch", place.folder / "started")
    assert done.returncode == 2
    assert "the TPM cannot be reached: " in done.stderr
    assert not (place.folder / "started").exists()


OPEN = """
import contextlib, os
for fd in range(3, 99):
    with contextlib.suppress(OSError):
        print(os.readlink(f"/proc/self/fd/{fd}"))
"""


def test_program_does_not_inherit_the_connection(place: Place, swtpm: Swtpm) -> None:
    done = place.swsgx("run", *_options(place, swtpm), "--", "python3", "-c", OPEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert "socket:" not in done.stdout
