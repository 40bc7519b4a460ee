"""`muster serve`. Turns flags into settings and hands over to `serve.start`."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from gateway.cli.flags import add_settings, settings

_EXAMPLES: Final = """\
examples:
  muster serve
      serve https://127.0.0.1:8443 and http://127.0.0.1:8080 from ./muster-data, which is made if it is missing
  muster serve --acme-http01-port 8088
      the same, first start: certbot may answer challenges on port 8088, which needs no root
  muster serve --softhsm
      the same, with the authorities' keys on a PKCS#11 token (SoftHSM2), to see how that is
  muster serve --data /var/lib/muster --https 0.0.0.0:443 --http 0.0.0.0:80 --external-url https://pki.example.com
      serve a network
  MUSTER_STORE_URL=postgresql://muster@db/muster muster serve
      keep certificates in PostgreSQL

When it is ready it prints its addresses, a working command for each protocol, and a line `ready URL`; quickstart.json
in the data folder says the same to scripts. SIGTERM and Ctrl-C let open requests finish; SIGHUP reads settings and
certificates again without a failed request. All settings: docs/configuration.md; operation: docs/operating.md.
"""


def describe(parser: argparse.ArgumentParser) -> None:
    """Add the flags and the examples."""
    parser.epilog = _EXAMPLES
    parser.add_argument(
        "--softhsm",
        action="store_true",
        help="keep authorities' keys on a SoftHSM2 token, made in the data folder; later starts find it by themselves",
    )
    add_settings(parser)


def run(options: argparse.Namespace) -> int:
    """Serve until told to end."""
    from gateway.serve.start import serve

    serve(settings(options), partial(settings, options), softhsm=options.softhsm)
    return 0
