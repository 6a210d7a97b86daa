"""Whoever can reach the port but is not the page gets nothing: no file, no store of their choosing, no computation."""

import json
from urllib.parse import quote

import pytest
from browsing import serving
from hostile import FOREIGN, SECRET, asked, posted, probes, request

from flowprofile.app.guard import BODY
from flowprofile.app.server import application

READ = "/api/catalogue"
DO = "/api/plan"
TOKEN = "a-token-that-nobody-guesses"
HOSTILE = {probe.name: probe for probe in probes(read=READ, do=DO, most=BODY)}
UNPARSED = b"Invalid HTTP request received."
"""What uvicorn says by itself, before anything of ours is called."""


@pytest.fixture(scope="module")
def address(small):
    """Where a server answers that may compute, with a file beside its store that is not for reading."""
    (small.parent / "secret.txt").write_text(SECRET)
    with serving(application(str(small), allow_run=True)) as found:
        yield found


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_probe_is_refused_with_the_status_that_says_why(address, name):
    answer = asked(address, HOSTILE[name].request)
    assert answer.status in HOSTILE[name].expected, answer.body[:200]
    if answer.status and answer.body != UNPARSED:
        _guarded(answer)


def test_none_of_the_hostile_probes_is_served(address):
    assert len(HOSTILE) >= 40
    answers = {name: asked(address, probe.request) for name, probe in HOSTILE.items()}
    served = [name for name, answer in answers.items() if answer.status in range(200, 400)]
    told = [name for name, a in answers.items() if SECRET.encode() in a.body or b"root:" in a.body]
    assert (served, told) == ([], []), f"{len(served)} of the {len(HOSTILE)} hostile probes served"


def test_what_the_page_asks_for_is_answered_and_guarded(address):
    for target in ("/", "/activations?seed=1", READ, "/static/app.js", "/plotly.js", "/static/none.js"):
        answer = asked(address, request(target))
        assert answer.status == (404 if "none" in target else 200)
        _guarded(answer)
    head = asked(address, request(READ, method="HEAD"))
    assert (head.status, head.body) == (200, b"")
    assert json.loads(asked(address, request(READ)).body)
    assert asked(address, posted(DO, "Content-Type: application/json")).status not in (403, 413, 415)


@pytest.mark.parametrize(
    "text", ["--5", "-", "9" * 4000, "٣", "1e3", "0x10", "NaN", "1.5", " 1", "true", "%f0%28%8c%28"]
)
def test_a_number_that_is_none_is_refused_and_breaks_nothing(address, text):
    value = text if "%" in text else quote(text)
    answer = asked(address, request(f"/api/sample?seed={value}"))
    assert answer.status == 400, answer.body[:200]
    assert json.loads(answer.body)["fact"]


def test_with_a_token_nothing_is_answered_without_it(small):
    with serving(application(str(small), token=TOKEN)) as address:
        for target in (
            "/",
            READ,
            "/static/app.js",
            "/plotly.js",
            "/?token=",
            "/?token=a",
            f"{READ}?token=%00",
        ):
            answer = asked(address, request(target))
            assert answer.status == 401, target
            _guarded(answer)
        for line in (
            "Cookie: flowprofile_token=",
            "Authorization: Bearer x",
            "Cookie: \x01=;;=",
            "Authorization: Basic YTpi",
        ):
            assert asked(address, request(READ, line)).status == 401
        admitted = asked(address, request(f"{READ}?token={TOKEN}"))
        assert (admitted.status, admitted.headers["location"]) == (303, READ)
        assert "httponly" in admitted.headers["set-cookie"].lower()
        assert "samesite=strict" in admitted.headers["set-cookie"].lower()
        cookie = f"Cookie: flowprofile_token={TOKEN}"
        assert asked(address, request(READ, cookie)).status == 200
        assert asked(address, request(READ, f"Authorization: Bearer {TOKEN}")).status == 200
        assert asked(address, request(READ, cookie, host="evil.example")).status == 400
        away = asked(address, request("//evil.example/?token=", cookie))
        assert not away.headers.get("location", "").startswith("//"), "a redirect to another site"


def test_a_server_without_runs_has_nothing_to_post_to(small):
    with serving(application(str(small))) as address:
        for target in (DO, "/api/jobs", "/api/jobs/1/cancel", READ, "/"):
            answer = asked(address, posted(target, "Content-Type: application/json"))
            assert answer.status in (404, 405), target
            _guarded(answer)


def _guarded(answer):
    """Every answer carries the policy, and none lets a foreign page read it."""
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    scripts = next(part for part in policy.split(";") if part.strip().startswith("script-src"))
    assert "unsafe" not in scripts
    assert "*" not in policy
    assert "http:" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert FOREIGN not in str(answer.headers)
