"""From an audit log to candidate rules, in the way of audit2allow.

What is proposed has been tried: files of all kinds are parsed together with the policy that they are for, and what
cannot stand beside it (a ``neverallow`` forbids it, say) is left as a comment that says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from swsgx.cpu.faults import InternalError
from swsgx.lsm.audit import Decision, Event
from swsgx.lsm.learn.identity import IdentityLearner
from swsgx.lsm.learn.integrity import IntegrityLearner
from swsgx.lsm.learn.names import Names
from swsgx.lsm.learn.proposal import Candidate, Piece, Tally, printable, render
from swsgx.lsm.learn.reply import replies
from swsgx.lsm.learn.te import TeLearner
from swsgx.lsm.policy.errors import PolicyError, Problem
from swsgx.lsm.policy.load import KINDS, PolicySet, kind_of, parse
from swsgx.lsm.policy.source import Source

__all__ = ["Learned", "learn"]

#: Modules whose refusals some rule can help.
_MODULES = frozenset({"te", "identity", "integrity", "page_rules"})


@dataclass(frozen=True, slots=True)
class Learned:
    """What came of a log.

    Attributes:
        files: the text of a file for each kind of :data:`~swsgx.lsm.policy.load.KINDS`. That of identity takes the
            place of the identity policy there is; the others are loaded with it, integrity first.
        statements: those of each kind that are proposed, and not only shown.
        obstacles: why rules are only shown, and what no rule helps.
        policy: all files, the new ones among them.
        enclaves: types of enclaves that had none, by MRENCLAVE.
    """

    files: dict[str, str]
    statements: dict[str, tuple[str, ...]]
    obstacles: tuple[str, ...]
    policy: PolicySet
    enclaves: dict[bytes, str]


def learn(events: Iterable[Event], sources: Sequence[Source] = (), name: str = "-") -> Learned:
    """Candidates for all that was refused, and for what a permissive policy would have refused.

    Args:
        events: of the log.
        sources: the policy that the log comes from; what it allows by now is not proposed.
        name: of the log.

    Raises:
        PolicyError: something is wrong with the policy.
    """
    policy = parse(sources)
    refused = [(e, e.record) for e in events if isinstance(e.record, Decision) and e.record.denied]
    failures = Tally()
    useful = []
    for event, decision in refused:
        if decision.reason or decision.lsm not in _MODULES:
            failures.add(event.milliseconds)
        else:
            useful.append((event, decision))
    names = Names(policy.te, policy.te is not None or any(d.lsm == "te" for _, d in useful))
    of_identity = next((source for source in sources if kind_of(source) == "identity"), None)
    te = TeLearner(names)
    te.take(useful)
    if te.found and policy.te is None:
        # Where types are declared, all that rules name must be.
        for named in _named(policy):
            names.use(named, "named by rules of another kind")
    forbidden = _forbidden(list(te.pieces(_module(policy))), sources, of_identity)
    identity = IdentityLearner(names, policy.identity, of_identity, forbidden)
    integrity = IntegrityLearner(names, policy.integrity)
    identity.take(useful)
    integrity.take(useful)
    pieces: dict[str, list[Piece]] = {
        "te": list(te.pieces(_module(policy))),
        "identity": list(identity.pieces()),
        "integrity": list(integrity.pieces()),
    }
    changed = _agree(pieces, sources, of_identity)
    statements = {kind: tuple(c.text for c in _live(pieces[kind])) for kind in KINDS}
    still = _still(useful, changed, names)
    obstacles = [
        f"{piece.text}: {piece.refused}"
        for kind in KINDS
        for piece in pieces[kind]
        if isinstance(piece, Candidate) and piece.refused
    ]
    obstacles += [f"no rule helps: {w}" for w in (*te.unsolved, *identity.unsolved, *integrity.unsolved)]
    files = {}
    for kind, unsolved in zip(KINDS, (te.unsolved, identity.unsolved, integrity.unsolved), strict=True):
        head = _head(kind, name, len(refused), unsolved, failures, still, statements)
        files[kind] = render([*head, *pieces[kind]])[0]
    return Learned(files, statements, tuple(dict.fromkeys(obstacles)), changed, names.enclaves)


def _named(policy: PolicySet) -> Iterator[str]:
    """Types that rules of identity and integrity name."""
    if policy.identity is not None:
        for rule in policy.identity.rules:
            yield from [rule.label] if rule.label is not None else []
            yield from [c.low for c in rule.conditions if c.key == "subj_type"]
    for ordered in policy.integrity.rules.values() if policy.integrity is not None else ():
        for line in ordered:
            yield from [c.low for c in line.conditions if c.key in ("subj_type", "obj_type")]


def _module(policy: PolicySet) -> str:
    taken = {file.name for file in policy.files if file.kind == "te"}
    return next(name for n in range(len(taken) + 1) if (name := f"learned{n or ''}") not in taken)


def _live(pieces: Sequence[Piece]) -> list[Candidate]:
    return [piece for piece in pieces if isinstance(piece, Candidate) and not piece.refused]


# ---- trying ----------------------------------------------------------------------------------------------------------


def _agree(pieces: dict[str, list[Piece]], sources: Sequence[Source], identity: Source | None) -> PolicySet:
    """The policy with what is proposed. Candidates that cannot be are refused until the rest can."""
    while True:
        new: dict[str, Source] = {}
        where: dict[str, dict[int, Candidate]] = {}
        for kind in KINDS:
            if _live(pieces[kind]):
                text, where[f"proposed {kind}"] = render(pieces[kind])
                new[kind] = Source(f"proposed {kind}", text.encode())
        kept = [source for source in sources if "identity" not in new or source is not identity]
        # The first rule that matches decides about integrity, so what is proposed goes before what is there.
        everything = [*(new[kind] for kind in ("integrity", "te", "identity") if kind in new), *kept]
        try:
            return parse(everything)
        except PolicyError as error:
            _refuse(error.problems, where, pieces)


def _forbidden(te: list[Piece], sources: Sequence[Source], identity: Source | None) -> set[tuple[str, str]]:
    """Types, each with a permission on itself, that were asked for and cannot be."""
    _agree({"te": te, "identity": [], "integrity": []}, sources, identity)
    refused = [piece.about for piece in te if isinstance(piece, Candidate) and piece.refused and piece.about]
    return {(about[0], name) for about in refused if about[0] == about[1] for name in about[2:]}


def _refuse(
    problems: Sequence[Problem], where: dict[str, dict[int, Candidate]], pieces: dict[str, list[Piece]]
) -> None:
    """Let each candidate that a problem is about be a comment, or be halved."""
    found = False
    for problem in problems:
        for place in filter(None, (problem.place, problem.other)):
            candidate = where.get(place.file, {}).get(place.line)
            if candidate is None or candidate.refused:
                continue
            found = True
            seen = f" (see {problem.other})" if problem.other is not None else ""
            candidate.refused = f"{problem.rule}: found {problem.found}, expected {problem.expected}{seen}"
            for listed in pieces.values():
                if candidate.halves and candidate in listed:
                    at = listed.index(candidate)
                    listed[at : at + 1] = candidate.halves
            break
    if not found:
        raise InternalError(f"learn: a policy without candidates has mistakes: {problems[0]}")


def _still(useful: Sequence[tuple[Event, Decision]], policy: PolicySet, names: Names) -> Tally:
    """Records whose question the policy with all that is proposed does not allow."""
    tally = Tally()
    known: dict[Decision, bool] = {}
    for event, decision in useful:
        # Of a thousand records of one program, all ask the same.
        source = dataclasses.replace(decision.source, offset=None, digest="")
        same = dataclasses.replace(decision, pid=0, enclave=None, offset=None, length=None, source=source)
        if same not in known:
            known[same] = all(reply.allowed for reply in replies(decision, policy, names.enclaves))
        if not known[same]:
            tally.add(event.milliseconds)
    return tally


# ---- telling ---------------------------------------------------------------------------------------------------------


def _head(
    kind: str,
    name: str,
    refused: int,
    unsolved: dict[str, Tally],
    failures: Tally,
    still: Tally,
    statements: dict[str, tuple[str, ...]],
) -> list[str]:
    """What stands above a file."""
    said = [
        f"Candidates from {refused} refusal{'' if refused == 1 else 's'} in {name}.",
        "Read each before you load it: who wrote this are the programs that it is to confine.",
    ]
    if kind == "identity":
        said.append(
            "It takes the place of the identity policy; raise its version, so that nobody can go back."
        )
    elif kind == "integrity":
        said.append("Load it before other integrity files: the first rule that matches decides.")
    if not statements[kind]:
        said.append("There is nothing to propose.")
    said += [f"No rule of this kind helps: {why}: {tally}." for why, tally in unsolved.items()]
    if failures.count:
        said.append(f"Refused by modules without rules, or that failed: {failures}.")
    if still.count:
        said.append(f"Refused with all that is proposed, too: {still}.")
    others = [f"--kind {other}" for other in KINDS if other != kind and statements[other]]
    if others:
        said.append(f"There are candidates of {' and '.join(others)} besides, and these may need them.")
    return [f"# {printable(text)}" for text in said]
