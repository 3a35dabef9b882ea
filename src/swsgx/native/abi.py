"""What Python and C share: tables in memory, and the flags in them. C gets this file as ``native/include/abi.h``.

Three kinds of tables:

* **The machine's**, in memfds, one copy for all processes: an :class:`EpcmEntry` for each EPC page, and for
  each enclave an :class:`EnclaveHead` followed by its frame map (one u32 a page of ELRANGE: EPC frame number
  plus one, 0 where no page is in the EPC).
* **A process's**: the mapping bytes of an enclave (one byte a page of ELRANGE, ``VMA_*``), an
  :class:`EnclaveSlot` for each enclave it maps, a :class:`ThreadRecord` for each TCS that was entered.
* **A thread's**: its :class:`LogicalProcessor`, at the start of the memory that also holds its alternate
  signal stack, so that a signal handler finds it whatever the enclave did to the registers.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from swsgx.isa.layout import Layout, octets, u8, u16, u32, u64, zero

__all__ = [
    "AREA_COUNT",
    "ASK_OPTION",
    "CALLS_AT_ONCE",
    "EXIT_KEYS",
    "EXIT_TABLE_SIZE",
    "FILTER_BYTES",
    "FRAME_MAP_OFFSET",
    "INJECTED_OPTION",
    "LP_COUNT",
    "LP_GUARD_OFFSET",
    "LP_SIZE",
    "LP_STACK_OFFSET",
    "LP_XSTATE_OFFSET",
    "MARK_MODE",
    "MARK_SIZE",
    "SLOT_COUNT",
    "STEPPED_PAGES",
    "TRAP_DATA",
    "XSTATE_COMPONENTS",
    "Answer",
    "Ask",
    "Check",
    "EnclaveCall",
    "EnclaveHead",
    "EnclaveRun",
    "EnclaveSlot",
    "EpcmEntry",
    "EpcmState",
    "Grant",
    "HostCall",
    "LeafEnd",
    "LeafSignal",
    "LogicalProcessor",
    "MonitorConfig",
    "OwnCall",
    "Registers",
    "Request",
    "SlotFlags",
    "TargetState",
    "ThreadRecord",
    "VisibleRun",
    "VmaBits",
    "grant_offset",
]

SWSGX = "swsgx"

#: Offset of the frame map (u32 each) in an enclave's table region, right behind :class:`EnclaveHead`.
FRAME_MAP_OFFSET = 4096

#: Enclaves that one process can have mapped at a time.
SLOT_COUNT = 1024
#: Threads of one process that can be attached at a time.
LP_COUNT = 4096
#: Bytes of a thread's block: LogicalProcessor, a guard page, the alternate signal stack. A power of two.
LP_SIZE = 0x20000
#: Where the alternate signal stack starts in the block.
LP_STACK_OFFSET = 0x5000
#: Where the block has room for one XSAVE image (the largest known, with AMX, has 11,008 bytes).
LP_XSTATE_OFFSET = 0x1000
#: Where the inaccessible page is that ends the stack.
LP_GUARD_OFFSET = 0x4000
#: Entries of an enclave's exit table, which finds the thread by the page number of its GS base.
EXIT_KEYS = 256
#: Bytes of the exit table: EXIT_KEYS keys, then EXIT_KEYS pointers to ThreadRecord.
EXIT_TABLE_SIZE = 4096
#: Pages that one instruction can store to: a scatter of 16 elements, each across two pages.
STEPPED_PAGES = 32
#: XSAVE components that a machine can have.
XSTATE_COMPONENTS = 64

#: Options of prctl(2) that no kernel has. The injected code ends with the first; with the second, code of the image
#: asks the supervisor. Without a supervisor both are EINVAL. Container profiles let prctl pass, and no number of ours.
INJECTED_OPTION = 0x53475800
ASK_OPTION = 0x53475801
#: What our filters return beside RET_TRAP.
TRAP_DATA = 0x5357
#: What fstat(2) says of a file that stands for an open SGX node, beside being a regular file without a name.
MARK_SIZE = 0x5357
MARK_MODE = 0o101646
#: System calls that one answer of the supervisor can have made.
CALLS_AT_ONCE = 8
#: Address ranges that a process keeps for a quick look whether a memory call can concern an enclave.
AREA_COUNT = 64
#: Room for the second filter's program.
FILTER_BYTES = 4096


class EpcmState(IntFlag):
    """State bits of an EPCM entry; :attr:`EpcmEntry.state`."""

    VALID = 1
    BLOCKED = 2
    PENDING = 4
    MODIFIED = 8
    PR = 16


class VmaBits(IntFlag):
    """What one process's mapping of one enclave page allows.

    R, W, X are the VMA's permissions. MAPPED: a VMA covers the page. PRESENT: the page-table entry exists,
    that is, the page was touched since it was mapped. STALE, of a TCS: who wants to enter by it asks before.
    """

    R = 1
    W = 2
    X = 4
    MAPPED = 8
    PRESENT = 16
    STALE = 32


class EpcmEntry(Layout, size=32, align=32, source=SWSGX):
    """One page of the EPC, as the SDM's Enclave Page Cache Map describes it."""

    enclaveaddress = u64(0, "linear address of the page in its enclave, page aligned; 0 for SECS and VA")
    secs = u32(8, "frame number of the SECS that owns the page; its own for a SECS")
    pt = u8(12, "page type, PT_*")
    perm = u8(13, "R 1, W 2, X 4")
    state = u8(14, "EPCM_* bits")
    home = u8(
        15,
        "where the contents are: 0 enclave store at ENCLAVEADDRESS - BASEADDR, 1 EPC store at frame * 4096",
    )
    epoch = u64(16, "the enclave's tracking epoch when BLOCKED, MODIFIED or PR was set")
    reserved_24 = zero(24, 8)


