"""The measurement list: its two layouts, what is extended, and that a list can be replayed (I5)."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swsgx.lsm.measurement import (
    TEMPLATES,
    Digest,
    Entry,
    Event,
    FieldType,
    FieldValue,
    Form,
    MeasurementError,
    encl_aug,
    encl_init,
    encl_load,
    file_entry,
)
from swsgx.lsm.measurement_list import (
    bank_digests,
    format_ascii,
    format_binary,
    parse_ascii,
    parse_binary,
    replay,
)
from swsgx.lsm.measurement_log import MeasurementLog, UnfiledLog
from swsgx.lsm.pcr import ALGORITHMS, PcrError, SoftwarePcrs

FILE = Digest("sha256", hashlib.sha256(b"a file").digest())
LOAD = encl_load(
    digest=FILE,
    path="/opt/acme/app.so",
    enclave=3,
    file_offset=0x2000,
    offset=0x4000,
    length=0x1000,
    ceiling=5,
    measured=True,
    copied=Digest("sha256", hashlib.sha256(b"a page").digest()),
)
INIT = encl_init(
    digest=FILE,
    path="",
    enclave=3,
    mrenclave=bytes(range(32)),
    mrsigner=bytes(32),
    attributes=bytes(16),
    prodid=7,
    svn=3,
    grants=["execdirty", "execanon"],
)
AUG = encl_aug(enclave=3, offset=0, length=4096, mrenclave=bytes(range(32)), mrsigner=bytes(32))


def test_binary_entry_has_the_kernels_layout() -> None:
    """PCR, template hash, name with its length, data with their length; nothing between them."""
    data = struct.pack("<I", 40) + b"sha256:\0" + FILE.value + struct.pack("<I", 5) + b"/a/b\0"
    data += struct.pack("<I", 0)
    wanted = struct.pack("<I", 10) + hashlib.sha1(data).digest() + struct.pack("<I", 7) + b"ima-sig"
    assert format_binary([file_entry(FILE, "/a/b")]) == wanted + struct.pack("<I", len(data)) + data


def test_ascii_entry_has_the_kernels_layout() -> None:
    entry = file_entry(FILE, "/a/b", b"\x03\x02")
    assert format_ascii([entry]) == (
        f"10 {entry.template_hash.hex()} ima-sig sha256:{FILE.value.hex()} /a/b 0302\n"
    )


def test_ascii_line_of_our_template_shows_each_field() -> None:
    entry = LOAD.entry(Form.OWN)
    digest = f"sha256:{FILE.value.hex()}"
    copied = f"sha256:{hashlib.sha256(b'a page').hexdigest()}"
    assert format_ascii([entry]) == (
        f"10 {entry.template_hash.hex()} encl-load {digest} /opt/acme/app.so 3 8192 16384 4096 5 1 {copied}\n"
    )


@pytest.mark.parametrize("event", [LOAD, INIT, AUG], ids=lambda event: event.template)
def test_buffer_form_holds_our_template_whole(event: Event) -> None:
    entry = event.entry()
    assert entry.template == "ima-buf"
    assert format_ascii([entry]).split(" ")[4] == f"{event.template}:{event.path}"
    assert entry.event() == event
    assert event.entry(Form.OWN).event() == event


def test_source_without_a_file_is_called_anon() -> None:
    assert INIT.path == "anon:"
    assert "encl-init:anon:" in format_ascii([INIT.entry()])


def test_grants_are_in_one_order_whatever_order_they_came_in() -> None:
    assert INIT.fields["grants"] == "execanon,execdirty"


def test_name_with_spaces_and_line_ends_cannot_add_an_entry() -> None:
    text = format_ascii([file_entry(FILE, "/a b\n10 00 ima-ng\udcff")])
    assert text.count("\n") == 1
    assert " /a_b_10_00_ima-ng_ " in text


def test_each_bank_gets_its_own_hash_of_the_data() -> None:
    entry = LOAD.entry()
    assert bank_digests(entry, ALGORITHMS) == {
        name: hashlib.new(name, entry.data).digest() for name in ALGORITHMS
    }


def test_violation_has_a_zero_hash_and_extends_all_ones() -> None:
    entry = LOAD.entry(violation=True)
    assert entry.template_hash == bytes(20)
    assert bank_digests(entry, ["sha1", "sha384"]) == {"sha1": b"\xff" * 20, "sha384": b"\xff" * 48}


def test_list_without_its_violation_leads_elsewhere() -> None:
    whole = [LOAD.entry(), LOAD.entry(violation=True), INIT.entry()]
    assert replay(whole).read("sha256", 10) != replay([whole[0], whole[2]]).read("sha256", 10)


def test_entry_with_another_hash_than_its_data_is_refused() -> None:
    entry = LOAD.entry()
    forged = Entry(entry.pcr, bytes(range(20)), entry.template, entry.data)
    with pytest.raises(MeasurementError, match="template hash is not that of the data"):
        forged.event()


def test_buffer_under_another_name_or_digest_is_refused() -> None:
    data = LOAD.entry(Form.OWN).data
    for digest, path, problem in (
        (hashlib.sha256(data).digest(), "encl-load:/other", "name outside"),
        (bytes(32), "encl-load:/opt/acme/app.so", "digest is not"),
    ):
        fields: Mapping[str, FieldValue] = {"digest": Digest("sha256", digest), "path": path, "buffer": data}
        with pytest.raises(MeasurementError, match=problem):
            Event("ima-buf", fields).entry(Form.OWN).event()


def test_template_of_others_is_read_from_a_binary_list_and_replayed() -> None:
    foreign = Entry.of("ima-modsig", b"whatever", 10)
    assert parse_binary(format_binary([foreign])) == [foreign]
    assert replay([foreign]).read("sha256", 10) != bytes(32)
    with pytest.raises(MeasurementError, match="no template 'ima-modsig'"):
        foreign.event()


def test_number_that_does_not_fit_is_refused() -> None:
    event = Event(LOAD.template, {**LOAD.fields, "offset": 1 << 64})
    with pytest.raises(MeasurementError, match="is no value of a field u64"):
        event.entry()


@pytest.mark.parametrize(
    "line",
    [
        "10 00 ima-ng sha256:00 /a",
        f"10 {'00' * 20} ima-ng sha256:0g /a",
        f"10 {'00' * 20} ima-ng sha256:00",
        f"1_0 {'00' * 20} ima-ng sha256:00 /a",
        f"10 {'00' * 20} ima-new sha256:00 /a",
        f"10 {'00' * 20} ima-ng sha256:00 /a b",
        f"10 {'00' * 20} ima-ng sha256:FF /a",
    ],
)
def test_ascii_line_that_is_none_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(MeasurementError, match=r"^log:2: "):
        parse_ascii(f"{format_ascii([LOAD.entry()])}{line}\n", "log")


def test_binary_list_that_is_cut_anywhere_is_refused() -> None:
    whole = format_binary([file_entry(FILE, "/a")])
    for size in range(1, len(whole)):
        with pytest.raises(MeasurementError, match=r"^log: entry 1: .* is cut off at byte"):
            parse_binary(whole[:size], "log")


# ---- any list -------------------------------------------------------------------------------------------------------

_FIELDS = {
    FieldType.DIGEST: st.builds(Digest, st.sampled_from(["sha1", "sha256"]), st.binary(max_size=32)),
    FieldType.NAME: st.text(st.characters(codec="utf-8"), max_size=12),
    FieldType.NUMBER: st.integers(0, 2**64 - 1),
    FieldType.BYTES: st.binary(max_size=40),
}
events = st.sampled_from(sorted(TEMPLATES)).flatmap(
    lambda template: st.builds(
        Event,
        st.just(template),
        st.fixed_dictionaries({name: _FIELDS[kind] for name, kind in TEMPLATES[template]}),
    )
)
entries = st.builds(
    lambda event, form, pcr, violation: event.entry(form, pcr, violation=violation),
    events,
    st.sampled_from(Form),
    st.integers(0, 23),
    st.booleans(),
)


@given(st.lists(entries, max_size=4))
def test_both_layouts_are_read_back(written: list[Entry]) -> None:
    assert parse_binary(format_binary(written)) == written
    assert parse_ascii(format_ascii(written)) == written


@given(st.lists(entries, max_size=6))
def test_replaying_the_list_gives_the_registers(written: list[Entry]) -> None:
    pcrs = SoftwarePcrs()
    for entry in written:
        pcrs.extend(entry.pcr, bank_digests(entry, pcrs.algorithms))
    for algorithm in ALGORITHMS:
        assert replay(parse_binary(format_binary(written))).text(algorithm) == pcrs.text(algorithm)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_or_a_clear_error(data: bytes) -> None:
    with contextlib.suppress(MeasurementError):
        assert format_binary(parse_binary(data)) == data


# ---- the list while things run --------------------------------------------------------------------------------------


class _Failing(SoftwarePcrs):
    """Registers that notice what stands in the file when they are extended, and fail when told to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.fails = False
        self.seen: list[int] = []

    def extend(self, pcr: int, digests: Mapping[str, bytes]) -> None:
        self.seen.append(len(parse_binary(self.path.read_bytes())))
        if self.fails:
            raise PcrError("the TPM is gone")
        super().extend(pcr, digests)


