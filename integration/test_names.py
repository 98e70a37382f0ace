"""Names that a real resolver was told are those by which connections are counted."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dpkt
import pytest
from prometheus_client.parser import text_string_to_metric_families

from integration.harness.collector import Collector
from integration.harness.processes import free_port, wait_for
from integration.harness.programs import tool

SERVER = "127.0.0.153"
"""Of loopback, and nobody else's."""
NAME, ADDRESS = "stock.otelbpf.test", "127.0.0.154"
FAILURES = "otelbpf_connection_failures_total"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: listens at port 53, mounts a resolv.conf")


@contextmanager
def name_server() -> Iterator[None]:
    """It knows one name, and that this has no IPv6 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((SERVER, 53))
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", (SERVER, 53))
            thread.join()


def serve(server: socket.socket) -> None:
    """Until a message is empty."""
    while True:
        question, asker = server.recvfrom(2048)
        if not question:
            return
        message = dpkt.dns.DNS(question)
        message.qr, message.ra, message.ar = dpkt.dns.DNS_R, 1, []
        (asked,) = message.qd
        if (asked.name, asked.type) == (NAME, dpkt.dns.DNS_A):
            message.an = [dpkt.dns.DNS.RR(name=NAME, type=dpkt.dns.DNS_A, ttl=60, ip=socket.inet_aton(ADDRESS))]
        server.sendto(bytes(message), asker)


def failures(port: int) -> dict[tuple[str, str, str], float]:
    """Of curl's connections: address, port, reason."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        families = list(text_string_to_metric_families(response.read().decode()))
    return {
        (sample.labels["server_address"], sample.labels["server_port"], sample.labels["error_type"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == FAILURES and sample.labels.get("job") == "curl"
    }


def test_a_server_elsewhere_has_the_name_it_was_looked_up_by(tier: str, folder: Path) -> None:
    """curl asks the C library, this a name server; nobody listens where it then connects to."""
    listen, nobody = free_port(), free_port()
    resolver = folder / "resolv.conf"
    resolver.write_text(f"nameserver {SERVER}\noptions attempts:1 timeout:5\n")
    # Its own settings, seen by nobody else.
    own = [tool("unshare", "util-linux"), "--mount", "--propagation", "private", "sh", "-c"]
    script = f'mount --bind {resolver} /etc/resolv.conf; exec "$@"'
    curl = [tool("curl", "curl"), "--silent", "--noproxy", "*"]
    with name_server(), Collector(folder, tier=tier, ports=[nobody], listen=f"127.0.0.1:{listen}"):
        for url in (f"http://{NAME}:{nobody}/", f"http://127.0.0.155:{nobody}/"):
            done = subprocess.run([*own, script, "sh", *curl, url], check=False, timeout=30)
            assert done.returncode == 7  # could not connect
        wait_for("both to be counted", lambda: len(failures(listen)) == 2, otherwise=lambda: str(failures(listen)))
        assert failures(listen) == {
            (NAME, str(nobody), "refused"): 1,
            ("127.0.0.155", str(nobody), "refused"): 1,
        }
