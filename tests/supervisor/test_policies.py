"""Security modules on real processes: each row of attacks and of what must go on working, as a small C program.

Rows have the names of the table that the design began with: A1 to A33 are flows that a policy stops, or the driver
anyway; P1 to P3 are those that it must not. Each is run by the plain driver, under a policy, and under the same policy
that only records.
"""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from swsgx.lsm.measurement import Digest
from swsgx.lsm.measurement_list import parse_binary
from tests.make import supervised
from tests.make.native_enclave import NEEDS_GCC
from tests.make.paging import Running
from tests.make.policies import PAGE, Place, plain
from tests.make.sgx_program import FOLDER, ended_well

pytestmark = NEEDS_GCC


@dataclass(frozen=True)
class Row:
    """A flow.

    Attributes:
        name: rows of the table.
        program: in ``tests/programs/sgx``.
        words: its arguments but the first.
        policy: ``te``, ``listed`` (identity, by MRENCLAVE), ``unlisted``, ``any`` (whoever signed), ``nobody`` (types,
            and the program has none), ``unable`` (types, and it may not execute its enclaves), ``debugger`` (types, and
            it may debug them), or the name of a module.
        refused: whether anything is refused under it.
        options: of ``swsgx run``.
        told: hook points, each with what is refused there, that must be among the records.
    """

    name: str
    program: str
    words: tuple[str, ...] = ()
    policy: str = "te"
    refused: bool = True
    options: tuple[str, ...] = ()
    told: tuple[str, ...] = ()

    def __str__(self) -> str:
        policy = () if self.policy == "te" else (self.policy,)
        return "-".join([self.name, *self.words, *policy, *self.options[-1:]])


OPEN = ("--isolation", "off")
DIRTY = ("map execdirty",)
TAKEN = ("receive use",)
ROWS = (
    Row("A1", "policy_source", ("anonymous", "init")),
    Row("A2", "policy_source", ("plain.bin", "add")),
    Row("A3", "ioctl_add_noexec", refused=False),
    Row("A4", "policy_noexec", refused=False),
    Row("A5", "policy_source", ("heap", "init")),
    Row("A6", "policy_patched"),
    *(
        Row("A7", "policy_source", (kind, "init"))
        for kind in ("memfd", "memfd-private", "shared", "sysv", "deleted")
    ),
    Row("A8-A10-A11-A15", "policy_dirty"),
    Row("A8-A10-A11-A15", "policy_dirty", options=OPEN),
    Row("A11", "policy_dirty", ("paged",), options=("--epc", "1M")),
    Row("A9", "policy_both", told=DIRTY),
    Row("A9", "policy_both", options=OPEN, told=DIRTY),
    Row("A12-A13", "policy_receive", told=TAKEN),
    Row("A13", "policy_taken", ("stranger",), told=TAKEN),
    Row("A13", "policy_taken", ("app",), refused=False),
    Row("A14-A16", "policy_grow"),
    Row("A17", "policy_open", policy="nobody"),
    Row("A18-A19-A28", "policy_sigstruct"),
    Row("A20", "policy_unmeasured", ("code", "init")),
    Row("A20", "policy_unmeasured", ("code", "add"), "no_unmeasured_exec"),
    Row("A21", "policy_unmeasured", ("entry", "init")),
    Row("A21", "policy_unmeasured", ("entry", "add"), "no_unmeasured_exec"),
    Row("A22", "policy_race"),
    Row("A23-A32", "policy_partial"),
    Row("A24", "policy_source", ("code.bin", "init"), "unlisted"),
    Row("A25-A27", "policy_whole", told=DIRTY),
    Row("A26", "policy_debug"),
    Row("A26", "policy_debug", ("allowed",), "debugger"),
    Row("A28-A31", "policy_obliged"),
    Row("A31", "policy_early", policy="unable"),
    Row("paths", "policy_namespace"),
    Row("P1", "policy_approved", refused=False),
    Row("P1", "policy_approved", refused=False, options=OPEN),
    Row("P1", "policy_approved", policy="no_unmeasured_exec", refused=False),
    Row("P1", "policy_approved", policy="any", refused=False),
    Row("P2", "policy_source", ("anonymous", "none"), "listed", refused=False),
    Row("P3", "policy_dirty", policy="any"),
)


