"""Row A33 on real processes: code out of a file of FUSE, which may give other bytes whenever it is read."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from swsgx.lsm.audit import Decision
from swsgx.lsm.measurement import Digest, Entry
from swsgx.lsm.measurement_list import parse_binary
from tests.make import fuse
from tests.make.native_enclave import NEEDS_GCC
from tests.make.policies import Place, plain

pytestmark = NEEDS_GCC

TYPES = """
policy_module(fuse, 1.0)
filecon "{folder}/fuse/.*" code_t
"""
MODIFIED = "allow builder_t code_t : enclave execmod;\n"
MEASURE = """
measure func=ENCLAVE_LOAD mask=MAY_EXEC template=encl-load
measure func=ENCLAVE_INIT template=encl-init
"""
APPRAISE = "appraise func=ENCLAVE_LOAD mask=MAY_EXEC fsname=fuse\n"
CHANGING = [name for name in fuse.NAMES if name != "steady.bin"]


@pytest.fixture
def mounted(place: Place) -> Place:
    """The place, with files of FUSE for what is run there."""
    (place.folder / "fuse").mkdir()
    here = [str(place.folder / "fuse"), str(place.folder / "code.bin")]
    place.before = [sys.executable, str(Path(fuse.__file__).resolve()), *here]
    return place


def _ran(
    place: Place, way: str, name: str, types: str = "", rules: str = "", *options: str
) -> list[Decision]:
    """What was refused, or would be. ``way`` is what the program expects: ``policy``, a refusal."""
    program = place.program("policy_fuse")
    if types:
        more = place.folder / "fuse.te"
        more.write_text(types.format(folder=plain(place.folder)), encoding="utf-8")
        place.options = [*place.policy("te", program), "--policy", str(more), *options]
    if rules:
        integrity = place.folder / "fuse.integrity"
        integrity.write_text(rules, encoding="utf-8")
        place.options += ["--policy", str(integrity), "--measurements", str(place.folder / "list")]
    place.run(program, way, name)
    return place.denials()


def _listed(place: Place) -> list[Entry]:
    return parse_binary((place.folder / "list").read_bytes())


def _is_the_violation(place: Place, name: str, entry: Entry) -> None:
    """An entry is of the code that the enclave got out of a file of FUSE."""
    loaded = entry.event()
    assert (entry.violation, loaded.template) == (True, "encl-load")
    assert loaded.path == str(place.folder / "fuse" / name)
    copied = _digest(place.folder / "copied.bin")
    assert loaded.fields["copied"] == copied
    # Of the file as long as it has what was copied.
    assert loaded.fields["digest"] == (_digest(place.folder / "code.bin") if name == "steady.bin" else copied)


def _digest(file: Path) -> Digest:
    return Digest("sha256", hashlib.sha256(file.read_bytes()).digest())


@pytest.mark.parametrize("name", fuse.NAMES)
def test_plain_driver_takes_whatever_bytes_a_file_gives(name: str, mounted: Place) -> None:
    assert _ran(mounted, "plain", name) == []


def test_file_that_gives_what_was_copied_is_that_file(mounted: Place) -> None:
    assert _ran(mounted, "plain", "steady.bin", TYPES, "", "--paranoid") == []


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("mode", ["--paranoid", "--permissive"])
def test_bytes_that_the_file_does_not_give_again_are_a_modified_copy(
    mode: str, name: str, mounted: Place
) -> None:
    (denial,) = _ran(mounted, "policy" if mode == "--paranoid" else "plain", name, TYPES, "", mode)
    assert (denial.lsm, denial.hook, denial.permissions) == ("te", "load", ("execmod",))
    assert (denial.permissive, denial.errno) == ((False, "EACCES") if mode == "--paranoid" else (True, ""))
    assert denial.source.kind == "filemod"
    assert denial.source.path == str(mounted.folder / "fuse" / name)


@pytest.mark.parametrize("name", fuse.NAMES)
def test_code_that_is_only_measured_is_a_violation_with_the_digest_of_what_was_copied(
    name: str, mounted: Place
) -> None:
    assert _ran(mounted, "plain", name, TYPES + MODIFIED, MEASURE, "--paranoid") == []
    load, *rest = _listed(mounted)
    _is_the_violation(mounted, name, load)
    # An enclave of other bytes is none that somebody signed.
    assert [entry.event().template for entry in rest] == (["encl-init"] if name == "steady.bin" else [])


@pytest.mark.parametrize("name", fuse.NAMES)
@pytest.mark.parametrize("mode", ["--paranoid", "--permissive"])
def test_appraisal_refuses_it_though_a_read_gives_what_its_reference_says(
    mode: str, name: str, mounted: Place
) -> None:
    way = "policy" if mode == "--paranoid" else "plain"
    (denial,) = _ran(mounted, way, name, TYPES + MODIFIED, MEASURE + APPRAISE, mode)
    assert (denial.lsm, denial.hook, denial.permissions) == ("integrity", "load", ("execute",))
    assert denial.rule == f"{mounted.folder / 'fuse.integrity'}:4"
    assert (denial.permissive, denial.errno) == ((False, "EACCES") if mode == "--paranoid" else (True, ""))
    assert denial.source.kind == ("file" if name == "steady.bin" else "filemod")
    load, *rest = _listed(mounted)
    if mode == "--permissive":
        _is_the_violation(mounted, name, load)
    else:
        # What was refused is not in the list; the approved file's page, which took its place, is.
        assert [(e.event().template, e.violation) for e in (load, *rest)] == [
            ("encl-load", False),
            ("encl-init", False),
        ]
        assert load.event().path == str(mounted.folder / "code.bin")
