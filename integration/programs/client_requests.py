"""Runs a plan with requests: a session, and so a connection pool, per thread. Arguments: PLAN LOG N"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from integration.programs import workload

local = threading.local()


def run(request: dict[str, Any]) -> dict[str, Any]:
    if not hasattr(local, "session"):
        local.session = requests.Session()
    size = request["body"]
    body = workload.pieces(size) if request["chunked"] else b"x" * size
    answer = workload.Answer(request)
    try:
        response = local.session.request(
            request["method"], request["url"], data=body, headers=request["headers"], allow_redirects=False
        )
        return answer.done(response.status_code, len(response.content), response.headers.get("X-Peer", ""))
    except requests.RequestException as error:
        return answer.failed(error)


plan, concurrency = workload.plan()
with ThreadPoolExecutor(concurrency) as pool:
    workload.write_log(list(pool.map(run, plan)))
