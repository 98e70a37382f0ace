"""The front: GET /order/N asks the stock for the article, and answers what an order of it costs."""

from __future__ import annotations

import http.client
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shop(BaseHTTPRequestHandler):
    """Nothing here knows of otelbpf. Like any proxy it hands on the trace's header."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        passed_on = {name: self.headers[name] for name in ("traceparent",) if name in self.headers}
        stock = http.client.HTTPConnection("stock", 8080, timeout=5)
        try:
            stock.request("GET", f"/articles/{self.path.rpartition('/')[2]}", headers=passed_on)
            answer = stock.getresponse()
            status, article = answer.status, json.load(answer)
        except OSError:
            status, article = 503, {"error": "the stock does not answer"}
        finally:
            stock.close()
        body = json.dumps({"order": article}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


ThreadingHTTPServer(("", 8080), Shop).serve_forever()
