"""One answer over HTTP: every transport fault ends in a retry that succeeds or in one clear line, within its limits."""

import datetime as dt
import logging
import socket
import time
from dataclasses import replace

import pytest

import local_server as ls
from capitulation.data import http
from capitulation.data.http import FetchError, Policy, fetch_bytes

BODY = b'{"data": [1, 2, 3]}' * 200
FAST = Policy(
    connect_seconds=1.0, read_seconds=0.4, total_seconds=3.0, max_bytes=200_000, tries=3, backoff_seconds=0.01
)

TRANSIENT = {
    "reset in mid-body": ls.reset_after(BODY),
    "connection closed in mid-body": ls.cut_short(BODY),
    "429 with Retry-After": ls.status(429, Retry_After="0.05"),
    "429 without Retry-After": ls.status(429),
    "500": ls.status(500),
    "502": ls.status(502),
    "503": ls.status(503),
    "no answer in time": ls.silent(0.8),
    "gzip with a flipped byte": ls.zipped(BODY, lambda data: data[:30] + b"\xff\xff" + data[32:]),
    "gzip cut short": ls.zipped(BODY, lambda data: data[:-12]),
}

LASTING = {
    "404": (ls.status(404), "answered 404"),
    "403": (ls.status(403), "answered 403"),
    "204": (ls.reply(204), "answered 204"),
    "429 for an hour": (ls.status(429, Retry_After="3600"), "next try only in 3600 s"),
    "429 with an absurd date": (ls.status(429, Retry_After="Fri, 31 Dec 2199 23:59:59 GMT"), "given up"),
    "500 always": (ls.status(500), "answered 500 (3 tries)"),
    "slow drip": (ls.drip(BODY), "not answered in full within 1.5 s"),
    "endless body": (ls.endless(), "larger than 200,000 bytes"),
    "gzip bomb": (ls.zipped(b"0" * 50_000_000), "larger than 200,000 bytes"),
    "encoding that was not asked for": (ls.ok(BODY, Content_Encoding="br"), "was not asked for"),
    "endless redirect": (ls.redirect("/x"), "more than 3 redirects"),
    "redirect to another host": (ls.redirect("http://127.0.0.2:9/x"), "another host (127.0.0.2:9), not followed"),
    "redirect to another scheme": (ls.redirect("file:///etc/passwd"), "another scheme (file), not followed"),
    "redirect to ftp": (ls.redirect("ftp://127.0.0.1/x"), "another scheme (ftp), not followed"),
    "redirect to a port that is none": (ls.redirect("http://127.0.0.1:99999/x"), "an address that cannot be read"),
    "redirect to nowhere": (ls.status(302), "without saying where to go"),
    "not HTTP": (lambda handler: handler.wfile.write(b"\x00\x01 what\r\n\r\n"), "the connection broke"),
}


@pytest.fixture
def server():
    with ls.LocalServer() as running:
        yield running


@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_passing_fault_is_retried_until_the_answer_is_whole(server, fault):
    server.serve("/x", TRANSIENT[fault], ls.ok(BODY))
    lines = []
    answer = fetch_bytes(f"{server.url}/x", {"a": "b"}, FAST, lines.append)
    assert answer.body == BODY
    assert answer.tries == 2
    assert len(server.requests) == 2
    assert len(lines) == 1
    assert "try 2 of 3" in lines[0]
    ls.record_outcome("service", f"{fault}, once", 1, "retried, succeeded")


@pytest.mark.parametrize("fault", LASTING)
def test_a_lasting_fault_ends_in_one_line_within_the_limits(server, fault):
    behaviour, text = LASTING[fault]
    server.serve("/x", behaviour)
    policy = replace(FAST, total_seconds=1.5) if fault == "slow drip" else FAST
    began = time.monotonic()
    with pytest.raises(FetchError) as caught:
        fetch_bytes(f"{server.url}/x", {}, policy)
    assert time.monotonic() - began < policy.total_seconds + 0.5
    message = str(caught.value)
    assert text in message
    assert "\n" not in message
    assert len(message) < 250
    ls.record_outcome("service", fault, 1, "one clear line")


def test_a_refused_connection_is_tried_again_and_then_named():
    with pytest.raises(FetchError, match=r"refused the connection \(3 tries\)"):
        fetch_bytes(f"{ls.refused_url()}/x", {}, FAST)
    ls.record_outcome("service", "connection refused", 1, "tried again, then one clear line")


def test_an_unknown_name_is_not_tried_again():
    began = time.monotonic()
    with pytest.raises(FetchError, match=r"no-such-host\.invalid: cannot be reached") as caught:
        fetch_bytes("http://no-such-host.invalid/x", {}, FAST)
    assert "tries" not in str(caught.value)
    assert time.monotonic() - began < FAST.connect_seconds + 0.5
    ls.record_outcome("service", "name that is not known (DNS)", 1, "one clear line")


