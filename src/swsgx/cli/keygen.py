"""``swsgx keygen``: a signing key for tests."""

from __future__ import annotations

from pathlib import Path

import click

from swsgx.cli.errors import Refused

__all__ = ["command"]


@click.command("keygen", short_help="Make a signing key for tests.")
@click.option("-o", "--output", metavar="KEY.pem", help="Where to; standard output without it.")
@click.option("--public", metavar="PUB.pem", help="Also write the public half here.")
@click.option("-f", "--force", is_flag=True, help="Overwrite a key that is there.")
def command(output: str | None, public: str | None, force: bool) -> None:
    """Make an RSA-3072 key with exponent 3, to sign enclaves with.

    The key is for tests: it is written unencrypted, readable by you only.
    """
    from swsgx.cli.output import write_file
    from swsgx.identity.rsakey import generate_key, private_pem, public_pem

    for path in (output, public):
        if path is not None and not force and Path(path).is_file():
            raise Refused(f"{path}: the file exists; --force overwrites it")
    key = generate_key()
    if output is None:
        click.echo(private_pem(key), nl=False)
    else:
        write_file(output, private_pem(key), 0o600)
    if public is not None:
        write_file(public, public_pem(key.public_key()))
