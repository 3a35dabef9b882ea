"""``swsgx enter``: build an enclave in our own process, call it once, and show what came back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swsgx.cli.errors import EXIT_REFUSED, Refused, about, one_line, usage
from swsgx.cli.options import U64, existing_file

if TYPE_CHECKING:
    from swsgx.cli.main import Shared
    from swsgx.image.plan import LoadPlan
    from swsgx.inprocess import Enclave, Exit
    from swsgx.isa.sigstruct import Sigstruct

    _ArgumentType = click.ParamType["Argument"]
else:
    _ArgumentType = click.ParamType

__all__ = ["Argument", "command"]

#: Most bytes of a buffer that ``out:`` makes.
_MAX_BUFFER = 1 << 30
#: How often ``--handle`` lets the enclave repair one call.
_MAX_REPAIRS = 1000
_ARGUMENTS = ("rdi", "rsi", "rdx", "r8", "r9")


@dataclass(frozen=True, slots=True)
class Argument:
    """What goes into a register: a number, or the address of a buffer.

    Attributes:
        number: the value, if it is one.
        buffer: bytes of the host, whose address is passed.
        shown: whether the buffer is shown afterwards.
    """

    number: int = 0
    buffer: bytearray | None = None
    shown: bool = False


class _Value(_ArgumentType):
    """NUMBER, str:TEXT, hex:BYTES, file:PATH, or out:SIZE."""

    name = "value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Argument:
        """The argument that ``value`` says."""
        if isinstance(value, Argument):
            return value
        kind, colon, rest = str(value).partition(":")
        if not colon:
            return Argument(U64.convert(value, param, ctx))
        if kind == "str":
            return Argument(buffer=bytearray(rest.encode()))
        if kind == "hex":
            try:
                return Argument(buffer=bytearray.fromhex(rest))
            except ValueError:
                self.fail(f"{rest!r} is not hexadecimal", param, ctx)
        if kind == "file":
            try:
                return Argument(buffer=bytearray(Path(rest).read_bytes()))
            except OSError as error:
                raise Refused(f"{rest}: {error.strerror}") from error
        if kind == "out":
            size = int(U64.convert(rest, param, ctx))
            if not 0 < size <= _MAX_BUFFER:
                self.fail(f"a buffer has 1 to {_MAX_BUFFER} bytes, not {size}", param, ctx)
            return Argument(buffer=bytearray(size), shown=True)
        return self.fail(
            f"{value!r}: expected a number, str:TEXT, hex:BYTES, file:PATH or out:SIZE", param, ctx
        )


_VALUE = _Value()


@click.command("enter", short_help="Build an enclave here and call it once.")
@click.argument("file", type=existing_file)
@click.option("-s", "--sig", type=existing_file, metavar="FILE.sig", help="The enclave's SIGSTRUCT.")
@click.option("-k", "--key", type=existing_file, metavar="KEY.pem", help="Sign it now, with this key.")
@click.option("--op", "--rdi", "rdi", type=_VALUE, metavar="VALUE", default="0", help="RDI: the operation.")
@click.option("--rsi", type=_VALUE, metavar="VALUE", default="0", help="RSI.")
@click.option("--rdx", type=_VALUE, metavar="VALUE", default="0", help="RDX.")
@click.option("--r8", type=_VALUE, metavar="VALUE", default="0", help="R8.")
@click.option("--r9", type=_VALUE, metavar="VALUE", default="0", help="R9.")
@click.option("--tcs", type=click.IntRange(min=0), metavar="N", default=0, help="Which thread (0).")
@click.option("--handle", is_flag=True, help="After an exception, let the enclave repair it, and resume.")
@click.option("--debug", is_flag=True, help="Make it a debug enclave.")
@click.option("--heap-size", type=U64, metavar="BYTES", help="Heap of a selftest ELF file (4096).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_context
def command(ctx: click.Context, /, file: str, **given: Any) -> None:
    """Build an enclave in this process, enter it once, and show the registers that it leaves.

    Without --sig or --key it is signed with a key that is thrown away.

    \b
    A VALUE is a number, or makes a buffer of which the address is passed:
      str:TEXT  hex:BYTES  file:PATH   these bytes
      out:SIZE                         zeros; what the enclave put there is shown

    \b
    SHA-256 of "abc", by the example enclave:
      swsgx enter compute.elf --op 1 --rsi str:abc --rdx 3 --r8 out:32

    The exit status is 1 if the call ended with an exception.
    """  # noqa: D301 - click wants the backspace itself
    if given["sig"] is not None and given["key"] is not None:
        raise usage("--sig and --key exclude each other")
    from swsgx.image.enclave import load_plan

    shared: Shared = ctx.obj
    plan = load_plan(file, heap_size=given["heap_size"])
    if given["tcs"] >= len(plan.tcs):
        raise Refused(f"{file}: the enclave has {len(plan.tcs)} threads, so no thread {given['tcs']}")
    plan.require_loadable()
    sigstruct = _sigstruct(plan, given)
    arguments: dict[str, Argument] = {name: given[name] for name in _ARGUMENTS}
    with about(file):
        result, repairs = _call(plan, sigstruct, arguments, given, shared)
    _show(file, result, repairs, arguments, as_json=given["as_json"])
    if result.exception is not None:
        click.echo(one_line(f"swsgx enter: {file}: {result.exception}"), err=True)
        ctx.exit(EXIT_REFUSED)


def _sigstruct(plan: LoadPlan, given: dict[str, Any]) -> Sigstruct:
    from swsgx.cli.enclaves import measure_plan, read_sigstruct, read_small
    from swsgx.cli.options import today
    from swsgx.identity.rsakey import generate_key, load_private_key
    from swsgx.identity.signer import sign
    from swsgx.identity.sigstruct import SigstructOptions, unsigned
    from swsgx.trace import OFF

    if given["sig"] is not None:
        return read_sigstruct(given["sig"])
    if given["key"] is not None:
        with about(given["key"]):
            key = load_private_key(read_small(given["key"]))
    else:
        key = generate_key()
    fixed = SigstructOptions()
    options = SigstructOptions(
        attributes=int(fixed.attributes if plan.attributes is None else plan.attributes),
        xfrm=int(fixed.xfrm if plan.xfrm is None else plan.xfrm),
        miscselect=int(fixed.miscselect if plan.miscselect is None else plan.miscselect),
        date=today(),
    )
    return sign(unsigned(measure_plan(plan, OFF), options), key)


def _call(
    plan: LoadPlan,
    sigstruct: Sigstruct,
    arguments: dict[str, Argument],
    given: dict[str, Any],
    shared: Shared,
) -> tuple[Exit, int]:
    """Build, enter, and repair as long as the enclave can: the last exit, and how many repairs there were."""
    from swsgx.inprocess import Sgx
    from swsgx.native.images import ImageMissing

    registers = {name: a.number if a.buffer is None else a.buffer for name, a in arguments.items()}
    try:
        machine = Sgx(trace=shared.trace)
    except ImageMissing as error:
        raise Refused(f"{plan.file}: {error}") from error
    with machine as sgx:
        enclave = sgx.load(plan, sigstruct, debug=given["debug"])
        result = enclave.enter(given["tcs"], **registers)
        repairs = 0
        while given["handle"] and result.exception is not None and result.exception.inside:
            if repairs == _MAX_REPAIRS or not _repaired(enclave, given["tcs"]):
                break
            repairs += 1
            result = enclave.resume(given["tcs"])
        return result, repairs


def _repaired(enclave: Enclave, tcs: int) -> bool:
    """Enter the interrupted thread once more, for its exception handler: RDI 0 means that it can go on."""
    answer = enclave.enter(tcs)
    return answer.exception is None and answer.rdi == 0


def _show(file: str, result: Exit, repairs: int, arguments: dict[str, Argument], *, as_json: bool) -> None:
    from swsgx.cli.output import show_json, show_pairs

    registers = {name: result.registers[name] for name in _ARGUMENTS}
    buffers = {name: bytes(a.buffer) for name, a in arguments.items() if a.shown and a.buffer is not None}
    fault = result.exception
    if as_json:
        told: dict[str, object] = {
            "file": file,
            "registers": registers,
            "buffers": buffers,
            "repairs": repairs,
        }
        if fault is not None:
            told["exception"] = {
                "vector": int(fault.vector),
                "name": fault.vector.mnemonic,
                "error_code": fault.error_code,
                "address": fault.address,
                "inside": fault.inside,
                "reason": fault.reason.as_dict(),
            }
        show_json(told)
        return
    if fault is None:
        show_pairs({name: f"{value:#x}  ({value})" for name, value in registers.items()})
        for name, data in buffers.items():
            click.echo(f"[{name}] {data.hex()}")
    if repairs:
        click.echo(f"repairs by the enclave's exception handler: {repairs}")
