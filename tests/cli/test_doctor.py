"""``swsgx doctor``: each finding, and what it means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swsgx.cli import doctor
from swsgx.native import images
from tests.make.command import Command


def report(swsgx: Command) -> dict[str, dict[str, object]]:
    return {finding["name"]: finding for finding in json.loads(swsgx("doctor", "--json").out)}


def test_every_line_has_a_state_a_name_and_what_was_found(swsgx: Command) -> None:
    ran = swsgx("doctor")
    assert ran.status in (0, 1)
    lines = ran.out.splitlines()
    assert len(lines) == len(json.loads(swsgx("doctor", "--json").out))
    assert all(line.split()[0] in ("ok", "missing", "note") for line in lines)


def test_missing_images_make_the_answer_no_and_tell_the_remedy(
    swsgx: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(images, "IMAGES", tmp_path / "none")
    ran = swsgx("doctor")
    assert ran.status == 1
    assert ran.refusal == "swsgx doctor: this machine cannot run enclaves: missing native images"
    assert "make -C native" in ran.out


def test_another_system_is_said_to_measure_and_sign_only(
    swsgx: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    machine = report(swsgx)["machine"]
    assert machine["state"] == "missing"
    assert "measuring and signing work here" in str(machine["use"])


@pytest.mark.parametrize(
    ("release", "state"), [("4.19.0-1", "missing"), ("5.10.0", "ok"), ("6.18.4-x", "ok")]
)
def test_an_old_kernel_is_missing(
    swsgx: Command, monkeypatch: pytest.MonkeyPatch, release: str, state: str
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    assert report(swsgx)["kernel"]["state"] == state


def test_a_cpu_with_everything_and_one_with_nothing(swsgx: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {"fsgsbase", "pku", "ospke", "xsave", "avx", "avx512f", "sgx"}
    monkeypatch.setattr(doctor, "_fsgsbase_enabled", lambda: True)
    monkeypatch.setattr(doctor, "_cpu_flags", lambda: everything)
    told = report(swsgx)
    for name in ("fsgsbase", "protection keys", "xsave", "avx", "avx512f"):
        assert told[name]["state"] == "ok"
    assert "not used" in str(told["SGX hardware"]["use"])
    monkeypatch.setattr(doctor, "_cpu_flags", lambda: set[str]())
    told = report(swsgx)
    for name in ("fsgsbase", "protection keys", "xsave", "avx", "avx512f"):
        assert told[name]["state"] == "missing"
        assert told[name]["use"]


def test_fsgsbase_needs_the_kernels_word_too(swsgx: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_cpu_flags", lambda: {"fsgsbase"})
    monkeypatch.setattr(doctor, "_fsgsbase_enabled", lambda: False)
    assert report(swsgx)["fsgsbase"]["state"] == "missing"


def test_real_nodes_are_told_and_left_alone(swsgx: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_NODES", ("/dev/null", "/proc/nonexistent"))
    nodes = report(swsgx)["device nodes"]
    assert nodes["state"] == "note"
    assert "/dev/null" in str(nodes["found"])


def test_no_compiler_is_no_obstacle(swsgx: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/proc/nonexistent")
    compiler = report(swsgx)["C compiler"]
    assert (compiler["state"], compiler["needed"]) == ("missing", False)
