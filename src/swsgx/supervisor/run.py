"""Starting a program under a supervisor, and ending as it ends.

Three processes (see the package): this one is the front, and never touches a target. It stays in the program's
process group, so that the terminal and its job control see one job.

What was learnt:

- A signal from the terminal reaches the program by itself, being sent to the group; only signals that a process sent
  to the front are passed on. The front has them blocked and waits for them, so none can end it in between.
- The supervisor blocks them too, and does not stop with Ctrl-Z: a program may handle SIGTSTP and go on. The front stops
  when the program has stopped.
- The supervisor gives up the caller's files, terminal and folder, so that a reader of a pipe sees its end when the
  program has closed it. When the program ends, and what it left behind lives on, the supervisor stays for that.
- Python ignores SIGPIPE and SIGXFSZ; the program gets their default back. Python may also set LC_CTYPE (PEP 538): the
  program gets the environment that the kernel gave to us.
- SIGHUP has the policy of the security modules loaded again, if there are any. The front only passes it on: modules and
  their files are the supervisor's from its fork on.
- What a sandbox refuses is asked for first, by calls that do nothing: later, with a program half started, it would look
  like something else.
- A standard descriptor that the caller has closed must not become one of ours: its number is kept occupied, and exec
  closes it for the program.
"""

from __future__ import annotations

import _socket
import array
import contextlib
import errno
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from swsgx.supervisor.descendants import kill_descendants
from swsgx.supervisor.image import IMAGE_BASE, Image, load_image
from swsgx.supervisor.kernel import (
    Ptrace,
    die_with_parent,
    execve_marked,
    move_memory,
    prctl_answers,
    ptrace,
    subreaper,
)
from swsgx.supervisor.seccomp import ASK, FIRST_EXEC, Listener, install, program
from swsgx.supervisor.settings import Settings
from swsgx.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    import select

    from swsgx.supervisor.inquiries import Inquiries

__all__ = ["CANNOT_RUN", "CANNOT_SUPERVISE", "FIGURES", "NOT_FOUND", "SUPERVISOR_DIED", "run_program"]

#: Exit statuses, as the shell's and env(1)'s: found but not run; not found; and our own failure, at once or later.
CANNOT_RUN = 126
NOT_FOUND = 127
CANNOT_SUPERVISE = SUPERVISOR_DIED = 125

#: What begins the name of the socket where a tree is asked for its figures; uid, front, supervisor, and something that
#: nobody can have taken before follow.
FIGURES = "swsgx-run/"
#: Where a machine with SGX has it.
_REAL_NODE = "/dev/sgx_enclave"
#: Who may use ptrace: 2 is the administrator, 3 nobody (the Yama security module; most kernels have it).
_PTRACE_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"
_CAP_SYS_PTRACE = 19
_ENDED, _STOPPED, _FAILED = range(3)
#: What the front tells the supervisor: the policy is to be loaded again.
_RELOAD = b"r"
_MESSAGE = struct.Struct("<II")
_GONE = signal.SIGUSR2
_FORWARDED = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGTERM,
    signal.SIGTSTP,
    signal.SIGCONT,
    signal.SIGWINCH,
}
_SI_KERNEL = 0x80
_Mask = set[int | signal.Signals]


def run_program(words: Sequence[str], settings: Settings) -> int:
    """Run a program under supervision, and wait for it.

    Args:
        words: the program, looked up in PATH if it has no slash, and its arguments.
        settings: of the SGX machine.

    Returns:
        Its exit status; ``NOT_FOUND`` or ``CANNOT_RUN`` if it could not be started; ``CANNOT_SUPERVISE`` if this
        place does not allow what is needed; ``SUPERVISOR_DIED``. If a signal ended the program, the same signal ends
        this process, so that the caller sees the truth.

    Raises:
        FileNotFoundError: the C images are not built.
    """
    if not settings.shadow and os.access(_REAL_NODE, os.F_OK) and not _is_supervised():
        _say(f"{_REAL_NODE} is real on this machine; pass --shadow to hide it from the program")
        return CANNOT_RUN
    image = load_image()
    _occupy_standard_files()
    lacking = _lacking()
    if lacking:
        _say(lacking)
        return CANNOT_SUPERVISE
    mask = signal.pthread_sigmask(
        signal.SIG_BLOCK, _FORWARDED | {signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU}
    )
    subreaper()
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    front = os.getpid()
    supervisor = os.fork()
    if supervisor == 0:
        status = SUPERVISOR_DIED
        try:
            os.close(ours.detach())
            die_with_parent(_GONE)
            if os.getppid() == front:
                _supervise(words, settings, image, mask, theirs, front)
                status = 0
        except BaseException as error:
            if os.getppid() == front:  # else it has been killed, and what we came upon is that
                if os.environ.get("SWSGX_TRACEBACK"):
                    sys.excepthook(type(error), error, error.__traceback__)
                _say(f"a bug in swsgx: {type(error).__name__}: {error}")
            kill_descendants()
        finally:
            os._exit(status)
    os.close(theirs.detach())
    return _front(ours, supervisor, mask, reloads=settings.security is not None)


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"swsgx run: {text}\n".encode("utf-8", "backslashreplace"))


