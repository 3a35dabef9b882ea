"""The host's SELinux as authority, with a made-up selinuxfs: what cannot be asked is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from swsgx.linux.security import Grant, Subject
from swsgx.lsm.module import Allow, Deny, Open, Origin, OriginClass
from swsgx.lsm.policy.te import PERMISSIONS
from swsgx.lsm.selinux import HostSelinux, LiveTypeEnforcement
from tests.make.events import init_event, load_event

BUILDER = "system_u:system_r:builder_t:s0"
CODE = "system_u:object_r:code_t:s0"
ENCLAVE = "system_u:object_r:encl_t:s0"
CLASS = 97
ASKER = Subject(1, 1000, "/bin/builder", BUILDER)
FILE = Origin(kind=OriginClass.FILE, path="/code", label=CODE)


@pytest.fixture
def fs(tmp_path: Path) -> Path:
    """A selinuxfs with the class."""
    (tmp_path / "enforce").write_text("1")
    folder = tmp_path / "class" / "enclave"
    (folder / "perms").mkdir(parents=True)
    (folder / "index").write_text(str(CLASS))
    for number, name in enumerate(PERMISSIONS, 1):
        (folder / "perms" / name).write_text(str(number))
    return tmp_path


def kernel(allowed: Collection[str], flags: int = 0) -> Callable[[Path, str], str]:
    """Answers like the kernel: allows these permissions to whomever."""

    def answer(path: Path, question: str) -> str:
        if path.name == "create":
            return f"{ENCLAVE}\0"
        source, target, number, asked = question.split()
        assert (source.count(":"), target.count(":"), int(number)) == (3, 3, CLASS)
        assert int(asked, 16).bit_count() == 1
        bits = sum(1 << PERMISSIONS.index(name) for name in allowed)
        return f"{bits:x} ffffffff 0 ffffffff 5 {flags:x}"

    return answer


def module(fs: Path, *allowed: str, flags: int = 0) -> LiveTypeEnforcement:
    return LiveTypeEnforcement(HostSelinux(fs, kernel(set(allowed), flags)))


OPEN = Open(subject=ASKER, node="/dev/sgx_enclave")


def test_what_the_kernel_allows_is_allowed(fs: Path) -> None:
    assert isinstance(module(fs, "open").open(OPEN), Allow)
    refused = module(fs, "create").open(OPEN)
    assert isinstance(refused, Deny)
    assert not refused.permissive


@pytest.mark.parametrize("missing", ["enforce", "class/enclave/index", "class/enclave/perms/open"])
def test_what_is_unknown_or_off_is_refused(fs: Path, missing: str) -> None:
    (fs / missing).unlink()
    (fs / "deny_unknown").write_text("0")
    refused = module(fs, "open").open(OPEN)
    assert isinstance(refused, Deny)
    assert not refused.permissive


def test_a_host_without_selinux_is_refused(tmp_path: Path) -> None:
    assert isinstance(LiveTypeEnforcement(HostSelinux(tmp_path / "none")).open(OPEN), Deny)


@pytest.mark.parametrize("answer", ["", "1", "x y z w 1 0"])
def test_an_answer_that_is_none_is_a_refusal(fs: Path, answer: str) -> None:
    asked = LiveTypeEnforcement(HostSelinux(fs, lambda path, question: answer))
    assert isinstance(asked.open(OPEN), Deny)


@pytest.mark.parametrize("label", ["", "builder_t", "a:b c:d", "unconfined", "a:b:c\n"])
def test_a_label_that_is_no_context_may_nothing(fs: Path, label: str) -> None:
    subject = dataclasses.replace(ASKER, label=label)
    assert isinstance(module(fs, *PERMISSIONS).open(Open(subject=subject, node="/dev/sgx_enclave")), Deny)


def test_permissive_hosts_and_types_only_tell(fs: Path) -> None:
    refused = module(fs, flags=1).open(OPEN)
    assert isinstance(refused, Deny)
    assert refused.permissive
    (fs / "enforce").write_text("0")
    refused = module(fs).open(OPEN)
    assert isinstance(refused, Deny)
    assert refused.permissive


def test_files_are_asked_about_by_their_context_and_enclaves_by_the_hosts_transition(fs: Path) -> None:
    asked = module(fs, "load", "execute", "init", "execdirty")
    assert isinstance(asked.load(load_event(ASKER, FILE)), Allow)
    assert isinstance(asked.load(load_event(ASKER, dataclasses.replace(FILE, unwatched=True))), Deny)
    label = asked.label(init_event(ASKER, FILE))
    assert label is not None
    assert (label.name, label.default) == (ENCLAVE, True)
    answer = asked.init(init_event(ASKER, FILE, label=ENCLAVE))
    assert isinstance(answer, Allow)
    assert answer.grants == Grant.EXECDIRTY | Grant.MODTYPE


def test_a_policy_that_changes_is_asked_again(fs: Path) -> None:
    allowed = {"load", "execute"}
    asked = LiveTypeEnforcement(HostSelinux(fs, lambda path, question: kernel(allowed)(path, question)))
    assert isinstance(asked.load(load_event(ASKER, FILE)), Allow)
    allowed.clear()
    assert isinstance(asked.load(load_event(ASKER, FILE)), Deny)


def test_the_real_files_are_opened_once_for_question_and_answer(fs: Path) -> None:
    # An ordinary file gives back what was written: no answer, and so a refusal.
    (fs / "access").write_text("")
    assert isinstance(LiveTypeEnforcement(HostSelinux(fs)).open(OPEN), Deny)
    assert (fs / "access").read_text().split()[:2] == [BUILDER, "system_u:object_r:sgx_device_t:s0"]
