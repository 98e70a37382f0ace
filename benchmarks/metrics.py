"""What the metrics cost: on the way of every exchange, when they are scraped, and in memory.

No kernel and no root: synthetic records through the real pipeline, each measurement in a process of its own.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import micro
from benchmarks.harness import Bench
from benchmarks.machine import memory
from benchmarks.report import Result, figure
from otelbpf.exporters.exposition import Exposition
from otelbpf.exporters.prometheus import MetricsPage
from otelbpf.metrics.histogram import Histogram
from otelbpf.pipeline import Pipeline
from otelbpf.telemetry.ledger import NOWHERE, Ledger
from tests.fake_kernel import FakeKernel, FakeSource

OPENMETRICS = "application/openmetrics-text"
SERVICES, ROUTES = 1000, 10
"""So many services, each with so many routes."""
WORDS = ("users", "orders", "items", "carts", "prices", "stock", "reviews", "images", "search", "login")
SERIES = 10_000
GET = b"GET /%b HTTP/1.1\r\nHost: shop.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def counting(**settings: Any) -> Pipeline:
    """As it is."""
    return Pipeline(**settings)


def uncounting(**settings: Any) -> Pipeline:
    """Makes the same spans, and counts nothing of them."""
    pipeline = Pipeline(**settings)
    nothing = (Histogram((1.0,)).exemplars, 0, 0.0)
    pipeline._builder._record = lambda *told: nothing
    pipeline._ledger.begin_request = lambda pid, serving, waited_us: NOWHERE
    return pipeline


def measure(bench: Bench) -> Result:
    """In processor time; of the cost for each exchange the fastest of several rounds, since others only disturb."""
    counted, plain = alone(each_exchange, 5 * bench.rounds(5))
    held, scraped, lines, pause = [], [], 0, []
    for _ in range(bench.rounds(5)):
        held.append(alone(grown, SERVICES) / 1e6)
        seconds, lines, longest = alone(scrape, SERIES)
        scraped.append(seconds * 1e3 * SERIES / lines)
        pause.append(longest * 1e3)
    return Result(
        name="metrics",
        question="what do metrics cost an exchange, a scrape, and in memory?",
        commands=[],
        figures=[
            figure("added to an exchange by all metrics", "us", [counted - plain], aim="<= 2"),
            figure("an exchange with them, ring to span", "us", [counted]),
            figure(f"a scrape of {SERIES:,} series (OpenMetrics), processor", "ms", scraped, aim="<= 100"),
            figure("longest wait of another thread during one", "ms", pause),
            figure(f"memory of {SERVICES:,} services with {SERVICES * ROUTES:,} routes, anonymous", "MB", held),
        ],
        notes=[f"the scrape had {lines:,} lines; its time is given for {SERIES:,}"],
    )


def alone(work: Callable[[int], Any], number: int) -> Any:
    """What `work` returns in a process that did nothing else."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (number,))


def each_exchange(rounds: int) -> tuple[float, float]:
    """Microseconds per exchange with metrics and without."""
    records, exchanges = micro.records_of(micro.wrk_on_nginx)
    gc.freeze()
    gc.set_threshold(50_000, 25, 50)
    fastest = dict.fromkeys((counting, uncounting), float("inf"))
    for _ in range(rounds):
        for make in fastest:
            pipeline = make(ledger=Ledger(), emit=lambda spans: None, source=FakeSource(), seed=1)
            gc.collect()
            begun = time.thread_time()
            for at in range(0, len(records), micro.BATCH_RECORDS):
                pipeline.feed(records[at : at + micro.BATCH_RECORDS])
            fastest[make] = min(fastest[make], time.thread_time() - begun)
    return fastest[counting] * 1e6 / exchanges, fastest[uncounting] * 1e6 / exchanges


def load(services: int) -> FakeKernel:
    """So many services that were asked on each of their routes, and no span kept."""
    kernel = FakeKernel()
    for number in range(services):
        kernel.process(1000 + number, f"/usr/bin/service{number:04}")
        socket = kernel.accept(pid=1000 + number, peer_port=1024 + number)
        for word in WORDS:
            socket.receive(GET % word.encode()).send(OK)
        socket.close()
        kernel.spans()
        kernel.records.clear()
    assert kernel.ledger.spans == services * ROUTES
    return kernel


def grown(services: int) -> int:
    """Bytes that the metrics and routes of so many services hold, beside who the services are."""
    load(1)
    gc.collect()
    before = memory([os.getpid()]).anonymous_bytes
    kernel = load(services)
    gc.collect()
    after = memory([os.getpid()]).anonymous_bytes
    assert len(kernel.pipeline.measures.exchanges.services) == services
    return after - before


def scrape(series: int) -> tuple[float, int, float]:
    """Processor seconds of a scrape of about so many series, its lines, and how long another thread had to wait."""
    kernel = load(max(series // 460, 1))
    page = MetricsPage(kernel.ledger)
    page.more = Exposition(kernel.pipeline.measures).pieces
    read(page)
    begun = time.thread_time()
    body = read(page)
    seconds = time.thread_time() - begun
    scraper = threading.Thread(target=lambda: [read(page) for _ in range(5)])
    scraper.start()
    longest, last = 0.0, time.perf_counter()
    while scraper.is_alive():
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return seconds, sum(not line.startswith(b"#") for line in b"".join(body).splitlines()), longest


def read(page: MetricsPage) -> Sequence[bytes]:
    """All of it."""
    return list(page.render(OPENMETRICS)[0])