def _occupy_standard_files() -> None:
    while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    os.close(fd)


def _lacking() -> str:
    """What is not allowed here and cannot be done without, in one line; empty if nothing."""

    def traces() -> None:
        with contextlib.suppress(ProcessLookupError):  # we are nobody's tracee
            ptrace(Ptrace.CONT, os.getpid())

    probes: dict[str, Callable[[], None]] = {
        "ptrace": traces,
        "prctl": lambda: prctl_answers(ASK),
        "process_vm_readv": lambda: move_memory("process_vm_readv"),
        "process_vm_writev": lambda: move_memory("process_vm_writev"),
        "memfd_create": lambda: os.close(os.memfd_create("swsgx")),
        "pidfd_open": lambda: os.close(os.pidfd_open(os.getpid())),
    }
    if not os.access("/proc/self/mem", os.F_OK):
        return "there is no /proc here: mount it"
    for name, probe in probes.items():
        try:
            probe()
        except OSError as error:
            said = os.strerror(error.errno or errno.EPERM)
            return f"{name} is refused here ({said}): allow it in the sandbox's or container's filter"
    return _lacking_by_yama()


def _lacking_by_yama() -> str:
    try:
        with open(_PTRACE_SCOPE, encoding="ascii") as file:
            scope = int(file.read())
    except (OSError, ValueError):
        return ""
    if scope < 2:
        return ""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as lines:
        capabilities = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    if scope == 2 and capabilities >> _CAP_SYS_PTRACE & 1:
        return ""
    return f"ptrace is refused here: {_PTRACE_SCOPE} is {scope}, must be 0 or 1"


def _is_supervised() -> bool:
    """Whether this process has the image itself: a run inside a run."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace", newline="\n") as maps:
        return any(line.startswith(f"{IMAGE_BASE:08x}-") for line in maps)


def _front(channel: _socket.socket, supervisor: int, mask: _Mask, *, reloads: bool) -> int:
    """Pass signals on until the supervisor tells the end of the program.

    With ``reloads``, SIGHUP is for the supervisor. The program still gets that of a terminal that hangs up.
    """
    first = channel.recv(4)
    target, ended = int.from_bytes(first, "little"), False
    channel.setblocking(False)
    waited = _FORWARDED | {signal.SIGCHLD}
    while first:
        try:
            message = channel.recv(_MESSAGE.size)
        except BlockingIOError:
            message = b""
        else:
            if not message:
                break
        if message:
            kind, value = _MESSAGE.unpack(message)
            if kind == _STOPPED:
                os.kill(os.getpid(), signal.SIGSTOP)
                _send(target, signal.SIGCONT)
                continue
            ended = True
            break
        info = signal.sigwaitinfo(waited)
        if info.si_signo == signal.SIGCHLD or info.si_code == _SI_KERNEL or not info.si_pid or not target:
            continue
        if reloads and info.si_signo == signal.SIGHUP:
            with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
                channel.send(_RELOAD)
        else:
            _send(target, info.si_signo)
    if not ended:
        kill_descendants()
        _say("the supervisor has died, and its targets with it")
        return SUPERVISOR_DIED
    if kind == _FAILED:
        return int(value)
    if os.WIFEXITED(value):
        return os.WEXITSTATUS(value)
    return _die_of(os.WTERMSIG(value), mask)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _die_of(number: int, mask: _Mask) -> int:
    """End by a signal, without a core of our own. Returns the shell's status for it, if we cannot."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask - {number})
    os.kill(os.getpid(), number)
    return 128 + number


