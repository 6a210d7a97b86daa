"""Who holds a store, when a holder sleeps through its lease, clocks disagree, and two want to plan at once."""

from contextlib import contextmanager, suppress

import pytest
from acknowledged import Heard, Truth, contents
from catalogue import times

from flowprofile import running
from flowprofile.errors import BusyError, FlowProfileError
from flowprofile.store import leases, segments
from flowprofile.store.buckets import BucketPlace
from flowprofile.store.layout import StoreLayout
from flowprofile.store.phases import Phase
from flowprofile.store.places import LocalPlace
from flowprofile.store.snapshot import ROOT_DOCUMENT
from flowprofile.store.store import Store
from flowprofile.upkeep.compact import compact
from pipelines import pipeline

LAYOUT = StoreLayout(durability="none", chunk="1 KiB", shard="8 KiB", small="1 KiB")
HOUR = 3600.0
PAUSED, FROZEN, SKEWED, BOTH, STALE = (
    "a paused holder wakes up after its lease was taken", "the same, and its clock stood still", "clocks of two planners hours apart",
    "two planners at once", "a clock hours apart from the file system's",
)  # fmt: skip


class Clock:
    """A process's time as a test lets it pass; while it sleeps, the others go on."""

    def __init__(self, now=1e6, others=lambda seconds: None):
        self.now, self.others = now, others

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.others(seconds)


@pytest.fixture
def clock(monkeypatch):
    """No lease is renewed, and none runs out, but when a test says so."""
    made = Clock()
    monkeypatch.setattr(leases, "time", made)
    return made


def sweep(seeds):
    return pipeline(seeds=seeds, labels=(0,), steps=6, trajectory={}, step_ssim={"use": "ssim"})


MINE, YOURS = "0:3", "3:5"


def run(seeds, place, heard=None):
    running.run(sweep(seeds), into=place, layout=LAYOUT, listen=Heard() if heard is None else heard)


@pytest.fixture(scope="module")
def either(tmp_path_factory):
    """What a store is in the end, whoever came first; and every value."""
    found = []
    for first, second in ((MINE, YOURS), (YOURS, MINE)):
        url = tmp_path_factory.mktemp("either") / "store"
        run(first, url)
        run(second, url)
        found.append(Truth(url))
    return found


@pytest.fixture(scope="module")
def phases(tmp_path_factory):
    """What a run does, in order."""
    heard = []
    run(MINE, tmp_path_factory.mktemp("phases") / "store", Heard(heard.append))
    return [event for event in heard if isinstance(event, Phase)]


def at(number, then):
    """A listener that does something at the phase of that number."""
    left = iter(range(number))

    def listen(event):
        if isinstance(event, Phase) and next(left, None) is None and not done:
            done.append(event)
            then()

    done = []
    return listen


def stopped(place):
    """The process that holds this is stopped: nobody renews what it holds."""
    for lease in (*place._claims, *getattr(place._mine, "leases", ())):
        if lease._timer is not None:
            lease._timer.cancel()


def where(bucket, name):
    return BucketPlace(f"s3://{bucket}/stores/{name}")


def slept_through(server, clock, mine, yours, heard, number, frozen=False):
    """Mine is stopped at a phase; yours takes over and ends; mine wakes up. How it ended, and what it still wrote.

    Where its machine was frozen with it, its clock has stood still.
    """

    def pause():
        stopped(mine)
        before, clock.now = clock.now, clock.now + HOUR
        run(YOURS, yours, heard)
        clock.now = before if frozen else clock.now
        server.asked.clear()

    error = None
    try:
        run(MINE, mine, Heard(at(number, pause)))
    except FlowProfileError as refused:
        error = refused
    wrote = [
        path
        for (method, path, _) in server.asked
        if method in ("PUT", "DELETE") and not path.endswith(".lock") and "/ledger/locks/" not in path
    ]
    return error, wrote


