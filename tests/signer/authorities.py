"""Ceremonies for tests: a key folder, the verbs as an operator calls them, and an external authority made by OpenSSL."""

import json
import subprocess
import sys
from pathlib import Path

from cryptography import x509

from signer.ceremony.authority import Ceremony
from signer.ceremony.transcript import Transcript
from signer.keystore.softkey import SoftKeyStore, create, unlock
from tests.signer.kit import SECRET

ROOT = Path(__file__).parents[2]


def load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


class Keys:
    """A key folder and its verbs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, verb: str, *arguments: str, more: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            [sys.executable, "-m", "signer", verb, "--keys", str(self.folder), *arguments],
            input=SECRET + b"\n" + more,
            capture_output=True,
            check=False,
            cwd=ROOT,
            timeout=60,
        )

    def do(self, verb: str, *arguments: str, more: bytes = b""):
        done = self.run(verb, *arguments, more=more)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def refused(self, verb: str, *arguments: str, more: bytes = b"") -> str:
        """The one sentence with which a verb is refused."""
        done = self.run(verb, *arguments, more=more)
        assert (done.returncode, done.stdout) == (2, b""), done.stdout
        sentence = done.stderr.decode()
        assert sentence.startswith("signer: ")
        assert sentence.count("\n") == 1
        return sentence.removeprefix("signer: ").rstrip("\n")

    def store(self) -> SoftKeyStore:
        create(self.folder, SECRET)
        return SoftKeyStore(self.folder, unlock(self.folder, SECRET))

    def ceremony(self, now: int, store: SoftKeyStore | None = None) -> Ceremony:
        return Ceremony(store or self.store(), now=now, transcript=Transcript(lambda: now))


def openssl(*arguments: str, stdin: str = "", cwd: Path | None = None) -> str:
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def verified(folder: Path, certificate: str, trusted: list[str], untrusted: list[str], *more: str) -> str:
    """What `openssl verify` says of a certificate: nothing if it is good."""
    files = {"own.pem": certificate, "roots.pem": "".join(trusted), "between.pem": "".join(untrusted)}
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    command = ["openssl", "verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile", "roots.pem"]
    if untrusted:
        command += ["-untrusted", "between.pem"]
    done = subprocess.run([*command, *more, "own.pem"], capture_output=True, text=True, check=False, cwd=folder)
    return "" if done.returncode == 0 else done.stdout + done.stderr


class ExternalAuthority:
    """A root of somebody else's, made and used by the openssl program alone."""

    def __init__(self, folder: Path, name: str = "Elsewhere Root") -> None:
        self.folder = folder
        folder.mkdir()
        self.key, self.certificate = folder / "root.key", folder / "root.pem"
        subject = f"/O=Elsewhere/CN={name}"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(self.key))
        extensions = [
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ]
        openssl(
            *("req", "-x509", "-new", "-key", str(self.key), "-subj", subject, "-days", "4000"),
            *(*extensions, "-out", str(self.certificate)),
        )

    @property
    def pem(self) -> str:
        return self.certificate.read_text()

    def sign(
        self, csr: str, *extensions: str, days: int = 1000, digest: str = "sha256", identifier: str = "hash"
    ) -> str:
        """A certificate for a request, with the extensions of an authority or with those that are named."""
        usual = ("basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign,cRLSign")
        identifiers = (f"subjectKeyIdentifier={identifier}", "authorityKeyIdentifier=keyid")
        file = self.folder / "extensions.cnf"
        file.write_text("[x]\n" + "\n".join((extensions or usual) + identifiers) + "\n")
        authority = ("-CA", str(self.certificate), "-CAkey", str(self.key), "-CAcreateserial")
        return openssl(
            *("x509", "-req", *authority, "-days", str(days), f"-{digest}", "-extfile", str(file), "-extensions", "x"),
            stdin=csr,
        )
