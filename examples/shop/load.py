"""The load: ten orders a second, of articles 1 to 20, each the beginning of a trace, as from a browser or a gateway."""

from __future__ import annotations

import http.client
import itertools
import secrets
import time

for number in itertools.count():
    shop = http.client.HTTPConnection("shop", 8080, timeout=5)
    try:
        traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        shop.request("GET", f"/order/{number % 20 + 1}", headers={"traceparent": traceparent})
        shop.getresponse().read()
    except OSError:
        pass  # the shop is not there yet, or not any more
    finally:
        shop.close()
    time.sleep(0.1)
