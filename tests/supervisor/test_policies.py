"""Security modules on real processes: each row of attacks and of what must go on working, as a small C program.

Rows have the names of the table that the design began with: A1 to A33 are flows that a policy stops, or the driver
anyway; P1 to P3 are those that it must not. Each is run by the plain driver, under a policy, and under the same policy
that only records.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from swsgx.isa.sigstruct import Sigstruct
from swsgx.lsm.audit import Decision
from swsgx.lsm.audit_reader import read_events
from swsgx.lsm.measurement import Digest
from swsgx.lsm.measurement_list import parse_binary
from tests.make import supervised
from tests.make.native_enclave import NEEDS_GCC
from tests.make.paging import Running
from tests.make.sgx_program import FOLDER, Programs, enclave_source

pytestmark = NEEDS_GCC

PAGE = 4096
TYPES = """
policy_module(tests, 1.0)
type builder_t; type app_t; type code_t; type plain_t; type sig_t; type encl_t;
subjcon exe "{program}" builder_t
subjcon exe "{folder}/app" app_t
filecon "{folder}/(code|zeros|pages)[.]bin" code_t
filecon "{folder}/plain[.]bin" plain_t
filecon "{folder}/.*[.]sig" sig_t
allow builder_t sgx_device_t : enclave {{ open create }};
allow builder_t code_t : enclave {{ load execute }};
allow builder_t plain_t : enclave load;
allow builder_t sig_t : enclave init;
allow {{ builder_t app_t }} encl_t : enclave {{ use map_read map_write map_exec }};
type_transition builder_t sig_t : enclave encl_t;
"""
IDENTITY = """policy_name=tests policy_version=1.0.0
DEFAULT op=ENCLAVE_INIT action={default}
"""
LISTED = "op=ENCLAVE_INIT mrenclave=sha256:{mrenclave} grant=execanon action=ALLOW\n"


@dataclass(frozen=True)
class Row:
    """A flow.

    Attributes:
        name: rows of the table.
        program: in ``tests/programs/sgx``.
        words: its arguments but the first.
        policy: ``te``, ``listed`` (identity, by MRENCLAVE), ``unlisted``, ``any`` (whoever signed), ``nobody`` (types,
            and the program has none), ``unable`` (types, and it may not execute its enclaves), or the name of a module.
        refused: whether anything is refused under it.
        options: of ``swsgx run``.
    """

    name: str
    program: str
    words: tuple[str, ...] = ()
    policy: str = "te"
    refused: bool = True
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        policy = () if self.policy == "te" else (self.policy,)
        return "-".join([self.name, *self.words, *policy, *self.options[-1:]])


OPEN = ("--isolation", "off")
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
    Row("A9", "policy_both"),
    Row("A9", "policy_both", options=OPEN),
    Row("A12-A13", "policy_receive"),
    Row("A13", "policy_taken", ("stranger",)),
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
    Row("A25-A27", "policy_whole"),
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


@dataclass
class Place:
    """A folder with an enclave's files, and what is run there."""

    folder: Path
    programs: Programs
    options: list[str] = field(default_factory=list)

    @property
    def audit(self) -> Path:
        return self.folder / "audit.log"

    def program(self, name: str) -> Path:
        program = self.programs.build(f"{name}.c")
        for copy in ("app", "stranger"):
            shutil.copy(program, self.folder / copy)
        return program

    def policy(self, kind: str, program: Path) -> list[str]:
        """Options for a policy."""
        if kind in ("te", "nobody", "unable"):
            text = TYPES.format(
                folder=_plain(self.folder), program="/none" if kind == "nobody" else _plain(program)
            )
            text = text.replace(" map_exec", "") if kind == "unable" else text
        elif kind in ("any", "listed", "unlisted"):
            text = IDENTITY.format(default="ALLOW" if kind == "any" else "DENY")
            if kind == "listed":
                signed = Sigstruct((self.folder / "enclave.sig").read_bytes())
                text += LISTED.format(mrenclave=signed.enclavehash.hex())
        else:
            return ["--lsm", kind]
        file = self.folder / f"policy.{kind}"
        file.write_text(text, encoding="utf-8")
        return ["--policy", str(file)]

    def command(self, program: Path, *words: str) -> list[str]:
        options = ["--audit", str(self.audit)] if self.options else []
        swsgx = [sys.executable, "-c", "from swsgx.cli.entry import main; main()"]
        return [*swsgx, "run", *self.options, *options, "--", str(program), *words]

    def run(self, program: Path, *words: str, **how: Any) -> str:
        done = self.finish(program, *words, **how)
        if done.stdout.startswith("EXIT-SKIP"):
            pytest.skip(done.stdout.partition(" ")[2].strip())
        assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr[-2000:]
        assert done.stdout.endswith("EXIT-SUCCESS\n"), done.stdout[-2000:]
        return done.stdout

    def finish(self, program: Path, *words: str, **how: Any) -> subprocess.CompletedProcess[str]:
        given = {"env": supervised.environment(), "cwd": self.folder, "timeout": 100, **how}
        return subprocess.run(
            self.command(program, *words), capture_output=True, text=True, check=False, **given
        )

    def denials(self) -> list[Decision]:
        """What the audit file holds of refusals."""
        events = read_events(self.audit.read_text(encoding="ascii")) if self.audit.exists() else []
        return [event.record for event in events if isinstance(event.record, Decision)]


