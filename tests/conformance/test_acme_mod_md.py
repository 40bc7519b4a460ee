"""Apache's mod_md obtains, serves and renews by itself, against a real gateway.

It is of its own kind: it polls the order's Location, reads a finalize's Location as older servers meant it, and gives
up after a few nonces.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.doubles.gateway import running_gateway
from tests.doubles.ports import kept_port
from tests.doubles.programs import certificates, installed
from tests.doubles.verification import verify_leaf

pytestmark = pytest.mark.conformance

PROGRAM = Path("/usr/sbin/apache2")  # not everyone has this folder in his PATH
MODULES = Path("/usr/lib/apache2/modules")
NAME = "md.localhost"
# Longer than what is left of a leaf of the demo from its first second on: always due.
DUE = "MDRenewWindow 90d"


class Apache:
    """One Apache with a folder and ports of its own."""

    def __init__(self, gateway, folder, http_port):
        self.gateway = gateway
        self.folder = folder
        self.http_port = http_port
        self.https_port = kept_port()
        shutil.copy(gateway.quickstart["root"], folder / "root.pem")
        (folder / "html").mkdir()
        # As root Apache would serve as another user, who cannot read the folder; so all of it is that user's.
        self.user = "nobody" if os.geteuid() == 0 else None
        if self.user:
            for path in (folder, *folder.iterdir()):
                os.chown(path, pwd.getpwnam(self.user).pw_uid, -1)

    def configure(self, *more):
        f, modules = self.folder, ("mpm_event", "authz_core", "ssl", "md")
        lines = [
            f"ServerRoot {f}",
            *(f"LoadModule {module}_module {MODULES}/mod_{module}.so" for module in modules),
            f"DefaultRuntimeDir {f}", f"PidFile {f}/pid", f"Mutex file:{f}", f"ErrorLog {f}/log",
            "LogLevel warn md:debug", "SSLSessionCache none", f"ServerName {NAME}", f"DocumentRoot {f}/html",
            f"Listen 127.0.0.1:{self.http_port}", f"Listen 127.0.0.1:{self.https_port} https",
            f"MDStoreDir {f}/md", f"MDCertificateAuthority {self.gateway.quickstart['acmeDirectory']}",
            f"MDCACertificateFile {f}/root.pem", "MDCertificateAgreement accepted",
            "MDContactEmail admin@example.com", f"MDPortMap 80:{self.http_port} 443:{self.https_port}",
            "MDCAChallenges http-01", *more, f"MDomain {NAME}",
            f"<VirtualHost 127.0.0.1:{self.https_port}>", f"ServerName {NAME}", "SSLEngine on", "</VirtualHost>",
        ]  # fmt: skip
        (f / "httpd.conf").write_text("\n".join(lines) + "\n")

    @contextlib.contextmanager
    def running(self, *more):
        self.configure(*more)
        who = {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []} if self.user else {}
        with (self.folder / "said").open("ab") as said:
            process = subprocess.Popen(
                [PROGRAM, "-f", self.folder / "httpd.conf", "-DFOREGROUND"],
                stdout=said, stderr=said, cwd=self.folder, start_new_session=True, **who,
            )  # fmt: skip
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def until(self, found):
        """What `found()` gives as soon as it is something."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if (what := found()) is not None:
                return what
            time.sleep(0.1)
        texts = [path.read_text()[-6000:] for path in (self.folder / "said", self.folder / "log") if path.exists()]
        raise AssertionError("\n".join([*texts, self.gateway.log[-2000:]]))

    def fetched(self):
        """The chain that waits for the next start, once the whole of it is there."""
        log = self.folder / "log"
        if not log.exists() or "AH10059" not in log.read_text():
            return None
        # The file is named after the kind of key, where that is not RSA.
        (path,) = (self.folder / "md" / "staging" / NAME).glob("pubcert*.pem")
        return path.read_text()

    def served(self):
        """The leaf that a TLS client is shown and believes."""
        trusting = ssl.create_default_context(cafile=self.folder / "root.pem")
        try:
            with (
                socket.create_connection(("127.0.0.1", self.https_port), timeout=5) as plain,
                trusting.wrap_socket(plain, server_hostname=NAME) as secure,
            ):
                return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True))
        except OSError:
            return None


@pytest.mark.parametrize(("keys", "kind"), [("P-256", ec.EllipticCurvePublicKey), ("RSA 2048", rsa.RSAPublicKey)])
def test_mod_md_obtains_serves_and_renews(tmp_path, keys, kind):
    if not PROGRAM.exists():
        installed("apache2")
    port = kept_port()
    with (
        running_gateway(tmp_path / "data", "--acme-http01-port", str(port)) as gateway,
        tempfile.TemporaryDirectory() as folder,
    ):
        apache = Apache(gateway, Path(folder), port)
        chosen = f"MDPrivateKeys {keys}"
        with apache.running(chosen):
            leaf, *chain = certificates(apache.until(apache.fetched))
        first = verify_leaf(leaf, chain, Path(gateway.quickstart["root"]).read_text(), server_name=NAME)
        assert isinstance(first.public_key(), kind)
        (apache.folder / "log").unlink()
        with apache.running(chosen, DUE):
            # What was fetched is used from this start on, and found due for renewal at once.
            assert apache.until(apache.served) == first
            leaf, *chain = certificates(apache.until(apache.fetched))
        second = verify_leaf(leaf, chain, Path(gateway.quickstart["root"]).read_text(), server_name=NAME)
        assert second.serial_number != first.serial_number
