"""Audit records, measurement lists, registers and signatures, as the programs of others read them.

ausearch and aureport (auditd), evmctl (ima-evm-utils), swtpm, tpm2_pcrread (tpm2-tools), keylime.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import subprocess
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from swsgx.lsm.appraisal import Keyring, PrivateKey, appraise, key_id, read_reference, sign_digest
from swsgx.lsm.audit import AuditLog, Decision, ModeChange, PolicyLoad, Source, Traits
from swsgx.lsm.audit_reader import read_events
from swsgx.lsm.measurement import Digest, Entry, Form, encl_aug, encl_init, encl_load, file_entry
from swsgx.lsm.measurement_list import format_ascii, format_binary, parse_binary, replay
from swsgx.lsm.measurement_log import MeasurementLog
from swsgx.lsm.pcr import ALGORITHMS, Tpm
from tests.conformance.kernel_source import cache_folder
from tests.conformance.swtpm import Swtpm, tool

pytestmark = [pytest.mark.conformance, pytest.mark.timeout(600)]


# ---- audit records --------------------------------------------------------------------------------------------------

REFUSAL = Decision(
    hook="load",
    permissions=("execute", "execmod"),
    pid=711,
    comm="a loader",
    exe="/opt/acme/bin/loader",
    uid=1000,
    enclave=3,
    offset=0x4000,
    length=0x1000,
    maxprot=5,
    measured=True,
    source=Source(
        kind="filemod",
        path="/opt/acme/lib/a b.so",
        device=0xFE01,
        inode=12,
        offset=0,
        digest=f"sha256:{'5a' * 32}",
    ),
    scontext="u:r:app_t:s0",
    tcontext="u:object_r:acme_code_t:s0",
    lsm="te",
    rule="te:14",
    errno="EACCES",
    mrenclave=bytes(32),
    mrsigner=bytes(32),
    traits=Traits(
        sigstruct=bytes(32),
        isvprodid=7,
        isvsvn=3,
        debug=False,
        provision_key=False,
        xfrm=3,
        miscselect=0,
        size=4096,
        unmeasured_exec=True,
        write=False,
    ),
)


@pytest.fixture
def audit_log(tmp_path: Path) -> Path:
    """One event of each kind."""
    with AuditLog(tmp_path / "audit.log", clock=lambda: 1_700_000_000_123_000_000) as log:
        log.write(PolicyLoad(lsm="te", name="acme", version="1.0", digest="sha256:00"))
        log.write(REFUSAL)
        log.write(ModeChange(lsm="te", enforcing=False, was=True))
    return tmp_path / "audit.log"


@pytest.mark.parametrize(
    ("options", "events"),
    [
        ((), 3),
        (("-m", "AVC"), 1),
        (("-m", "MAC_POLICY_LOAD"), 1),
        (("-m", "MAC_STATUS"), 1),
        (("-p", "711"), 1),
        (("-c", "a loader"), 1),
        (("-se", "u:r:app_t:s0"), 1),
        (("-o", "acme_code_t"), 1),
        (("-sv", "no"), 1),
        (("-a", "2"), 1),
    ],
)
def test_ausearch_finds_events_by_what_they_say(
    audit_log: Path, options: tuple[str, ...], events: int
) -> None:
    done = tool("auditd", "ausearch").run("--input", audit_log, *options)
    assert done.stdout.count("time->") == events, done.stderr
    # And what it prints is read back.
    assert len(read_events(done.stdout)) == events


def test_ausearch_decodes_strings_and_leaves_the_hook_as_it_is(audit_log: Path) -> None:
    done = tool("auditd", "ausearch").run("--input", audit_log, "-i", "-m", "AVC")
    for words in ("comm=a loader ", "op=load ", "path=/opt/acme/lib/a b.so ", "exe=/opt/acme/bin/loader "):
        assert words in done.stdout, done.stdout + done.stderr


def test_aureport_counts_the_refusal_under_its_class_and_permissions(audit_log: Path) -> None:
    done = tool("auditd", "aureport").run("--input", audit_log, "--avc")
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("1.")]
    for word in ("u:r:app_t:s0", "enclave", "execute", "u:object_r:acme_code_t:s0", "denied"):
        assert word in row


# ---- measurement lists ----------------------------------------------------------------------------------------------


def _entries(form: Form) -> list[Entry]:
    """What an enclave of a file leaves behind, with a violation."""
    digest = Digest("sha256", hashlib.sha256(b"a file").digest())
    load = encl_load(
        digest=digest,
        path="/opt/acme/a b.so",
        enclave=1,
        file_offset=0,
        offset=0x1000,
        length=0x2000,
        ceiling=5,
        measured=True,
        copied=Digest("sha256", bytes(32)),
    )
    init = encl_init(
        digest=digest,
        path="",
        enclave=1,
        mrenclave=bytes(range(32)),
        mrsigner=bytes(32),
        attributes=bytes(16),
        prodid=1,
        svn=2,
        grants=["execdirty"],
    )
    augmented = encl_aug(enclave=1, offset=0, length=4096, mrenclave=bytes(range(32)), mrsigner=bytes(32))
    return [
        file_entry(digest, "/opt/acme/a b.so"),
        load.entry(form),
        load.entry(form, violation=True),
        init.entry(form),
        augmented.entry(form),
    ]


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_evmctl_replays_either_form_to_our_registers_and_to_no_others(
    tmp_path: Path, form: Form, algorithm: str
) -> None:
    evmctl = tool("ima-evm-utils", "evmctl")
    (tmp_path / "list").write_bytes(format_binary(_entries(form)))
    for name, entries in (("right", _entries(form)), ("wrong", _entries(form)[::-1])):
        (tmp_path / name).write_text(replay(entries).text(algorithm))
    command = ("-v", "ima_measurement", "--ignore-violations", "--pcrs")
    right = evmctl.run(*command, f"{algorithm},{tmp_path}/right", tmp_path / "list")
    assert right.returncode == 0, right.stderr
    assert "Matched per TPM bank" in right.stderr + right.stdout
    wrong = evmctl.run(*command, f"{algorithm},{tmp_path}/wrong", tmp_path / "list")
    assert wrong.returncode != 0
    assert "Failed to match per TPM bank" in wrong.stderr + wrong.stdout


def test_evmctl_shows_the_buffer_form_whole_and_of_our_own_templates_a_part(tmp_path: Path) -> None:
    evmctl = tool("ima-evm-utils", "evmctl")
    (tmp_path / "pcrs").write_text(replay([]).text("sha1"))
    for form, unshown in ((Form.IMA_BUF, False), (Form.OWN, True)):
        (tmp_path / "list").write_bytes(format_binary(_entries(form)))
        done = evmctl.run("-v", "ima_measurement", "--pcrs", f"sha1,{tmp_path}/pcrs", tmp_path / "list")
        assert ("contains unprocessed data" in done.stderr + done.stdout) is unshown
        assert "/opt/acme/a_b.so" in done.stderr + done.stdout


KEYLIME = """
import json, sys, types
sys.modules["gpg"] = types.ModuleType("gpg")  # for signed policies only, and it is a C library's binding
from keylime.common.algorithms import Hash
from keylime.ima import ima
asked = json.load(sys.stdin)
policy = dict(ima.EMPTY_RUNTIME_POLICY, **asked["policy"])
pcr, failure = ima.process_measurement_list(
    None, asked["lines"], policy, pcrval=asked["pcr"], hash_alg=Hash(asked["algorithm"])
)
print(json.dumps([pcr, [event.event_id for event in failure.events]]))
"""


@pytest.fixture(scope="session")
def keylime() -> Callable[[object], tuple[str, list[str]]]:
    """Asks keylime's verifier, in an environment of its own."""
    folder = cache_folder() / "keylime"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        wanted = ("keylime", "cryptography", "jsonschema", "lark", "packaging", "pyyaml")
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *wanted], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"pip cannot install keylime into {folder}: {done.stderr.strip()[-300:]}")
        (folder / "ready").touch()

    def ask(question: object) -> tuple[str, list[str]]:
        done = subprocess.run(
            [python, "-c", KEYLIME], input=json.dumps(question), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        pcr, failures = json.loads(done.stdout.splitlines()[-1])
        return pcr, failures

    return ask


def _policy(entries: list[Entry]) -> dict[str, dict[str, list[str]]]:
    """What a verifier would list as good."""
    good: dict[str, dict[str, list[str]]] = {"digests": {}, "ima-buf": {}}
    for line in format_ascii(entries).splitlines():
        _, _, template, digest, name, *_ = line.strip().split(" ")
        kind = "ima-buf" if template == "ima-buf" else "digests"
        good[kind].setdefault(name, []).append(digest.partition(":")[2])
    return good


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_keylime_accepts_the_buffer_form_by_its_policy_and_finds_our_register(
    keylime: Callable[[object], tuple[str, list[str]]], algorithm: str
) -> None:
    entries = [entry for entry in _entries(Form.IMA_BUF) if not entry.violation]
    pcr = replay(entries).read(algorithm, 10).hex()
    asked = {
        "lines": format_ascii(entries).splitlines(),
        "policy": _policy(entries),
        "pcr": pcr,
        "algorithm": algorithm,
    }
    assert keylime(asked) == (pcr, [])
    # An enclave that nobody listed.
    assert keylime(asked | {"policy": _policy(entries[:2])})[1] != []
    # A list that is not the register's.
    assert any("pcr_mismatch" in name for name in keylime(asked | {"pcr": "11" * len(bytes.fromhex(pcr))})[1])


def test_keylime_knows_a_violation_when_it_sees_one(
    keylime: Callable[[object], tuple[str, list[str]]],
) -> None:
    entries = _entries(Form.IMA_BUF)
    pcr = replay(entries).read("sha256", 10).hex()
    asked = {"lines": format_ascii(entries).splitlines(), "policy": _policy(entries), "algorithm": "sha256"}
    found, failures = keylime(asked | {"pcr": pcr})
    assert found == pcr
    assert all("tomtou" in name for name in failures)


def test_keylime_refuses_templates_that_it_does_not_know(
    keylime: Callable[[object], tuple[str, list[str]]],
) -> None:
    """Why the buffer form is the default."""
    entries = _entries(Form.OWN)
    pcr = replay(entries).read("sha256", 10).hex()
    asked = {"lines": format_ascii(entries).splitlines(), "policy": {}, "pcr": pcr, "algorithm": "sha256"}
    assert any("parser" in name for name in keylime(asked)[1])


# ---- a TPM ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def swtpm(tmp_path: Path) -> Iterator[Swtpm]:
    tpm = Swtpm(tmp_path, tcp=True)
    try:
        tpm.start()
        yield tpm
    finally:
        tpm.end()


def test_list_replays_to_what_tpm2_pcrread_finds_in_the_tpm(tmp_path: Path, swtpm: Swtpm) -> None:
    tpm = Tpm(swtpm.tcti)
    with MeasurementLog(tmp_path / "list", tpm) as log:
        for entry in _entries(Form.IMA_BUF):
            log.add(entry)
    tpm.close()
    replayed = replay(parse_binary((tmp_path / "list").read_bytes()))
    assert set(tpm.algorithms) <= set(ALGORITHMS)
    for algorithm in tpm.algorithms:
        assert swtpm.pcr(algorithm) == replayed.read(algorithm, 10)
    # The next run finds list and TPM agreeing, and goes on.
    tpm = Tpm(swtpm.tcti)
    with MeasurementLog(tmp_path / "list", tpm) as log:
        log.add(_entries(Form.OWN)[1])
    tpm.close()
    assert swtpm.pcr("sha256") == replay(parse_binary((tmp_path / "list").read_bytes())).read("sha256", 10)


def test_tpm_reads_its_registers_to_us_as_to_tpm2_pcrread(swtpm: Swtpm) -> None:
    tpm = Tpm(swtpm.tcti)
    tpm.extend(10, {name: hashlib.new(name, b"a").digest() for name in tpm.algorithms})
    ours = {name: tpm.read(name, 10) for name in tpm.algorithms}
    tpm.close()
    assert ours == {name: swtpm.pcr(name) for name in ours}


# ---- signatures -----------------------------------------------------------------------------------------------------

KEYS: dict[str, Callable[[], PrivateKey]] = {
    "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
}


def _key_files(key: PrivateKey, folder: Path) -> None:
    """key.pem for evmctl to sign with, cert.der for it to verify with."""
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    (folder / "key.pem").write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    identifier = x509.SubjectKeyIdentifier(bytes(16) + key_id(key.public_key()).to_bytes(4))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + datetime.timedelta(9999))
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.der").write_bytes(certificate.public_bytes(serialization.Encoding.DER))


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_signature_that_evmctl_made_is_accepted(tmp_path: Path, kind: str, algorithm: str) -> None:
    evmctl = tool("ima-evm-utils", "evmctl")
    _key_files(KEYS[kind](), tmp_path)
    file = tmp_path / "file"
    file.write_bytes(b"the contents")
    done = evmctl.run("ima_sign", "--sigfile", "--key", tmp_path / "key.pem", "-a", algorithm, file)
    # Where the attribute may not be written, the file is all the same.
    assert (tmp_path / "file.sig").exists(), done.stderr
    keyring = Keyring()
    keyring.add_file(tmp_path / "cert.der")
    value = read_reference(file)
    assert appraise("f", value, lambda name: hashlib.new(name, b"the contents").digest(), keyring) is None
    assert appraise("f", value, lambda name: hashlib.new(name, b"others").digest(), keyring) is not None


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_signature_of_ours_is_accepted_by_evmctl(tmp_path: Path, kind: str, algorithm: str) -> None:
    evmctl = tool("ima-evm-utils", "evmctl")
    key = KEYS[kind]()
    _key_files(key, tmp_path)
    file = tmp_path / "file"
    for contents, accepted in ((b"the contents", True), (b"others", False)):
        file.write_bytes(contents)
        signature = sign_digest(key, algorithm, hashlib.new(algorithm, b"the contents").digest())
        (tmp_path / "file.sig").write_bytes(signature.packed())
        done = evmctl.run("ima_verify", "--sigfile", "--key", tmp_path / "cert.der", file)
        assert (done.returncode == 0) is accepted, done.stderr


def test_digest_that_evmctl_stored_is_accepted_where_a_digest_will_do(tmp_path: Path) -> None:
    evmctl = tool("ima-evm-utils", "evmctl")
    file = tmp_path / "file"
    file.write_bytes(b"the contents")
    done = evmctl.run("ima_hash", "-a", "sha512", file)
    if done.returncode != 0 or "security.ima" not in os.listxattr(file):
        pytest.skip("writing security.ima takes root, and a filesystem with extended attributes")
    value = read_reference(file)
    assert (
        appraise(
            "f", value, lambda name: hashlib.new(name, b"the contents").digest(), Keyring(), signature=False
        )
        is None
    )
