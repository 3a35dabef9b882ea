"""The holes that are planted: what somebody could forget, hook by hook and rule by rule."""

from __future__ import annotations

from tests.lsm.ghost.planting import Mutant

__all__ = ["MUTANTS", "RARE"]

_HOOKS, _STACK = "swsgx.linux.hooks", "swsgx.lsm.stack"
_RULES, _STICKY = "swsgx.lsm.page_rules", "swsgx.linux.sticky:StickyState"
_CALLS = "swsgx.linux.syscalls"
_JUDGE = "judge(encl.driver.security, event).reason"
_ANSWER = "judge(encl.driver.security, event)"

#: Hook points that are not asked, or not in time, or about something else.
_NOT_ASKED = (
    Mutant("open is not asked", f"{_HOOKS}:opened", "if not driver.security.active:", "if True:"),
    Mutant("ECREATE is not asked", f"{_HOOKS}:creating", _JUDGE, "None"),
    Mutant("EADD is not asked", f"{_HOOKS}:loading", "judge(encl.driver.security, event)", "Answer()"),
    Mutant("EINIT is not asked", f"{_HOOKS}:initialising", "judge(encl.driver.security, event)", "Answer()"),
    Mutant("EAUG is not asked", f"{_HOOKS}:augmenting", _ANSWER, "Answer()"),
    Mutant("EAUG by a fault is not asked", f"{_HOOKS}:augmenting", _ANSWER, _ANSWER + " if explicit else Answer()"),
    Mutant("EAUG by request is not asked", f"{_HOOKS}:augmenting", _ANSWER, "Answer() if explicit else " + _ANSWER),
    Mutant("EMODT is not asked", f"{_HOOKS}:modifying", _JUDGE, f'None if leaf == "EMODT" else {_JUDGE}'),
    Mutant("EMODPR is not asked", f"{_HOOKS}:modifying", _JUDGE, f'None if leaf == "EMODPR" else {_JUDGE}'),
    Mutant("EREMOVE is not asked", f"{_HOOKS}:modifying", _JUDGE, f'None if leaf == "EREMOVE" else {_JUDGE}'),
    Mutant("mmap is not asked", f"{_CALLS}.mmap:mmap", "answer = " + _ANSWER, "answer = ALLOWED"),
    Mutant(
        "mprotect is not asked", f"{_CALLS}.mprotect:mprotect",
        "approved = _ask(mm, address, end,", "approved = _ask(mm, address, address,",
    ),
    Mutant(
        "mprotect asks about the first mapping only", f"{_CALLS}.mprotect:_ask", "at = stop\n", "at = end\n"
    ),
    Mutant(
        "mprotect asks about giving only", f"{_CALLS}.mprotect:_ask",
        "if encl.security is not None:", "if encl.security is not None and prot & ~vma.prot:",
    ),
    Mutant("mremap is not asked", f"{_CALLS}.mremap:_move", "answer = " + _ANSWER, "answer = ALLOWED"),
    Mutant(
        "mremap asks about the old range", f"{_CALLS}.mremap:_move",
        '"mremap", new_address, new_address + new,', '"mremap", address, address + new,',
    ),
    Mutant(
        "fork is not asked", "swsgx.linux.mm:AddressSpace._ask_to_copy",
        "answer = " + _ANSWER, "answer = ALLOWED",
    ),
    Mutant(
        "a refused child gets the mapping", "swsgx.linux.mm:AddressSpace._copy",
        "else AddressSpace._ask_to_copy(vma, subject)", "else AddressSpace._ask_to_copy(vma, subject) or ALLOWED",
    ),
    Mutant("receive is not asked", "swsgx.linux.encl:Encl.used_by", "subject in self.users", "subject"),
    Mutant(
        "receive is asked in ioctls only", f"{_CALLS}.mmap:mmap",
        "reason = encl.used_by(request.subject)", "reason = None",
    ),
    Mutant(
        "receive is asked once, whatever was said", "swsgx.linux.encl:Encl.used_by",
        "if reason is None:", "if True:",
    ),
    Mutant("EDBGWR is not asked", f"{_HOOKS}:debugging", _JUDGE, f"None if write else {_JUDGE}"),
    Mutant("EDBGRD is not asked", f"{_HOOKS}:debugging", _JUDGE, f"{_JUDGE} if write else None"),
    Mutant(
        "nobody judges mappings again", f"{_HOOKS}:judged_again", "own is None or", "True or"
    ),
    Mutant(
        "a mapping that is judged again keeps X", f"{_HOOKS}:judged_again",
        "own.mm.protect(vma, vma.prot & ~int(VmaBits.X))", "pass",
    ),
    Mutant(
        "a mapping is judged again by its old subject", f"{_HOOKS}:relabelled",
        "subject=subject", "subject=vma.judgement.subject",
    ),
    Mutant("a new label changes nothing", f"{_HOOKS}:relabelled", "if vma.judgement is not None:", "if False:"),
    Mutant(
        "INIT changes nothing for mappings", f"{_HOOKS}:judged_again",
        "(judgement.generation, judgement.initialised) ==", "(judgement.generation, encl.initialised) ==",
    ),
    Mutant(
        "who has used a file is not asked again", f"{_HOOKS}:policy_changed",
        "encl.users.pop(user, None)", "pass",
    ),
    Mutant(
        "a new policy changes nothing", f"{_STACK}:Stack.policy_changed",
        "self.generation += 1", "pass",
    ),
)  # fmt: skip