def _told(place: Place) -> set[str]:
    return {f"{denial.hook} {name}" for denial in place.denials() for name in denial.permissions}


def rows() -> list[object]:
    return [pytest.param(row, id=str(row)) for row in ROWS]


@pytest.mark.parametrize("row", rows())
def test_plain_driver_does_as_the_kernel(row: Row, place: Place) -> None:
    program = place.program(row.program)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(supervised, "options", list(row.options))
        done = supervised.run([program, "plain", *row.words], cwd=place.folder)
    ended_well(done)


@pytest.mark.parametrize("row", rows())
def test_policy_refuses_what_it_must_and_nothing_else(row: Row, place: Place) -> None:
    program = place.program(row.program)
    place.options = [*place.policy(row.policy, program), "--paranoid", *row.options]
    place.run(program, "policy", *row.words)
    denials = place.denials()
    assert bool(denials) == row.refused
    assert all(denial.denied and not denial.permissive and denial.errno == "EACCES" for denial in denials)
    assert all(denial.pid > 0 and (denial.exe or row.name == "paths") for denial in denials)
    assert _told(place) >= set(row.told)


@pytest.mark.parametrize("row", rows())
def test_permissive_policy_only_tells(row: Row, place: Place) -> None:
    program = place.program(row.program)
    place.options = [*place.policy(row.policy, program), "--permissive", "--isolation", "off", *row.options]
    place.run(program, "plain", *row.words)
    denials = place.denials()
    assert bool(denials) == row.refused
    assert all(denial.permissive and denial.errno == "" for denial in denials)
    assert _told(place) >= set(row.told)


@pytest.mark.parametrize("program", ["policy_receive", "policy_taken"])
def test_who_gets_a_descriptor_is_told_of_and_not_who_had_it(program: str, place: Place) -> None:
    built = place.program(program)
    place.options = place.policy("te", built)
    place.run(built, "policy", *(["stranger"] if program == "policy_taken" else []))
    told = {(denial.hook, denial.permissions, denial.exe) for denial in place.denials()}
    assert told == {("receive", ("use",), str(place.folder / "stranger"))}


# Refusals.


def _machine(running: Running) -> Any:
    command = [sys.executable, "-c", "from swsgx.cli.entry import main; main()", "stat", "--json"]
    done = subprocess.run(command, env=supervised.environment(), capture_output=True, text=True, check=True)
    return next(tree for tree in json.loads(done.stdout)["trees"] if tree["front"] == running.front.pid)[
        "machine"
    ]


def test_a_refusal_changes_no_figure_and_gives_one_record(place: Place) -> None:
    program = place.program("policy_trace")
    options = [*place.policy("te", program), "--audit", str(place.audit), "--paranoid"]
    with Running([program, "policy"], options, cwd=place.folder) as running:
        assert running.line() == "begin"
        before = _machine(running)
        for count, hook in enumerate(("load", "init", "mmap", "mprotect", "modify"), start=1):
            running.say("go on")
            assert running.line() == hook
            assert _machine(running) == before
            denials = place.denials()
            assert len(denials) == count
            assert denials[-1].hook == hook.replace("mmap", "map").replace("mprotect", "map")
        running.say("end")
        status, said, told = running.end()
    assert (status, told) == (0, "")
    assert said.endswith("EXIT-SUCCESS\n")


def test_reason_of_a_refusal_is_explained(place: Place) -> None:
    program = place.program("policy_module")
    place.options = [*place.policy("nobody", program), "--explain"]
    done = place.finish(program, "policy")
    assert done.stdout.endswith('open(SGX_ENCLAVE, O_RDWR): expected success, found "Permission denied"\n')
    assert "swsgx run: open hook gave EACCES\n" in done.stderr
    assert "allow unlabeled_t sgx_device_t : enclave { open }" in done.stderr
    assert "security module te" in done.stderr


