"""Audit logs on the command line: ``swsgx policy learn``, and ``swsgx policy explain --record``."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swsgx.cli.errors import Refused, one_line, policy_mistakes
from swsgx.cli.options import existing_file

if TYPE_CHECKING:
    from swsgx.lsm.audit import Decision, Event, Record
    from swsgx.lsm.audit_reader import AuditSyntaxError
    from swsgx.lsm.policy.source import Source

__all__ = ["explain_records", "learn"]

_KINDS = ("te", "identity", "integrity")
#: Damaged lines that are told one by one.
_TOLD = 20
_WIDTH = 13


def _read(path: str) -> tuple[list[Event], list[AuditSyntaxError]]:
    """The events of a log, and what is wrong with the rest of it; ``-`` is standard input."""
    from swsgx.lsm.audit_reader import sift_events

    data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    # Records of ours are ASCII; what is not is some other program's, or an error that its line is shown with.
    return sift_events(data.decode("ascii", "surrogateescape"), path)


def _sources(paths: Sequence[str]) -> list[Source]:
    from swsgx.lsm.policy.source import Source

    return [Source.read(path) for path in paths]


def _told(errors: Sequence[AuditSyntaxError]) -> Iterator[str]:
    """Damaged lines, a line each."""
    for error in errors[:_TOLD]:
        yield one_line(f"damaged: {error}")
    if len(errors) > _TOLD:
        yield f"damaged: {len(errors) - _TOLD} more lines"


def _refuse_damage(path: str, errors: Sequence[AuditSyntaxError]) -> None:
    """End with a status that says so, after all else was done."""
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise Refused(f"{errors[0]}{more}; the whole records of {path} were used")


@click.command("learn", short_help="Propose rules for what an audit log says was refused.")
@click.argument("audit_file", metavar="AUDIT_FILE", type=existing_file)
@click.option(
    "--policy",
    "policies",
    metavar="FILE",
    multiple=True,
    type=existing_file,
    help="A policy file that the log comes from, as often as needed.",
)
@click.option("--kind", type=click.Choice(_KINDS), default="te", help="Which kind of file to propose; te.")
def learn(audit_file: str, policies: tuple[str, ...], kind: str) -> None:
    """Propose rules for what AUDIT_FILE says was refused, or would have been by a policy that is not permissive.

    What --policy allows by now is not proposed again. The output is a policy file with comments; - reads the log from
    standard input. The exit status is 1 if lines of the log are damaged; the others are used all the same.
    """
    from swsgx.lsm.learn.learner import learn as learn_from

    events, errors = _read(audit_file)
    with policy_mistakes():
        learned = learn_from(events, _sources(policies), audit_file)
    for line in _told(errors):
        click.echo(f"# {line}")
    click.echo(learned.files[kind], nl=False)
    _refuse_damage(audit_file, errors)


# ---- explain --record ------------------------------------------------------------------------------------------------


def explain_records(path: str, policies: Sequence[str], *, as_json: bool) -> bool:
    """Tell of each event of a log what the policy says to it, by which rule, and what would allow it.

    Args:
        path: of the log; ``-`` is standard input.
        policies: policy files.
        as_json: one JSON object instead of text.

    Returns: whether the policy allows all of it.

    Raises:
        Refused: the log has no event, or damaged lines; the others are told first.
    """
    from swsgx.cli.output import show_json

    events, errors = _read(path)
    with policy_mistakes():
        explained = _Explained(_sources(policies))
        told = [explained.event(event) for event in events]
    if as_json:
        show_json({"events": told, "damaged": [str(error) for error in errors]})
    else:
        for line in (*_told(errors), *_all_lines(told)):
            click.echo(line)
    _refuse_damage(path, errors)
    if not events:
        raise Refused(f"{path}: there is no audit record of swsgx in it")
    return all(answer["allowed"] for one in told for answer in one["answers"])


class _Explained:
    """Asks a policy about one event after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        from swsgx.lsm.policy.load import parse

        self._sources = sources
        self._policy = parse(sources)
        self._remedies: dict[Record, tuple[list[str], list[str]]] = {}

    def event(self, event: Event) -> dict[str, Any]:
        """All that there is to say of an event."""
        from swsgx.lsm.audit import Decision
        from swsgx.lsm.learn.proposal import moment
        from swsgx.lsm.learn.reply import replies

        record = event.record
        told: dict[str, Any] = {"serial": event.serial, "time": moment(event.milliseconds), "record": ""}
        told |= {"facts": [], "answers": [], "would_allow": [], "obstacles": []}
        if not isinstance(record, Decision):
            told["record"] = _administrative(record)
            return told
        verdict = "granted" if not record.denied else "refused" if not record.permissive else "would refuse"
        told["record"] = f"{record.lsm} {verdict} {' '.join(record.permissions)} ({record.hook})"
        told["facts"] = _facts(record)
        for reply in replies(record, self._policy, {}):
            rule, answer = reply.answer.rule, reply.answer
            place = rule.place if rule is not None else None
            told["answers"].append(
                {
                    "question": reply.question,
                    "verdict": answer.verdict,
                    "allowed": reply.allowed,
                    "rule": None
                    if rule is None or place is None
                    else {"file": place.file, "line": place.line, "column": place.column, "text": rule.text},
                    "matched": [*reply.how, *(f"matched {fact}" for fact in answer.matched)],
                    "why": answer.why,
                }
            )
        if record.denied and not all(answer["allowed"] for answer in told["answers"]):
            told["would_allow"], told["obstacles"] = self._remedy(event, record)
        return told

    def _remedy(self, event: Event, record: Decision) -> tuple[list[str], list[str]]:
        """Statements that would allow it, and what stands against it. Many records ask for the same."""
        import dataclasses

        from swsgx.lsm.learn.learner import learn as learn_from

        source = dataclasses.replace(record.source, offset=None, digest="")
        same = dataclasses.replace(record, pid=0, enclave=None, offset=None, length=None, source=source)
        if same not in self._remedies:
            learned = learn_from([event], self._sources)
            allowing = [text for kind in _KINDS for text in learned.statements[kind]]
            self._remedies[same] = allowing, list(learned.obstacles)
        return self._remedies[same]