#: What is known of pages, and forgotten.
_FORGOTTEN = (
    Mutant("EAUG does not set ever_w", f"{_STICKY}.born", "PageFlag.AUGMENTED | PageFlag.EVER_W", "PageFlag.AUGMENTED"),
    Mutant("EAUG is not remembered", f"{_STICKY}.born", "PageFlag.AUGMENTED | PageFlag.EVER_W", "PageFlag.EVER_W"),
    Mutant("a page forgets what maps it already", f"{_STICKY}.born", "_of_prots(mapped)", "_of_prots(mapped & 0)"),
    Mutant("W is not remembered", f"{_STICKY}.mapped", "prot & _PROT_WRITE", "0"),
    Mutant("X is not remembered", f"{_STICKY}.mapped", "prot & _PROT_EXEC", "0"),
    Mutant("a debugger's writing is not remembered", f"{_STICKY}.written", "|=", "&="),
    Mutant("obligations are forgotten", f"{_STICKY}.loaded", "int(obligations)", "0"),
    Mutant(
        "obligations bind the first page only", f"{_STICKY}.loaded",
        "self.obligations[first:last]", "self.obligations[first : first + 1]",
    ),
    Mutant("origins are forgotten", f"{_STICKY}.loaded", "self._index(origin)", "0"),
    Mutant("what was not measured counts as measured", f"{_STICKY}.loaded", "if measured:", "if True:"),
    Mutant("a removed page is remembered", f"{_STICKY}.removed", "array[first:last] = 0", "pass"),
    Mutant(
        "flags are lost with the mapping", "swsgx.linux.mm:AddressSpace._vanish",
        "mapping.areas -= 1",
        "mapping.areas -= 1; at = slice(*vma.encl.clip(vma.start, vma.end)); vma.encl.security.pages.flags[at] &= 0xFC",
    ),
    Mutant(
        "flags are lost at eviction", "swsgx.linux.paging:EnclavePaging._write",
        "self.evicted += done", "self.evicted += done; encl.security.pages.flags[indexes[:done]] &= 0xFC",
    ),
    Mutant(
        "flags are lost at reload", "swsgx.linux.paging:EnclavePaging._came",
        "self.evicted -= len(indexes)",
        "self.evicted -= len(indexes); self.encl.security.pages.flags[indexes] &= 0xFC",
    ),
    Mutant(
        "obligations are lost at reload", "swsgx.linux.paging:EnclavePaging._came",
        "self.evicted -= len(indexes)",
        "self.evicted -= len(indexes); self.encl.security.pages.obligations[indexes] = 0",
    ),
    Mutant(
        "flags are lost by mprotect to none", f"{_CALLS}.mprotect:_one",
        "mm.split(end)", "mm.split(end); prot or encl.security.pages.flags.__iand__(0xFC)",
    ),
    Mutant(
        "what fork copies is not remembered", "swsgx.linux.mm:AddressSpace._copy",
        "hooks.remember_mapping(encl, copy, subject, answer.allowed)", "pass",
    ),
    Mutant(
        "what mremap moves is not remembered", f"{_CALLS}.mremap:_moved",
        "hooks.remember_mapping(copy.encl, copy, approval.subject, approval.allowed)", "pass",
    ),
    Mutant(
        "a mapping is remembered by its first page", f"{_HOOKS}:remember_mapping",
        "*encl.clip(vma.start, vma.end)", "*encl.clip(vma.start, vma.start + PAGE_SIZE)",
    ),
    Mutant(
        "a mapping is asked about by its first page", f"{_HOOKS}:mapping",
        "page_range(encl, start, end)", "page_range(encl, start, start + PAGE_SIZE)",
    ),
    Mutant(
        "EAUG looks at one address space", f"{_HOOKS}:mapped_prots",
        "in list(encl.mappings):", "in list(encl.mappings)[:1]:",
    ),
    Mutant(
        "EINIT's grants come to nothing", "swsgx.linux.ioctl.init:_einit",
        "answer.grants, answer.tolerated", "encl.security.grants, answer.tolerated",
    ),
)  # fmt: skip

