"""``swsgx mappings`` of trees that run: which pages, where from, and who allowed them.

Programs are ``policy_mappings.c``, which builds an enclave of a file and then waits to be looked at, and ``figures.c``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from swsgx.cli.mapped_words import NOBODY
from swsgx.supervisor import trees
from swsgx.supervisor.inquiries import ASKS
from tests.make import supervised
from tests.make.native_enclave import NEEDS_GCC
from tests.make.page import parsed
from tests.make.sgx_program import Programs, enclave_source
from tests.make.told import running, supervisor_of, swsgx

pytestmark = NEEDS_GCC

PAGE = 4096
TYPES = """policy_module(acme, 1.0)
type builder_t; type code_t; type sig_t; type encl_t;
subjcon exe "{program}" builder_t
filecon "{folder}/.*[.]bin" code_t
filecon "{folder}/.*[.]sig" sig_t
allow builder_t sgx_device_t : enclave {{ open create }};
allow builder_t code_t : enclave {{ load execute }};
allow builder_t sig_t : enclave init;
allow builder_t encl_t : enclave {{ use map_read map_write map_exec }};
allow encl_t self : enclave {{ augexec execdirty }};
type_transition builder_t sig_t : enclave encl_t;
"""
IDENTITY = """policy_name=acme policy_version=1.0.0
DEFAULT op=ENCLAVE_INIT action=DENY
op=ENCLAVE_INIT grant=augexec,execdirty action=ALLOW
"""
INTEGRITY = """measure func=ENCLAVE_LOAD mask=MAY_EXEC
measure func=ENCLAVE_INIT
measure func=ENCLAVE_AUG
"""


class Place:
    """A folder with an enclave's files and a policy for it."""

    def __init__(self, folder: Path, programs: Programs) -> None:
        self.folder = folder
        self.program = programs.build("policy_mappings.c")
        end = max(run.end for run in enclave_source().build().plan.entries)
        with (programs.enclave / "image").open("rb") as image:
            (folder / "code.bin").write_bytes(image.read(end))
        (folder / "zeros.bin").write_bytes(bytes(2 * PAGE))
        shutil.copy(programs.enclave / "sigstruct_loose", folder / "loose.sig")
        self.files = {"acme.te": TYPES, "acme.identity": IDENTITY, "acme.integrity": INTEGRITY}

    def options(self, *names: str) -> list[str]:
        """Policies by their names; of types first, which name the program."""
        found = []
        for name in names:
            text = self.files[name]
            if name.endswith(".te"):
                text = text.format(folder=_pattern(self.folder), program=_pattern(self.program))
            (self.folder / name).write_text(text, encoding="utf-8")
            found += ["--policy", str(self.folder / name)]
        return found

    @contextmanager
    def waiting(self, *options: str, words: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
        """The program, when it has done its work."""
        command = [*supervised.swsgx_run()[:-1], *options, "--", str(self.program), *words]
        with subprocess.Popen(
            command,
            env=supervised.environment(),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                assert process.stdout.readline() == "ready\n"
                yield process
                process.stdin.close()
                assert process.wait(30) == 0
            finally:
                process.kill()


def _pattern(path: Path) -> str:
    return "".join(c if c.isalnum() or c in "/_-" else f"[{c}]" for c in str(path))


@pytest.fixture
def place(programs: Programs, tmp_path: Path, can_supervise: None) -> Place:
    tmp_path.chmod(0o755)
    return Place(tmp_path, programs)


def mappings(pid: int, *options: str) -> dict[str, Any]:
    done = swsgx("mappings", "--json", *options, pid)
    assert done.returncode == 0, done.stderr
    (tree,) = json.loads(done.stdout)["trees"]
    found = tree["mappings"]
    assert isinstance(found, dict)
    return found


def runs(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [run for process in found["processes"] for one in process["mappings"] for run in one["runs"]]


def rules(allowed: list[dict[str, Any]]) -> dict[str, list[str]]:
    """By module, without folders."""
    return {one["module"]: [rule.rpartition("/")[2] for rule in one["rules"]] for one in allowed}


# Without a policy.


def test_before_anybody_uses_sgx_there_are_no_mappings() -> None:
    with running("cat") as cat:
        done = swsgx("mappings", cat.pid)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"swsgx run {cat.pid}: cat\nno program of the tree has used SGX yet\n"


def test_without_a_policy_nobody_was_asked(programs: Programs) -> None:
    with running(programs.build("figures.c")) as told:
        told.do("load")
        found = mappings(told.pid)
        (enclave,), (run,) = found["enclaves"], runs(found)
        assert found["security"] is None
        assert (enclave["asked"], enclave["init"], enclave["initialised"]) == (False, None, True)
        assert len(enclave["mrenclave"]) == len(enclave["mrsigner"]) == 64
        assert run.keys() == {"start", "end", "type", "ceiling", "asked"}
        assert (run["type"], run["ceiling"], run["asked"]) == ("reg", "r-x", False)
        assert NOBODY in swsgx("mappings", told.pid).stdout


def test_all_shows_what_is_not_executable_too(programs: Programs) -> None:
    with running(programs.build("figures.c")) as told:
        told.do("load")
        told.do("grow", 20)
        assert {one["prot"] for p in mappings(told.pid)["processes"] for one in p["mappings"]} == {"r-x"}
        found = mappings(told.pid, "--all")
        protections = {one["prot"] for process in found["processes"] for one in process["mappings"]}
        assert {"r-x", "rw-"} <= protections
        types = {run["type"] for run in runs(found)}
        assert {"reg", "tcs"} <= types
        (heap,) = [run for run in runs(found) if run["ceiling"] == "rwx"]
        assert (heap["end"] - heap["start"]) // PAGE == 20
        assert found["processes"][0]["name"].startswith("figures")


def test_an_enclave_under_construction_has_no_identity(programs: Programs) -> None:
    with running(programs.build("figures.c")) as told:
        told.do("debug")
        (enclave,) = mappings(told.pid, "--all")["enclaves"]
        assert (enclave["initialised"], enclave["mrenclave"], enclave["mrsigner"]) == (False, None, None)


# With modules.


def test_under_no_unmeasured_exec_pages_tell_that_they_are_measured(place: Place) -> None:
    with place.waiting("--lsm", "no_unmeasured_exec") as process:
        found = mappings(process.pid)
        (run,) = runs(found)
        assert found["security"]["modules"] == ["capability", "no_unmeasured_exec"]
        assert (run["asked"], run["measured"], run["ever_w"], run["ever_x"]) == (True, True, False, True)
        assert run["origin"]["path"] == str(place.folder / "code.bin")
        assert run["entry"] is None
        assert rules(run["admitted"]["allowed"]) == {"capability": [], "no_unmeasured_exec": []}


def test_rules_that_allowed_are_told_for_pages_mappings_and_init(place: Place) -> None:
    with place.waiting(*place.options("acme.te", "acme.identity")) as process:
        found = mappings(process.pid)
        (mapping,) = found["processes"][0]["mappings"]
        (run,) = mapping["runs"]
        (enclave,) = found["enclaves"]
        assert rules(run["admitted"]["allowed"]) == {"capability": [], "te": ["acme.te:7"], "identity": []}
        assert rules(mapping["judged"]["allowed"]) == {"capability": [], "te": ["acme.te:9"], "identity": []}
        assert rules(enclave["init"]["allowed"]) == {
            "capability": [],
            "te": ["acme.te:8", "acme.te:11", "acme.te:10"],
            "identity": ["acme.identity:3"],
        }
        assert enclave["label"] == "encl_t"
        assert enclave["grants"] == ["execdirty", "augexec"]
        assert enclave["sigstruct"]["path"] == str(place.folder / "loose.sig")
        assert mapping["judged"]["subject"]["pid"] == found["processes"][0]["pid"]
        assert mapping["judged"]["subject"]["exe"] == str(place.program)
        assert mapping["judged"]["current"]


def test_pages_are_told_with_their_place_in_the_file(place: Place) -> None:
    with place.waiting(*place.options("acme.te", "acme.identity")) as process:
        found = mappings(process.pid, "--all")
        (enclave,) = found["enclaves"]
        of_file = [run for run in runs(found) if run["type"] and run["origin"]]
        status = (place.folder / "code.bin").stat()
        code = [run for run in of_file if run["origin"]["path"].endswith("/code.bin")]
        assert len(code) > 5
        for run in code:
            assert run["origin"]["offset"] == run["start"] - enclave["base"]
            assert run["origin"]["inode"] == status.st_ino
            assert run["origin"]["device"] == f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"


def test_code_that_the_enclave_filled_tells_its_grants_and_its_entry(place: Place) -> None:
    options = place.options("acme.te", "acme.identity", "acme.integrity")
    with place.waiting(*options, words=("code",)) as process:
        found = mappings(process.pid)
        first, second = runs(found)
        assert (first["augmented"], first["used"]) == (False, [])
        assert first["entry"]["template"] == "encl-load"
        assert first["origin"]["digest"].startswith("sha256:")
        assert (second["augmented"], second["measured"]) == (True, False)
        assert (second["ever_w"], second["ever_x"]) == (True, True)
        assert second["used"] == ["execdirty", "augexec"]
        assert second["entry"]["template"] == "encl-aug"
        assert second["admitted"] is not None
        (enclave,) = found["enclaves"]
        assert enclave["entry"]["template"] == "encl-init"
        numbers = [first["entry"]["number"], enclave["entry"]["number"], second["entry"]["number"]]
        assert numbers == sorted(set(numbers))


def test_an_entry_is_the_one_of_the_list_also_where_the_list_goes_on(place: Place) -> None:
    options = [*place.options("acme.te", "acme.identity", "acme.integrity")]
    options += ["--measurements", str(place.folder / "list")]
    with place.waiting(*options) as process:
        before = mappings(process.pid)["enclaves"][0]["entry"]["number"]
    with place.waiting(*options) as process:
        found = mappings(process.pid)
        assert found["enclaves"][0]["entry"]["number"] == 2 * before
        (run,) = runs(found)
        assert before < run["entry"]["number"] < 2 * before


def test_in_permissive_mode_a_refusal_does_not_pass_for_a_yes(place: Place) -> None:
    place.files["acme.te"] = place.files["acme.te"].replace("map_exec ", "")
    options = place.options("acme.te", "acme.identity")
    with place.waiting("--permissive", *options, words=("code",)) as process:
        found = mappings(process.pid)
        assert found["security"]["mode"] == "permissive"
        for one in found["processes"][0]["mappings"]:
            (te,) = [by for by in one["judged"]["allowed"] if by["module"] == "te"]
            assert te["overruled"] == "type enforcement allows it"
        assert (
            "te only recorded its refusal (type enforcement allows it)"
            in swsgx("mappings", process.pid).stdout
        )


def test_a_mapping_that_a_new_policy_does_not_allow_says_why(place: Place) -> None:
    options = place.options("acme.te", "acme.identity")
    with place.waiting(*options) as process:
        file = place.folder / "acme.te"
        file.write_text(file.read_text().replace("map_exec ", ""), encoding="utf-8")
        os.kill(process.pid, signal.SIGHUP)
        for _ in range(200):
            found = mappings(process.pid, "--all")
            if found["security"]["generation"]:
                break
            time.sleep(0.05)
        said = [one["judged"]["withdrawn"] for one in found["processes"][0]["mappings"]]
        assert [text for text in said if text] == ["type enforcement allows it (security module te)"]
        assert not runs(mappings(process.pid))


def test_text_and_page_are_made_of_a_real_run(place: Place) -> None:
    options = place.options("acme.te", "acme.identity", "acme.integrity")
    with place.waiting(*options, words=("code",)) as process:
        text = swsgx("mappings", process.pid).stdout
        assert f"te ({place.folder}/acme.te:9); also capability, identity, integrity" in text
        done = swsgx("mappings", "--html", place.folder / "page.html", process.pid)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        body = parsed((place.folder / "page.html").read_text(encoding="utf-8")).one("body")
        assert "te (acme.te:9); also capability, identity, integrity" in body.text


# Asking.


def ask(tree: trees.Tree, name: bytes) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.bind(b"\0" + name + os.urandom(8).hex().encode())
        connection.connect(f"\0{tree.name}")
        with connection.makefile("rb") as stream:
            return dict(json.loads(stream.read()))


@pytest.mark.parametrize(
    "name", [b"other/", ASKS.encode(), ASKS.encode() + b"\xff\n/", ASKS.encode() + b"mapping/"]
)
def test_a_question_that_nobody_knows_is_answered_with_figures(programs: Programs, name: bytes) -> None:
    with running(programs.build("figures.c")) as told:
        told.do("load")
        supervisor_of(told.pid)
        (tree,) = [one for one in trees.trees() if one.front == told.pid]
        found = ask(tree, name)
        assert found["machine"]["enclaves"]
        assert "mappings" not in found


def test_who_asks_is_no_tree(programs: Programs) -> None:
    with running(programs.build("figures.c")) as told:
        (tree,) = [one for one in trees.trees() if one.front == told.pid]
        assert ask(tree, ASKS.encode() + b"mappings/")["mappings"] is None
        assert [one for one in trees.trees() if one.front == told.pid] == [tree]


def test_runs_beyond_what_an_answer_holds_are_counted(programs: Programs) -> None:
    """In a supervisor's place: what is told does not depend on who is told."""
    code = "import swsgx.supervisor.mappings as m; m.MOST_RUNS = 3\nfrom swsgx.cli.entry import main; main()"
    command = [sys.executable, "-c", code, "run", "--", str(programs.build("figures.c"))]
    with subprocess.Popen(
        command, env=supervised.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write("load 0\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ok\n"
            found = mappings(process.pid, "--all")
            assert len(runs(found)) == 3
            assert found["left_off"] > 0
        finally:
            process.kill()
