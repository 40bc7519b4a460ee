"""The limits of one process, as the settings say. Nothing is counted or judged here."""

from __future__ import annotations

from gateway.actions.authenticate import Guesses
from gateway.fronts.admission import Admission
from gateway.fronts.guessing import SharedThrottle
from gateway.fronts.limits import Limits
from gateway.fronts.rates import Allowed, Rates
from gateway.fronts.rotation import Rotation
from gateway.serve.settings import Settings


def limits(
    settings: Settings,
    table: bytearray | memoryview | None = None,
    key: bytes = b"",
    guesses: bytearray | memoryview | None = None,
) -> Limits:
    """Limits whose rates are counted in `table` and whose wrong credentials in `guesses`, under `key`.

    The workers of a machine share all three; without them a process counts alone.
    """
    admission = Admission(settings.wait_seconds)
    allowed = Allowed(
        address=settings.address_rate,
        connections=settings.address_connections,
        application=settings.application_rate,
        exempt=settings.exempt,
        prefix=settings.ipv6_prefix,
    )
    rotation = Rotation(prefix=settings.ipv6_prefix)
    # Where others have the processor too, a loop that starves looks idle; lines of those who wait do not lie.
    rates = Rates(table, key, allowed, pressed=lambda: admission.pressed or rotation.pressed)
    wrong = Guesses() if guesses is None else Guesses(wrong=SharedThrottle(guesses, key))
    return Limits(admission=admission, rates=rates, rotation=rotation, guesses=wrong)