def test_a_name_server_that_never_answers_costs_the_connect_limit_only(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_a, **_k: time.sleep(20))
    began = time.monotonic()
    with pytest.raises(FetchError, match="cannot be reached"):
        fetch_bytes("http://slow.example/x", {}, replace(FAST, connect_seconds=0.5))
    assert time.monotonic() - began < 1.0
    ls.record_outcome("service", "name server that never answers", 1, "one clear line")


def test_an_unroutable_address_costs_the_connect_limit_only(monkeypatch):
    def never(*_arguments, **_names):
        time.sleep(20)

    monkeypatch.setattr(socket, "create_connection", never)
    began = time.monotonic()
    with pytest.raises(FetchError, match="cannot be reached"):
        fetch_bytes("http://127.0.0.1:9/x", {}, replace(FAST, connect_seconds=0.5))
    assert time.monotonic() - began < 1.0


def test_redirects_on_the_same_host_and_to_allowed_hosts_are_followed(server):
    server.serve("/x", ls.redirect("/y"))
    server.serve("/y", ls.ok(BODY))
    assert fetch_bytes(f"{server.url}/x", {}, FAST).body == BODY
    with ls.LocalServer() as other:
        other.serve("/y", ls.ok(BODY))
        server.serve("/x", ls.redirect(f"{other.url}/y"))
        allowed = replace(FAST, redirect_hosts=frozenset({other.url.removeprefix("http://")}))
        assert fetch_bytes(f"{server.url}/x", {}, allowed, secrets={"api_key": "hidden-key-1"}).body == BODY
        assert other.requests == [("/y", {})], "a key must not travel to another host"


def test_an_answer_over_https_never_leads_back_to_http():
    with pytest.raises(FetchError, match="another scheme"):
        http.redirect_target("https://a.example/x", "http://a.example/x", FAST)


def test_only_web_addresses_are_asked():
    with pytest.raises(FetchError, match="not an http or https address"):
        fetch_bytes("file:///etc/passwd", {}, FAST)


@pytest.mark.parametrize("url", ["http://[::1/x", "http://h:99999/x", "http://h:port/x"])
def test_an_address_that_cannot_be_read_is_one_line(url):
    with pytest.raises(FetchError, match="not an http or https address"):
        fetch_bytes(url, {}, FAST)
    with pytest.raises(FetchError, match="cannot be read, not followed"):
        http.redirect_target("https://a.example/x", url, FAST)


def test_waiting_honours_retry_after_and_grows_otherwise(server):
    waits = []
    policy = replace(FAST, tries=4, backoff_seconds=0.5, sleep=waits.append, total_seconds=30.0)
    server.serve("/x", ls.status(503, Retry_After="7"), ls.status(503), ls.status(503), ls.ok(BODY))
    assert fetch_bytes(f"{server.url}/x", {}, policy).tries == 4
    assert waits[0] == 7.0
    assert 0.5 <= waits[1] <= 1.0
    assert 1.0 <= waits[2] <= 2.0


def test_retry_after_reads_numbers_and_dates():
    now = dt.datetime(2026, 1, 20, 12, tzinfo=dt.UTC)
    assert http.retry_after_seconds("120", now) == 120
    assert http.retry_after_seconds("Tue, 20 Jan 2026 12:01:30 GMT", now) == 90
    assert http.retry_after_seconds("Tue, 20 Jan 2026 11:00:00 GMT", now) == 0
    for useless in (None, "", "soon", "-5", "1e9", "9" * 40):
        assert http.retry_after_seconds(useless, now) is None


def test_a_secret_shows_up_nowhere(server, caplog):
    """Not in the answer, the messages, the progress lines or the libraries' logs, although the service repeats it."""
    key = "s3cret/key+value"
    caplog.set_level(logging.DEBUG)
    server.serve("/x", ls.status(500), ls.ok(f'{{"url": "x?api_key={key}", "u": "s3cret%2Fkey%2Bvalue"}}'.encode()))
    lines = []
    answer = fetch_bytes(f"{server.url}/x", {"a": "b"}, FAST, lines.append, {"api_key": key})
    assert server.requests[-1][1]["api_key"] == key, "the service itself must get it"
    with pytest.raises(FetchError) as caught:
        server.serve("/x", ls.redirect(f"ftp://elsewhere/?api_key={key}"))
        fetch_bytes(f"{server.url}/x", {"a": "b"}, FAST, lines.append, {"api_key": key})
    said = " ".join([*lines, str(caught.value), repr(answer), caplog.text])
    assert "s3cret" not in said
    assert b"***" in answer.body


@pytest.mark.parametrize("before", [0, 60, 80, 95])
def test_a_secret_in_a_librarys_error_is_hidden_before_the_error_is_cut(before):
    key = "s3cret/key+value"
    for form in (key, "s3cret%2Fkey%2Bvalue"):
        error = http._explained(ValueError("x" * before + form), "https://a.example", FAST, {"api_key": key})
        assert "s3c" not in str(error)


def test_addresses_are_written_down_without_user_and_query(server):
    server.serve("/x", ls.ok(BODY))
    url = server.url.replace("http://", "http://me:pw@")
    assert fetch_bytes(f"{url}/x?token=1#f", {}, FAST).url == f"{server.url}/x"
