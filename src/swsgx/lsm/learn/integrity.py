"""Candidates of integrity: files that are not to be appraised. To sign them is nearly always better, and is said so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from swsgx.lsm.audit import Decision, Event
from swsgx.lsm.learn.names import Names, exact_pattern
from swsgx.lsm.learn.proposal import Candidate, Piece, Tally
from swsgx.lsm.policy.integrity import IntegrityFacts, IntegrityStore
from swsgx.lsm.policy.te import UNLABELED

__all__ = ["FUNCTION_OF", "IntegrityLearner"]

#: The function that a hook is appraised as.
FUNCTION_OF = {"load": "ENCLAVE_LOAD", "init": "ENCLAVE_SIGSTRUCT"}
_MASKS = ((1, "MAY_READ"), (2, "MAY_WRITE"), (4, "MAY_EXEC"))
_PATHS = 3


class IntegrityLearner:
    """Goes through a log once, after types were found.

    Args:
        names: of types.
        store: the policy; None: there is none.

    Attributes:
        unsolved: what no integrity rule can help, with how many records say so.
    """

    def __init__(self, names: Names, store: IntegrityStore | None) -> None:
        self.names, self.store = names, store
        self.unsolved: dict[str, Tally] = {}
        self._rules: dict[tuple[str, str], tuple[Tally, dict[str, None], Decision]] = {}

    def take(self, events: Iterable[tuple[Event, Decision]]) -> None:
        """Learn from refusals of the module ``integrity``."""
        for event, decision in events:
            if decision.lsm != "integrity":
                continue
            function = FUNCTION_OF.get(decision.hook)
            if function is None or not decision.source.named:
                self._fail(event, "what was not about a file")
                continue
            words = [f"dont_appraise func={function}"]
            if function == "ENCLAVE_LOAD" and decision.maxprot:
                masks = [name for bit, name in _MASKS if decision.maxprot & bit]
                words.append(f"mask={','.join(masks)}")
            named = self._type(decision)
            words += [f"obj_type={named}"] if named else []
            tally, paths, _ = self._rules.setdefault((" ".join(words), named), (Tally(), {}, decision))
            tally.add(event.milliseconds)
            paths[decision.source.path] = None

    def _type(self, decision: Decision) -> str:
        """The file's type, a new one if it has none; empty without a policy that could say so."""
        if not self.names.typed:
            return ""
        named = self.names.file(decision)
        pattern = exact_pattern(decision.source.path)
        if named or pattern is None:
            return named
        told = self.names.contexts.get(f'filecon "{pattern}"')
        return told or self.names.new_file(pattern, "appraised", decision.source.path, "_unsigned")

    def _fail(self, event: Event, why: str) -> None:
        self.unsolved.setdefault(why, Tally()).add(event.milliseconds)

    def pieces(self) -> Iterator[Piece]:
        """A file to load before other integrity files: the first rule that matches decides."""
        for (text, named), (tally, paths, decision) in self._rules.items():
            listed = list(paths)
            notes = [str(tally), *listed[:_PATHS], *(["and others"] if len(listed) > _PATHS else [])]
            notes.append("WARNING: nobody vouches for these files then; sign them instead")
            made = Candidate(text, notes)
            if not named or named == UNLABELED:
                made.refused = "it would be for files of every kind, since there is no type for these"
            else:
                rule = self._asked_for(decision, named)
                if rule:
                    made.refused = f"a rule asks for it, for this type: {rule}"
            yield made

    def _asked_for(self, decision: Decision, named: str) -> str:
        """The rule that names the type, and wants it appraised."""
        if self.store is None:
            return ""
        subject = self.names.subject(decision) if self.names.typed else None
        facts = IntegrityFacts(
            func=FUNCTION_OF[decision.hook],
            mask=decision.maxprot,
            obj_type=named,
            subj_type=subject,
            uid=decision.uid,
        )
        rule = self.store.decide("appraise", facts)
        if rule is None or not any(condition.key == "obj_type" for condition in rule.conditions):
            return ""
        return str(rule.rule)