MODULES = """
import time
from swsgx.lsm.module import ALLOW, Deny, Module

class Raises(Module):
    name = "raises"
    def load(self, event):
        raise RuntimeError("a bug")

class Hangs(Module):
    name = "hangs"
    def load(self, event):
        time.sleep(1000)

class Nonsense(Module):
    name = "nonsense"
    def load(self, event):
        return True

class Commits(Module):
    name = "commits"
    def commit(self, event, answer):
        if event.hook == "load":
            raise OSError("no space")

class Fine(Module):
    name = "fine"
    def load(self, event):
        if event.origin is not None and event.origin.path.endswith("/code.bin"):
            return Deny("no code.bin here", ("execute",), found=event.origin.path)
        return ALLOW
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with security modules of a third party, found by their entry points."""
    folder = tmp_path / "installed"
    (folder / "others-1.dist-info").mkdir(parents=True)
    (folder / "others.py").write_text(MODULES, encoding="utf-8")
    (folder / "others-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: others\nVersion: 1\n"
    )
    names = ("Raises", "Hangs", "Nonsense", "Commits", "Fine")
    points = "".join(f"{name.lower()} = others:{name}\n" for name in names)
    (folder / "others-1.dist-info" / "entry_points.txt").write_text(f"[swsgx.lsm]\n{points}")
    return folder


FAILURES = ["raises", "hangs", "nonsense", "commits", "fine"]


@pytest.mark.parametrize("module", FAILURES)
def test_module_of_a_third_party_that_fails_has_refused(module: str, place: Place, installed: Path) -> None:
    program = place.program("policy_module")
    place.options = ["--lsm", module, "--paranoid"]
    environment = supervised.environment()
    environment["PYTHONPATH"] += f":{installed}"
    place.run(program, "policy", env=environment)
    (denial,) = place.denials()
    assert (denial.lsm, denial.hook, denial.errno) == (module, "load", "EACCES")
    assert (denial.denied, denial.permissive) == (True, False)
    assert denial.reason == ("" if module == "fine" else "module-failure")
    assert denial.source.path == str(place.folder / "code.bin")


@pytest.mark.parametrize("module", FAILURES)
def test_module_that_fails_is_only_told_of_where_the_policy_is_permissive(
    module: str, place: Place, installed: Path
) -> None:
    program = place.program("policy_module")
    place.options = ["--lsm", module, "--permissive"]
    environment = supervised.environment()
    environment["PYTHONPATH"] += f":{installed}"
    place.run(program, "plain", env=environment)
    (denial,) = place.denials()
    assert (denial.lsm, denial.hook, denial.errno) == (module, "load", "")
    assert (denial.denied, denial.permissive) == (True, True)
    assert denial.reason == ("" if module == "fine" else "module-failure")
    assert denial.source.path == str(place.folder / "code.bin")


# Policies.