#: Rules of pages that are not applied, or not all of them.
_UNRULED = (
    Mutant(
        "EADD under mappings of both kinds is allowed", f"{_RULES}:lacking",
        "isinstance(event, Load) and event.mapped & _WRITE", "isinstance(event, Load) and False",
    ),
    Mutant(
        "EADD under X may bring obligations", f"{_STACK}:Stack.decide",
        "isinstance(event, Load) and obligations", "isinstance(event, Load) and not obligations and False",
    ),
    Mutant(
        "obligations are not looked at in mappings", f"{_RULES}:_map",
        "prot & _EXEC and pages.obligations", "False",
    ),
    Mutant("obligations are not looked at in EINIT", f"{_RULES}:undischarged", "if not missing:", "if True:"),
    Mutant("W and X at once needs no mapwx", f"{_RULES}:_map", "Grant.MAPWX | Grant.EXECDIRTY", "Grant.EXECDIRTY"),
    Mutant("W and X at once needs no execdirty", f"{_RULES}:_map", "Grant.MAPWX | Grant.EXECDIRTY", "Grant.MAPWX"),
    Mutant("X on a dirty page is allowed", f"{_RULES}:_map", "if dirty.any():", "if False:"),
    Mutant("W on a page that was X is allowed", f"{_RULES}:_map", "if executed.any():", "if False:"),
    Mutant("X on a hole is allowed", f"{_RULES}:_map", "pages.has_holes and", "False and"),
    Mutant("X on a page of EAUG is as on any dirty one", f"{_RULES}:_map", "if augmented.any():", "if False:"),
    Mutant("EAUG under mappings is allowed", f"{_RULES}:lacking", "isinstance(event, Augment) and", "False and"),
    Mutant(
        "EAUG under mappings needs no augexec", f"{_RULES}:lacking",
        "Grant.AUGEXEC | Grant.EXECDIRTY |", "Grant.EXECDIRTY |",
    ),
    Mutant(
        "EAUG under mappings needs no execdirty", f"{_RULES}:lacking",
        "Grant.AUGEXEC | Grant.EXECDIRTY |", "Grant.AUGEXEC |",
    ),
    Mutant("EAUG under mappings needs no mapwx", f"{_RULES}:lacking", "if event.mapped & _WRITE", "if False"),
    Mutant(
        "EDBGWR into a page that was X is allowed", f"{_RULES}:lacking",
        "event.write and event.pages", "False and event.pages",
    ),
    Mutant("EMODT to a TCS needs nothing", f"{_RULES}:lacking", "event.page_type is PageType.TCS", "False"),
    Mutant(
        "holes outside of the enclave are none", "swsgx.linux.sticky:PageRange.has_holes",
        "bool(self.outside) or ", "",
    ),
)  # fmt: skip

