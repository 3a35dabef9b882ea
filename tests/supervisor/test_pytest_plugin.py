"""``pytest --swsgx`` runs somebody's tests on a machine with SGX, once, and otherwise as pytest does."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from swsgx.identity.signer import sign
from swsgx.identity.sigstruct import SigstructOptions, unsigned
from swsgx.image.enclave import load_plan
from swsgx.image.writer import write_sgxs
from tests.make.examples import NEEDS_TOOLS, build_examples
from tests.make.supervised import environment
from tests.make.world import signing_key

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not list(entry_points(group="pytest11", name="swsgx")),
        reason="the plugin is not installed: make test, or pip install --editable .",
    ),
    pytest.mark.skipif(Path("/dev/sgx_enclave").exists(), reason="this machine has SGX: there is no without"),
]

DEVICE = """
import os, subprocess, sys
import pytest

OPEN = "import os; os.close(os.open('/dev/sgx_enclave', os.O_RDWR))"


def test_opened_here():
    exec(OPEN)


def test_opened_by_a_child_of_a_process_that_has_opened_it():
    exec(OPEN)
    subprocess.run([sys.executable, "-c", OPEN], check=True)


@pytest.mark.needs_sgx
def test_marked():
    exec(OPEN)


def test_facts(swsgx):
    assert swsgx.supervised == swsgx.available == ("/dev/sgx_enclave" in swsgx.nodes)


def test_nothing_heavy_is_loaded():
    heavy = ("numpy", "click", "rich", "cryptography", "swsgx.supervisor.run", "swsgx.supervisor.supervisor")
    assert [name for name in heavy if name in sys.modules] == []
"""
#: What passes with and without the option; what needs it.
ALWAYS = {"test_facts", "test_nothing_heavy_is_loaded"}
OPENING = {"test_opened_here", "test_opened_by_a_child_of_a_process_that_has_opened_it"}

LIBRARY = """
#include <cpuid.h>
int main(int argc, char **argv);
unsigned int leaf_18(void);
unsigned int leaf_18(void)
{
	unsigned int a, b, c, d;

	__cpuid_count(0x12, 0, a, b, c, d);
	return a;
}
"""
IN_PROCESS = """
import ctypes, faulthandler

LIB = ctypes.CDLL("{folder}/host.so")


def test_enclave_in_this_process(capfd):
    assert faulthandler.is_enabled()
    words = (ctypes.c_char_p * 4)(b"host", b"{folder}/compute.sgxs", b"{folder}/compute.sig", None)
    assert LIB.main(3, words) == 0
    out = capfd.readouterr().out
    assert "exception_vector 14 (#PF), error code 0x4" in out
    assert ("I read ffffffffffffffff" in out) == {hidden}
    assert faulthandler.is_enabled()


def test_cpu():
    assert LIB.leaf_18() == {leaf_18}


def test_epc():
    with open("/sys/devices/system/node/node0/x86/sgx_total_bytes") as file:
        assert int(file.read()) == {epc}


def test_crash():
    ctypes.string_at(8)
"""


def pytest_in(
    folder: Path, *words: str, program: tuple[str, ...] = ("-m", "pytest")
) -> subprocess.CompletedProcess[str]:
    """Run pytest as a command in a folder, without what our own run of it has set."""
    env = {
        name: value
        for name, value in environment().items()
        if not name.startswith(("PYTEST", "SWSGX_PYTEST"))
    }
    return subprocess.run(
        [sys.executable, *program, "-p", "no:cacheprovider", *words],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def ended(done: subprocess.CompletedProcess[str], how: str) -> set[str]:
    """Names of the tests that ended so, by the lines of -rA."""
    lines = [line for line in done.stdout.splitlines() if line.startswith(f"{how} test_")]
    return {line.partition("::")[2].split()[0] for line in lines}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "test_device.py").write_text(DEVICE, encoding="utf-8")
    return tmp_path


def test_without_the_option_nothing_is_different(project: Path) -> None:
    done = pytest_in(project, "-rA")
    assert done.returncode == 1, done.stdout + done.stderr
    assert ended(done, "PASSED") == ALWAYS
    assert ended(done, "FAILED") == OPENING
    assert "SKIPPED [1] test_device.py" in done.stdout
    assert "needs SGX, and there is no /dev/sgx_enclave: `pytest --swsgx` makes one" in done.stdout
    assert "swsgx:" not in done.stdout


def test_with_it_tests_and_what_they_start_see_the_device(project: Path) -> None:
    done = pytest_in(project, "-rA", "--swsgx")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ended(done, "PASSED") == {*ALWAYS, *OPENING, "test_marked"}
    assert "an SGX machine in software, without confidentiality" in done.stdout


def test_workers_of_xdist_see_it(project: Path) -> None:
    done = pytest_in(project, "-rA", "--swsgx", "-n", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {*OPENING, "test_marked"} <= ended(done, "PASSED")


@pytest.mark.parametrize(
    ("words", "status"), [(["-k", "marked"], 0), (["-k", "nothing_such"], 5), (["--swsgx-epc", "1"], 1)]
)
def test_exit_status_passes_through(project: Path, words: list[str], status: int) -> None:
    """5 is pytest's for no tests; 1 is here that of swsgx run, which refuses."""
    done = pytest_in(project, "--swsgx", *words)
    assert done.returncode == status, done.stdout + done.stderr