class EnclaveHead(Layout, size=4096, align=4096, source=SWSGX):
    """What EENTER must know of a SECS; the first page of an enclave's table region."""

    baseaddr = u64(0, "linear address; a multiple of size")
    size = u64(8, "bytes; a power of two")
    attributes = u64(16, "SECS.ATTRIBUTES.FLAGS, INIT included")
    xfrm = u64(24, "SECS.ATTRIBUTES.XFRM")
    ssaframesize = u32(32, "pages in one SSA frame")
    miscselect = u32(36, "SECS.MISCSELECT")
    xsize = u32(40, "bytes of the XSAVE area for this XFRM")
    secs_frame = u32(44, "frame number of the SECS")
    generation = u64(
        48, "raised by whoever changes an EPCM entry, a mapping or a TCS; cached checks die with it"
    )
    eid = u64(56, "the enclave's unique number")
    reserved_64 = octets(64, 4032, "room to grow")


class SlotFlags(IntFlag):
    """How a process treats one enclave; :attr:`EnclaveSlot.flags`.

    PATCH: exit sites may be patched. HIDE: the range is in place only while a thread is inside. QUIET: both the range
    and its hiding place are where no mmap of this process without an address will ever fall. WATCH: pages may be out,
    so what is brought back is watched (:attr:`TargetState.watch`).
    """

    PATCH = 1
    HIDE = 2
    QUIET = 4
    WATCH = 8


