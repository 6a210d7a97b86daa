"""Settings and runs in a real browser: a mask looked at without sampling, a run watched, cancelled and resumed."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browsing import ITSELF, watched

import flowprofile as fp
from flowprofile import running
from flowprofile.definitions import Text, pipeline

pytestmark = pytest.mark.browser
FACES = {
    "model": "faces32",
    "sampler": {"steps": 20},
    "cases": {"seeds": "0:2", "labels": ["0110"]},
    "stages": {"trajectory": {"keep": "::5", "before": True}, "step_ssim": {"use": "ssim"}},
}
FORMULA = {
    "model": "mixture16",
    "sampler": {"steps": 400},
    "cases": {"seeds": "0:2", "labels": [0, 1]},
    "stages": {"trajectory": {}, "step_ssim": {"use": "ssim"}},
}
AA = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}


def filled(store, table):
    running.run(pipeline(table, Text("the test", "")), into=store)
    return store


def child_of(server):
    """The process in which a server's run is at work."""
    told = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(server.pid)], capture_output=True, text=True, check=True
    ).stdout
    (found,) = [line.split()[0] for line in told.splitlines() if "flowprofile.app.child" in line]
    return int(found)


def contents(store):
    root = Path(store)
    files = [*(root / "profile.zarr").rglob("*"), *(root / "ledger" / "receipts").rglob("*")]
    return {
        str(f.relative_to(root)): blake2b(f.read_bytes()).hexdigest() for f in sorted(files) if f.is_file()
    }


@pytest.fixture
def served():
    """Addresses of servers of stores, each a process of its own as a person would start it."""
    processes = []

    def of(store, *more):
        command = [sys.executable, "-m", "flowprofile", "app", store, "--port", "0", "--no-open", *more]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return re.search(r"http://\S+", process.stderr.readline())[0]

    of.processes = processes
    yield of
    for process in processes:
        process.terminate()
        process.communicate(timeout=30)