def _administrative(record: Record) -> str:
    from swsgx.lsm.audit import Decision, ModeChange, PolicyLoad

    match record:
        case PolicyLoad():
            done = "loaded" if record.loaded else "refused to load"
            return f"{record.lsm} {done} policy {record.name or '?'} {record.version or '?'}"
        case ModeChange():
            modes = ("permissive", "enforcing")
            return f"{record.lsm} became {modes[record.enforcing]}; it was {modes[record.was]}"
        case Decision():
            return record.lsm


def _facts(record: Decision) -> list[str]:
    """What the record tells that a rule may go by."""
    source = record.source
    told = {
        "pid": record.pid,
        "uid": record.uid,
        "exe": record.exe or record.comm,
        "scontext": record.scontext,
        "tcontext": record.tcontext,
        "src": source.kind,
        "path": source.path,
        "deleted": 1 if source.deleted else None,
        "srcdigest": source.digest if source.kind == "file" else "",
        "maxprot": None if record.maxprot is None else _protection(record.maxprot),
        "measured": record.measured if record.measured is None else int(record.measured),
        "mrenclave": record.mrenclave.hex(),
        "mrsigner": record.mrsigner.hex(),
        **dict(field.split("=", 1) for field in record.traits.fields()),
        "rule": record.rule,
        "reason": record.reason,
    }
    return [f"{name}={value}" for name, value in told.items() if value not in (None, "")]


def _protection(bits: int) -> str:
    return "".join(letter if bits & bit else "-" for letter, bit in (("r", 1), ("w", 2), ("x", 4)))


def _all_lines(told: Sequence[dict[str, Any]]) -> Iterator[str]:
    """All events as text; what is the same is said once."""
    seen: dict[str, int] = {}
    for one in told:
        lines = list(_lines(one))
        head = lines[0] if len(lines) > 1 else ""
        first = seen.setdefault("\n".join([one["record"], *lines[1:]]), one["serial"])
        if head and first != one["serial"]:
            yield f"{head}, as event {first}"
        else:
            yield from lines


def _lines(told: dict[str, Any]) -> Iterator[str]:
    """One event as text; strings of the log are shown without what a terminal would obey."""
    space = " " * _WIDTH
    yield one_line(f"event {told['serial']}, {told['time']}: {told['record']}")
    yield from (one_line(f"{space} {fact}") for fact in told["facts"])
    for answer in told["answers"]:
        yield one_line(f"{answer['verdict']:<{_WIDTH}} {answer['question']}")
        yield from (one_line(f"{space} {fact}") for fact in answer["matched"])
        rule = answer["rule"]
        if rule is not None:
            yield one_line(f"{space} by {rule['file']}:{rule['line']}:{rule['column']}: {rule['text']}")
        if answer["why"]:
            yield one_line(f"{space} {answer['why']}")
    if told["facts"] and not told["answers"]:
        yield f"{space} no policy file is about it"
    yield from (one_line(f"would allow   {text}") for text in told["would_allow"])
    yield from (one_line(f"against it    {text}") for text in told["obstacles"])
