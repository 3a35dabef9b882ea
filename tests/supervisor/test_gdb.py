"""gdb, and strace, with programs under ``swsgx run``: attached from outside, and started inside."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from swsgx.cli.gdb import GDB_FILE
from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.image.enclave import load_plan
from swsgx.image.writer import write_sgxs
from swsgx.isa.ssa import Gprsgx
from swsgx.isa.structs import Tcs
from swsgx.supervisor.image import IMAGE_BASE
from tests.make.examples import NEEDS_TOOLS, build_examples
from tests.make.supervised import environment, run, swsgx_run
from tests.make.world import signing_key

pytestmark = [NEEDS_TOOLS, pytest.mark.slow]
NEEDS_GDB = pytest.mark.skipif(shutil.which("gdb") is None, reason="uses gdb: install it to run this")
NEEDS_STRACE = pytest.mark.skipif(
    shutil.which("strace") is None, reason="uses strace: install it to run this"
)
_FOREVER = "1000000000"
_FIRST_TCS = 0x26000


@pytest.fixture(scope="module")
def host(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that run the example's host program with a debug enclave."""
    out = build_examples(checkout, tmp_path_factory.mktemp("examples"))
    plan = load_plan(out / "compute.elf")
    assert plan.tcs[0] == _FIRST_TCS
    with (out / "compute.sgxs").open("wb") as file:
        write_sgxs(plan, file)
    sigstruct = sign(unsigned(plan.measure().digest(), SigstructOptions()), signing_key())
    (out / "compute.sig").write_bytes(bytes(sigstruct))
    return [str(out / "host"), "-d", str(out / "compute.sgxs"), str(out / "compute.sig")]


def gdb(commands: Sequence[str], *words: str) -> list[str]:
    """A command: gdb with our file and these words, which obeys and ends."""
    obey = [word for command in commands for word in ("-ex", command)]
    return ["gdb", "-q", "-nx", "-batch", "-x", str(GDB_FILE), *obey, *words]


def in_order(text: str, *patterns: str) -> list[re.Match[str]]:
    """What the patterns find, each behind the one before."""
    found: list[re.Match[str]] = []
    for pattern in patterns:
        match = re.compile(pattern, re.MULTILINE).search(text, found[-1].end() if found else 0)
        assert match is not None, f"{pattern}\nis missing in\n{text}"
        found.append(match)
    return found


@contextmanager
def computing(host: list[str]) -> Iterator[tuple[int, int]]:
    """The program, inside its enclave for a long time: its number, and the enclave's first address."""
    words = [*swsgx_run(), *host, "compute", _FOREVER]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            told += line
            if "goes in" in line:
                break
        try:
            base, pid = in_order(
                told, r"^create .* at (0x[0-9a-f]+), for debugging", r"process (\d+) goes in"
            )
            yield int(pid.group(1)), int(base.group(1), 16)
            assert process.poll() is None
        finally:
            process.terminate()


