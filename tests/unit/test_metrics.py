"""Metrics: what Prometheus reads is sound, nobody can do more than read it, and the dashboard names what exists."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from tests.support.messages import decision, health
from tests.support.program import ROOT, complained, firstspike, started

from firstspike import metrics
from firstspike.errors import ConfigError, UnavailableError
from firstspike.messages import Energy, Stamps
from firstspike.messages_energy import EnergySoFar
from firstspike.messages_health import BackendHealth, Counters
from firstspike.metrics import BUCKETS_S, Metrics
from firstspike.metrics_server import MAX_REQUEST_BYTES, MetricsServer, address_of

SAMPLE = re.compile(r'^([a-z_]+)(\{([a-z]+="(?:[^"\\\n]|\\.)*",?)+\})? (-?[0-9.e+-]+)$')


def made(counters=None, backends=()):
    message = health().model_copy(update={"counters": counters or Counters(), "backends": list(backends)})
    figures = {"subscribers": 2, "accepted": 9, "refused": 1, "handshakes_failed": 3}
    return Metrics(lambda: [message], lambda: figures, lambda: {"decision": 4, "health": 1})


def parsed(text):
    """Values by name and labels; every line is checked."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.match(r"# (HELP [a-z_]+ .+|TYPE [a-z_]+ (counter|gauge|histogram))$", line), line
            continue
        match = SAMPLE.match(line)
        assert match, line
        name = line.rpartition(" ")[0]
        assert name not in found, name
        found[name] = float(match[4])
    return found


def stamped(close_ms, infer_ms, **changes):
    stamps = Stamps(
        clock="monotonic", closed_ns=0, encoded_ns=10, inferred_ns=10 + round(infer_ms * 1e6),
        published_ns=round(close_ms * 1e6),
    )  # fmt: skip
    return decision(stamps=stamps, **changes)


def test_every_counter_is_told():
    counters = Counters(**{name: number for number, name in enumerate(Counters.model_fields, 1)})
    found = parsed(made(counters).text())
    told = [value for name, value in found.items() if name.startswith("firstspike_")]
    assert set(range(1, len(Counters.model_fields) + 1)) <= set(told)
    assert found['firstspike_decisions_total{status="late"}'] == counters.decisions_late
    assert found['firstspike_dropped_windows_total{cause="stale"}'] == counters.dropped_stale
    assert found["firstspike_events_total"] == counters.events


def test_the_states_of_daemon_and_back_ends():
    one = BackendHealth(name='odd "name"\\\n', state="backing-off", restarts=3, windows=7, failures=2)
    found = parsed(made(backends=[one]).text())
    name = r"odd \"name\"\\\n"
    assert found[f'firstspike_backend_state{{backend="{name}",state="backing-off"}}'] == 1
    assert found[f'firstspike_backend_state{{backend="{name}",state="ready"}}'] == 0
    assert found[f'firstspike_backend_failures_total{{backend="{name}"}}'] == 2
    assert found['firstspike_state{state="running"}'] == 1
    assert found['firstspike_published_total{topic="decision"}'] == 4
    assert (found["firstspike_subscribers"], found["firstspike_connections_refused_total"]) == (2, 1)
    assert found["process_resident_memory_bytes"] > 1e6


def test_latencies_are_cumulative_histograms_in_seconds():
    metrics = made()
    for close_ms, infer_ms in ((0.3, 0.05), (3, 0.1), (30, 20), (9000, 8000)):
        metrics.observe(stamped(close_ms, infer_ms))
    metrics.observe(stamped(1, 1, backend=None))
    found = parsed(metrics.text())
    bucket = 'firstspike_decision_latency_seconds_bucket{{le="{}"}}'
    counts = [found[bucket.format(bound)] for bound in (*map(repr, BUCKETS_S[:-2]), "1", "2.5", "+Inf")]
    assert counts == sorted(counts)
    assert counts[-2:] == [4, 5]
    assert found["firstspike_decision_latency_seconds_count"] == 5
    assert found["firstspike_decision_latency_seconds_sum"] == pytest.approx(9.0343)
    assert found['firstspike_inference_latency_seconds_bucket{backend="emulator",le="0.0001"}'] == 2
    assert found['firstspike_inference_latency_seconds_count{backend="emulator"}'] == 4


def test_virtual_times_are_no_latencies():
    metrics = made()
    metrics.observe(decision(stamps=Stamps(clock="virtual", closed_ns=0, encoded_ns=0, inferred_ns=9, published_ns=9)))
    assert parsed(metrics.text())["firstspike_decision_latency_seconds_count"] == 0


def energy(name, **since_start):
    return Energy(
        epoch="e", seq=0, subject="backend", name=name, clock="monotonic", start_ns=0, end_ns=10**9,
        window_s=1.0, method="integrated", scope="board", since_start=EnergySoFar(**since_start),
    )  # fmt: skip


def test_energy_says_how_it_was_obtained_and_may_fall():
    metrics = made()
    metrics.account(energy("emulator", dynamic_s=1.0, dynamic_j=0.5, modelled_j=1e-3))
    metrics.account(energy("emulator", dynamic_s=2.0, dynamic_j=-0.25, modelled_j=2e-3))
    metrics.account(energy("lava"))
    found = {key: value for key, value in parsed(metrics.text()).items() if "joules" in key}
    assert found == {
        'firstspike_energy_joules_total{backend="emulator",method="metered",scope="board"}': -0.25,
        'firstspike_energy_joules_total{backend="emulator",method="modelled",scope=""}': 2e-3,
    }


