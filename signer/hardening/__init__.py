"""What a process that holds keys gives up: being read by others, the network, other programs, its swapped pages.

`process` is for every process of the signer, `seccomp` for workers once their keys are open, `memory` for what must
not be left behind in it. Never here: a key, a frame, a decision. Nothing here is a reason not to start: what a machine
does not permit is said in a sentence, once. Supervisor, workers, ceremonies and the key store come in.
"""

from signer.hardening.process import harden

__all__ = ["harden"]