#: How verdicts become one, and what happens then.
_COMBINED = (
    Mutant("a refusal has no effect", f"{_STACK}:Stack._refuse", "if not binds:", "if True:"),
    Mutant("a refusal is not recorded", f"{_STACK}:Stack._refuse", "if verdict.audited:", "if False:"),
    Mutant(
        "a refusal is recorded twice", f"{_STACK}:Stack._tell",
        "audit.record(decision)", "audit.record(decision); audit.record(decision)",
    ),
    Mutant("the last module's grants count", f"{_STACK}:Stack.decide", "strict &= verdict", "strict = verdict"),
    Mutant(
        "grants are united", f"{_STACK}:Stack.decide",
        "strict &= verdict.grants", "strict = verdict.grants | (strict if strict != _ALL else NO_GRANTS)",
    ),
    Mutant(
        "the last module's obligations count", f"{_STACK}:Stack.decide",
        "obligations |= verdict.grants", "obligations = verdict.grants",
    ),
    Mutant(
        "the last module is not asked", f"{_STACK}:Stack.decide",
        "in seats:", "in seats[:-1]:",
    ),
    Mutant(
        "an exception is consent", "swsgx.lsm.seat:Seat._call",
        'return Deny(FAILURE, expected="an answer", found=f"{type(answer).__name__}: {answer}")', "return Allow()",
    ),
    Mutant(
        "nonsense is consent", "swsgx.lsm.seat:Seat.ask",
        'return Deny(FAILURE, expected="an answer that fits the hook", found=repr(answer)[:200])', "return Allow()",
    ),
    Mutant("nothing is committed", "swsgx.linux.security:judge", "hooks.commit(event, answer)", "None"),
    Mutant("mprotect commits nothing", f"{_CALLS}.mprotect:_ask", "encl.driver.security.commit(event, answer)", "None"),
    Mutant("a commit that fails is none the worse", f"{_STACK}:Stack.commit", "if failed is not None:", "if False:"),
    Mutant("the page rules are not applied", f"{_STACK}:Stack._page_rules", "if lack is None:", "if True:"),
)  # fmt: skip

#: EADD, which is asked extent by extent, and puts in what was let in.
_LOADED = (
    Mutant(
        "a load is judged by its first extent", "swsgx.linux.stretch:_Judged.admit",
        "in self._extents(position, contents):",
        "in [Extent(len(contents), next(iter(self._extents(position, contents))).origin)]:",
    ),
    Mutant(
        "refused pages are added with the others", "swsgx.linux.stretch:_Judged.admit",
        "return done // PAGE_SIZE", "return len(contents) // PAGE_SIZE",
    ),
    Mutant(
        "one extent refused, and the next is tried", "swsgx.linux.stretch:_Judged.admit",
        "            break", "            continue",
    ),
    Mutant(
        "a refused load does not give its EPC back", "swsgx.linux.stretch:_eadd",
        "cpu.epc.unread(frames[added + spoilt :])", "pass",
    ),
    Mutant(
        "a refused load's bytes stay", "swsgx.cpu.encls.eadd:_run_clean", "store.contents.punch(", "(lambda *_: None)(",
    ),
    Mutant(
        "a refused load is measured", "swsgx.cpu.encls.eadd:_run_clean",
        "        if admitted < count:\n",
        "        if admitted < count:\n            state.measurement.eadd_run(offset, secinfo.flags, None, 1, False)\n",
    ),
)  # fmt: skip