class Check(IntEnum):
    """Which rule of EENTER, ERESUME, EEXIT or an access inside refused. ``swsgx.cpu.enclu.refusals`` has the words."""

    NONE = 0
    LEAF_UNKNOWN = 1
    LEAF_WRONG_SIDE = 2
    THREAD_NOT_ATTACHED = 3
    TCS_ALIGNED = 4
    TCS_IN_EPC = 5
    AEP_CANONICAL = 6
    TCS_EPCM_VALID = 7
    TCS_EPCM_BLOCKED = 8
    TCS_EPCM_ADDRESS = 9
    TCS_EPCM_TYPE = 10
    TCS_EPCM_PENDING = 11
    OSSA_ALIGNED = 12
    OFSBASE_ALIGNED = 13
    OGSBASE_ALIGNED = 14
    TCS_FLAGS_RESERVED = 15
    ENCLAVE_INITIALISED = 16
    MODE64 = 17
    XFRM_IN_XCR0 = 18
    CSSA_BELOW_NSSA = 19
    CSSA_NOT_ZERO = 20
    SSA_IN_ELRANGE = 21
    SSA_PAGING = 22
    SSA_EPCM = 23
    GPR_PAGING = 24
    GPR_EPCM = 25
    ENTRY_CANONICAL = 26
    FSBASE_CANONICAL = 27
    GSBASE_CANONICAL = 28
    TCS_NOT_BUSY = 29
    RIP_CANONICAL = 30
    XRSTOR_IMAGE = 31
    EXIT_TARGET_CANONICAL = 32
    PAGE_NOT_MAPPED = 33
    PAGE_VMA = 34
    PAGE_ABSENT = 35
    PAGE_EPCM = 36
    PAGE_CEILING = 37
    OUTSIDE_ELRANGE = 38
    EXCEPTION = 39
    LEAF_NOT_MODELLED = 40
    THREAD_TABLE_FULL = 41
    ILLEGAL_INSTRUCTION = 42
    FETCH_OUTSIDE = 43
    LEAF_FAULT = 44


class Registers(Layout, size=144, align=8, source="signal frame, struct sigcontext of the kernel's uapi"):
    """General registers in the order of the signal frame, so that one piece of C serves both."""

    r8 = u64(0)
    r9 = u64(8)
    r10 = u64(16)
    r11 = u64(24)
    r12 = u64(32)
    r13 = u64(40)
    r14 = u64(48)
    r15 = u64(56)
    rdi = u64(64)
    rsi = u64(72)
    rbp = u64(80)
    rbx = u64(88)
    rdx = u64(96)
    rax = u64(104)
    rcx = u64(112)
    rsp = u64(120)
    rip = u64(128)
    rflags = u64(136)


class VisibleRun(Layout, size=32, align=8, source=SWSGX):
    """Pages of an enclave that are really mapped in a process: what hiding moves away, and back."""

    address = u64(0, "linear address of the first page")
    length = u64(8, "bytes, whole pages")
    prot = u32(16, "PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4")
    private = u32(20, "1: a private copy of the contents (executable pages), 0: shared")
    reserved_24 = zero(24, 8)


class Grant(Layout, size=64, align=64, source=SWSGX):
    """Pages that an enclave may accept by itself, one after the other, without asking: behind the mapping bytes.

    They are zero, mapped without protection, and in no table. The supervisor numbers a grant and takes it back by
    raising the number; a thread that accepts holds ``busy`` and looks at the number then, so that whoever takes back
    and finds nobody busy knows how many were accepted (native/supervised/grant.c, swsgx.supervisor.grants).
    """

    serial = u32(0, "the supervisor's number for it")
    active = u32(4, "the process's: that of the grant whose pages are mapped; another one, or 0, is none")
    busy = u32(8, "1: a thread is accepting a page")
    next = u32(12, "page index in ELRANGE: accepted next")
    end = u32(16, "page index: the first that is not granted")
    reserved_20 = zero(20, 44)


