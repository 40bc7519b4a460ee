"""The listener's own certificate is renewed while the gateway runs: new connections see it, old ones go on."""

from __future__ import annotations

import http.client
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.serve import ceremony, folder, renewal
from gateway.serve.settings import load
from tests.doubles.gateway import running_gateway

pytestmark = pytest.mark.conformance

WORKERS = 2
LOOKS = 16  # each new connection is some worker's: so many in a row have met both


def test_a_renewed_certificate_is_shown_by_every_worker_and_ends_no_connection(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "data", variables={"MUSTER_WORKERS": str(WORKERS)}) as muster:
        address = urlsplit(muster.quickstart["https"])
        trust = ssl.create_default_context(cafile=muster.quickstart["root"])
        assert address.hostname is not None
        host, port = address.hostname, address.port

        def shown() -> bytes:
            connection = http.client.HTTPSConnection(host, port, context=trust, timeout=20)
            connection.connect()
            found = connection.sock.getpeercert(binary_form=True)
            connection.close()
            assert found is not None
            return found

        def asks(connection: http.client.HTTPSConnection) -> int:
            connection.request("GET", "/acme/demo/tls-server/directory")
            answer = connection.getresponse()
            answer.read()
            return answer.status

        stands = [http.client.HTTPSConnection(host, port, context=trust, timeout=20) for _ in range(LOOKS)]
        status = {asks(each) for each in stands}
        first = shown()
        settings = load({"data": str(muster.folder)}, {}, folder=tmp_path)
        secret = folder.read_secret(settings)
        assert secret is not None
        ceremony.renew_tls(settings, secret, renewal.ISSUING)
        end = time.monotonic() + 90
        # A worker that came up after the renewal has nothing to say of it, and may have been met by all who looked.
        while "HTTPS shows new certificates" not in muster.log or any(shown() == first for _ in range(LOOKS)):
            assert time.monotonic() < end, muster.log
        second = {shown() for _ in range(LOOKS)}
        assert len(second) == 1
        assert first not in second
        assert {asks(each) for each in stands} == status
        for each in stands:
            each.close()
        assert "do not fit" not in muster.log