_TE, _IDENTITY, _LABELS = (
    "swsgx.lsm.te:TypeEnforcement",
    "swsgx.lsm.identity:IdentityRules",
    "swsgx.lsm.labels",
)

#: What modules of policy files decide.
_DECIDED = (
    Mutant("te: execute is not asked for", f"{_TE}._load", "if code:", "if False:", True),
    Mutant("te: execmod is not asked for", f"{_TE}._load", 'permissions += ("execmod",)', "pass", True),
    Mutant(
        "te: one subject's answer is everybody's", f"{_TE}.load",
        "_Question(event.subject,", "_Question(None,", True,
    ),
    Mutant(
        "te: a modified copy is remembered as the file", f"{_TE}.load",
        "file.unwatched, file.kind", "file.unwatched", True,
    ),
    Mutant("te: mapping needs use only", f"{_TE}.map", '("use", *wanted)', '("use",)', True),
    Mutant("te: a TCS needs use only", f"{_TE}.modify", '("modtype",)', '("use",)', True),
    Mutant("te: a modified SIGSTRUCT is as good", f"{_LABELS}:unmodified", "is OriginClass.FILE", "is not None", True),
    Mutant(
        "te: the SIGSTRUCT's type is not asked about", f"{_TE}.init",
        "if sigstruct is not None:", "if False:", True,
    ),
    Mutant("te: all grants are an enclave's own", f"{_TE}._given", "if decision.allowed:", "if True:", True),
    Mutant(
        "te: an enclave keeps its maker's rules", f"{_TE}._on_enclave",
        "not event.enclave.initialised", "True", True,
    ),
    Mutant(
        "te: one permission of several is enough", f"{_TE}._ask",
        "if lacking:", "if len(lacking) == len(permissions):", True,
    ),
    Mutant("identity: a rule that denies allows", f"{_IDENTITY}._decide", "if rule.allow:", "if True:", True),
    Mutant(
        "identity: the DEFAULT decides", f"{_IDENTITY}._rule",
        "self.store.decide(facts)", "self.store.decide(facts) and self.store.rules[-1]", True,
    ),
    Mutant("identity: a label is forgotten", f"{_IDENTITY}.label", "rule.label is not None", "False", True),
    Mutant(
        "code of anonymous memory owes nothing", f"{_LABELS}:owed",
        "code and file_of(event.origin) is None", "False", True,
    ),
    Mutant(
        "a TCS that is not measured owes nothing", f"{_LABELS}:owed",
        "event.page_type is PageType.TCS", "False", True,
    ),
    Mutant(
        "code that is not measured owes nothing", f"{_LABELS}:owed",
        "not event.measured and (code or", "not event.measured and (", True,
    ),
    Mutant("a new policy is not put in place", f"{_STACK}:Stack.replace", "new.get(seat.name, seat)", "seat", True),
)  # fmt: skip

MUTANTS: tuple[Mutant, ...] = (*_NOT_ASKED, *_FORGOTTEN, *_UNRULED, *_COMBINED, *_LOADED, *_DECIDED)

#: Names of those that take more than 600 steps, and so are tried by `make test-long` only.
RARE = frozenset(
    (
        "EADD under mappings of both kinds is allowed",
        "EAUG looks at one address space",
        "EAUG under mappings needs no mapwx",
        "EDBGWR into a page that was X is allowed",
        "W and X at once needs no execdirty",
        "W on a page that was X is allowed",
        "a TCS that is not measured owes nothing",
        "a commit that fails is none the worse",
        "a mapping is asked about by its first page",
        "a mapping is judged again by its old subject",
        "a new label changes nothing",
        "code of anonymous memory owes nothing",
        "holes outside of the enclave are none",
        "te: a TCS needs use only",
        "te: a modified copy is remembered as the file",
        "te: execmod is not asked for",
        "te: one subject's answer is everybody's",
        "te: the SIGSTRUCT's type is not asked about",
        "what fork copies is not remembered",
        "what mremap moves is not remembered",
    )
)