def test_policy_with_a_mistake_starts_nothing(place: Place) -> None:
    bad = place.folder / "bad.te"
    bad.write_text("policy_module(bad, 1.0)\ntype a_t;\nallow a_t b_t : enclave use;\n")
    place.options = ["--policy", str(bad)]
    done = place.finish(Path("/bin/touch"), str(place.folder / "started"))
    assert done.returncode == 2
    assert f"{bad}:3:11: " in done.stderr
    assert "    allow a_t b_t : enclave use;\n              ^\n" in done.stderr
    assert not (place.folder / "started").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--policy", "/nowhere.te"], "/nowhere.te: No such file or directory"),
        (["--lsm", "nobody"], "no security module is called nobody"),
        (["--paranoid"], "--paranoid is about security modules: give --policy or --lsm"),
        (
            ["--lsm", "no_unmeasured_exec", "--audit", "/nowhere/audit"],
            "/nowhere/audit: the audit log cannot be",
        ),
    ],
)
def test_security_option_that_cannot_be_starts_nothing(options: list[str], said: str, place: Place) -> None:
    command = [*supervised.swsgx_run()[:-1], *options, "--", "/bin/touch", str(place.folder / "started")]
    done = subprocess.run(
        command, env=supervised.environment(), capture_output=True, text=True, check=False, cwd=place.folder
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert not (place.folder / "started").exists()


def _reloaded(running: Running) -> str:
    assert running.front.stderr is not None
    running.front.send_signal(signal.SIGHUP)
    return str(running.front.stderr.readline()).rstrip("\n")


@pytest.mark.parametrize("first", ["enter", "fork", "orphan", "inside"])
@pytest.mark.parametrize("isolation", ["hidden", "off"])
def test_reload_takes_the_right_to_execute_away_from_what_is_mapped(
    isolation: str, first: str, place: Place
) -> None:
    program = place.program("policy_reload")
    options = [
        *place.policy("te", program),
        "--paranoid",
        "--isolation",
        isolation,
        "--audit",
        str(place.audit),
    ]
    policy = Path(options[1])
    with Running([program, "policy", first], options, cwd=place.folder) as running:
        assert running.line() == "USED"
        lost = "use map_read map_write map_exec" if first == "orphan" else " map_exec"
        policy.write_text(policy.read_text().replace(lost, "debug" if first == "orphan" else ""))
        assert _reloaded(running) == "swsgx run: the policy is loaded again"
        running.say("go on")
        status, said, told = running.end()
    assert (status, told) == (0, ""), said
    assert said.endswith("EXIT-SUCCESS\n")
    assert place.denials()
    assert first == "orphan" or all("map_exec" in denial.permissions for denial in place.denials())


@pytest.mark.parametrize("first", ["enter", "inside"])
@pytest.mark.parametrize("isolation", ["hidden", "off"])
def test_reload_of_a_permissive_policy_takes_nothing_away_and_new_mappings_are_told_of(
    isolation: str, first: str, place: Place
) -> None:
    program = place.program("policy_reload")
    options = [*place.policy("te", program), "--permissive", "--isolation", isolation]
    policy = Path(options[1])
    options += ["--audit", str(place.audit)]
    with Running([program, "plain", first], options, cwd=place.folder) as running:
        assert running.line() == "USED"
        assert place.denials() == []
        policy.write_text(policy.read_text().replace(" map_exec", ""))
        assert _reloaded(running) == "swsgx run: the policy is loaded again"
        running.say("go on")
        status, said, told = running.end()
    assert (status, told) == (0, ""), said
    assert said.endswith("EXIT-SUCCESS\n")
    # What is mapped is judged again, once; then there are an mprotect and an mmap.
    denials = place.denials()
    assert len(denials) == (1 if first == "inside" else 3)
    assert all(denial.denied and denial.permissive and denial.errno == "" for denial in denials)
    asked = {(denial.hook, denial.permissions, denial.offset, denial.length) for denial in denials}
    assert asked == {("map", ("map_exec",), 0, PAGE)}


@pytest.mark.parametrize("first", ["enter", "inside"])
@pytest.mark.parametrize("isolation", ["hidden", "off"])
def test_reload_of_a_policy_with_a_mistake_keeps_the_old_one(
    isolation: str, first: str, place: Place
) -> None:
    program = place.program("policy_reload")
    options = [*place.policy("te", program), "--paranoid", "--isolation", isolation]
    policy = Path(options[1])
    with Running([program, "plain", first], options, cwd=place.folder) as running:
        assert running.line() == "USED"
        good = policy.read_text()
        policy.write_text(good + "allow x_t y_t : enclave use;\n")
        assert _reloaded(running) == "swsgx run: the old policy stays"
        assert running.front.stderr is not None
        told = [running.front.stderr.readline() for _ in range(6)]
        assert f"{policy}:{good.count(chr(10)) + 1}:7: " in told[0]
        policy.write_text(good)
        assert _reloaded(running) == "swsgx run: the policy is loaded again"
        running.say("go on")
        status, said, rest = running.end()
    assert (status, rest) == (0, ""), said
    assert said.endswith("EXIT-SUCCESS\n")


MEASURE = """
measure func=ENCLAVE_LOAD mask=MAY_EXEC template=encl-load
measure func=ENCLAVE_INIT template=encl-init
"""


@pytest.mark.parametrize("form", ["ima-buf", "own"])
def test_code_of_a_file_is_in_the_measurement_list(form: str, place: Place) -> None:
    program, measured = place.program("policy_approved"), place.folder / "measurements"
    rules = place.folder / "measure.integrity"
    rules.write_text(MEASURE, encoding="utf-8")
    place.options = [*place.policy("te", program), "--policy", str(rules), "--paranoid"]
    place.options += ["--measurements", str(measured), "--measurements-form", form]
    place.run(program, "policy")
    assert place.denials() == []
    entries = parse_binary(measured.read_bytes())
    assert [entry.template for entry in entries] == (
        ["encl-load", "encl-init"] if form == "own" else ["ima-buf", "ima-buf"]
    )
    load, init = [entry.event() for entry in entries]
    code = hashlib.sha256((place.folder / "code.bin").read_bytes()).digest()
    assert load.fields["digest"] == Digest("sha256", code)
    assert load.path == str(place.folder / "code.bin")
    assert init.path == str(place.folder / "enclave.sig")


def test_source_that_somebody_may_be_writing_is_a_violation_in_the_list(place: Place) -> None:
    program, measured = place.program("policy_approved"), place.folder / "measurements"
    rules = place.folder / "measure.integrity"
    rules.write_text(MEASURE, encoding="utf-8")
    place.options = [*place.policy("te", program), "--policy", str(rules), "--measurements", str(measured)]
    with (place.folder / "code.bin").open("r+b"):
        place.run(program, "policy")
    load, init = parse_binary(measured.read_bytes())
    assert load.violation
    assert not init.violation


def test_programs_are_small_and_end_with_a_word() -> None:
    for source in FOLDER.glob("policy_*.c"):
        text = source.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 130, source.name
        assert "return success();" in text, source.name


def test_run_without_a_policy_loads_no_module() -> None:
    code = (
        "import sys, swsgx.cli.run, swsgx.supervisor.run, swsgx.supervisor.service; "
        "print([name for name in sys.modules if name.startswith(('swsgx.lsm', 'lark'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=supervised.environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


RELABELLED = """
policy_module(relabelled, 1.0)
type builder_t; type other_t; type code_t; type sig_t; type encl_t;
subjcon label "builder" builder_t
subjcon label "other" other_t
filecon "{folder}/code[.]bin" code_t
filecon "{folder}/.*[.]sig" sig_t
allow builder_t sgx_device_t : enclave {{ open create }};
allow builder_t code_t : enclave {{ load execute }};
allow builder_t sig_t : enclave init;
allow builder_t encl_t : enclave {{ use map_read map_write map_exec }};
allow other_t encl_t : enclave {{ use map_read map_write }};
type_transition builder_t sig_t : enclave encl_t;
"""
#: The name of a program stands for its label.
NAMED = "import swsgx.lsm.process_facts as f; f.ATTRIBUTE = 'comm'; "


@pytest.mark.parametrize("way", ["plain", "policy"])
def test_program_with_another_label_loses_what_that_may_not_have(way: str, place: Place) -> None:
    program = place.program("policy_relabel")
    policy = place.folder / "policy.te"
    policy.write_text(RELABELLED.format(folder=plain(place.folder)), encoding="utf-8")
    options = ["--policy", str(policy), "--paranoid"] if way == "policy" else []
    code = NAMED + "from swsgx.cli.entry import main; main()"
    command = [sys.executable, "-c", code, "run", *options, "--", str(program), way]
    done = subprocess.run(
        command,
        env=supervised.environment(),
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.endswith("EXIT-SUCCESS\n")
