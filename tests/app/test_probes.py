"""Whoever can reach the port but is not the page gets nothing: no file, no store of their choosing, no computation."""

import json
from urllib.parse import quote

import pytest
from browsing import serving
from hostile import FOREIGN, SECRET, asked, posted, probes, request

from flowprofile.app.guard import BODY
from flowprofile.app.server import application
from flowprofile.app.serving import names

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


def test_with_a_token_nothing_of_the_store_is_answered_without_it(small):
    with serving(application(str(small), token=TOKEN)) as address:
        for target in ("/", "/sample?seed=1", "/static/app.js", "/plotly.js"):
            assert asked(address, request(target)).status == 200, "the page is what asks for the token"
        for target in (READ, f"{READ}?token={TOKEN}", "/api/block", "/api/nothing", "/api"):
            answer = asked(address, request(target))
            assert answer.status == 401, target
            _guarded(answer)
        for line in (
            "Authorization: Bearer x",
            f"Authorization: {TOKEN}",
            f"Authorization: Basic {TOKEN}",
            "Authorization: Bearer \xff",
            f"Cookie: flowprofile_token={TOKEN}",
        ):
            assert asked(address, request(READ, line)).status == 401, line
        known = f"Authorization: Bearer {TOKEN}"
        answer = asked(address, request(READ, known))
        assert answer.status == 200
        assert "set-cookie" not in answer.headers
        assert asked(address, request(READ, known, host="evil.example")).status == 400


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_another_port_of_this_machine_is_as_foreign_as_any(address, site):
    assert asked(address, request(READ, f"Sec-Fetch-Site: {site}")).status == 403
    assert asked(address, request(READ, "Sec-Fetch-Site: same-origin")).status == 200


def test_at_every_address_of_a_machine_any_name_is_its_own_and_the_token_decides(small):
    with serving(application(str(small), token=TOKEN, hosts=names("0.0.0.0"))) as address:
        for host in ("node7.example", "192.0.2.7:80", "[2001:db8::7]:80"):
            assert asked(address, request(READ, f"Authorization: Bearer {TOKEN}", host=host)).status == 200
            assert asked(address, request(READ, host=host)).status == 401


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
