"""Whatever is in the files: status 0 or 1, never a bug, and a refusal is one line. Output is whole or absent."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from swsgx.cli.main import main
from swsgx.isa.sigstruct import Sigstruct
from tests.make.enclave import chunk, convention_elf, eadd, page, selftest_elf, stream

shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def run(*words: object) -> tuple[int, str, str]:
    """The command, without pytest's capture, which hypothesis would share between examples."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as caught,
    ):
        main([str(word) for word in words])
    status = caught.value.code
    assert status in (0, 1), err.getvalue()
    if status == 1:
        assert len(err.getvalue().splitlines()) == 1
        assert err.getvalue().startswith("swsgx ")
    return status, out.getvalue(), err.getvalue()


SEEDS = [
    convention_elf().build(),
    selftest_elf().build(),
    stream(page(0, 0x205), page(0x1000, 0x100), eadd(0x2000), eadd(0x3000) + chunk(0x3100)),
]
ENCLAVES = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda seed, cut: seed[: cut % len(seed)], st.sampled_from(SEEDS), st.integers(0, 1 << 16)),
    st.builds(
        lambda seed, at, data: seed[: at % 0x1100] + data + seed[at % 0x1100 + len(data) :],
        st.sampled_from(SEEDS),
        st.integers(0, 1 << 16),
        st.binary(min_size=1, max_size=16),
    ),
)


@shared_folder
@given(data=ENCLAVES)
@example(data=b"")
def test_any_enclave_file(data: bytes, tmp_path: Path, key: Path) -> None:
    file, out = tmp_path / "fuzz", tmp_path / "out.sig"
    file.write_bytes(data)
    out.unlink(missing_ok=True)
    measured, _, told = run("measure", file)
    run("inspect", file)
    run("inspect", "--json", file)
    if measured == 1:
        assert str(file) in told
    signed, _, _ = run("sign", file, "-k", key, "-o", out)
    assert out.exists() == (signed == 0)
    assert not out.exists() or out.stat().st_size == Sigstruct.size_of
    converted, _, _ = run("convert", file, "-o", tmp_path / "out.sgxs")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    if converted == 0:
        assert run("measure", tmp_path / "out.sgxs")[1] == run("measure", file)[1]


@pytest.fixture
def sig(enclave: Path, key: Path, tmp_path: Path) -> bytes:
    run("sign", enclave, "-k", key, "-o", tmp_path / "good.sig")
    return (tmp_path / "good.sig").read_bytes()


@shared_folder
@given(at=st.integers(0, 1807), data=st.binary(max_size=64), cut=st.integers(0, 1808))
def test_any_sigstruct(at: int, data: bytes, cut: int, sig: bytes, enclave: Path, tmp_path: Path) -> None:
    file = tmp_path / "fuzz.sig"
    changed = (sig[:at] + data + sig[at + len(data) :])[: Sigstruct.size_of]
    file.write_bytes(changed)
    status, _, _ = run("verify", file, "--enclave", enclave)
    assert (status == 0) == (changed == sig)
    run("inspect", file)
    run("inspect", "--json", file)
    file.write_bytes(changed[:cut])
    run("verify", file)
    run("inspect", file)


@shared_folder
@given(at=st.integers(0, 4000), data=st.binary(max_size=64), cut=st.integers(0, 4000))
def test_any_key(at: int, data: bytes, cut: int, key: Path, enclave: Path, tmp_path: Path) -> None:
    good = key.read_bytes()
    file, out = tmp_path / "fuzz.pem", tmp_path / "out.sig"
    for bad in (good[:at] + data + good[at + len(data) :], good[:cut], data):
        file.write_bytes(bad)
        out.unlink(missing_ok=True)
        status, _, _ = run("sign", enclave, "-k", file, "-o", out)
        assert out.exists() == (status == 0)
        run("sign", enclave, "--signature", file, "--public-key", file, "-o", out)
