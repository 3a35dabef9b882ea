"""``swsgx policy``: checks policy files, explains what they say, learns from refusals, and tries assertions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swsgx.cli.audit_file import explain_records, learn
from swsgx.cli.errors import EXIT_REFUSED, Refused, one_line, policy_mistakes, usage
from swsgx.cli.options import existing_file

if TYPE_CHECKING:
    from swsgx.lsm.policy.load import PolicySet
    from swsgx.lsm.policy.questions import Answer
    from swsgx.lsm.policy.te import TeStore

__all__ = ["command"]


@click.group("policy", short_help="Check policy files, and explain what they say.")
def command() -> None:
    """Check the policy files of security modules, and ask them.

    There are three kinds, and what a file is, is found out from its first line: type enforcement, identity and
    integrity. docs/policy.md is their reference.
    """


command.add_command(learn)


@command.command("check", short_help="Check policy files together.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=existing_file)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def check(files: tuple[str, ...], as_json: bool) -> None:
    """Check policy files together, and show what is in them.

    The exit status is 1 if anything is wrong, and each mistake is told.
    """
    from swsgx.cli.output import show_json, show_table
    from swsgx.lsm.policy.load import load

    with policy_mistakes():
        policy = load(files)
    if as_json:
        names = ("path", "kind", "name", "version", "rule_count", "digest")
        told = [{name: getattr(file, name) for name in names} for file in policy.files]
        show_json({"files": told, "types": len(policy.te.types) if policy.te is not None else None})
        return
    rows = [
        [one_line(f.path), f.kind, f.name, f.version, f.rule_count, f.digest.hex()[:16]] for f in policy.files
    ]
    show_table(["file", "kind", "name", "version", "statements", "sha256"], rows, ["statements"])


@command.command("explain", short_help="Tell what a policy says, and by which rule.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=existing_file)
@click.option("--subject-type", metavar="TYPE", help="Who asks, by type.")
@click.option("--subject-exe", metavar="PATH", help="Who asks, by program.")
@click.option("--subject-label", metavar="LABEL", help="Who asks, by label.")
@click.option("--subject-uid", metavar="N", type=click.IntRange(0, (1 << 32) - 1), help="Who asks, by user.")
@click.option(
    "--target-type", metavar="TYPE", help="What it is done to, by type; the subject itself if not given."
)
@click.option(
    "--target-file", metavar="PATH", help="What it is done to, by the path of a source file or SIGSTRUCT."
)
@click.option("--permission", metavar="NAME", help="What is done; all permissions if not given.")
@click.option("--op", metavar="OPERATION", help="Ask the identity policy: ENCLAVE_INIT and so on.")
@click.option("--func", metavar="FUNCTION", help="Ask the integrity policy: ENCLAVE_LOAD and so on.")
@click.option("--mrenclave", metavar="HEX", help="A fact for the identity policy.")
@click.option("--mrsigner", metavar="HEX", help="A fact for the identity policy.")
@click.option(
    "--sigstruct", metavar="FILE.sig", type=existing_file, help="Take its facts for the identity policy."
)
@click.option("--fact", metavar="KEY=VALUE", multiple=True, help="Any other fact, as the policy writes it.")
@click.option(
    "--record",
    metavar="AUDIT_FILE",
    type=existing_file,
    help="Ask what each audit record of a file was about; - reads standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_context
def explain(
    ctx: click.Context, /, files: tuple[str, ...], record: str | None, as_json: bool, **given: Any
) -> None:
    """Tell whether something is allowed, and by which rule of FILE...

    With a subject, type enforcement is asked; with --op, the identity policy; with --func, the integrity policy; with
    --record, all that audit records were about, and what would allow it. The exit status is 1 if it is refused.
    """
    if record is not None:
        if any(value not in (None, ()) for value in given.values()):
            raise usage("--record asks its own questions: give no other")
        if not explain_records(record, files, as_json=as_json):
            ctx.exit(EXIT_REFUSED)
        return
    from swsgx.cli.output import show_json
    from swsgx.lsm.policy.load import load
    from swsgx.lsm.policy.questions import FactError

    with policy_mistakes():
        policy = load(files)
    try:
        answers = list(_answers(policy, given))
    except FactError as error:
        raise usage(str(error)) from None
    if not answers:
        raise usage("nothing is asked: give a subject, --op, --func or --record")
    if as_json:
        show_json({"answers": [_plain(question, answer) for question, answer in answers]})
    else:
        for question, answer in answers:
            _show(question, answer)
    if any(not answer.yes for _, answer in answers if answer.verdict in ("deny", "DENY")):
        ctx.exit(EXIT_REFUSED)


def _answers(policy: PolicySet, given: dict[str, Any]) -> Iterator[tuple[str, Answer]]:
    """Each question that the options ask, with its answer."""
    from swsgx.lsm.policy.questions import FactError, ask_identity, ask_integrity, facts_from

    subject = [given[f"subject_{by}"] for by in ("type", "exe", "label", "uid")]
    if any(value is not None for value in subject):
        if policy.te is None:
            raise FactError("a subject is for type enforcement, and no FILE is of that kind")
        yield from _te_answers(policy.te, given)
    if given["op"] is not None:
        if policy.identity is None:
            raise FactError("--op is for the identity policy, and no FILE is of that kind")
        facts = facts_from(_identity_words(given), "identity")
        yield f"op={given['op']}", ask_identity(policy.identity, facts)
    if given["func"] is not None:
        if policy.integrity is None:
            raise FactError("--func is for the integrity policy, and no FILE is of that kind")
        if given["op"] is not None:
            raise FactError("--op and --func are two questions: ask one at a time")
        facts = facts_from([f"func={given['func']}", *given["fact"]], "integrity")
        for action in ("measure", "appraise"):
            yield f"{action} func={given['func']}", ask_integrity(policy.integrity, action, facts)


def _te_answers(te: TeStore, given: dict[str, Any]) -> Iterator[tuple[str, Answer]]:
    from swsgx.lsm.policy.questions import FactError, ask_te

    how = []
    source = given["subject_type"]
    if source is None:
        source, rule = te.subject_type(
            label=given["subject_label"] or "", exe=given["subject_exe"] or "", uid=given["subject_uid"]
        )
        how.append(f"subject is {source}, by {rule or 'no subjcon'}")
    target = given["target_type"]
    if given["target_file"] is not None:
        if target is not None:
            raise FactError("--target-type and --target-file exclude each other")
        target, rule = te.file_type(given["target_file"])
        how.append(f"target is {target}, by {rule or 'no filecon'}")
    target = source if target is None else target
    permission = given["permission"]
    if permission is None:
        if source not in te.types or target not in te.types:
            raise FactError("no such type is declared")
        permissions = te.allowed(source, target)
        if not permissions:
            answer = ask_te(te, source, target, "use")
            yield f"{source} {target}", answer
    else:
        permissions = (permission,)
    for one in permissions:
        answer = ask_te(te, source, target, one)
        yield "; ".join([f"{source} {target} : enclave {one}", *how]), answer


def _identity_words(given: dict[str, Any]) -> list[str]:
    """The facts for the identity policy; what is given by itself comes before what a SIGSTRUCT says."""
    words = [f"op={given['op']}", *given["fact"]]
    words += [f"{key}={given[key]}" for key in ("mrenclave", "mrsigner") if given[key] is not None]
    if given["sigstruct"] is not None:
        import hashlib

        from swsgx.cli.enclaves import read_sigstruct
        from swsgx.identity.signature import mrsigner
        from swsgx.isa.flags import Attributes

        signed = read_sigstruct(given["sigstruct"])
        said = {
            "mrenclave": signed.enclavehash.hex(),
            "mrsigner": mrsigner(signed).hex(),
            "isvprodid": signed.isvprodid,
            "isvsvn": signed.isvsvn,
            "sigstruct": hashlib.sha256(bytes(signed)).hexdigest(),
        }
        if signed.attributemask & Attributes.DEBUG:
            said["debug"] = str(bool(signed.attributes & Attributes.DEBUG)).upper()
        known = {word.partition("=")[0] for word in words}
        words += [f"{key}={value}" for key, value in said.items() if key not in known]
    return words


def _show(question: str, answer: Answer) -> None:
    for number, part in enumerate(question.split("; ")):
        click.echo(one_line(f"{answer.verdict:<13} {part}" if number == 0 else f"{'':<13} {part}"))
    lines = [f"by {answer.rule}"] if answer.rule is not None else []
    lines += [f"matched {fact}" for fact in answer.matched]
    lines += [answer.why] if answer.why else []
    lines += [f"grants {' '.join(answer.grants)}"] if answer.grants else []
    lines += [f"label {answer.label}"] if answer.label else []
    for line in lines:
        click.echo(one_line(f"{'':<13} {line}"))


def _plain(question: str, answer: Answer) -> dict[str, object]:
    rule = answer.rule
    where = None
    if rule is not None:
        where = {"file": rule.place.file, "line": rule.place.line, "text": rule.text}
    return {
        "question": question,
        "verdict": answer.verdict,
        "rule": where,
        "matched": list(answer.matched),
        "why": answer.why,
        "grants": list(answer.grants),
        "label": answer.label,
    }


@command.command("test", short_help="Try assertions about a policy.")
@click.argument("file", metavar="FILE", type=existing_file)
@click.argument("policies", metavar="[POLICY...]", nargs=-1, type=existing_file)
def test(file: str, policies: tuple[str, ...]) -> None:
    """Try the assertions of FILE on the policy files that it names, or on POLICY... instead.

    The exit status is 1 if any does not hold.
    """
    from swsgx.lsm.policy.expectations import check_expectations

    with policy_mistakes():
        outcomes = check_expectations(file, policies)
    failed = [outcome for outcome in outcomes if not outcome.holds]
    for outcome in failed:
        click.echo(one_line(str(outcome.rule)))
        click.echo(one_line(f"    found: {outcome.found}"))
    if failed:
        raise Refused(f"{file}: {len(failed)} of {len(outcomes)} assertions do not hold")
    click.echo(f"{len(outcomes)} assertions hold")


@command.command("measurements", short_help="Show a measurement list, and the PCRs that it gives.")
@click.argument("file", metavar="LIST", type=existing_file)
@click.option("--pcrs", is_flag=True, help="Show what the PCRs hold behind its last entry, and no entries.")
def measurements(file: str, pcrs: bool) -> None:
    """Show the entries of a measurement list as IMA's ASCII list does, or the PCRs that they give when replayed.

    The list is one of `swsgx run --measurements`, or any in IMA's binary layout.
    """
    from swsgx.lsm.measurement import MeasurementError
    from swsgx.lsm.measurement_list import format_ascii, parse_binary, replay

    try:
        entries = parse_binary(Path(file).read_bytes(), file)
    except MeasurementError as error:
        raise Refused(str(error)) from None
    if not pcrs:
        click.echo(format_ascii(entries), nl=False)
        return
    banks = replay(entries)
    for pcr in sorted({entry.pcr for entry in entries}):
        for algorithm in banks.algorithms:
            click.echo(f"{pcr} {algorithm}:{banks.read(algorithm, pcr).hex()}")