def test_entry_stands_in_the_list_before_it_is_extended(tmp_path: Path) -> None:
    pcrs = _Failing(tmp_path / "list")
    with MeasurementLog(tmp_path / "list", pcrs) as log:
        log.add(LOAD.entry())
        log.add(INIT.entry())
    assert pcrs.seen == [1, 2]
    assert replay(parse_binary((tmp_path / "list").read_bytes())).text("sha256") == pcrs.text("sha256")


def test_nothing_is_added_after_an_entry_that_was_not_extended(tmp_path: Path) -> None:
    pcrs = _Failing(tmp_path / "list")
    with MeasurementLog(tmp_path / "list", pcrs) as log:
        pcrs.fails = True
        with pytest.raises(PcrError, match="the TPM is gone"):
            log.add(LOAD.entry())
        pcrs.fails = False
        with pytest.raises(
            MeasurementError, match="nothing is added after a failure: entry 1 was not extended"
        ):
            log.add(INIT.entry())
    assert len(parse_binary((tmp_path / "list").read_bytes())) == 1


def test_nothing_is_measured_without_a_file_after_an_entry_that_was_not_extended(tmp_path: Path) -> None:
    (tmp_path / "list").touch()
    pcrs = _Failing(tmp_path / "list")
    log = UnfiledLog(pcrs)
    log.add(LOAD.entry())
    pcrs.fails = True
    with pytest.raises(PcrError, match="the TPM is gone"):
        log.add(LOAD.entry())
    pcrs.fails = False
    with pytest.raises(MeasurementError, match="nothing is measured after entry 2, which was not extended"):
        log.add(INIT.entry())
    assert len(log.entries) == 2
    assert pcrs.text("sha256") == replay([LOAD.entry()]).text("sha256")