@NEEDS_GDB
def test_gdb_attaches_to_a_debug_enclave_from_outside_breaks_steps_reads_and_writes(host: list[str]) -> None:
    heap = "$sgx_base() + 0x4000"
    with computing(host) as (pid, base):
        done = subprocess.run(
            gdb(
                [
                    "sgx",
                    f"sgx-symbols {Path(host[0]).with_name('compute.elf')}",
                    "tbreak compute_kernel",
                    f"sgx-tcs $sgx_base() + {_FIRST_TCS:#x}",
                    "set $at = $pc",
                    "stepi",
                    'printf "stepped %d\\n", $pc != $at',
                    "break *$at",
                    "continue",
                    "info symbol $pc",
                    "stepi",
                    f"set var *(unsigned long *)({heap}) = 0x1234567",
                    f"x/1gx {heap}",
                    f"sgx-page '{heap}' 1",
                    "x/1xb $sgx_base()",
                    "delete",
                    "detach",
                ],
                "-p",
                str(pid),
            ),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    in_order(
        done.stdout,
        rf"^1  {base:#x} to .*  inside$",
        rf"^symbols of .* at {base:#x}$",
        r"^Temporary breakpoint 1 at 0x",
        r"^state    0x1  a thread is inside$",
        r"^stepped 1$",
        r"^Breakpoint 2, ",
        r"^compute_kernel \+ \d+ in section .text",
        r":\t0x0000000001234567$",
        r":  0x0000000001234567$",
        r":\t0x06$",
        r"detached\]$",
    )
    assert state == "R", done.stdout


@NEEDS_GDB
def test_gdb_inside_sees_the_frame_of_an_exception_and_breaks_in_the_enclave(host: list[str]) -> None:
    """The program's own function for exceptions: the enclave's registers are in its SSA then."""
    done = run(
        [
            *gdb(
                [
                    "break mend",
                    "run",
                    "info symbol __vdso_sgx_enter_enclave",
                    "backtrace 2",
                    'printf "vector %d\\n", run->exception_vector',
                    f"sgx-tcs $sgx_base() + {_FIRST_TCS:#x}",
                    f"x/1wx $sgx_base() + {_FIRST_TCS + 24:#x}",
                    f"sgx-ssa $sgx_base()+{_FIRST_TCS:#x}",
                    f"sgx-symbols {Path(host[0]).with_name('compute.elf')}",
                    "delete",
                    "break sha256_end",
                    "continue",
                    "info symbol $pc",
                    "delete",
                    "continue",
                ],
                "--args",
                *host,
            )
        ]
    )
    in_order(
        done.stdout,
        r"^Breakpoint 1(\.1)?, mend ",
        r"^__vdso_sgx_enter_enclave in section .text of .*swsgx-target\.",
        r"^#0  mend ",
        r"^#1 .* in swsgx_enter_enclave|^#1 .* in __vdso_sgx_enter_enclave",
        r"^vector 14$",
        r"^cssa     0x1$",
        r":\t0x00000001$",
        r"^frame 0 of 2, .* CSSA is 1$",
        r"^rip      0x[0-9a-f]+  enclave \+ 0x1[0-9a-f]{3}$",
        r"^exitinfo 0x0 ",
        r"^Breakpoint 2(\.\d)?, 0x.* in sha256_end",
        r"^sha256_end in section .text of .*/compute.elf$",
        r"exited normally\]$",
    )


@NEEDS_STRACE
def test_strace_inside_shows_the_trapped_calls_and_the_program_does_the_same(
    host: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    done = run(["strace", "-f", "-o", log, *host])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same computed out here: equal" in done.stdout
    in_order(
        log.read_text(encoding="utf-8"),
        r'openat\(AT_FDCWD, "/dev/sgx_enclave", .*\) = 257$',
        r"--- SIGSYS \{.*si_syscall=__NR_openat",
        r"rt_sigreturn\(.*\) += 3$",
        r"ioctl\(3, SGX_IOC_ENCLAVE_CREATE, ",
        r"ioctl\(3, SGX_IOC_ENCLAVE_INIT, ",
        r"--- SIGSEGV ",
    )


def test_the_command_prints_where_the_file_for_gdb_is() -> None:
    command = [sys.executable, "-c", "from swsgx.cli.entry import main; main()", "gdb-file"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).read_text(encoding="utf-8").startswith('"""For gdb')


def test_offsets_of_the_file_for_gdb_are_those_of_the_manual(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot import them: gdb has a Python of its own."""
    fake: Any = types.ModuleType("gdb")

    class Named:
        def __init__(self, *_: object) -> None: ...

    class Stop:
        def connect(self, _: object) -> None: ...

    fake.Command = fake.Function = Named
    fake.COMMAND_DATA = 0
    fake.execute = lambda *_, **__: None
    fake.events = types.SimpleNamespace(stop=Stop())
    fake.selected_inferior = lambda: types.SimpleNamespace(pid=0)
    monkeypatch.setitem(sys.modules, "gdb", fake)
    file = runpy.run_path(str(GDB_FILE))
    for layout, structure in ((file["TCS_LAYOUT"], Tcs), (file["SSA_LAYOUT"], Gprsgx)):
        assert set(layout) <= {(field.name, field.offset, field.size) for field in structure.fields()}
    assert file["GPRSGX_SIZE"] == Gprsgx.size_of
    assert file["IMAGE_BASE"] == IMAGE_BASE