ONCE = """
import os, subprocess, sys
with open("loads", "a") as file:
    file.write(f"{os.getpid()}\\n")


def test_again():
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "inner.py"]
    subprocess.run(words, check=True)
"""


def test_pytest_starts_anew_once_and_before_any_conftest(tmp_path: Path) -> None:
    """Also where the option is in addopts, so that a pytest inside has it again."""
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --swsgx\n", encoding="utf-8")
    (tmp_path / "conftest.py").write_text(ONCE.partition("\n\n")[0], encoding="utf-8")
    (tmp_path / "test_outer.py").write_text(
        "import subprocess, sys" + ONCE.partition("\n\n")[2], encoding="utf-8"
    )
    (tmp_path / "inner.py").write_text("def test_it(swsgx):\n    assert swsgx.available\n", encoding="utf-8")
    done = pytest_in(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len((tmp_path / "loads").read_text(encoding="utf-8").split()) == 2


ARGUMENTS = """
import sys


def test_a_or_b(request):
    assert request.config.invocation_params.args[-2:] == ("-k", "a_or_b or c_d")
    assert sys.flags.dev_mode
    assert sys.warnoptions[-1] == "error::BytesWarning"
"""


def test_words_and_the_interpreters_own_options_are_kept(tmp_path: Path) -> None:
    (tmp_path / "test_words.py").write_text(ARGUMENTS, encoding="utf-8")
    program = ("-X", "dev", "-W", "error::BytesWarning", "-m", "pytest")
    done = pytest_in(tmp_path, "--swsgx", "-k", "a_or_b or c_d", program=program)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_program_that_calls_pytest_is_told_to_run_under_swsgx_itself(project: Path) -> None:
    program = ("-c", "import pytest, sys; sys.exit(pytest.main(['--swsgx']))")
    done = pytest_in(project, program=program)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "run that program under `swsgx run --` instead" in done.stderr


@pytest.fixture(scope="module")
def library(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's host program as a library, and the enclave that it loads."""
    out = build_examples(checkout, tmp_path_factory.mktemp("examples"))
    plan = load_plan(out / "compute.elf")
    with (out / "compute.sgxs").open("wb") as file:
        write_sgxs(plan, file)
    sigstruct = sign(unsigned(plan.measure().digest(), SigstructOptions()), signing_key())
    (out / "compute.sig").write_bytes(bytes(sigstruct))
    (out / "cpu.c").write_text(LIBRARY, encoding="utf-8")
    host = checkout / "examples/host"
    sources = [
        *sorted(host.glob("*.c")),
        host / "enter.S",
        checkout / "examples/compute/sha256.c",
        out / "cpu.c",
    ]
    command: list[str | Path] = [
        "cc",
        "-O1",
        "-shared",
        "-fPIC",
        "-Wl,-Bsymbolic",
        "-o",
        out / "host.so",
        *sources,
    ]
    subprocess.run(command, check=True, timeout=60)
    return out


@NEEDS_TOOLS
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"hidden": True, "leaf_18": 3, "epc": 128 << 20}),
        (
            ["--swsgx-isolation=off", "--swsgx-cpu=sgx1", "--swsgx-epc=8M"],
            {"hidden": False, "leaf_18": 1, "epc": 8 << 20},
        ),
    ],
    ids=["default", "others"],
)
def test_options_reach_the_machine_and_pytests_own_process_can_enter_an_enclave(
    library: Path, tmp_path: Path, words: list[str], expected: dict[str, object]
) -> None:
    """The faulthandler of pytest owns SIGSEGV and an alternate stack: exceptions inside pass it by."""
    text = IN_PROCESS.format(folder=library, **expected)
    (tmp_path / "test_process.py").write_text(text, encoding="utf-8")
    done = pytest_in(tmp_path, "-rA", "--swsgx", "-k", "not crash", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@NEEDS_TOOLS
def test_a_crash_behind_an_enclave_call_is_told_by_faulthandler(library: Path, tmp_path: Path) -> None:
    text = IN_PROCESS.format(folder=library, hidden=True, leaf_18=3, epc=0)
    (tmp_path / "test_process.py").write_text(text, encoding="utf-8")
    done = pytest_in(tmp_path, "--swsgx", "-k", "enclave or crash")
    assert done.returncode == -signal.SIGSEGV, done.stdout + done.stderr
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert "in test_crash" in done.stderr