def test_who_wakes_up_after_its_lease_was_taken_writes_nothing_more(
    catalogue, bucket, server, clock, either, phases
):
    wanted = range(0, len(phases), times(len(phases) // 3, 4))
    with catalogue.row(PAUSED, "I1") as row:
        for number in wanted:
            mine, yours, heard = where(bucket, f"p{number}"), where(bucket, f"p{number}"), Heard()
            error, wrote = slept_through(server, clock, mine, yours, heard, number)
            assert isinstance(error, BusyError), phases[number]
            assert not wrote, phases[number]
            row.injected += 1
            either[0].judge(row, yours, heard)
            run(MINE, where(bucket, f"p{number}"))
            assert contents(yours) in [each.contents for each in either]


def test_who_wakes_up_with_a_clock_that_stood_still_asks_before_it_overwrites(
    catalogue, bucket, server, clock, either, phases
):
    """What it may still write is what nobody else writes otherwise: objects of its own regions, the same bytes."""
    few = [
        next(n for n, phase in enumerate(phases) if part in phase.detail)
        for part in (ROOT_DOCUMENT, "/value/c.0", "t = ")
    ]
    wanted = times(few, [*few, *range(0, len(phases), 4)])
    with catalogue.row(FROZEN, "I1") as row:
        for number in wanted:
            mine, yours, heard = where(bucket, f"f{number}"), where(bucket, f"f{number}"), Heard()
            slept_through(server, clock, mine, yours, heard, number, frozen=True)
            row.injected += 1
            either[0].judge(row, yours, heard)
            run(MINE, where(bucket, f"f{number}"))
            assert contents(yours) in [each.contents for each in either]


def test_without_asking_it_would_overwrite(catalogue, bucket, server, clock, either, phases, monkeypatch):
    monkeypatch.setattr(BucketPlace, "sure", lambda self: None)
    mine, yours, heard = where(bucket, "unsure"), where(bucket, "unsure"), Heard()
    slept_through(server, clock, mine, yours, heard, 0, frozen=True)
    with catalogue.twin(FROZEN, "I1") as row:
        row.unprotected += either[0].lost(yours, heard)


def test_without_the_fence_it_would_write_over_what_came_after_it(
    catalogue, bucket, server, clock, either, phases, monkeypatch
):
    for fence in ("_fenced", "sure"):
        monkeypatch.setattr(BucketPlace, fence, lambda self: None)
    root = next(n for n, phase in enumerate(phases) if phase.detail == ROOT_DOCUMENT)
    mine, yours, heard = where(bucket, "unfenced"), where(bucket, "unfenced"), Heard()
    _, wrote = slept_through(server, clock, mine, yours, heard, root)
    with catalogue.twin(PAUSED, "I1") as row:
        row.unprotected += either[0].lost(yours, heard)
    assert wrote


def test_who_is_alive_is_never_robbed_however_far_clocks_are_apart(
    catalogue, bucket, server, either, phases, monkeypatch
):
    """A living planner renews its lease while another waits; the other's clock is hours before or behind."""
    chosen = {id(phase) for phase in phases[:: times(12, 1)]}
    with catalogue.row(SKEWED, "I1") as row:
        for skew in (-5 * HOUR, 5 * HOUR):
            mine, yours, heard = where(bucket, f"s{skew:g}"), where(bucket, f"s{skew:g}"), Heard()
            moments = iter(phases)

            def wants(event, mine=mine, yours=yours, skew=skew, moments=moments):
                if isinstance(event, Phase) and id(next(moments, None)) in chosen:
                    assert robbing(mine, yours, skew, monkeypatch)
                    row.injected += 1

            heard.then = wants
            with monkeypatch.context() as patch:
                patch.setattr(leases, "time", Clock())
                run(MINE, mine, heard)
                heard.then = lambda event: None
                run(YOURS, yours, heard)
            either[0].judge(row, yours, heard)
            assert contents(yours) == either[0].contents


def robbing(mine, yours, skew, monkeypatch, jump=0.0):
    """1 if somebody else, with another clock, is told that the store is held; 0 if it could take it."""

    def beats(seconds):
        slept.append(seconds)
        other.now += jump
        if sum(slept) > leases.TTL / 3:
            with monkeypatch.context() as patch:
                patch.setattr(leases, "time", own)
                for lease in mine._claims:
                    lease._renew()

    own, other, slept = leases.time, Clock(leases.time.now + skew, beats), []
    with monkeypatch.context() as patch:
        patch.setattr(leases, "time", other)
        taken = yours.claim("ledger/planner.lock", b"you")
        if not isinstance(taken, bytes):
            stopped(yours)
        return int(isinstance(taken, bytes))


def test_with_clocks_that_are_set_it_would_be_robbed(catalogue, bucket, phases, monkeypatch):
    """Time that is compared must be the waiter's own and only go on: here it is set forward while somebody waits."""
    mine, yours, robbed = where(bucket, "set"), where(bucket, "set"), []
    monkeypatch.setattr(leases, "time", Clock())
    with suppress(BusyError):
        run(MINE, mine, Heard(at(3, lambda: robbed.append(not robbing(mine, yours, 0, monkeypatch, HOUR)))))
    with catalogue.twin(SKEWED, "I1") as row:
        row.unprotected += sum(robbed)


def test_of_two_planners_one_is_refused_at_every_moment(catalogue, tmp_path, either, phases):
    with catalogue.row(BOTH, "I4") as row:
        for kind in (f"memory://two-{tmp_path.name}", tmp_path / "two"):
            heard = Heard()

            def wants(event, url=kind):
                if isinstance(event, Phase):
                    row.injected += 1
                    with pytest.raises(BusyError, match="Another planner"):
                        Store.open(url, layout=LAYOUT).lock()

            heard.then = wants
            run(MINE, kind, heard)
            run(YOURS, kind, heard)
            either[0].judge(row, kind, heard)
            assert contents(kind) == either[0].contents


def test_without_a_claim_one_would_take_the_others_axes_away(
    catalogue, tmp_path, either, phases, monkeypatch
):
    class Everybodys:
        def release(self):
            pass

        def held(self):
            pass

    monkeypatch.setattr(LocalPlace, "claim", lambda self, key, content: Everybodys())
    root = next(n for n, phase in enumerate(phases) if phase.detail == ROOT_DOCUMENT)
    url, heard = tmp_path / "both", Heard()
    try:
        run(MINE, url, Heard(at(root, lambda: run(YOURS, url, heard))))
    except FlowProfileError as error:
        print("the other one:", error.fact)
    with catalogue.twin(BOTH, "I4") as row:
        row.unprotected += either[0].lost(url, heard)


@contextmanager
def ahead(monkeypatch, hours):
    """This host's clock is hours before or behind that of the file system."""
    with monkeypatch.context() as patch:
        real = segments.time_ns
        patch.setattr(segments, "time_ns", lambda: real() + int(hours * HOUR * 10**9))
        yield


def test_a_segment_written_by_a_clock_that_is_wrong_hides_no_region(catalogue, tmp_path, either, monkeypatch):
    with catalogue.row(STALE, "I3") as row:
        for hours in (-30, -5, -1, 1, 5, 30)[:: times(2, 1)]:
            url, heard = tmp_path / f"h{hours}", Heard()
            run(MINE, url, heard)
            with ahead(monkeypatch, hours), Store.open(url, layout=LAYOUT) as store:
                compact(store)
            run(YOURS, url, heard)
            row.injected += 1
            either[0].judge(row, url, heard)
            assert told(url)


def told(url):
    """Whether every region with a receipt is told of."""
    store = Store.open(url)
    (run,) = store.runs()
    return all(store.present(run, group).all() for group in store.stages(run))


def test_a_segment_that_is_believed_whatever_changed_would(catalogue, tmp_path, monkeypatch):
    url = tmp_path / "believed"
    run(MINE, url)
    with ahead(monkeypatch, 5), Store.open(url, layout=LAYOUT) as store:
        compact(store)
    run(YOURS, url)
    monkeypatch.setattr(LocalPlace, "modified", lambda self, folder: held.get(folder, (0, 0)))
    held = {}
    store = Store.open(url)
    (name,) = store.runs()
    for group in store.stages(name):
        for folder, (changed, _) in segments.segment(store.place, name, group).items():
            held[f"ledger/receipts/{name}/{group.replace('/', '~')}/{folder}"] = changed
    with catalogue.twin(STALE, "I3") as row:
        row.unprotected += not told(url)
