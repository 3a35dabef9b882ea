"""The group: version, help, exit statuses, one line for each error, and a start that loads little."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from swsgx.cli.errors import one_line
from swsgx.cli.main import COMMANDS
from tests.make.command import Command


def test_version_promises_no_confidentiality(swsgx: Command) -> None:
    ran = swsgx("--version")
    assert ran.status == 0
    assert ran.out.startswith("swsgx ")
    assert "NO confidentiality" in ran.out
    assert "test tool" in ran.out


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_names_every_command(swsgx: Command, word: str) -> None:
    ran = swsgx(word)
    assert ran.status == 0
    assert all(name in ran.out for name in COMMANDS)
    assert "NO confidentiality" in ran.out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_module_and_helps(swsgx: Command, name: str) -> None:
    command = import_module(COMMANDS[name]).command
    assert isinstance(command, click.Command)
    assert command.name == name
    ran = swsgx(name, "--help")
    assert ran.status == 0
    assert ran.out.startswith(f"Usage: swsgx {name} ")
    assert "\\b" not in ran.out


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("--nonsense",),
        ("measure",),
        ("measure", "a", "b"),
        ("measure", "--heap-size", "1.5", "a"),
        ("measure", "--heap-size", "-1", "a"),
        ("sign", "a"),
        ("--trace=xml", "measure", "a"),
        ("enter", "a", "--tcs", "-1"),
        ("convert", "a"),
    ],
)
def test_a_senseless_command_line_is_status_2_and_one_line(swsgx: Command, words: tuple[str, ...]) -> None:
    ran = swsgx(*words)
    assert ran.status == 2
    assert "--help" in ran.refusal


@pytest.mark.parametrize("command", ["measure", "inspect", "verify", "enter"])
@pytest.mark.parametrize(
    ("file", "words"),
    [("nothere", "No such file or directory"), (".", "Is a directory"), ("no/such", "No such file")],
)
def test_a_file_that_cannot_be_read_is_status_1_and_named(
    swsgx: Command, command: str, file: str, words: str
) -> None:
    ran = swsgx(command, file)
    assert ran.status == 1
    assert ran.refusal.startswith(f"swsgx {command}: {file}: ")
    assert words in ran.refusal


def test_line_breaks_and_control_characters_in_a_file_name_do_not_break_the_line(swsgx: Command) -> None:
    name = "a\nb\x1b[31m"
    Path(name).write_bytes(b"x")
    assert "\x1b" not in swsgx("measure", name).refusal


def test_a_file_name_that_is_not_utf8_is_shown_escaped(swsgx: Command) -> None:
    name = os.fsdecode(b"bad\xffname")
    Path(name).write_bytes(b"x")
    assert "udcff" in swsgx("measure", name).refusal


def test_one_line_keeps_letters_and_escapes_the_rest() -> None:
    assert one_line("é\t\x00z\r\nnext") == "é\\t\\x00z next"


def test_explain_tells_rule_source_and_found_apart(swsgx: Command) -> None:
    Path("x").write_bytes(b"nonsense")
    ran = swsgx("--explain", "measure", "x")
    assert ran.status == 1
    lines = [line.split(":")[0].strip() for line in ran.err.splitlines()[1:]]
    assert lines == ["enclave file", "rule", "expected", "found", "source"]


@pytest.mark.parametrize("trace", [["--trace"], ["--trace", "text"], ["--trace=text"]])
def test_trace_tells_steps_as_text_on_standard_error(swsgx: Command, enclave: Path, trace: list[str]) -> None:
    ran = swsgx(*trace, "measure", enclave)
    assert ran.status == 0
    assert "ECREATE(size=0x20000" in ran.err
    assert "EADD(" in ran.err
    assert len(ran.out.strip()) == 64


def test_trace_json_is_one_object_a_line(swsgx: Command, enclave: Path) -> None:
    import json

    ran = swsgx("--trace", "json", "measure", enclave)
    names = [json.loads(line)["name"] for line in ran.err.splitlines()]
    assert names[0] == "ECREATE"
    assert names[-1] == "EINIT"


def test_a_bug_is_status_3_and_says_so(
    swsgx: Command, enclave: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("swsgx.cli.enclaves.measure_plan", broken)
    ran = swsgx("measure", enclave)
    assert ran.status == 3
    assert "a bug in swsgx: KeyError" in ran.err
    assert len(ran.err.splitlines()) == 1
    monkeypatch.setenv("SWSGX_TRACEBACK", "1")
    with pytest.raises(KeyError):
        swsgx("measure", enclave)


def test_a_reader_that_closes_early_is_no_error_message(checkout: Path, enclave: Path) -> None:
    words = [sys.executable, "-c", "from swsgx.cli.main import main; main()", "inspect", str(enclave)]
    env = dict(os.environ, PYTHONPATH=str(checkout / "src"))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.wait()
    assert process.returncode == 1


@pytest.mark.parametrize(
    ("words", "banned"),
    [
        (["--version"], {"numpy", "cryptography", "rich", "elftools", "swsgx.cpu", "swsgx.inprocess"}),
        (["--help"], {"numpy", "cryptography", "rich", "elftools", "swsgx.cpu", "swsgx.inprocess"}),
        (["verify", "nothere"], {"rich", "elftools", "swsgx.cpu", "swsgx.inprocess"}),
        (["stat", "--json"], {"numpy", "cryptography", "rich", "elftools", "swsgx.cpu"}),
        (["doctor", "--json"], {"numpy", "cryptography", "rich", "elftools", "swsgx.cpu"}),
    ],
)
def test_a_command_loads_only_what_it_needs(checkout: Path, words: list[str], banned: set[str]) -> None:
    code = (
        "import sys\nfrom swsgx.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sys.modules, file=sys.stderr)\n"
    )
    env = dict(os.environ, PYTHONPATH=str(checkout / "src"))
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, env=env, check=True
    )
    loaded = set(done.stderr.split("LOADED", 1)[1].split())
    assert "swsgx.cli.main" in loaded
    assert not banned & loaded