class Relay:
    """A way to a server that can be cut and mended."""

    def __init__(self, port):
        self.server, self.open, self.whole = port, [], True
        self.listening = socket.create_server((ITSELF, 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self.whole = False
        for each in self.open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.whole = True

    def close(self):
        self.cut()
        self.listening.close()

    def _accept(self):
        with suppress(OSError):  # closed
            while True:
                caller = self.listening.accept()[0]
                self.open.append(caller)
                if not self.whole:
                    caller.close()
                    continue
                beyond = socket.create_connection((ITSELF, self.server))
                self.open.append(beyond)
                for one, other in ((caller, beyond), (beyond, caller)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one, other):
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def relay():
    """Makes relays, and closes them."""
    made = []

    def of(port):
        made.append(Relay(port))
        return made[-1]

    yield of
    for each in made:
        each.close()
        for connection in each.open:
            connection.close()


def within(address, path):
    """Another place of a server's page, with the token that its address says."""
    url, mark, token = address.partition("#")
    return f"{url}{path}{mark}{token}"


def ready(page):
    """Wait until nothing is on its way, and give the plan's line."""
    page.locator("html[data-ready]").wait_for()
    return page.locator(".plan .sum").inner_text()


def ended(page, job, state="done"):
    page.locator(f'.job[data-job="{job}"][data-state="{state}"]').wait_for()
    ready(page)


def run(page):
    page.get_by_role("button", name="Run", exact=True).click()


def test_a_drawn_mask_is_looked_at_without_sampling_and_its_result_opens_by_link(store, page, served):
    url = served(filled(store, FACES), "--allow-run")
    page.goto(within(url, "run?mask=489,490,491"))
    assert ready(page) == "The store holds all of it already: nothing to compute."
    plan, urged = page.locator(".plan"), page.locator("button.main", has_text="Run")
    assert "Memory" not in plan.inner_text()
    assert urged.count() == 0
    page.get_by_role("button", name="Add max channel").click()
    ready(page)
    assert urged.count() == 1
    assert re.search(r"of these, steps of sampling\n0\n", plan.inner_text())
    assert "padding fills batches up" in plan.inner_text()
    assert "Nothing is sampled" in plan.inner_text()
    plan.get_by_text("The definition as a file").click()
    assert "mask = { pixels = [489, 490, 491] }" in plan.locator("pre").inner_text()
    run(page)
    ended(page, 1)
    assert "nothing to compute" in page.locator(".plan .sum").inner_text()
    assert (fp.open(store)["max_channel"]["status"] == 2).all()
    page.locator(".results").get_by_text("activations").click()
    page.locator("html[data-ready]").wait_for()
    assert "/activations?" in page.url


def test_every_setting_is_entered_and_what_is_wrong_is_taught(store, page, served, forgiven):
    forgiven.append("400 (Bad Request)")  # what is half entered is no definition yet
    url = served(filled(store, FACES), "--allow-run")
    page.goto(within(url, "run"))
    ready(page)
    page.get_by_label("lipstick").check()
    page.get_by_role("button", name="Add a label").click()
    page.get_by_label("bangs").nth(1).check()
    page.get_by_label("Seeds").fill("0, 5")
    section = page.locator('[data-tables="interventions"]')
    for kind in ("ablate", "switch"):
        section.locator("#add-interventions").select_option(kind)
        section.get_by_role("button", name="Add", exact=True).click()
    ablate, switch = page.locator('[data-table="ablate"]'), page.locator('[data-table="switch"]')
    ablate.locator("summary").first.click()
    ready(page)
    assert (
        "'layer' is missing (the form, key interventions.ablate.layer)" in page.locator(".plan").inner_text()
    )
    ablate.get_by_label("Layer", exact=True).fill("mid_attn.fn")
    ablate.get_by_label("Kind of channel").select_option(label="Max channel")
    ablate.locator('[data-name="channel"]').get_by_label("Time").fill("400")
    ablate.locator('[data-name="channel"]').get_by_label("Mask").select_option("region face")
    switch.get_by_label("At", exact=True).fill("800, 4oo")
    assert "“4oo” is no number" in switch.locator(".wrong").all_inner_texts()[0]
    switch.get_by_label("At", exact=True).fill("800, 400")
    switch.get_by_label("Kind of to").select_option(label="Flip")
    switch.get_by_label("male").first.check()
    ready(page)
    page.get_by_text("The definition as a file").click()
    written = page.locator(".plan pre").inner_text()
    for line in (
        'labels = ["0111", "1111"]', "seeds = [0, 5]", 'channel = { from = "max_channel", time = 400, mask = "face" }',
        "at = [800, 400]", 'to = { flip = ["male"] }',
    ):  # fmt: skip
        assert line in written
    path = Path(store).parent / "asked.toml"
    path.write_text(written)
    told = running.plan(str(path), into=store)
    assert page.locator(".plan .sum").inner_text().startswith(f"{told.plan.forwards:,} forwards")


def test_a_run_is_found_again_in_another_tab_cancelled_there_and_resumed(store, page, served):
    url = served(filled(store, FORMULA), "--allow-run")
    page.goto(within(url, "run"))
    ready(page)
    page.get_by_label("Seeds").fill("0:32")
    ready(page)
    run(page)
    page.locator(".job .sum").filter(has_text=re.compile(r"[1-9]\d* region")).wait_for()
    working = child_of(served.processes[0])
    os.kill(working, signal.SIGSTOP)  # or it might be done before the other tab is drawn
    other = page.context.new_page()
    other.goto(within(url, "run"))
    other.locator(".job progress").wait_for()
    other.get_by_role("button", name="Cancel").click()
    os.kill(working, signal.SIGCONT)
    for tab in (page, other):
        ended(tab, 1, "stopped")
    assert page.locator(".log li").all_inner_texts() == other.locator(".log li").all_inner_texts()
    assert 0 < int(re.match(r"[\d,]+", ready(page))[0].replace(",", "")) < 30 * 2 * 400
    page.reload()
    assert "nothing to compute" not in ready(page)
    page.get_by_role("button", name="Go on").click()
    ended(page, 2)
    assert "nothing to compute" in ready(page)
    whole = filled(
        filled(f"{store}-whole", FORMULA), {**FORMULA, "cases": {"seeds": "0:32", "labels": [0, 1]}}
    )
    assert contents(store) == contents(whole)


def test_a_server_that_is_killed_is_missed_and_one_that_knows_nothing_of_the_run_says_so(
    store, page, served, forgiven
):
    forgiven.append("ERR_")
    forgiven.append("404")
    token = "a-token-for-both-of-them"
    with socket.socket() as free:
        free.bind((ITSELF, 0))
        port = str(free.getsockname()[1])
    url = served(filled(store, FORMULA), "--allow-run", "--port", port, "--token", token)
    page.goto(within(url, "run"))
    ready(page)
    page.get_by_label("Seeds").fill("0:32")
    ready(page)
    run(page)
    page.locator(".job .sum").filter(has_text=re.compile(r"[1-9]\d* region")).wait_for()
    served.processes[0].kill()
    page.get_by_text("The server does not answer").wait_for(timeout=4000)
    assert page.get_by_role("button", name="Cancel").is_disabled()
    served(store, "--allow-run", "--port", port, "--token", token)
    page.locator('.job[data-state="failed"]').wait_for(timeout=15_000)
    assert "no run '1'" in page.locator(".job").inner_text()
    assert page.get_by_text("The server does not answer").count() == 0
    page.get_by_role("button", name="Go on").click()
    ended(page, 1)


def test_a_run_is_found_again_behind_a_connection_that_was_lost_and_its_total_never_changes(
    store, page, served, relay, forgiven
):
    forgiven.append("ERR_")
    url = served(filled(store, FORMULA), "--allow-run")
    relayed = relay(urlsplit(url).port)
    page.goto(within(url.replace(str(urlsplit(url).port), str(relayed.port)), "run"))
    ready(page)
    page.get_by_label("Seeds").fill("0:32")
    ready(page)
    run(page)
    page.evaluate(
        """() => {
          window.totals = new Set();
          new MutationObserver(() => {
            const told = document.querySelector(".job .sum").textContent.match(/of ([\\d,]+) forwards/);
            if (told) window.totals.add(told[1]);
          }).observe(document.querySelector(".jobs"), { childList: true, subtree: true, characterData: true });
        }"""
    )
    page.locator(".job .sum").filter(has_text="forwards").wait_for()
    relayed.cut()
    page.get_by_text("The server does not answer").wait_for(timeout=5000)
    relayed.mend()
    page.get_by_text("The server does not answer").wait_for(state="detached")
    ended(page, 1)
    assert page.evaluate("[...totals]") == [f"{30 * 2 * 400:,}"]


def test_without_leave_to_run_there_is_no_form_and_no_answer(store, page, served):
    url = served(filled(store, FORMULA))
    page.goto(within(url, "run"))
    page.locator("html[data-ready]").wait_for()
    assert "--allow-run" in page.locator("main").inner_text()
    assert page.locator("main form").count() == 0
    assert page.get_by_role("link", name="Run").count() == 0
    for path in ("form", "jobs", "plan"):
        assert page.request.get(f"{url}api/{path}").status == 404


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_use_it(store, browser, served, theme):
    from axe_playwright_python.sync_playwright import Axe

    url = served(filled(store, FACES), "--allow-run")
    # What looks at the page is a script of its own, which the page's policy would refuse.
    with watched(browser, ["400 (Bad Request)"], bypass_csp=True, color_scheme=theme) as page:
        page.goto(within(url, "run?mask=eyes"))
        ready(page)
        page.get_by_role("button", name="Add layer gradients").click()
        section = page.locator('[data-tables="interventions"]')
        for kind in ("ablate", "switch", "patch", "steer"):
            section.locator("#add-interventions").select_option(kind)
            section.get_by_role("button", name="Add", exact=True).click()
        ready(page)
        for one in page.locator("details").all():
            one.evaluate("one => one.open = true")
        ready(page)
        found = Axe().run(page, options=AA).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
