"""Policy files become a stack: which modules, in which order; reloading; what is audited."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from swsgx.linux.security import Open, Subject
from swsgx.lsm import registry
from swsgx.lsm.appraisal import AppraisalError
from swsgx.lsm.assembly import Assembled, assemble
from swsgx.lsm.audit import AuditLog, Decision, ModeChange, PolicyLoad, Record
from swsgx.lsm.audit_reader import read_events
from swsgx.lsm.measurement import MeasurementError
from swsgx.lsm.measurement_log import MeasurementLog
from swsgx.lsm.module import Module
from swsgx.lsm.pcr import PcrError
from swsgx.lsm.policy.errors import PolicyError
from tests.make.enforced import APP, BUILDER

OPENED_BY = Open(subject=BUILDER, node="/dev/sgx_enclave")


@pytest.fixture
def files(tmp_path: Path, checkout: Path) -> list[str]:
    """A copy of the example policies."""
    copied = []
    for name in ("acme.te", "acme.identity", "acme.integrity"):
        shutil.copy(checkout / "examples" / "policies" / name, tmp_path / name)
        copied.append(str(tmp_path / name))
    return copied


def records(path: Path) -> list[Record]:
    return [event.record for event in read_events(path.read_text(encoding="ascii"))]


def replace_in(path: str, old: str, new: str) -> None:
    text = Path(path).read_text(encoding="utf-8")
    assert old in text
    Path(path).write_text(text.replace(old, new), encoding="utf-8")


class Other(Module):
    """Of a third party."""

    name = "other"


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if somebody had installed a module."""
    monkeypatch.setattr(registry, "BUILT_IN", {**registry.BUILT_IN, "other": Other})


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    ("kinds", "names", "wanted"),
    [
        ([0, 1, 2], [], "capability te identity integrity"),
        (
            [2, 1, 0],
            ["other", "no_unmeasured_exec"],
            "capability te identity integrity no_unmeasured_exec other",
        ),
        ([1], ["selinux"], "capability selinux identity"),
        ([], ["no_unmeasured_exec"], "capability no_unmeasured_exec"),
        ([], [], "capability"),
    ],
)
def test_modules_come_in_one_order(
    files: list[str], kinds: Sequence[int], names: Sequence[str], wanted: str
) -> None:
    # Alone, an identity policy may not name types that nobody declares; it does not know that nobody does.
    with assemble([files[kind] for kind in kinds], modules=names) as made:
        assert " ".join(made.stack.modules) == wanted


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["te"], ValueError),
        (["selinux"], ValueError),
        (["nobody"], LookupError),
        (["no_unmeasured_exec"] * 2, ValueError),
    ],
)
def test_a_name_that_is_no_choice_is_an_error(
    files: list[str], names: list[str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        assemble(files, modules=names)


def test_what_cannot_be_opened_is_told_and_leaves_nothing_open(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(AppraisalError):
        assemble(files, keys=[tmp_path / "none.pem"])
    with pytest.raises(PcrError):
        assemble(files, tcti="nonsense")
    with pytest.raises(MeasurementError):
        assemble(files, measurements=tmp_path / "no" / "list")
    with pytest.raises(FileNotFoundError):
        assemble([*files, "missing.te"])
    listed = tmp_path / "list"
    with assemble(files, measurements=listed) as made:
        assert isinstance(made.measurements, MeasurementLog)
        with pytest.raises(MeasurementError, match="another process"):
            assemble(files, measurements=listed)
    assemble(files, measurements=listed).close()


def test_tpm_that_would_never_be_extended_is_an_error(files: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no policy measures anything, so this TPM would never be extended"):
        assemble(files[:2], tcti="nonsense")
    appraises = tmp_path / "appraises.integrity"
    appraises.write_text("dont_measure func=ENCLAVE_AUG\nappraise func=ENCLAVE_LOAD\n")
    with pytest.raises(ValueError, match="would never be extended"):
        assemble([str(appraises)], measurements=tmp_path / "list", tcti="nonsense")
    assert not (tmp_path / "list").exists()


def test_loading_is_audited_file_by_file(files: list[str], tmp_path: Path) -> None:
    log = tmp_path / "audit"
    assemble(files, audit=log).close()
    told = [(one.lsm, one.name, one.loaded) for one in records(log) if isinstance(one, PolicyLoad)]
    assert told == [("te", "acme", True), ("identity", "acme", True), ("integrity", "acme", True)]


def test_refusals_are_written_with_the_types_of_subject_and_target(files: list[str], tmp_path: Path) -> None:
    log = tmp_path / "audit"
    with assemble(files, audit=log) as made:
        assert made.stack.decide(Open(subject=APP, node="/dev/sgx_enclave")).reason is not None
    [decision] = [one for one in records(log) if isinstance(one, Decision)]
    assert (decision.scontext, decision.tcontext, decision.permissions) == (
        "app_t",
        "sgx_device_t",
        ("open",),
    )
    assert (decision.lsm, decision.exe, decision.errno, decision.denied) == ("te", APP.exe, "EACCES", True)


def test_a_log_that_is_given_open_stays_open(files: list[str], tmp_path: Path) -> None:
    with AuditLog(tmp_path / "audit") as log:
        assemble(files, audit=log).close()
        log.write(ModeChange(lsm="x", enforcing=True, was=False))


def test_permissive_refuses_nothing_and_the_mode_can_change(files: list[str], tmp_path: Path) -> None:
    event = Open(subject=APP, node="/dev/sgx_enclave")
    with assemble(files, enforcing=False, audit=tmp_path / "audit") as made:
        assert made.stack.decide(event).reason is None
        generation = made.stack.generation
        made.enforce(True)
        assert made.stack.decide(event).reason is not None
        assert made.stack.generation > generation
    changes = [one for one in records(tmp_path / "audit") if isinstance(one, ModeChange)]
    assert [(change.enforcing, change.was) for change in changes] == [(False, True), (True, False)]


def test_log_of_a_permissive_run_says_so_before_anything_is_refused(files: list[str], tmp_path: Path) -> None:
    for enforcing, modes in ((True, []), (False, [False])):
        log = tmp_path / str(enforcing)
        assemble(files, enforcing=enforcing, audit=log).close()
        assert [one.enforcing for one in records(log) if isinstance(one, ModeChange)] == modes


def test_who_logged_in_is_told_with_a_policy_and_with_a_mode(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.read_text

    def told(path: Path, *how: Any, **more: Any) -> str:
        known = {"/proc/self/loginuid": "1000", "/proc/self/sessionid": "3\n"}
        return known.get(str(path)) or real(path, *how, **more)

    monkeypatch.setattr(Path, "read_text", told)
    assemble(files, enforcing=False, audit=tmp_path / "one").close()
    found = [(one.auid, one.ses) for one in records(tmp_path / "one") if not isinstance(one, Decision)]
    assert found == [(1000, 3)] * 4

    def missing(path: Path, *how: Any, **more: Any) -> str:
        if str(path).startswith("/proc/self/"):
            raise FileNotFoundError(path)
        return real(path, *how, **more)

    monkeypatch.setattr(Path, "read_text", missing)
    assemble(files, enforcing=False, audit=tmp_path / "two").close()
    unset = (1 << 32) - 1
    found = [(one.auid, one.ses) for one in records(tmp_path / "two") if not isinstance(one, Decision)]
    assert found == [(unset, unset)] * 4


# Reloading.


def opens(made: Assembled, subject: Subject = BUILDER) -> bool:
    return made.stack.decide(Open(subject=subject, node="/dev/sgx_enclave")).reason is None


def test_a_reload_is_in_force_from_then_on(files: list[str], tmp_path: Path) -> None:
    with assemble(files, audit=tmp_path / "audit") as made:
        assert opens(made)
        generation = made.stack.generation
        replace_in(files[0], "enclave { open create }", "enclave create")
        replace_in(files[1], "policy_version=1.0.0", "policy_version=1.0.1")
        made.reload()
        assert not opens(made)
        assert made.stack.generation > generation
    told = [one.version for one in records(tmp_path / "audit") if isinstance(one, PolicyLoad)]
    assert told == ["1.0", "1.0.0", "", "1.0", "1.0.1", ""]


def test_a_policy_with_mistakes_leaves_the_old_one_and_says_where(files: list[str], tmp_path: Path) -> None:
    with assemble(files, audit=tmp_path / "audit") as made:
        old = made.policy
        replace_in(files[0], "type app_t;", "type app_t\n")
        with pytest.raises(PolicyError) as caught:
            made.reload()
        place = caught.value.problems[0].place
        assert (place.file, place.line > 1, place.column >= 1) == (files[0], True, True)
        assert made.policy is old
        assert opens(made)
    refused = [one for one in records(tmp_path / "audit") if isinstance(one, PolicyLoad) and not one.loaded]
    assert [one.name for one in refused] == [files[0]]


def test_a_version_that_goes_back_is_refused(files: list[str]) -> None:
    with assemble(files) as made:
        replace_in(files[1], "policy_version=1.0.0", "policy_version=0.9.0")
        with pytest.raises(PolicyError) as caught:
            made.reload()
        assert str(caught.value.problems[0].place) == f"{files[1]}:1"
        assert made.policy.identity is not None
        assert made.policy.identity.version == "1.0.0"


def test_a_file_that_becomes_another_kind_or_goes_is_refused(files: list[str]) -> None:
    with assemble(files) as made:
        text = Path(files[2]).read_text(encoding="utf-8")
        Path(files[2]).write_text("policy_module(more, 1.0)\ntype more_t;\n", encoding="utf-8")
        with pytest.raises(ValueError, match="keeps its kinds"):
            made.reload()
        Path(files[2]).unlink()
        with pytest.raises(FileNotFoundError):
            made.reload()
        Path(files[2]).write_text(text, encoding="utf-8")
        made.reload()


def test_what_was_measured_before_a_reload_is_not_measured_again(files: list[str]) -> None:
    from tests.make.enforced import from_file, owner_key
    from tests.make.events import load_event

    with assemble(files, keys=[owner_key().public_key()]) as made:
        assert made.measurements is not None
        for _ in range(2):
            event = load_event(BUILDER, from_file())
            answer = made.stack.decide(event)
            assert answer.reason is None
            assert made.stack.commit(event, answer) is None
            made.reload()
        assert len(made.measurements.entries) == 1
