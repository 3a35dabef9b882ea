"""From a real program's permissive run to the policy that it then runs under: ``swsgx policy learn`` on real logs."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from swsgx.isa.sigstruct import Sigstruct
from swsgx.lsm.audit import Decision
from swsgx.lsm.audit_reader import read_events
from tests.make.native_enclave import NEEDS_GCC
from tests.make.policies import Place
from tests.make.sgx_program import ended_well

pytestmark = NEEDS_GCC

#: Policies that allow nothing.
TEXTS = {
    "te": "policy_module(base, 1.0)\n",
    "identity": "policy_name=base policy_version=1.0.0\nDEFAULT op=ENCLAVE_INIT action=DENY\n",
    "integrity": "appraise func=ENCLAVE_LOAD mask=MAY_EXEC\nappraise func=ENCLAVE_SIGSTRUCT\n",
}
#: Programs, each with the rest of its words.
PROGRAMS = (
    ("policy_approved",),
    ("policy_both",),
    ("policy_dirty",),
    ("policy_grow",),
    ("policy_patched",),
    ("policy_receive",),
    ("policy_sigstruct",),
    ("policy_source", "anonymous", "none"),
    ("policy_source", "memfd", "none"),
    ("policy_source", "deleted", "none"),
    ("policy_unmeasured", "code", "init"),
    ("policy_unmeasured", "entry", "init"),
)


def denials(audit: Path) -> list[Decision]:
    events = read_events(audit.read_text(encoding="ascii"))
    return [event.record for event in events if isinstance(event.record, Decision) and event.record.denied]


def policies(*files: Path) -> list[str]:
    return [word for file in files for word in ("--policy", str(file))]


def run(place: Place, options: list[str], program: Path, *words: str) -> None:
    """Run a program to its good end under such options."""
    ended_well(place.swsgx("run", *options, "--", program, *words))


def learned(place: Place, base: list[Path], audit: Path) -> list[Path]:
    """The policy with what is learned from a log by it, loaded as the page on policies says."""
    made = []
    for kind in ("integrity", "te", "identity"):
        done = place.swsgx("policy", "learn", audit, *policies(*base), "--kind", kind)
        assert (done.returncode, done.stderr) == (0, "")
        if "# There is nothing to propose." not in done.stdout:
            made.append(place.folder / f"learned.{kind}")
            made[-1].write_text(done.stdout, encoding="utf-8")
    replaced = {file.suffix for file in made} & {".identity"}
    return [*made, *(file for file in base if file.suffix not in replaced)]


def watched(place: Place, kinds: str, program: Path, *words: str) -> tuple[list[str], list[Path]]:
    """Options of the policy that is learned from a program's run under one that allows nothing, and its files."""
    base = [place.write(f"base.{kind}", TEXTS[kind]) for kind in kinds.split()]
    audit = place.folder / "audit"
    run(place, [*policies(*base), "--permissive", "--audit", str(audit)], program, "plain", *words)
    told = denials(audit)
    assert told
    assert all(denial.permissive and denial.uid == os.geteuid() for denial in told)
    files = learned(place, base, audit)
    return [*policies(*files), "--paranoid", "--audit", str(place.folder / "again")], files


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        *((words, "te identity integrity") for words in PROGRAMS),
        *((words, kinds) for words in PROGRAMS[:3] for kinds in ("te", "te identity")),
        (("policy_approved",), "identity"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else value,
)
def test_program_that_was_watched_runs_under_what_was_learned(
    kinds: str, words: tuple[str, ...], place: Place
) -> None:
    program = place.program(words[0])
    options, _ = watched(place, kinds, program, *words[1:])
    run(place, options, program, "plain", *words[1:])
    assert denials(place.folder / "again") == []


def test_what_was_not_watched_stays_refused(place: Place) -> None:
    program = place.program("policy_source")
    options, files = watched(place, "te identity", program, "code.bin", "none")
    run(place, options, program, "plain", "code.bin", "none")
    assert denials(place.folder / "again") == []
    # Other files, and the same bytes from elsewhere: the program says where it is refused.
    for words in (("plain.bin", "add"), ("anonymous", "init"), ("memfd", "init"), ("deleted", "init")):
        before = len(denials(place.folder / "again"))
        run(place, options, program, "policy", *words)
        (denial,) = denials(place.folder / "again")[before:]
        assert not denial.permissive
        # From the record alone it is known why, and by what it would be allowed.
        (place.folder / "one").write_text(last_event(place.folder / "again"), encoding="ascii")
        done = place.swsgx("policy", "explain", *files, "--record", place.folder / "one")
        assert done.returncode == 1
        assert "deny" in done.stdout.lower()
    # The same program by another name.
    done = place.swsgx("run", *options, "--", place.folder / "stranger", "plain", "code.bin", "none")
    assert 'expected success, found "Permission denied"' in done.stdout
    assert denials(place.folder / "again")[-1].permissions == ("open",)


def last_event(audit: Path) -> str:
    """The lines of the last event of a log."""
    return "".join(audit.read_text(encoding="ascii").splitlines(keepends=True)[-2:])


def test_digest_in_a_record_is_that_of_the_file_on_disk(place: Place) -> None:
    watched(place, "te identity", place.program("policy_source"), "code.bin", "none")
    told = denials(place.folder / "audit")
    for name in ("code.bin", "enclave.sig"):
        digest = f"sha256:{hashlib.sha256((place.folder / name).read_bytes()).hexdigest()}"
        found = {one.source.digest for one in told if one.source.path == str(place.folder / name)}
        assert found == {digest}
    signed = Sigstruct((place.folder / "enclave.sig").read_bytes())
    (init,) = [one for one in told if one.lsm == "identity"]
    assert init.mrenclave == bytes(signed.enclavehash)
    assert (init.traits.isvprodid, init.traits.isvsvn) == (signed.isvprodid, signed.isvsvn)
    assert (init.traits.debug, init.traits.unmeasured_exec) == (False, False)
    assert init.traits.sigstruct == hashlib.sha256((place.folder / "enclave.sig").read_bytes()).digest()