def grant_offset(pages: int) -> int:
    """Where the :class:`Grant` lies behind the mapping bytes of so many pages."""
    return -(-pages // Grant.align_of) * Grant.align_of


class EnclaveSlot(Layout, size=192, align=64, source=SWSGX):
    """One enclave as one process maps it. ``base`` is written last and cleared first."""

    base = u64(0, "linear address of ELRANGE; 0: the slot is free")
    size = u64(8, "bytes")
    head = u64(16, "where EnclaveHead is mapped here")
    frames = u64(24, "where the frame map is mapped here")
    contents = u64(32, "where the enclave's contents are mapped for the monitor (shared, readable, writable)")
    vma = u64(40, "where the mapping bytes (VMA_*) are")
    exit_stub = u64(48, "the enclave's exit stub, within 2 GiB of its code; 0: none")
    exit_table = u64(56, "the exit table, EXIT_TABLE_SIZE bytes")
    threads = u64(64, "ThreadRecord array, one for each TCS that was ever entered here")
    thread_capacity = u32(72, "entries in that array")
    thread_count = u32(76, "entries in use")
    flags = u32(80, "SLOT_*")
    reserved_84 = zero(84, 4)
    epcm = u64(88, "where the EPCM is mapped here")
    eenter_count = u64(96, "entries by the slow path, ERESUME included")
    aex_count = u64(104, "asynchronous exits")
    hidden = u64(112, "where the range lies while no thread is inside (SLOT_HIDE); size bytes, reserved")
    runs = u64(120, "VisibleRun array")
    run_count = u32(128, "entries in it")
    lock = u32(132, "1: somebody is moving the range or changing the runs")
    inside = u32(136, "threads inside, and others that need the range in place")
    away = u32(140, "1: the range is hidden now")
    contents_fd = u32(144, "the memfd of the contents, to map a run afresh where it cannot be moved")
    reserved_148 = zero(148, 4)
    grant = u64(152, "where the Grant is; 0: nothing is ever granted here")
    reserved_160 = zero(160, 32)


class ThreadRecord(Layout, size=256, align=64, source=SWSGX):
    """One TCS in one process: what EENTER found out, and what EEXIT and AEX must restore."""

    tcs = u64(0, "linear address of the TCS; 0: free")
    slot = u64(8, "its EnclaveSlot")
    head = u64(16, "its EnclaveHead")
    tcs_page = u64(24, "the TCS as the monitor sees it")
    generation = u64(32, "EnclaveHead.generation at which the checks below were made; 0: never")
    entry = u64(40, "BASEADDR + OENTRY")
    fsbase = u64(48, "BASEADDR + OFSBASE")
    gsbase = u64(56, "BASEADDR + OGSBASE")
    gpr = u64(64, "GPRSGX of SSA[cssa] as the monitor sees it")
    ssa = u64(72, "SSA[cssa] as the monitor sees it")
    cssa = u32(80, "the CSSA that gpr, ssa and the page checks are for")
    reserved_84 = zero(84, 4)
    host_fsbase = u64(88, "FS base outside, restored by EEXIT and AEX")
    host_gsbase = u64(96, "GS base outside")
    aep = u64(104, "RCX of EENTER or ERESUME")
    lp = u64(112, "the LogicalProcessor that is inside; stale when TCS.STATE is inactive")
    host_rflags = u64(120, "RFLAGS of EENTER or ERESUME; TF comes back from here")
    exit_gsbase = u64(128, "the GS base by which EEXIT finds it, when it was published last")
    reserved_136 = zero(136, 120)


class LogicalProcessor(Layout, size=4096, align=4096, source=SWSGX):
    """What a thread carries: the hidden enclave state of a logical processor, and room for the monitor."""

    record = u64(0, "the ThreadRecord it is inside with; 0: not in enclave mode")
    fsbase = u64(8, "its FS base outside, the key it is found by")
    tid = u32(16, "kernel thread id")
    attached = u32(20, "1 while the block is in use")
    enter_rsp = u64(24, "RSP at EENTER; the registers pushed below it let a signal complete the entry")
    check = u32(32, "the last refusal or exception: which rule, CHECK_*")
    vector = u32(36, "its vector")
    error_code = u64(40, "its error code")
    address = u64(48, "its address (#PF), or the operand's")
    expected = u64(56, "what the rule wanted, as far as a number says it")
    found = u64(64, "what was there")
    rip = u64(72, "RIP of the instruction inside that raised it; 0 when raised outside")
    old_stack = octets(80, 24, "the stack_t that was there before")
    interrupt = u32(104, "1: a signal asks that the call ends at the next AEX instead of resuming")
    last_signal = u32(108, "the signal that arrived inside last")
    aex_count = u64(112, "asynchronous exits on this thread")
    eenter_count = u64(120, "entries by the slow path, ERESUME included")
    pending = u64(128, "Registers that the slow path is about to load; lets a signal complete the entry")
    pending_xstate = u64(136, "XSAVE image that goes with them; 0: vector state stays as it is")
    selector = u8(144, "Syscall User Dispatch: 0 allow, 1 block; 1 while inside")
    dispatching = u8(145, "1: Syscall User Dispatch is on for this thread")
    reserved_146 = zero(146, 6)
    stepping = u64(152, "how many pages of guards a host store is being dropped on")
    stepped = octets(160, 8 * STEPPED_PAGES, "their addresses, u64 each")
    blocked = u64(
        416, "signals that the program believes to be blocked and that never are, bit n-1 for signal n"
    )
    kept = u64(424, "of those, what was sent meanwhile")
    admitted = u64(432, "of those, what a waiting call lets through")
    leaf = u32(
        440,
        "in our own process: the ENCLU leaf that the thread left for, so that Python carries it out; 0: none",
    )
    leaf_length = u32(444, "bytes of that ENCLU")
    kept_info = octets(448, 6 * 128, "their siginfo: SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGSYS")
    reserved_1216 = zero(1216, 2880)


class MonitorConfig(Layout, size=192, align=8, source=SWSGX):
    """What the monitor is told once for a process."""

    lps = u64(0, "LP_COUNT blocks of LP_SIZE bytes, reserved, aligned to LP_SIZE; committed one by one")
    slots = u64(8, "SLOT_COUNT EnclaveSlots")
    xcr0 = u64(16, "XCR0 of this machine")
    xstate = u64(
        24, "XSTATE_COMPONENTS pairs of u32: offset and size of each component in the standard format"
    )
    dispatch = u64(32, "1: let SYSCALL inside an enclave trap, by Syscall User Dispatch")
    reserved_40 = zero(40, 152)


class EnclaveRun(Layout, size=256, align=8, source="kernel uapi asm/sgx.h, struct sgx_enclave_run"):
    """The vDSO function's own argument."""

    tcs = u64(0)
    function = u32(8)
    exception_vector = u16(12)
    exception_error_code = u16(14)
    exception_addr = u64(16)
    user_handler = u64(24)
    user_data = u64(32)
    reserved_40 = zero(40, 216)


class EnclaveCall(Layout, size=448, align=64, source=SWSGX):
    """One call from Python into an enclave: all registers in, all registers out."""

    run = octets(0, 256, "an EnclaveRun")
    registers = octets(256, 144, "Registers: in RDI RSI RDX R8..R15; out all but RIP, as at the exit")
    function = u32(400, "ENCLU leaf to start with: 2 EENTER, 3 ERESUME")
    mxcsr = u32(404, "the caller's, restored after the call")
    fcw = u32(408, "the caller's x87 control word, restored after the call")
    result = u32(412, "what the vDSO function returned, as a 32-bit integer")
    stack = u64(416, "first byte above the stack to make the call on, a multiple of 16")
    count = u64(424, "swsgx_round_trips: how often to enter")
    reserved_432 = zero(432, 16)


class Ask(IntEnum):
    """What a supervised process wants of the supervisor; :attr:`Request.op`.

    CALL: a system call of the program's own that may concern SGX. CONTINUE: the calls of the last answer are made.
    ARM: the process is about to use SGX. FORK, FORKED, CHILD: before a fork, behind it in the parent, and in the child.
    FAULT: a page of an enclave was touched that is not mapped. CODE: a file was mapped executable. EXPLAIN: what a leaf
    or an instruction inside an enclave was refused for, as in LogicalProcessor: check, vector, error code, address,
    expected, found. LEAF: an ENCLU leaf for the machine to carry out: leaf, the enclave's slot, RBX, RCX, RDX.
    WATCH: the program has closed TargetState.watch. CALLED: the supervisor has called (TargetState.called).
    """

    CALL = 1
    CONTINUE = 2
    ARM = 3
    FORK = 4
    FORKED = 5
    CHILD = 6
    FAULT = 7
    CODE = 8
    EXPLAIN = 9
    LEAF = 10
    WATCH = 11
    CALLED = 12


class LeafEnd(IntEnum):
    """How the leaf of an :attr:`Ask.LEAF` ended; :attr:`Request.result` of the answer.

    SILENT: it touches neither RAX nor flags. RESULT: arg0 is RAX, arg1 the status flags. FAULT: arg0 is the vector,
    arg1 the error code, arg2 the address, and arg3 a :class:`LeafSignal`. AGAIN: it is still to be executed.
    """

    SILENT = 0
    RESULT = 1
    FAULT = 2
    AGAIN = 3


class LeafSignal(IntEnum):
    """What the kernel makes of a leaf's page fault: SIGSEGV with SEGV_ACCERR or SEGV_MAPERR, or SIGBUS."""

    ACCERR = 0
    MAPERR = 1
    BUS = 2


class Answer(IntEnum):
    """What the supervisor says to it.

    DONE: :attr:`Request.result` is the result. CALLS: make these calls, then CONTINUE. PASS: none of ours, make the
    program's call. ARM_FIRST: ask ARM, then the same again. LAST: make these calls; if each gives what HostCall.result
    says now, it is DONE; else CONTINUE.
    """

    DONE = 0
    CALLS = 1
    PASS = 2
    ARM_FIRST = 3
    LAST = 4


class OwnCall(IntEnum):
    """Numbers of a :class:`HostCall` that are no system calls: the image does them itself.

    PIN and UNPIN (slot): the range stays where it belongs meanwhile. FORGET (base, size): the enclave is about to go.
    GRANT (slot, serial): the pages of that Grant are mapped.
    """

    PIN = 0x53475810
    UNPIN = 0x53475811
    FORGET = 0x53475812
    GRANT = 0x53475813


class HostCall(Layout, size=64, align=8, source=SWSGX):
    """One system call that the supervisor has a process make."""

    number = u64(0, "of the system call, or an OwnCall")
    arg0 = u64(8)
    arg1 = u64(16)
    arg2 = u64(24)
    arg3 = u64(32)
    arg4 = u64(40)
    arg5 = u64(48)
    result = u64(56, "what it gave, filled in by the process; with LAST, before that: what it must give")


class Request(Layout, size=736, align=8, source=SWSGX):
    """What a process asks, and the answer; in the process's memory."""

    op = u32(0, "ASK_*")
    number = u32(4, "CALL: of the system call")
    key = u64(8, "TargetState.key")
    arg0 = u64(16)
    arg1 = u64(24)
    arg2 = u64(32)
    arg3 = u64(40)
    arg4 = u64(48)
    arg5 = u64(56)
    result = u64(64, "answer: the result, as a system call's")
    token = u64(72, "the supervisor's own, kept from answer to CONTINUE")
    count = u32(80, "answer: how many of the calls to make; CONTINUE: how many were made")
    reserved_84 = zero(84, 4)
    blocked = u64(88, "signals that the program blocks, bit n-1 for signal n")
    calls = octets(96, 512, "CALLS_AT_ONCE HostCalls")
    arguments = octets(608, 128, "what pointers among their arguments lead to")


class TargetState(Layout, size=1216, align=64, source=SWSGX):
    """What the supervisor must know of an armed process, and writes into it."""

    key = u64(0, "which process this is, given by the supervisor; 0: not armed")
    slots = u64(8, "the EnclaveSlot table")
    exit_stub = u64(16, "the exit stub's code, to copy; its last 16 bytes are exit table and exit_common")
    exit_stub_size = u64(24, "bytes")
    exit_common = u64(32, "what goes into its last 8 bytes")
    filter = u64(40, "FILTER_BYTES for the second filter's program, behind its struct sock_fprog")
    area_count = u32(48, "entries of areas")
    armed = u32(52, "1: the monitor has the process's signals")
    explain = u32(56, "1: refusals and exceptions are to be told, ASK_EXPLAIN")
    watch = u32(60, "the descriptor by which mappings of hidden enclaves are watched; 0: none")
    areas = octets(64, 1024, "AREA_COUNT pairs of u64: ranges in which enclave mappings lie, ascending")
    lps = u64(1088, "LP_COUNT LogicalProcessors, LP_SIZE bytes apart")
    called = u32(1096, "1: the SIGSYS that comes is the supervisor's, which has something to be done")
    reserved_1100 = zero(1100, 116)
