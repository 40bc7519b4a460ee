"""An admission that admits nobody: the wording of overload at every door, without a load."""

from gateway.fronts.admission import Admission


class Shut(Admission):
    """Refuses all, beginnings and the rest alike, for so many seconds."""

    def __init__(self, seconds: int) -> None:
        super().__init__()
        self._seconds = seconds

    @property
    def crowded(self) -> bool:
        return True

    def refusal(self, lane: str, *, begun: bool = False, from_socket: bool = False) -> int:
        return self._seconds
