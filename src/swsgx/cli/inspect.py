"""``swsgx inspect``: what is in an enclave file or a SIGSTRUCT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from swsgx.cli.errors import one_line
from swsgx.cli.options import U64, existing_file

if TYPE_CHECKING:
    from swsgx.cli.enclaves import EnclaveFile
    from swsgx.cli.main import Shared
    from swsgx.image.plan import PageRun
    from swsgx.isa.sigstruct import Sigstruct

__all__ = ["command"]

_PAGE = 4096
_WHOLE = 0xFFFF


@click.command("inspect", short_help="Show an enclave or a SIGSTRUCT.")
@click.argument("file", type=existing_file)
@click.option("--heap-size", type=U64, metavar="BYTES", help="Heap of a selftest ELF file (4096).")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@click.pass_obj
def command(shared: Shared, /, file: str, heap_size: int | None, as_json: bool) -> None:
    """Show an enclave (ELF file or .sgxs stream) or a SIGSTRUCT (.sig) with everything that it says.

    For an enclave: size, pages by kind, the map with its holes, the threads, the measurement. For a SIGSTRUCT:
    every field, MRSIGNER, and the verdicts of swsgx verify.
    """
    from swsgx.cli.enclaves import is_sigstruct, read_enclave, read_sigstruct
    from swsgx.cli.output import show_json
    from swsgx.image.enclave import read_file

    if is_sigstruct(read_file(file)):
        told = _sigstruct_facts(file, read_sigstruct(file))
    else:
        told = _enclave_facts(read_enclave(file, heap_size), shared)
    if as_json:
        show_json(told)
    elif told["kind"] == "sigstruct":
        _show_sigstruct(told)
    else:
        _show_enclave(told)


def _sigstruct_facts(file: str, sigstruct: Sigstruct) -> dict[str, object]:
    """All that a SIGSTRUCT says, as plain values."""
    from swsgx.identity.signature import mrsigner, verify

    verdict = verify(sigstruct)
    return {
        "file": file,
        "kind": "sigstruct",
        "mrenclave": sigstruct.enclavehash,
        "mrsigner": mrsigner(sigstruct),
        "fields": {
            field.name: {"offset": field.offset, "value": value, "about": field.doc}
            for field, value in sigstruct.values()
        },
        "flags": {
            "attributes": _bits("Attributes", sigstruct.attributes),
            "attributemask": _bits("Attributes", sigstruct.attributemask),
            "xfrm": _bits("Xfrm", sigstruct.xfrm),
            "xfrmmask": _bits("Xfrm", sigstruct.xfrmmask),
            "miscselect": _bits("Miscselect", sigstruct.miscselect),
            "miscmask": _bits("Miscselect", sigstruct.miscmask),
        },
        "verdicts": {"header": verdict.header, "rsa": verdict.rsa, "q1q2": verdict.q1q2},
        "reasons": [str(reason) for reason in verdict.reasons],
    }


def _bits(enum: str, value: int) -> list[str]:
    """The names of the bits that are set; unnamed ones together as a number."""
    from swsgx.isa import flags

    names: list[str] = []
    for bit in getattr(flags, enum):
        if value & bit:
            names.append(bit.name)
            value &= ~int(bit)
    return [*names, hex(value)] if value else names


def _show_sigstruct(told: dict[str, object]) -> None:
    from swsgx.cli.output import show_pairs

    fields, flags, verdicts = (told[name] for name in ("fields", "flags", "verdicts"))
    if not isinstance(fields, dict) or not isinstance(flags, dict) or not isinstance(verdicts, dict):
        raise TypeError("fields, flags and verdicts are mappings")
    digest, signer = told["mrenclave"], told["mrsigner"]
    if not isinstance(digest, bytes) or not isinstance(signer, bytes):
        raise TypeError("digests are bytes")
    click.echo(f"SIGSTRUCT  {one_line(str(told['file']))}")
    shown: dict[str, object] = {"mrenclave": digest.hex(), "mrsigner": signer.hex()}
    for name, field in fields.items():
        value = field["value"]
        if isinstance(value, bytes):
            shown[name] = value.hex() if len(value) <= 32 else f"{value[:16].hex()}... ({len(value)} bytes)"
        else:
            shown[name] = f"{value:#x}  {' '.join(flags.get(name, []))}"
    shown.pop("enclavehash")
    show_pairs(shown, "  ")
    click.echo("verdicts")
    show_pairs({name: "ok" if good else "FAILED" for name, good in verdicts.items()}, "  ")
    reasons = told["reasons"]
    for reason in reasons if isinstance(reasons, list) else ():
        click.echo(f"  {one_line(str(reason))}")


def _enclave_facts(enclave: EnclaveFile, shared: Shared) -> dict[str, object]:
    """All that an enclave file says, as plain values."""
    stream, plan = enclave.stream, enclave.plan
    runs = plan.entries if plan is not None else tuple(stream.runs) if stream is not None else ()
    told: dict[str, object] = {"file": enclave.file, "kind": "sgxs" if plan is None else plan.kind}
    if plan is not None:
        told |= {"size": plan.size, "ssaframesize": plan.ssaframesize}
        wanted = {"attributes": plan.attributes, "xfrm": plan.xfrm, "miscselect": plan.miscselect}
        told["wanted"] = {name: value for name, value in wanted.items() if value is not None}
    elif stream is not None:
        told |= {"size": stream.size if stream.sized else None, "ssaframesize": stream.ssaframesize}
    if stream is not None:
        told["stream"] = {
            "bytes": len(stream.data),
            "sized": stream.sized,
            "canonical": not stream.violations,
            "measured_chunks": stream.measured_chunks,
            "unmeasured_chunks": stream.unmeasured_chunks,
        }
        told["violations"] = [str(violation) for violation in stream.violations]
    told |= {
        "mrenclave": enclave.mrenclave(shared.trace),
        "pages": _page_counts(runs),
        "threads": _threads(runs),
        "map": [_run_facts(run) for run in _joined(runs)],
    }
    return told


def _page_counts(runs: tuple[PageRun, ...]) -> list[dict[str, object]]:
    """How many pages there are of each kind."""
    counts: dict[tuple[str, str, str], int] = {}
    for run in runs:
        key = (_type_name(run), run.permissions, _measured(run))
        counts[key] = counts.get(key, 0) + run.count
    return [
        {"type": kind, "permissions": rwx, "measured": measured, "count": count}
        for (kind, rwx, measured), count in sorted(counts.items())
    ]


def _type_name(run: PageRun) -> str:
    from swsgx.isa.flags import PageType

    try:
        return PageType(run.page_type).name
    except ValueError:
        return f"type {run.page_type}"


def _measured(run: PageRun) -> str:
    return {0: "none", _WHOLE: "all"}.get(run.chunk_mask, "part")


def _content(run: PageRun) -> str:
    """``zero``, one byte value that fills it all, or ``data``."""
    if run.content is None:
        return "zero"
    first = bytes(run.content[:1])
    for at in range(0, len(run.content), 1 << 20):
        part = bytes(run.content[at : at + (1 << 20)])
        if part != first * len(part):
            return "data"
    return "zero" if first == b"\0" else f"all {first.hex()}"


def _joined(runs: tuple[PageRun, ...]) -> list[list[PageRun]]:
    """Neighbours that differ in nothing but their contents, together."""
    groups: list[list[PageRun]] = []
    for run in runs:
        last = groups[-1][-1] if groups else None
        if (
            last is not None
            and last.end == run.offset
            and (last.secinfo_flags, last.chunk_mask, last.name)
            == (run.secinfo_flags, run.chunk_mask, run.name)
        ):
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _run_facts(group: list[PageRun]) -> dict[str, object]:
    first = group[0]
    contents = sorted({_content(run) for run in group})
    return {
        "offset": first.offset,
        "end": group[-1].end,
        "pages": sum(run.count for run in group),
        "type": _type_name(first),
        "permissions": first.permissions,
        "measured": _measured(first),
        "content": contents[0] if len(contents) == 1 else "data",
        "name": first.name,
    }


def _threads(runs: tuple[PageRun, ...]) -> list[dict[str, object]]:
    """The fields of each TCS, in the order of the threads."""
    from swsgx.isa.flags import PageType
    from swsgx.isa.structs import Tcs

    threads: list[dict[str, object]] = []
    for run in runs:
        if run.page_type != PageType.TCS:
            continue
        for page in range(run.count):
            content = bytes(_PAGE) if run.content is None else run.content[page * _PAGE : (page + 1) * _PAGE]
            fields = {field.name: value for field, value in Tcs(content).values() if isinstance(value, int)}
            threads.append({"offset": run.offset + page * _PAGE, **fields})
    return threads


def _show_enclave(told: dict[str, object]) -> None:
    from swsgx.cli.output import show_pairs, show_table

    size, digest = told["size"], told["mrenclave"]
    click.echo(f"enclave  {one_line(str(told['file']))}")
    shown: dict[str, object] = {
        "kind": told["kind"],
        "size": f"{size:#x}" if isinstance(size, int) else "none yet (UNSIZED)",
        "ssaframesize": f"{told['ssaframesize']} (pages)",
        "mrenclave": digest.hex() if isinstance(digest, bytes) else "none",
    }
    for section in ("wanted", "stream"):
        facts = told.get(section)
        if isinstance(facts, dict):
            shown |= {name: hex(value) if section == "wanted" else value for name, value in facts.items()}
    show_pairs(shown, "  ")
    violations = told.get("violations")
    for violation in violations if isinstance(violations, list) else ():
        click.echo(f"  not canonical: {one_line(str(violation))}")
    click.echo()
    show_table(
        ["pages", "type", "perm", "measured"],
        _rows(told["pages"], "count", "type", "permissions", "measured"),
        ["pages"],
    )
    click.echo()
    _show_map(told["map"], size)
    threads = told["threads"]
    if isinstance(threads, list) and threads:
        click.echo()
        names = ("offset", "oentry", "ossa", "nssa", "ofsbase", "ogsbase", "fslimit", "gslimit")
        rows = [[n, *(hex(t[name]) for name in names)] for n, t in enumerate(threads)]
        show_table(["tcs", *names], rows, ["tcs", *names])


def _rows(items: object, *names: str) -> list[list[object]]:
    return [[item[name] for name in names] for item in items] if isinstance(items, list) else []


def _show_map(runs: object, size: object) -> None:
    """The enclave's range in the order of the EADDs, with holes where offsets ascend."""
    from swsgx.cli.output import show_table

    rows: list[list[object]] = []
    at = 0
    for run in runs if isinstance(runs, list) else ():
        if run["offset"] > at:
            rows.append(_hole(at, run["offset"]))
        at = run["end"]
        names = ("pages", "type", "permissions", "measured", "content", "name")
        rows.append([f"{run['offset']:#x}", f"{at:#x}", *(run[name] for name in names)])
    if isinstance(size, int) and at < size:
        rows.append(_hole(at, size))
    columns = ["from", "to", "pages", "type", "perm", "measured", "content", "what"]
    show_table(columns, rows, ["from", "to", "pages"])


def _hole(start: int, end: int) -> list[object]:
    return [f"{start:#x}", f"{end:#x}", (end - start) // _PAGE, "-", "---", "", "", "(hole)"]
