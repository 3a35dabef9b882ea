#!/usr/bin/env python3
"""Coverage-guided fuzzing of one parser, with atheris: `tools/fuzz.py PARSER [libFuzzer options] [CORPUS ...]`.

Needs `pip install atheris` (not among the dependencies: it is for people, by hand). A parser may refuse with its own
error type; anything else is a finding. Examples::

    tools/fuzz.py elf -max_total_time=600 build/fuzz/elf
    tools/fuzz.py sgxs -max_total_time=600 build/fuzz/sgxs
    tools/fuzz.py te -max_total_time=600 build/fuzz/te

Without a corpus folder it starts from the example enclaves, if they are built; for policies (te, identity, integrity)
from the example policies.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["swsgx", "elftools"]):
    from swsgx.identity.errors import IdentityError
    from swsgx.identity.rsakey import load_private_key, load_public_key
    from swsgx.identity.signature import verify
    from swsgx.identity.signer import complete
    from swsgx.image.enclave import plan_of
    from swsgx.image.errors import ImageError
    from swsgx.image.sgxs import fix_size, scan
    from swsgx.isa.sigstruct import Sigstruct
    from swsgx.lsm.policy.errors import PolicyError
    from swsgx.lsm.policy.load import parse
    from swsgx.lsm.policy.patterns import Pattern, PatternError
    from swsgx.lsm.policy.source import Source

EXAMPLES = Path(__file__).resolve().parent.parent / "build" / "examples"
POLICIES = Path(__file__).resolve().parent.parent / "examples" / "policies"
#: What a policy of each kind begins with, so that an input need not find it.
POLICY_HEADS = {
    "te": b"policy_module(m, 1.0)\ntype a;\n",
    "identity": b"policy_name=p policy_version=1.0.0\nDEFAULT op=ENCLAVE_INIT action=DENY\n",
    "integrity": b"measure uid=0\n",
}
#: Enclaves that are larger than this are not measured here: hashing zeros finds nothing.
MEASURED = 1 << 22


def elf(data: bytes) -> None:
    """Any enclave file by its content, measured if it is small."""
    plan = plan_of("fuzz", memoryview(data))
    plan.validate()
    if sum(run.count for run in plan.entries) * 4096 <= MEASURED:
        plan.measure()


def sgxs(data: bytes) -> None:
    """A stream and its plan."""
    scan("fuzz", memoryview(data)).plan()


def unsized(data: bytes) -> None:
    """The fixing of an unsized stream."""
    fix_size("fuzz", memoryview(data))


def sigstruct(data: bytes) -> None:
    """All verdicts on a SIGSTRUCT."""
    signed = Sigstruct.copy_of((data + bytes(Sigstruct.size_of))[: Sigstruct.size_of])
    for reason in verify(signed).reasons:
        str(reason)


def pem(data: bytes) -> None:
    """A private key."""
    load_private_key(data)


def public_pem(data: bytes) -> None:
    """A public key, and a signature made elsewhere."""
    complete(Sigstruct(), load_public_key(data), data[:384])


def policy(data: bytes) -> None:
    """A policy of any kind, whatever its beginning makes it."""
    parse([Source("fuzz", data)])


def policy_behind(head: bytes) -> Callable[[bytes], None]:
    """The rest of a policy that begins with ``head``."""
    return lambda data: policy(head + data)


def pattern(data: bytes) -> None:
    """A pattern of paths, and a match."""
    Pattern(data.decode(errors="replace")).matches("/opt/acme/lib/x.so")


#: What is tried with each input, one after the other.
PARSERS: dict[str, tuple[Callable[[bytes], None], ...]] = {
    "elf": (elf,),
    "sgxs": (sgxs, unsized),
    "sigstruct": (sigstruct,),
    "pem": (pem, public_pem),
    "te": (policy, policy_behind(POLICY_HEADS["te"]), pattern),
    "identity": (policy, policy_behind(POLICY_HEADS["identity"])),
    "integrity": (policy, policy_behind(POLICY_HEADS["integrity"])),
}


def main() -> None:
    """Run libFuzzer over the chosen parser."""
    if len(sys.argv) < 2 or sys.argv[1] not in PARSERS:
        sys.exit(f"usage: fuzz.py {'|'.join(PARSERS)} [libFuzzer options] [CORPUS ...]")
    parsers = PARSERS[sys.argv[1]]

    def one(data: bytes) -> None:
        for parse in parsers:
            try:
                parse(data)
            except (ImageError, IdentityError, PatternError) as error:
                str(error)
            except PolicyError as error:
                for problem in error.problems:
                    "".join(problem.lines())

    arguments = [sys.argv[0], *sys.argv[2:]]
    for folder in arguments[1:]:
        if not folder.startswith("-"):
            Path(folder).mkdir(parents=True, exist_ok=True)
    if all(argument.startswith("-") for argument in arguments[1:]):
        if sys.argv[1] in POLICY_HEADS:
            # libFuzzer writes into its first folder, and the examples are sources.
            corpus = EXAMPLES.parent / "fuzz" / sys.argv[1]
            corpus.mkdir(parents=True, exist_ok=True)
            arguments += [str(corpus), str(POLICIES)]
        elif EXAMPLES.is_dir():
            arguments.append(str(EXAMPLES))
    atheris.Setup(arguments, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
