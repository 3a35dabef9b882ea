"""Small programs that use SGX, one subject each: ``tests/programs/sgx``. Each prints EXIT-SUCCESS if all was right."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from swsgx.inprocess import Sgx
from tests.make import supervised
from tests.make.native_enclave import NEEDS_GCC
from tests.make.sgx_program import FOLDER, Programs, compilers, enclave_source, ended_well

pytestmark = NEEDS_GCC

#: Programs that are run twice, and must print the same: alone with the first arguments, under swsgx with the others.
#: What is alone uses another device of the real kernel's, or no enclave.
COMPARED: Mapping[str, tuple[list[str], list[str]]] = {
    "node_open_flags": (["/dev/null"], []),
    "node_paths": (["/dev/null"], []),
    "node_openat": (["/dev/null"], []),
    "node_access": (["/dev/null"], []),
    "node_flags_later": (["/dev/null"], []),
    "node_poll": (["/dev/null"], []),
    "node_file_calls": (["/dev/null"], []),
    "node_too_many": (["/dev/null"], []),
    "memory_mmap": (["/dev/zero"], []),
    "memory_place": (["/dev/zero"], []),
    "memory_mprotect": (["/dev/zero"], []),
    "signal_actions": (["alone"], []),
    "signal_masks": (["alone"], []),
    "signal_stack": (["alone"], []),
    "signal_restart": (["alone"], []),
}
#: What a program's name begins with: its kind. Others in the folder belong to other tests.
KINDS = ("node_", "ioctl_", "memory_", "enter_", "signal_", "thread_", "process_", "v23_load", "v23_errors")
#: Those that only make sense in a program with a dynamic loader.
DYNAMIC = {"enter_dlvsym"}
#: Those that look at what isolation does.
ISOLATED = {"memory_abort_page", "memory_system_calls", "memory_wide"}


@dataclass(frozen=True)
class Way:
    """How a program is linked, and what ``swsgx run`` is told."""

    name: str
    flags: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def fits(self, program: str) -> bool:
        if program in DYNAMIC and "-static" in self.flags:
            return False
        return not (program in ISOLATED and "off" in self.options)


WAYS = (Way("dynamic"), Way("static", ("-static",)), Way("open", (), ("--isolation", "off")))
#: What enters enclaves is tried without isolation, too: exits are patched there.
_OPEN = ("enter_", "signal_", "thread_", "process_", "memory_")


def sources() -> list[Path]:
    return sorted(path for path in FOLDER.iterdir() if path.name.startswith(KINDS))


def cases() -> Iterator[object]:
    for source in sources():
        for way in WAYS:
            if way.fits(source.stem) and (way.name != "open" or source.stem.startswith(_OPEN)):
                yield pytest.param(source, way, id=f"{source.stem}-{way.name}")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """What was built, by this run or an earlier one: names say from what. All workers of a run share it."""
    run = tmp_path_factory.getbasetemp()
    run = run.parent if run.name.startswith("popen-") else run
    return Programs((run.parent if run.parent.name.startswith("pytest-of-") else run) / "sgx-programs")


@pytest.fixture
def options(can_supervise: None) -> Iterator[list[str]]:
    """Options of ``swsgx run``."""
    before = list(supervised.options)
    supervised.options.clear()
    yield supervised.options
    supervised.options[:] = before


def output(words: list[str | Path], under: bool = True) -> str:
    """What a program prints; it must succeed."""
    return ended_well(supervised.run(words, under=under, cwd="/"))


@pytest.mark.parametrize(("source", "how"), list(cases()))
def test_program_finds_what_it_expects(
    source: Path, how: Way, programs: Programs, options: list[str]
) -> None:
    options += ["--profile", "v23"] if source.stem.startswith("v23_") else []
    options += how.options
    program = programs.build(source.name, *how.flags)
    alone, under = COMPARED.get(source.stem, ([], []))
    found = output([program, *under])
    if source.stem in COMPARED:
        expected = output([program, *alone], under=False)
        assert found.splitlines() == expected.splitlines()


@pytest.mark.parametrize("isolation", ["off", "hidden"])
def test_program_on_a_processor_without_sgx2(isolation: str, programs: Programs, options: list[str]) -> None:
    options += ["--cpu", "sgx1", "--isolation", isolation]
    output([programs.build("sgx1_only.c")])


def test_programs_are_small_and_end_with_a_word() -> None:
    for source in sources():
        text = source.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 130, source.name
        assert "return success();" in text, source.name


def test_enclave_of_the_programs_works_in_our_own_process() -> None:
    """What they find under ``swsgx run`` is then not the enclave's fault."""
    operations = dict(
        line.split()[1:3]
        for line in (FOLDER / "ops.h").read_text(encoding="utf-8").splitlines()
        if line.startswith("#define OP_")
    )
    total = bytearray(8)
    with Sgx(isolation="off") as sgx:
        loaded = enclave_source().build().load(sgx)
        for thread in range(4):
            done = loaded.enclave.enter(thread, rdi=int(operations["OP_ADD"]), rsi=40, rdx=thread, r8=total)
            done.check()
            assert int.from_bytes(total, "little") == 40 + thread
        fault = loaded.enclave.enter(0, rdi=int(operations["OP_UD2"])).exception
        assert fault is not None
        assert fault.vector == 6


@pytest.mark.parametrize("name", ["ioctl_init", "memory_ceilings", "enter_exceptions", "signal_segv"])
def test_program_of_another_compiler_finds_the_same(
    name: str, programs: Programs, options: list[str]
) -> None:
    if shutil.which("clang") is None:
        pytest.skip("compiles with clang: install it to run this")
    output([programs.build(f"{name}.c", compiler="clang")])


@pytest.mark.parametrize("name", ["rust.rs", "go.go"])
def test_program_in_another_language_uses_an_enclave(
    name: str, programs: Programs, options: list[str]
) -> None:
    suffix = Path(name).suffix
    if not compilers(suffix):
        pytest.skip(f"compiles {name}: install {'rustc' if suffix == '.rs' else 'go'} to run this")
    output([programs.build(name), programs.enclave])
