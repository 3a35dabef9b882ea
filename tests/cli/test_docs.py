"""``docs/cli.md`` and the command agree; completion works as it says."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from swsgx.cli.main import COMMANDS, swsgx


def section(text: str, name: str) -> str:
    return text.split(f"\n## {name}\n")[1].split("\n## ")[0]


def parameters(name: str) -> list[click.Parameter]:
    """Those of a command, and of the commands that it holds."""
    command = import_module(COMMANDS[name]).command
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(parameter for one in inner for parameter in one.params)]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_section_that_names_every_option(checkout: Path, name: str) -> None:
    text = section((checkout / "docs/cli.md").read_text(), name)
    options = [p for p in parameters(name) if isinstance(p, click.Option)]
    for option in options:
        assert any(f"{word}" in text for word in option.opts), option.opts


@pytest.mark.parametrize("name", COMMANDS)
def test_no_section_names_an_option_that_does_not_exist(checkout: Path, name: str) -> None:
    text = section((checkout / "docs/cli.md").read_text(), name)
    known = {word for p in parameters(name) for word in p.opts}
    words = {word.strip("`,.()[]") for word in text.replace("`", " ").replace("|", " ").split()}
    assert {word for word in words if word.startswith("--") and word.strip("-")} <= known


def test_the_shared_options_are_told(checkout: Path) -> None:
    text = section((checkout / "docs/cli.md").read_text(), "What all commands share")
    for param in swsgx.params:
        assert param.opts[0] in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_made(checkout: Path, shell: str) -> None:
    env = dict(os.environ, PYTHONPATH=str(checkout / "src"), _SWSGX_COMPLETE=f"{shell}_source")
    done = subprocess.run(
        [sys.executable, "-c", "from swsgx.cli.main import main; main()"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if "bash" in done.stderr and done.returncode:
        pytest.skip("click found no bash of version 4.4 or newer: install one to run this")
    assert "swsgx" in done.stdout


def test_completion_offers_the_commands(checkout: Path) -> None:
    env = dict(os.environ, PYTHONPATH=str(checkout / "src"), _SWSGX_COMPLETE="bash_complete")
    env |= {"COMP_WORDS": "swsgx me", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "from swsgx.cli.main import main; main()"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "measure" in done.stdout