def test_labels_do_not_grow_without_end():
    metrics = made()
    for number in range(500):
        metrics.observe(stamped(1, 1, backend=f"b{number}"))
        metrics.account(energy(f"b{number}", modelled_j=1.0))
    found = parsed(metrics.text())
    assert sum(name.startswith("firstspike_inference_latency_seconds_count") for name in found) == 64
    assert sum(name.startswith("firstspike_energy") for name in found) == 64


def test_the_dashboard_names_only_metrics_that_exist():
    metrics = made(backends=[BackendHealth(name="emulator", state="ready")])
    metrics.observe(stamped(1, 1))
    metrics.account(energy("emulator", modelled_j=1.0))
    there = {name.partition("{")[0] for name in parsed(metrics.text())}
    dashboard = json.loads((ROOT / "docs" / "grafana" / "firstspike.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    expressions += [one["query"]["query"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    named = {name for text in expressions for name in re.findall(r"\b(?:firstspike|process)_[a-z_]+", text)}
    assert len(named) > 15
    assert named <= there
    labels = {label for text in expressions for label in re.findall(r"\b([a-z]+)=~?\"", text)}
    assert labels == {"instance", "state"}


@pytest.mark.parametrize(
    "bad", ["", "127.0.0.1", "9464", "127.0.0.1:0", "127.0.0.1:70000", "localhost:1", "::1:x", ":1"]
)
def test_addresses_that_are_none(bad):
    with pytest.raises(ConfigError, match="ADDRESS:PORT"):
        address_of(bad, allow_remote=True)


@pytest.mark.parametrize("far", ["0.0.0.0:9464", "[::]:9464", "192.168.1.5:9464"])
def test_other_machines_read_only_if_allowed(far):
    with pytest.raises(ConfigError, match="allow_remote = true"):
        address_of(far, allow_remote=False)
    assert address_of(far, allow_remote=True)[1] == 9464
    assert address_of("[::1]:9464", allow_remote=False) == ("::1", 9464)


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    well = threading.Event()
    with MetricsServer(("127.0.0.1", port), made().text, lambda: (well.is_set(), "word")) as serving:
        serving.well = well
        yield serving


def get(server, path, method="GET"):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 (http, written above)
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


def said(server, data):
    """The first line of the answer to these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client, contextlib.suppress(OSError):
        client.sendall(data)
        return client.recv(200).split(b"\r\n")[0].decode()
    return ""


def test_metrics_and_health_over_http(server):
    status, kind, text = get(server, "/metrics")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert parsed(text)["firstspike_subscribers"] == 2
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(server, "/healthz")
    server.well.set()
    assert get(server, "/healthz")[2] == "word\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "404"), (b"GET /metrics/../x HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"), (b"DELETE /healthz HTTP/1.1\r\n\r\n", "405"),
        (b"\x16\x03\x01 hello\r\n\r\n", "400"), (b"GET /metrics\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"y" * MAX_REQUEST_BYTES + b"\r\n\r\n", ""),
        (b"x" * 100_000, ""), (os.urandom(300) + b"\r\n\r\n", "400"),
    ],
)  # fmt: skip
def test_nothing_else_is_answered(server, request_, status):
    line = said(server, request_)
    assert line.split(" ")[1:2] == ([status] if status else [])
    assert get(server, "/metrics")[0] == 200


def test_other_methods_are_told_which_there_is(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"HEAD /metrics HTTP/1.1\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(1000), b""))
    assert b"\r\nAllow: GET\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_a_fault_ends_an_answer_and_no_thread(caplog):
    def odd():
        raise ValueError("odd")

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with MetricsServer(("127.0.0.1", port), odd, odd) as serving:
        for path in ("/healthz", "/metrics") * 5:
            assert said(serving, f"GET {path} HTTP/1.1\r\n\r\n".encode()).split()[1] == "500"
    assert caplog.text.count("ValueError: odd") == 10


def test_figures_that_are_no_numbers_are_told_as_prometheus_writes_them():
    assert [metrics._number(one) for one in (math.inf, -math.inf, math.nan, 2.0, 0.5)] == [
        "+Inf", "-Inf", "NaN", "2", "0.5",
    ]  # fmt: skip


def test_clients_that_say_nothing_are_given_up_and_the_others_served(server):
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(6)]
    try:
        began = time.monotonic()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=15) as answer:
            assert answer.status == 200
        assert time.monotonic() - began < 12
        assert silent[0].recv(10) == b""
    finally:
        for one in silent:
            one.close()


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UnavailableError, match="cannot be had"):
        MetricsServer(taken.getsockname(), str, lambda: (True, ""))


def test_the_daemon_serves_them_if_asked(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "model.path": "nmnist", "source.kind": "simulated", "publish.endpoint": f"ipc://{tmp_path}/p",
        "metrics.enabled": "true", "metrics.address": f"127.0.0.1:{port}",
    }  # fmt: skip
    arguments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    with started("run", *arguments):
        deadline = time.monotonic() + 20
        found = {}
        while not found.get('firstspike_decisions_total{status="ok"}') and time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                found = parsed(answer.read().decode())
            time.sleep(0.2)
        assert found['firstspike_decisions_total{status="ok"}'] > 0
        assert found['firstspike_backend_state{backend="emulator",state="ready"}'] in (0, 1)
    arguments += ["--set", "metrics.address=0.0.0.0:9464"]
    for command in ("run", "check"):
        complained(firstspike(command, *arguments), os.EX_CONFIG, "metrics.address", "allow_remote")
