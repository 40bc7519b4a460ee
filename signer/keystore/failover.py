"""One key on several tokens: each operation by the first of them that can. No token is opened here.

Nothing is signed twice: an operation that failed gave no signature, so that the next token may be asked for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from signer.keystore.failures import KeyStoreError, StoreFailure
from signer.keystore.key import TokenPlace
from signer.keystore.tokenkey import Seat

_FAULTY: Final = 5.0  # seconds without another look at a token that has not the key, or has another one by that name


class SharedSeat:
    """A key's operations on the first of its tokens that can (`tokenkey.Seat`). `seats` are in order of preference.

    Each raises `KeyStoreError` where all of them fail: that of the token which may be asked again first.
    """

    def __init__(
        self,
        seats: Sequence[Seat],
        clock: Callable[[], float] = time.monotonic,
        failed_over: Callable[[], None] = lambda: None,
    ) -> None:
        self._seats = tuple(seats)
        self._clock = clock
        self._failed_over = failed_over  # told of each operation that another than the first did
        self._faulty = dict.fromkeys(range(len(seats)), 0.0)  # until when

    @property
    def places(self) -> tuple[TokenPlace, ...]:
        """Where the key is."""
        return tuple(place for each in self._seats for place in each.places)

    def ecdsa(self, digest: bytes) -> bytes:
        """CKM_ECDSA."""
        return self._first(lambda seat: seat.ecdsa(digest))

    def pkcs1(self, digest_info: bytes) -> bytes:
        """CKM_RSA_PKCS."""
        return self._first(lambda seat: seat.pkcs1(digest_info))

    def pss(self, digest: bytes, algorithm: str, mgf: str, salt_length: int) -> bytes:
        """CKM_RSA_PKCS_PSS."""
        return self._first(lambda seat: seat.pss(digest, algorithm, mgf, salt_length))

    def eddsa(self, data: bytes) -> bytes:
        """CKM_EDDSA."""
        return self._first(lambda seat: seat.eddsa(data))

    def decrypt_pkcs1(self, ciphertext: bytes) -> bytes:
        """CKM_RSA_X_509 or CKM_RSA_PKCS. A `ValueError` is final: another token would say the same."""
        return self._first(lambda seat: seat.decrypt_pkcs1(ciphertext))

    def decrypt_oaep(self, ciphertext: bytes, algorithm: str, mgf: str) -> bytes:
        """CKM_RSA_PKCS_OAEP."""
        return self._first(lambda seat: seat.decrypt_oaep(ciphertext, algorithm, mgf))

    def _first(self, work: Callable[[Seat], bytes]) -> bytes:
        errors: list[KeyStoreError] = []
        now = self._clock()
        for number, seat in enumerate(self._seats):
            if self._faulty[number] > now and (number < len(self._seats) - 1 or errors):
                continue
            try:
                done = work(seat)
            except KeyStoreError as error:
                if error.failure is StoreFailure.UNSUPPORTED:  # it is what was asked for, not the token
                    raise
                if error.failure in (StoreFailure.MISSING, StoreFailure.DAMAGED):
                    self._faulty[number] = self._clock() + _FAULTY
                errors.append(error)
            else:
                if number:
                    self._failed_over()
                return done
        raise min(errors, key=lambda each: each.retry_after or _FAULTY)