def _plain(path: Path) -> str:
    """A path as a pattern that matches it only."""
    return re.sub(r"[^\w/]", lambda sign: f"[{sign.group()}]" if sign.group() != "-" else "-", str(path))


@pytest.fixture
def place(programs: Programs, tmp_path: Path, can_supervise: None) -> Place:
    tmp_path.chmod(0o755)
    end = max(run.end for run in enclave_source().build().plan.entries)
    with (programs.enclave / "image").open("rb") as image:
        code = image.read(end)
    (tmp_path / "code.bin").write_bytes(code)
    (tmp_path / "plain.bin").write_bytes(code)
    (tmp_path / "zeros.bin").write_bytes(bytes(2 * PAGE))
    (tmp_path / "pages.bin").write_bytes(b"".join(bytes([1 + page]) * PAGE for page in range(8)))
    for name, signature in (
        ("enclave", "sigstruct"),
        ("loose", "sigstruct_loose"),
        ("wrong", "sigstruct_loose"),
        ("unmeasured", "sigstruct_unmeasured"),
        ("entry", "sigstruct_entry"),
    ):
        shutil.copy(programs.enclave / signature, tmp_path / f"{name}.sig")
    return Place(tmp_path, programs)


def rows() -> list[object]:
    return [pytest.param(row, id=str(row)) for row in ROWS]


@pytest.mark.parametrize("row", rows())
def test_plain_driver_does_as_the_kernel(row: Row, place: Place) -> None:
    program = place.program(row.program)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(supervised, "options", list(row.options))
        done = supervised.run([program, "plain", *row.words], cwd=place.folder)
    if done.stdout.startswith("EXIT-SKIP"):
        pytest.skip(done.stdout.partition(" ")[2].strip())
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.endswith("EXIT-SUCCESS\n"), done.stdout[-2000:]


@pytest.mark.parametrize("row", rows())
def test_policy_refuses_what_it_must_and_nothing_else(row: Row, place: Place) -> None:
    program = place.program(row.program)
    place.options = [*place.policy(row.policy, program), "--paranoid", *row.options]
    place.run(program, "policy", *row.words)
    denials = place.denials()
    assert bool(denials) == row.refused
    assert all(denial.denied and not denial.permissive and denial.errno == "EACCES" for denial in denials)
    assert all(denial.pid > 0 and (denial.exe or row.name == "paths") for denial in denials)


@pytest.mark.parametrize("row", rows())
def test_permissive_policy_only_tells(row: Row, place: Place) -> None:
    program = place.program(row.program)
    place.options = [*place.policy(row.policy, program), "--permissive", "--isolation", "off", *row.options]
    place.run(program, "plain", *row.words)
    denials = place.denials()
    assert bool(denials) == row.refused
    assert all(denial.permissive and denial.errno == "" for denial in denials)


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


@pytest.mark.parametrize("module", ["raises", "hangs", "nonsense", "commits", "fine"])
def test_module_of_a_third_party_that_fails_has_refused(module: str, place: Place, installed: Path) -> None:
    program = place.program("policy_module")
    place.options = ["--lsm", module, "--paranoid"]
    environment = supervised.environment()
    environment["PYTHONPATH"] += f":{installed}"
    place.run(program, "policy", env=environment)
    denials = place.denials()
    assert [denial.lsm for denial in denials] == [module]
    assert denials[0].reason == ("" if module == "fine" else "module-failure")
    assert denials[0].source.path == str(place.folder / "code.bin")
    place.options.append("--permissive")
    place.run(program, "plain", env=environment)


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
    policy.write_text(RELABELLED.format(folder=_plain(place.folder)), encoding="utf-8")
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
