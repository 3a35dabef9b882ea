"""``swsgx sign``: an enclave's SIGSTRUCT, with a key that is here or in two steps with one that is elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from swsgx.cli.errors import Refused, about, usage
from swsgx.cli.options import DATE, U16, U32, U64, HexBytes, existing_file, today

if TYPE_CHECKING:
    from swsgx.cli.main import Shared
    from swsgx.identity.sigstruct import SigstructOptions
    from swsgx.image.plan import LoadPlan
    from swsgx.isa.sigstruct import Sigstruct

__all__ = ["command", "sigstruct_options"]

_KSS_FIELDS = ("isvfamilyid", "isvextprodid")


@click.command("sign", short_help="Sign an enclave.")
@click.argument("file", type=existing_file)
@click.option("-k", "--key", type=existing_file, metavar="KEY.pem", help="Private key, RSA-3072 with e = 3.")
@click.option("-o", "--output", metavar="OUT.sig", help="The SIGSTRUCT, 1808 bytes.")
@click.option("--to-be-signed", metavar="OUT256", help="Step 1 of 2: write the 256 bytes to be signed.")
@click.option(
    "--signature", type=existing_file, metavar="SIG384", help="Step 2 of 2: the signer's 384 bytes."
)
@click.option(
    "--public-key", type=existing_file, metavar="PUB.pem", help="Step 2 of 2: the signer's public key."
)
@click.option("--unsigned", type=existing_file, metavar="OUT256", help="Step 2 of 2: what step 1 wrote.")
@click.option("--heap-size", type=U64, metavar="BYTES", help="Heap of a selftest ELF file (4096).")
@click.option(
    "--attributes", type=U64, metavar="BITS", help="ATTRIBUTES.FLAGS (what the file asks for, or 4)."
)
@click.option(
    "--attributes-mask", type=U64, metavar="BITS", help="Bits of it that EINIT compares (all but DEBUG)."
)
@click.option(
    "--debug",
    type=click.Choice(["allow", "require", "forbid"]),
    help="DEBUG: leave it open, or compare it with 1 or 0.",
)
@click.option("--kss", is_flag=True, help="Set ATTRIBUTES.KSS; needed for the two ids below.")
@click.option("--xfrm", type=U64, metavar="BITS", help="ATTRIBUTES.XFRM (what the file asks for, or 3).")
@click.option("--xfrm-mask", type=U64, metavar="BITS", help="Bits of it that EINIT compares (all).")
@click.option("--miscselect", type=U32, metavar="BITS", help="MISCSELECT (what the file asks for, or 0).")
@click.option("--miscselect-mask", type=U32, metavar="BITS", help="Bits of it that EINIT compares (all).")
@click.option("--isvprodid", type=U16, metavar="N", default=0, help="Product number.")
@click.option("--isvsvn", type=U16, metavar="N", default=0, help="Security version.")
@click.option("--isvfamilyid", type=HexBytes(16), metavar="HEX", help="Product family, 16 bytes; with KSS.")
@click.option(
    "--isvextprodid", type=HexBytes(16), metavar="HEX", help="Extended product id, 16 bytes; with KSS."
)
@click.option("--date", type=DATE, metavar="YYYY-MM-DD", help="Date in the SIGSTRUCT (today in UTC).")
@click.option("--vendor", type=U32, metavar="N", default=0, help="0, or 0x8086 as Intel's own.")
@click.option("--swdefined", type=U32, metavar="N", default=0, help="32 bits that nobody looks at.")
@click.pass_obj
def command(shared: Shared, /, file: str, output: str | None, **given: Any) -> None:
    """Sign an enclave file.

    \b
    With the key:      swsgx sign ENCLAVE -k KEY.pem -o OUT.sig
    In two steps:      swsgx sign ENCLAVE --to-be-signed OUT256
                       openssl dgst -sha256 -sign KEY.pem -out SIG384 OUT256
                       swsgx sign ENCLAVE --unsigned OUT256 --signature SIG384 --public-key PUB.pem -o OUT.sig

    A mask has a 1 for each bit that EINIT compares.
    """  # noqa: D301 - click wants the backspace itself
    _check_usage(output, given)
    from swsgx.cli.enclaves import measure_plan, read_small
    from swsgx.cli.output import write_file
    from swsgx.identity.sigstruct import redated, unsigned
    from swsgx.image.enclave import load_plan

    plan = load_plan(file, heap_size=given["heap_size"])
    options = sigstruct_options(plan, **given)
    with about(file):
        made = unsigned(measure_plan(plan, shared.trace), options)
    if given["unsigned"] is not None:
        with about(given["unsigned"]):
            made = redated(made, read_small(given["unsigned"]))
    if given["to_be_signed"] is not None:
        write_file(given["to_be_signed"], made.signed_bytes())
        return
    signed = _signed(made, given)
    write_file(str(output), bytes(signed))


def _check_usage(output: str | None, given: dict[str, Any]) -> None:
    """Exactly one of the three ways to sign, with all that it needs."""
    second = [given["signature"], given["public_key"]]
    if given["to_be_signed"] is not None:
        if output is not None or given["key"] is not None or given["unsigned"] is not None or any(second):
            raise usage(
                "--to-be-signed takes neither -o, a key nor a signature: it only writes what is to be signed"
            )
        return
    if output is None:
        raise usage("-o OUT.sig is missing (or --to-be-signed OUT256, for signing in two steps)")
    if given["key"] is not None and any((*second, given["unsigned"])):
        raise usage(
            "--key signs at once; --signature, --public-key and --unsigned belong to signing in two steps"
        )
    if given["key"] is None and None in second:
        raise usage("give --key KEY.pem, or --signature SIG384 and --public-key PUB.pem")
    if given["unsigned"] is not None and given["date"] is not None:
        raise usage("--unsigned gives the date; --date would contradict it")


def sigstruct_options(plan: LoadPlan, **given: Any) -> SigstructOptions:
    """What is signed besides the measurement: the command line's words, then the file's, then the defaults.

    Args:
        plan: of the enclave.
        given: the options of ``swsgx sign``; None where not given.

    Raises:
        click.UsageError: they contradict each other.
        Refused: no SIGSTRUCT can say this.
    """
    from swsgx.identity.sigstruct import SigstructOptions
    from swsgx.isa.flags import Attributes

    fixed = SigstructOptions()

    def first(*values: int | None) -> int:
        return next(v for v in values if v is not None)

    attributes = first(given["attributes"], plan.attributes, fixed.attributes)
    mask = first(given["attributes_mask"], fixed.attributemask)
    if given["debug"] == "allow":
        mask &= ~int(Attributes.DEBUG)
    elif given["debug"] is not None:
        mask |= Attributes.DEBUG
        attributes &= ~int(Attributes.DEBUG)
        attributes |= Attributes.DEBUG if given["debug"] == "require" else 0
    if given["kss"]:
        attributes |= Attributes.KSS
    if attributes & Attributes.INIT:
        raise usage("--attributes: INIT (bit 0) is set by EINIT and never signed")
    for name in _KSS_FIELDS:
        if given[name] is not None and any(given[name]) and not attributes & Attributes.KSS:
            raise usage(f"--{name} needs the KSS attribute: add --kss")
    if not attributes & Attributes.MODE64BIT:
        raise Refused(
            f"{plan.file}: a 64-bit enclave is signed with ATTRIBUTES.MODE64BIT (4), not {attributes:#x}"
        )
    return SigstructOptions(
        attributes=int(attributes),
        attributemask=int(mask),
        xfrm=first(given["xfrm"], plan.xfrm, fixed.xfrm),
        xfrmmask=first(given["xfrm_mask"], fixed.xfrmmask),
        miscselect=first(given["miscselect"], plan.miscselect, fixed.miscselect),
        miscmask=first(given["miscselect_mask"], fixed.miscmask),
        isvprodid=given["isvprodid"],
        isvsvn=given["isvsvn"],
        date=given["date"] if given["date"] is not None else today(),
        vendor=given["vendor"],
        swdefined=given["swdefined"],
        isvfamilyid=given["isvfamilyid"] or bytes(16),
        isvextprodid=given["isvextprodid"] or bytes(16),
    )


def _signed(made: Sigstruct, given: dict[str, Any]) -> Sigstruct:
    from swsgx.cli.enclaves import read_small
    from swsgx.identity.rsakey import load_private_key, load_public_key
    from swsgx.identity.signer import complete, sign

    if given["key"] is not None:
        with about(given["key"]):
            return sign(made, load_private_key(read_small(given["key"])))
    with about(given["public_key"]):
        public = load_public_key(read_small(given["public_key"]))
    with about(given["signature"]):
        return complete(made, public, read_small(given["signature"]))
