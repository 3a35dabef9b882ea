"""A folder with an enclave's files, and programs that are run there by the plain driver and under policies."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swsgx.isa.sigstruct import Sigstruct
from swsgx.lsm.audit import Decision
from swsgx.lsm.audit_reader import read_events
from tests.make import supervised
from tests.make.sgx_program import Programs, enclave_source, ended_well

__all__ = ["PAGE", "Place", "plain", "policed_place"]

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


@dataclass
class Place:
    """A folder with an enclave's files, and what is run there.

    Attributes:
        folder: it.
        programs: where programs are built.
        options: of ``swsgx run``.
        before: words that ``swsgx run`` is run by.
    """

    folder: Path
    programs: Programs
    options: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)

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
        if kind in ("te", "nobody", "unable", "debugger"):
            text = TYPES.format(
                folder=plain(self.folder), program="/none" if kind == "nobody" else plain(program)
            )
            text = text.replace(" map_exec", "") if kind == "unable" else text
            text += "allow builder_t encl_t : enclave debug;\n" if kind == "debugger" else ""
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

    def write(self, name: str, text: str) -> Path:
        """A file with ``{folder}`` replaced by the pattern of this one."""
        file = self.folder / name
        file.write_text(text.replace("{folder}", plain(self.folder)), encoding="utf-8")
        return file

    def swsgx(self, *words: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of swsgx in the folder, to its end."""
        given = {"env": supervised.environment(), "cwd": self.folder, "timeout": 100, **how}
        command = [*self.before, *supervised.swsgx_run()[:3], *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, **given)

    def finish(self, program: Path, *words: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run a program under the options, to its end."""
        audit = ["--audit", str(self.audit)] if self.options else []
        return self.swsgx("run", *self.options, *audit, "--", program, *words, **how)

    def run(self, program: Path, *words: str, **how: Any) -> str:
        """The same, to its good end; what it says."""
        return ended_well(self.finish(program, *words, **how))

    def denials(self) -> list[Decision]:
        """What the audit file holds of refusals."""
        events = read_events(self.audit.read_text(encoding="ascii")) if self.audit.exists() else []
        return [event.record for event in events if isinstance(event.record, Decision)]


def plain(path: Path) -> str:
    """A path as a pattern that matches it only."""
    return re.sub(r"[^\w/]", lambda sign: f"[{sign.group()}]" if sign.group() != "-" else "-", str(path))


def policed_place(programs: Programs, folder: Path) -> Place:
    """The folder, with what all the programs ``policy_*.c`` load from it.

    Args:
        programs: where they are built.
        folder: an empty one.
    """
    folder.chmod(0o755)
    end = max(run.end for run in enclave_source().build().plan.entries)
    with (programs.enclave / "image").open("rb") as image:
        code = image.read(end)
    (folder / "code.bin").write_bytes(code)
    (folder / "plain.bin").write_bytes(code)
    (folder / "zeros.bin").write_bytes(bytes(2 * PAGE))
    (folder / "pages.bin").write_bytes(b"".join(bytes([1 + page]) * PAGE for page in range(8)))
    for name, signature in (
        ("enclave", "sigstruct"),
        ("loose", "sigstruct_loose"),
        ("wrong", "sigstruct_loose"),
        ("unmeasured", "sigstruct_unmeasured"),
        ("entry", "sigstruct_entry"),
    ):
        shutil.copy(programs.enclave / signature, folder / f"{name}.sig")
    return Place(folder, programs)