def _supervise(
    words: Sequence[str], settings: Settings, image: Image, mask: _Mask, channel: _socket.socket, front: int
) -> None:
    """The supervisor process, from its fork to the end of the tree."""
    subreaper()
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    target = os.fork()
    if target == 0:
        # While this process held the other ends, nobody would learn of the supervisor's death, nor this process itself.
        os.close(near.detach())
        os.close(channel.detach())
        code = program(IMAGE_BASE, IMAGE_BASE + image.writable)
        os._exit(_become(words, code, mask, far))
    os.close(far.detach())
    channel.send(target.to_bytes(4, "little"))
    listener = _receive_listener(near)
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(_GONE, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD, _GONE})
    keep = {near.fileno(), channel.fileno(), read, write, 2} | ({listener.fd} if listener else set())
    keep |= settings.files
    # A run inside a run has no machine of its own: its processes use the outer one's.
    asked_at = _listening(front) if listener else None
    keep |= {asked_at.fileno()} if asked_at else set()
    _let_go(keep)
    alive = True

    def tell(kind: int, value: int) -> None:
        try:
            channel.send(_MESSAGE.pack(kind, value))
            os.kill(front, signal.SIGCHLD)
        except (BrokenPipeError, ConnectionResetError, ProcessLookupError):
            pass

    def ended(status: int) -> None:
        nonlocal alive
        alive = False
        die_with_parent(0)
        failure = near.recv(4)
        if failure:
            tell(_FAILED, int.from_bytes(failure, "little"))
        else:
            tell(_ENDED, status)
        _silence({2})

    def abandoned() -> bool:
        return alive and os.getppid() != front

    def inquiries(listening: _socket.socket, poll: select.poll) -> Inquiries:
        from swsgx.supervisor.inquiries import Inquiries

        return Inquiries(listening, words, front, poll)

    supervisor = Supervisor(
        target,
        listener,
        image,
        ended,
        lambda number: tell(_STOPPED, number),
        abandoned,
        settings,
        asked_at,
        inquiries,
        channel.fileno() if settings.security is not None else -1,
    )
    supervisor.run(read)
    kill_descendants()
    if settings.security is not None:
        settings.security.close(settings.tell)


def _listening(front: int) -> _socket.socket | None:
    """Where people can ask for figures; None where such a socket is refused, which is worth no run."""
    try:
        found = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        found.setblocking(False)
        found.bind(f"\0{FIGURES}{os.geteuid()}/{front}/{os.getpid()}/{os.urandom(8).hex()}")
        found.listen(16)
    except OSError:
        return None
    return found


def _receive_listener(near: _socket.socket) -> Listener | None:
    data, ancillary, _, _ = near.recvmsg(1, _socket.CMSG_SPACE(4))
    if not data or not ancillary:
        return None
    fds = array.array("i", ancillary[0][2])
    os.set_inheritable(fds[0], False)
    return Listener(fds[0])


def _let_go(keep: set[int]) -> None:
    """Keep nothing of the caller's but ``keep``: its files, its terminal, its folder."""
    os.chdir("/")
    _silence({0, 1, 2} - keep)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):
                os.close(fd)


def _silence(fds: set[int]) -> None:
    """Have /dev/null as each of these."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in fds:
        os.dup2(null, fd)
    if null not in fds:
        os.close(null)


def _environment() -> tuple[list[bytes], bytes]:
    """The environment that we were started with, and its PATH."""
    with open("/proc/self/environ", "rb") as file:
        words = file.read().split(b"\0")[:-1]
    path = next((word[5:] for word in words if word.startswith(b"PATH=")), os.defpath.encode())
    return words, path


def _candidates(name: bytes, path: bytes) -> list[bytes]:
    """What may be meant by a program's name, in the order of PATH; never empty."""
    if b"/" in name:
        return [name]
    found = [folder + b"/" + name if folder else name for folder in path.split(b":")]
    return [word for word in found if os.access(word, os.X_OK)] or found


def _become(words: Sequence[str], code: bytes, mask: _Mask, far: _socket.socket) -> int:
    """The target process, up to its exec. Returns the exit status when the program cannot be started."""
    # Under the filter, path calls and changes of signals may end this process: all that comes before.
    status = CANNOT_SUPERVISE
    environment, path = _environment()
    candidates = _candidates(os.fsencode(words[0]), path)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    subject = "a seccomp filter with user notification is refused here (kernel older than 5.5, or a sandbox)"
    try:
        listener = install(code)
        if listener is None and not _is_supervised():
            raise OSError(errno.EBUSY, "somebody else, the container's manager, has the only one")
        subject, status = words[0], CANNOT_RUN
        if listener is None:
            far.send(b"n")
        else:
            far.sendmsg(
                [b"y"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, listener.to_bytes(4, sys.byteorder))]
            )
            os.close(listener)
        arguments = [os.fsencode(word) for word in words]
        for candidate in candidates[:-1]:
            with contextlib.suppress(OSError):
                execve_marked(candidate, arguments, environment, FIRST_EXEC)
        execve_marked(candidates[-1], arguments, environment, FIRST_EXEC)
    except OSError as error:
        text = f"{error.strerror}" if error.errno else str(error)
        if status == CANNOT_RUN and error.errno == errno.EPERM:
            text += " (does a security module forbid ptrace?)"
        if isinstance(error, BrokenPipeError) or (status == CANNOT_RUN and error.errno == errno.ENOSYS):
            return SUPERVISOR_DIED  # nobody takes the listener, or answers it; the front will say so
        _say(f"{subject}: {text}")
        if isinstance(error, FileNotFoundError):
            status = NOT_FOUND
    with contextlib.suppress(OSError):
        far.send(status.to_bytes(4, "little"))
    return status
