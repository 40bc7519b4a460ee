"""A whole gateway that believes a proxy: what it refuses for the proxy's sake is a request like any other."""

from __future__ import annotations

import http.client
import re
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tests.doubles.exposition import read
from tests.doubles.gateway import RunningGateway, running_gateway

PROXY = "127.0.0.2"
NOT_BELIEVED = re.compile(r'"what a proxy said of a client is not believed" (.*)')


def said(gateway: RunningGateway, **headers: str) -> int:
    """The status of one request of the proxy's, over plain HTTP."""
    where = urlsplit(gateway.quickstart["http"])
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=60, source_address=(PROXY, 0))
    try:
        connection.request(
            "GET", "/healthz", headers={name.replace("_", "-"): value for name, value in headers.items()}
        )
        return connection.getresponse().status
    finally:
        connection.close()


def refused(gateway: RunningGateway) -> float:
    """How many answers of the class 4xx there were."""
    with urllib.request.urlopen(f"{gateway.quickstart['http']}/metrics", timeout=60) as answer:
        return read(answer.read().decode()).value("muster_http_answers_total", **{"class": "4xx"})


def test_what_is_not_believed_is_counted_has_an_id_and_uses_its_addresss_rate(tmp_path: Path) -> None:
    variables = {
        "MUSTER_PROXIES_TRUSTED": PROXY,
        "MUSTER_PROXIES_TERMINATE_TLS": "http",
        "MUSTER_PROXIES_CLIENT_CERTIFICATE": "nginx",
        "MUSTER_LIMITS_ADDRESS_RATE": "1/h burst 10",
    }
    with running_gateway(tmp_path / "data", variables=variables) as gateway:
        assert said(gateway) == 200
        before = refused(gateway)
        assert said(gateway, X_SSL_Client_Cert="x") == 400
        assert refused(gateway) == before + 1
        assert said(gateway, X_SSL_Client_Cert="x") == 429  # what is wrong counts for ten
        assert refused(gateway) == before + 2
        lines = NOT_BELIEVED.findall(gateway.log)
        assert len(lines) == 1
        assert re.search(r"status=400 .*request=[0-9a-f]{10}-[0-9a-f]+$", lines[0])
