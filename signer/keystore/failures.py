"""Why a key store fails: six reasons, one table from PKCS#11's codes, and one to what a worker answers.

No text here leaks a secret, and PKCS#11 is not imported: its codes are known by the names of python-pkcs11's errors.
"""

from __future__ import annotations

from enum import StrEnum, unique
from typing import Final

from signer.contract.refusal import SignerRefusal


@unique
class StoreFailure(StrEnum):
    """Everything that can be wrong with a store of keys, a folder or a token alike."""

    MISSING = "missing"  # no key of that name
    LOCKED = "locked"  # the secret or PIN is wrong
    DAMAGED = "damaged"  # what is stored cannot be what was stored
    UNSUPPORTED = "unsupported"  # an algorithm or a format of a newer version
    SESSION = "session"  # this session failed: throw it away, open another
    UNAVAILABLE = "unavailable"  # the folder or the token cannot be reached


REFUSALS: Final[dict[StoreFailure, SignerRefusal]] = {
    StoreFailure.MISSING: SignerRefusal.UNKNOWN_KEY,
    StoreFailure.LOCKED: SignerRefusal.TOKEN,
    StoreFailure.DAMAGED: SignerRefusal.TOKEN,
    StoreFailure.UNSUPPORTED: SignerRefusal.UNSUPPORTED,
    StoreFailure.SESSION: SignerRefusal.TOKEN,
    StoreFailure.UNAVAILABLE: SignerRefusal.TOKEN,
}


# PKCS#11 2.40, section 11.1. What is not here, a vendor's own code among it, is the session's: it is thrown away.
_CODES: Final = {
    StoreFailure.MISSING: "KeyNeeded MultipleObjectsReturned NoSuchKey",
    StoreFailure.LOCKED: "AnotherUserAlreadyLoggedIn PinExpired PinIncorrect PinInvalid PinLenRange PinLocked "
    "PinTooWeak UserPinNotInitialized UserTooManyTypes",
    StoreFailure.DAMAGED: "KeyTypeInconsistent PublicKeyInvalid SignatureInvalid SignatureLenRange",
    StoreFailure.UNSUPPORTED: "ArgumentsBad AttributeReadOnly AttributeSensitive AttributeTypeInvalid "
    "AttributeValueInvalid DataInvalid DataLenRange DomainParamsInvalid FunctionNotSupported KeySizeRange "
    "MechanismInvalid MechanismParamInvalid TemplateIncomplete TemplateInconsistent",
    StoreFailure.SESSION: "DeviceError FunctionCancelled FunctionFailed GeneralError KeyHandleInvalid "
    "ObjectHandleInvalid OperationActive OperationNotInitialized SessionClosed SessionHandleInvalid SessionReadOnly "
    "UserAlreadyLoggedIn UserNotLoggedIn",
    StoreFailure.UNAVAILABLE: "DeviceMemory DeviceRemoved HostMemory MultipleTokensReturned NoSuchToken SessionCount "
    "SlotIDInvalid TokenNotPresent TokenNotRecognised TokenWriteProtected",
}
TOKEN_FAILURES: Final = {name: failure for failure, names in _CODES.items() for name in names.split()}


def token_failure(error: Exception) -> StoreFailure:
    """The reason for an error of python-pkcs11."""
    return TOKEN_FAILURES.get(type(error).__name__, StoreFailure.SESSION)


class KeyStoreError(Exception):
    """A key store failed. The text is one clear sentence for an operator.

    `retry_after` is in whole seconds, 0 where nobody knows: before that a token that is left alone is not asked.
    """

    def __init__(self, failure: StoreFailure, sentence: str, retry_after: int = 0) -> None:
        super().__init__(sentence)
        self.failure = failure
        self.retry_after = retry_after

    @property
    def refusal(self) -> SignerRefusal:
        """What a worker answers for it."""
        return REFUSALS[self.failure]


class KeyExists(Exception):
    """A key of that name is stored already; keys are never overwritten."""
