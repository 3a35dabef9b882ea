"""Values on the command line: numbers in any base, bytes in hexadecimal, dates."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    _Int = click.ParamType[int]
    _Bytes = click.ParamType[bytes]
else:  # older releases of click cannot say what a type makes
    _Int = _Bytes = click.ParamType

__all__ = ["DATE", "U16", "U32", "U64", "Date", "HexBytes", "Number", "existing_file", "today"]


class Number(_Int):
    """An unsigned integer, decimal or with 0x, 0o, 0b. Size suffixes K, M, G mean 2^10, 2^20, 2^30.

    Args:
        bits: how many it may have.
    """

    name = "number"

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The integer that ``value`` says."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        scale = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper(), 0)
        try:
            number = int(text[:-1] if scale else text, 0) << scale
        except ValueError:
            self.fail(f"{value!r} is not a number (decimal, or 0x and hexadecimal)", param, ctx)
        if not 0 <= number < 1 << self.bits:
            self.fail(f"{value} does not fit in {self.bits} bits, unsigned", param, ctx)
        return number


class HexBytes(_Bytes):
    """A fixed number of bytes, in hexadecimal.

    Args:
        size: bytes.
    """

    name = "hex"

    def __init__(self, size: int) -> None:
        self.size = size

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """The bytes that ``value`` says."""
        if isinstance(value, bytes):
            return value
        try:
            data = bytes.fromhex(str(value).removeprefix("0x"))
        except ValueError:
            self.fail(f"{value!r} is not hexadecimal", param, ctx)
        if len(data) != self.size:
            self.fail(f"{len(data)} bytes given, expected {self.size}", param, ctx)
        return data


class Date(_Int):
    """A day, YYYY-MM-DD or YYYYMMDD; becomes SIGSTRUCT's BCD number."""

    name = "date"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """SIGSTRUCT.DATE for the day that ``value`` says."""
        from swsgx.identity.sigstruct import bcd_date

        if isinstance(value, int):
            return value
        text = str(value).removeprefix("0x")
        for form in ("%Y-%m-%d", "%Y%m%d"):
            try:
                day = datetime.datetime.strptime(text, form).date()
            except ValueError:
                continue
            if len(text) == (10 if "-" in form else 8):
                return bcd_date(day)
        return self.fail(f"{value!r} is not a day as 2024-02-29 or 20240229", param, ctx)


def today() -> int:
    """SIGSTRUCT.DATE of today in UTC, or of SOURCE_DATE_EPOCH where that is set, for builds that can be repeated.

    Raises:
        click.UsageError: SOURCE_DATE_EPOCH is no number of seconds.
    """
    from swsgx.identity.sigstruct import bcd_date

    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    if fixed is None:
        return bcd_date(datetime.datetime.now(datetime.UTC).date())
    try:
        return bcd_date(datetime.datetime.fromtimestamp(int(fixed), datetime.UTC).date())
    except (ValueError, OverflowError, OSError):
        raise click.UsageError(f"SOURCE_DATE_EPOCH={fixed} is not a number of seconds") from None


#: A file to read. That it exists is found out when it is opened: one error, not two kinds.
existing_file = click.Path(dir_okay=True, allow_dash=False)

U16 = Number(16)
U32 = Number(32)
U64 = Number(64)
DATE = Date()