class _Hardware:
    """Registers that keep their values from run to run, and that others extend too."""

    algorithms = ("sha1", "sha256")

    def __init__(self) -> None:
        self.pcrs = SoftwarePcrs(self.algorithms)
        self.reads = 0

    def extend(self, pcr: int, digests: Mapping[str, bytes]) -> None:
        self.pcrs.extend(pcr, digests)

    def read(self, algorithm: str, pcr: int) -> bytes:
        self.reads += 1
        return self.pcrs.read(algorithm, pcr)

    def extended_by_others(self, pcr: int) -> None:
        self.extend(pcr, {name: hashlib.new(name, b"others").digest() for name in self.algorithms})


def test_register_that_others_have_extended_is_not_extended(tmp_path: Path) -> None:
    pcrs = _Hardware()
    pcrs.extended_by_others(10)
    with MeasurementLog(tmp_path / "list", pcrs) as log:
        with pytest.raises(MeasurementError, match=r"does not lead to the TPM's PCR 10 .*another with pcr="):
            log.check({10})
        with pytest.raises(MeasurementError, match=r"does not lead to the TPM's PCR 10"):
            log.add(LOAD.entry())
        before = pcrs.pcrs.text("sha256")
        assert (tmp_path / "list").read_bytes() == b""
        assert pcrs.pcrs.text("sha256") == before
        # Another one is where a list begins.
        log.check({11})
        assert log.add(LOAD.entry(pcr=11)) == 1


def test_register_is_compared_with_the_list_once(tmp_path: Path) -> None:
    pcrs = _Hardware()
    with MeasurementLog(tmp_path / "list", pcrs) as log:
        for _ in range(3):
            log.add(LOAD.entry())
        assert pcrs.reads == len(pcrs.algorithms)
    with MeasurementLog(tmp_path / "list", pcrs) as log:
        log.check({10})
        assert pcrs.reads == 2 * len(pcrs.algorithms)
        log.add(LOAD.entry())
    pcrs.extended_by_others(10)
    with pytest.raises(MeasurementError, match="does not lead to"):
        MeasurementLog(tmp_path / "list", pcrs)


def test_write_that_fails_is_one_sentence_and_extends_nothing(tmp_path: Path) -> None:
    pcrs = SoftwarePcrs()
    with MeasurementLog(tmp_path / "list", pcrs) as log:
        os.close(log._fd)
        log._fd = -1
        with pytest.raises(MeasurementError, match="/list: entry 1 is not written: Bad file descriptor"):
            log.add(LOAD.entry())
    assert pcrs.text("sha1") == SoftwarePcrs().text("sha1")


def test_next_run_goes_on_where_the_list_ends(tmp_path: Path) -> None:
    with MeasurementLog(tmp_path / "list", SoftwarePcrs()) as log:
        log.add(LOAD.entry())
    pcrs = SoftwarePcrs()
    with MeasurementLog(tmp_path / "list", pcrs) as log:
        log.add(INIT.entry())
        assert log.entries == [LOAD.entry(), INIT.entry()]
    assert pcrs.text("sha512") == replay([LOAD.entry(), INIT.entry()]).text("sha512")


def test_two_processes_do_not_write_one_list(tmp_path: Path) -> None:
    with (
        MeasurementLog(tmp_path / "list", SoftwarePcrs()),
        pytest.raises(MeasurementError, match="another process is writing this measurement list"),
    ):
        MeasurementLog(tmp_path / "list", SoftwarePcrs())


def test_list_that_is_damaged_or_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"abc")
    with pytest.raises(MeasurementError, match="/list: entry 1: the PCR's number is cut off at byte 0"):
        MeasurementLog(tmp_path / "list", SoftwarePcrs())
    with pytest.raises(MeasurementError, match="cannot be opened: No such file or directory"):
        MeasurementLog(tmp_path / "missing" / "list", SoftwarePcrs())
