"""A later start at another address: what the first start wrote down about addresses follows.

Only what still says what an earlier start wrote is changed: URLs that somebody declared stay, and so do pairs other
than the demo's. Nothing else of the catalogue is touched.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from gateway.domain.application import Pair
from gateway.domain.audit import AuditEvent
from gateway.domain.authority import Authority
from gateway.serve.quickstart import APPLICATION
from gateway.store import catalogue
from gateway.store.unit import Store, Unit

ACTOR = "system:start"


async def follow(store: Store, *, http: tuple[str, str], http01_port: int | None, now: datetime) -> None:
    """Write down the new addresses, in one unit, if there are any.

    `http` is the external address of plain HTTP at the last start (empty if nobody knows) and now. `http01_port` is
    where the demo's challenges are fetched from now on; None leaves it.
    """
    before = await store.read(catalogue.load)
    moved = [after for each in before.authorities if (after := _published(each, *http)) != each]
    demo = [placed for pair in before.pairs if (placed := _on_port(pair, http01_port)) != pair]
    if not moved and not demo:
        return

    def unit(unit: Unit) -> None:
        for authority in moved:
            catalogue.save_authority(unit, authority)
            unit.audit(_event(now, "authority.update", authority.name, f"published at {http[1]}"))
        for pair in demo:
            catalogue.save_settings(unit, pair.application.id, pair.profile.id, pair.settings)
            unit.audit(_event(now, "application.update", APPLICATION, f"http-01 on port {http01_port}"))

    await store.write(unit)


def _published(authority: Authority, old: str, new: str) -> Authority:
    return replace(
        authority,
        crl_urls=tuple(_moved(url, old, new) for url in authority.crl_urls),
        issuer_urls=tuple(_moved(url, old, new) for url in authority.issuer_urls),
        ocsp_urls=tuple(_moved(url, old, new) for url in authority.ocsp_urls),
    )


def _on_port(pair: Pair, port: int | None) -> Pair:
    acme = pair.settings.acme
    if port is None or acme is None or pair.application.name != APPLICATION:
        return pair
    return replace(pair, settings=replace(pair.settings, acme=replace(acme, http01_port=port)))


def _moved(url: str, old: str, new: str) -> str:
    return new + url.removeprefix(old) if old and url.startswith((f"{old}/ca/", f"{old}/ocsp/")) else url


def _event(now: datetime, action: str, target: str, detail: str) -> AuditEvent:
    return AuditEvent(now, ACTOR, action, target, "success", detail=detail)
