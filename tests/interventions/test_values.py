"""Interventions as values: one name for one meaning, another name for another, and only what goes together."""

import dataclasses
import pickle
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.cases import Case
from flowprofile.conditioning.interventions import (
    ALWAYS,
    NOWHERE,
    WHOLE,
    Ablation,
    Difference,
    Flip,
    Intervention,
    OwnChannel,
    Patch,
    Span,
    Steer,
    Switch,
)
from flowprofile.errors import DefinitionError
from flowprofile.models.editing import Lane, edits

SITE, CHANNELS, SIDE = "mid_attn.fn", 4, 4
MASKS = {
    "left": torch.tensor([[1.0, 1.0, 0.0, 0.0]] * SIDE),
    "soft": torch.tensor([[0.2, 0.7, 0.5, 0.0]] * SIDE),
}

layers = st.sampled_from([SITE, "downs.1.2.fn", "a", "a[1]", "a[1] + zero b", "b", "2 layers#0", "ä b", "_b"])
masks = st.sampled_from([None, "left", "soft", "left#1", "a b"])
digests = st.sampled_from(["", "1a2b3c4d", "1a2b3c4e"])
spans = st.builds(
    lambda a, b: Span(max(a, b), min(a, b)),
    st.sampled_from([ALWAYS, 999, 700, 1]),
    st.sampled_from([0, 1, 400]),
)
numbers = st.lists(st.integers(0, CHANNELS - 1), min_size=1, max_size=3).map(tuple)
many = st.lists(st.integers(0, 12), min_size=9, max_size=12).map(tuple)
floats = st.sampled_from([0.5, 2.0, -2.0, 1e-7, 0.1, 1 / 3, 1e6, 12345678.0])
own = st.builds(OwnChannel, st.sampled_from([0, 200]), masks, st.sampled_from(["sum", "abs"]), digests)
differences = st.builds(Difference, st.just((1, 2)), st.sampled_from([(0,), (3, 0)]), st.just(200), many)
ablations = st.builds(
    Ablation,
    layers,
    numbers | many | own,
    st.sampled_from(["zero", "mean", "scale"]),
    floats,
    spans,
    masks,
    digests,
)
switches = st.builds(
    Switch, st.sampled_from([0, 600]), st.sampled_from([0, 1, 10]) | st.sampled_from([1, 2]).map(Flip)
)
patches = st.builds(
    Patch,
    st.lists(layers, min_size=1, max_size=2).map(tuple),
    st.sampled_from([0, 6]),
    st.sampled_from([None, 0]),
    spans,
)
steers = st.builds(
    Steer,
    layers,
    st.lists(floats, min_size=CHANNELS, max_size=CHANNELS).map(tuple) | differences,
    floats,
    spans,
)
parts = ablations | switches | patches | steers


def together(some):
    """The intervention of these parts, or None where they do not go together."""
    try:
        return Intervention(tuple(some))
    except DefinitionError:
        return None


@given(st.lists(parts, min_size=1, max_size=3), st.lists(parts, min_size=1, max_size=3))
def test_two_interventions_have_one_name_exactly_when_they_are_equal(some, others):
    one, other = together(some), together(others)
    if one is None or other is None:
        return
    assert (one.name == other.name) == (one == other)
    assert (hash(one) == hash(other)) or one != other


@given(parts, parts)
def test_two_parts_are_written_alike_exactly_when_they_are_equal(one, other):
    assert (str(one) == str(other)) == (one == other)
    for changed in neighbours(one):
        assert (str(one) == str(changed)) == (one == changed)


def neighbours(part):
    """The part with one field changed at a time."""
    for field in dataclasses.fields(part):
        new = {
            "layer": "other",
            "mask": "other",
            "mask_digest": "f",
            "span": Span(5, 5),
            "factor": 3.0,
            "scale": 3.0,
        }
        new |= {"at": 7, "to": 3, "label": 3, "seed": 3, "layers": ("other",), "channels": (99,)}
        if field.name in new:
            yield dataclasses.replace(part, **{field.name: new[field.name]})


@given(st.lists(parts, min_size=2, max_size=4))
def test_the_order_written_does_not_matter(some):
    found = [together(order) for order in permutations(some)]
    assert len({None if one is None else one.name for one in found}) == 1
    assert all(one == found[0] for one in found)


@given(st.lists(parts, min_size=1, max_size=3))
def test_a_value_survives_a_pickle_and_being_made_again(some):
    one = together(some)
    if one is not None:
        assert pickle.loads(pickle.dumps(one)) == one == Intervention(one.parts)


at_site = st.builds(
    Ablation,
    st.just(SITE),
    numbers,
    st.sampled_from(["zero", "mean", "scale"]),
    st.sampled_from([0.5, -3.0, 0.1]),
    st.just(WHOLE),
    st.sampled_from([None, "left", "soft"]),
) | st.builds(
    Steer,
    st.just(SITE),
    st.lists(st.sampled_from([0.0, 1.0, -0.3]), min_size=4, max_size=4).map(tuple).filter(any),
)


def applied(part, a):
    return edits([Lane((part,), masks=MASKS)])[SITE](a)


@given(at_site, at_site, st.integers(0, 99))
def test_what_may_meet_at_a_layer_gives_the_same_in_both_orders(one, other, seed):
    if together((one, other)) is None:
        return
    a = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, CHANNELS, SIDE, SIDE)))
    forth, back = applied(other, applied(one, a)), applied(one, applied(other, a))
    torch.testing.assert_close(forth, back, rtol=1e-6, atol=1e-6)


@given(st.lists(at_site, min_size=1, max_size=3), st.integers(0, 99))
def test_what_is_put_together_acts_as_the_parts_one_after_the_other(some, seed):
    one = together(some)
    if one is None:
        return
    a = b = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, CHANNELS, SIDE, SIDE)))
    for part in some:
        a = applied(part, a)
    for part in one.parts:
        b = applied(part, b)
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_names_are_as_they_are_documented():
    direction = tuple(float(n) for n in range(4))
    wanted = {
        "none": Intervention(),
        "switch@600->7": Switch(600, 7),
        "switch@600->flip1": Switch(600, Flip(1)),
        "zero downs.1.2.fn[17]": Ablation("downs.1.2.fn", (17,)),
        "mean downs.1.2.fn[3,17] t=700..400": Ablation("downs.1.2.fn", (17, 3, 3), "mean", span=Span(700, 400)),
        "scale(0.5) mid_attn.fn[2]": Ablation(SITE, (2,), "scale", 5e-1),
        "zero mid_attn.fn[0:12] in face#1a2b3c4d": Ablation(SITE, tuple(range(12)), mask="face", mask_digest="1a2b3c4d"),
        "zero downs.1.2.fn[max_channel@200/face#1a2b3c4d]": Ablation("downs.1.2.fn", OwnChannel(200, "face", digest="1a2b3c4d")),
        "zero a[max_channel:abs@200]": Ablation("a", OwnChannel(200, statistic="abs")),
        "zero a[gradient_channel@200/m#12]": Ablation("a", OwnChannel(200, "m", digest="12", of="gradient")),
        "patch mid_attn.fn<-label 6": Patch((SITE,), 6),
        "patch mid_attn.fn<-seed 3 label 6 t<=500": Patch((SITE,), 6, 3, Span(500)),
        "steer mid_attn.fn+2*#f22f737b893e": Steer(SITE, direction, 2),
        "steer mid_attn.fn+2*(7-6)@200/0,1": Steer(SITE, Difference((7,), (6,), 200, (1, 0)), 2.0),
    }  # fmt: skip
    for name, value in wanted.items():
        assert (value if isinstance(value, Intervention) else Intervention((value,))).name == name


def test_no_layer_or_mask_can_be_called_so_that_its_name_is_another_ones():
    forged = Ablation("a[1] + zero b", (2,))
    assert Intervention((forged,)).name != Intervention((Ablation("a", (1,)), Ablation("b", (2,)))).name
    masked = Ablation("a", (1,), mask="m#12"), Ablation("a", (1,), mask="m", mask_digest="12")
    assert str(masked[0]) != str(masked[1])
    assert str(Ablation("a b", (1,))) != str(Ablation("a_b", (1,))) != str(Ablation("a.b", (1,)))


def test_two_spellings_of_one_thing_are_one_value():
    def zero(*channels, **more):
        return Ablation(SITE, channels, **more)

    same = [
        ((zero(1), zero(3)), (zero(3, 1),)),
        ((zero(1, 2), zero(2, 3)), (zero(1, 2, 3),)),
        ((zero(1, mode="scale", factor=0),), (zero(1),)),
        ((zero(1, mode="scale", factor=-0.0),), (zero(1, factor=0.7),)),
        ((zero(1, span=None),), (zero(np.int64(1), span=Span(ALWAYS, 0)),)),
        ((zero(1, mode="scale", factor=0.5), zero(2, mode="scale", factor=0.5)), (zero(2, 1, mode="scale", factor=0.5),)),
        ((Patch((SITE, "a"), 6),), (Patch(("a", SITE, "a"), 6),)),
        ((Steer(SITE, (0.1, -0.0)),), (Steer(SITE, (float(np.float32(0.1)), 0.0)),)),
        ((Switch(np.int64(600), np.int64(7)),), (Switch(600, 7),)),
    ]  # fmt: skip
    for one, other in same:
        assert Intervention(one) == Intervention(other)
        assert Intervention(one).name == Intervention(other).name
    titled = Intervention((zero(1),), "mine")
    assert (titled == Intervention((zero(1),), "yours"), "mine" in titled.name) == (True, False)


def test_when_and_on_what_it_acts():
    one = Intervention(
        (Switch(600, 7), Ablation(SITE, (1,), span=Span(800, 500)), Patch(("a",), 6, span=Span(5)))
    )
    assert one.first == 800
    assert [len(one.active(t)) for t in (801, 800, 600, 499, 5)] == [0, 1, 2, 1, 2]
    assert [one.label_at(3, t) for t in (601, 600, 0)] == [3, 7, 7]
    assert Intervention((Switch(600, Flip(5)),)).label_at(6, 0) == 3
    assert (Intervention().first, Intervention((Ablation(SITE, (1,)),)).first) == (-1, ALWAYS)
    case = Case(2, 3, one.name)
    assert one.donors(case) == (Case(2, 6),)
    assert one.reads == (Patch(("a",), 6, span=Span(5)),)
    assert [len(one.idle_for(label)) for label in (7, 6, 3)] == [1, 1, 0]
    assert not Intervention((Patch(("a",), 6, seed=1), Switch(0, Flip(1)))).idle_for(6)


def test_coordinates_say_what_it_is_and_nothing_that_parts_disagree_on():
    def told(*some, title=""):
        found = Intervention(some, title).coords()
        return {name: value for name, value in found.items() if value != NOWHERE[name]}

    assert Intervention().coords() == NOWHERE
    assert told(Switch(600, 7), title="sw") == {
        "kind": "switch", "switch_step": 600, "to_label": 7, "t_first": 600, "t_last": 0, "title": "sw",
    }  # fmt: skip
    assert told(Ablation(SITE, (3,), "scale", 0.5, Span(700, 400))) == {
        "kind": "scale", "target_layer": SITE, "target_channel": 3, "factor": 0.5, "t_first": 700, "t_last": 400,
        "title": "scale(0.5) mid_attn.fn[3] t=700..400",
    }  # fmt: skip
    patch = told(Patch((SITE,), 6, 2))
    assert (patch["donor_label"], patch["donor_seed"], patch["t_last"], "t_first" in patch) == (
        6,
        2,
        0,
        False,
    )
    both = told(Ablation(SITE, (3,)), Ablation("a", (3,)), Switch(600, Flip(1)))
    assert (both["kind"], both["target_channel"], both["switch_step"]) == ("several", 3, 600)
    assert {"target_layer", "to_label", "t_first"}.isdisjoint(both)


def zero(*channels, **more):
    return Ablation(SITE, channels, **more)


def scale(factor, *channels, **more):
    return Ablation(SITE, channels, "scale", factor, **more)


STEER = Steer(SITE, (1.0, 0.0, 0.0, 0.0))

CLASHES = {
    "two switches": ((Switch(600, 7), Switch(300, 3)), "two switches"),
    "the same twice": ((zero(1), zero(1)), "twice"),
    "a factor twice": ((scale(0.5, 1, 2), scale(0.5, 2, 3)), r"\[2\] a second time"),
    "zero and mean": ((zero(1), zero(1, mode="mean")), "do not commute"),
    "zero and scale": ((zero(1), scale(2.0, 1)), "do not commute"),
    "mean and scale": ((zero(1, mode="mean"), scale(2.0, 1)), "do not commute"),
    "means of two masks": ((zero(1, mode="mean"), zero(1, mode="mean", mask="eyes")), "do not commute"),
    "masks may overlap": ((zero(1, mask="left"), scale(2.0, 1, mask="right")), "do not commute"),
    "scale and steer": ((scale(2.0, 0, 1), STEER), "do not commute"),
    "an own channel may be any": ((Ablation(SITE, OwnChannel(200)), scale(2.0, 1)), "do not commute"),
    "a difference is of all channels": (
        (zero(3), Steer(SITE, Difference((1,), (0,), 9, (0,)))),
        "do not commute",
    ),
    "patch and anything": ((Patch((SITE, "a"), 6), zero(1)), r"meet at 'mid_attn.fn'"),
    "two patches": ((Patch((SITE,), 6), Patch((SITE,), 5)), "do not commute"),
    "spans that touch": (
        (Patch((SITE,), 6, span=Span(999, 400)), Patch((SITE,), 5, span=Span(400))),
        "commute",
    ),
}

FINE = {
    "factors multiply": (scale(0.5, 1), scale(3.0, 1)),
    "zeros unite under masks": (zero(1, mask="left"), zero(1, mask="right")),
    "directions add": (STEER, Steer(SITE, (1.0, 2.0, 0.0, 0.0))),
    "a steer elsewhere": (STEER, scale(2.0, 1, 2, 3)),
    "other channels": (zero(1), zero(2, mode="mean"), scale(2.0, 3)),
    "other layers": (Patch((SITE,), 6), Patch(("a",), 5), Ablation("b", (1,))),
    "other steps": (Patch((SITE,), 6, span=Span(999, 401)), Patch((SITE,), 5, span=Span(400)), Switch(9, 1)),
    "own channels set to zero": (Ablation(SITE, OwnChannel(200)), Ablation(SITE, OwnChannel(400))),
}


@pytest.mark.parametrize("what", CLASHES)
def test_parts_that_do_not_go_together_are_refused(what):
    some, words = CLASHES[what]
    with pytest.raises(DefinitionError, match=words):
        Intervention(some)


@pytest.mark.parametrize("what", FINE)
def test_parts_that_go_together_are_accepted(what):
    assert len(Intervention(FINE[what]).parts) == len(FINE[what])


WRONG = {
    "ascending span": (lambda: Span(400, 700), "counts down"),
    "span below 0": (lambda: Span(4, -1), "counts down"),
    "negative channel": (lambda: zero(3, -1), "-1 is not a whole number"),
    "no channel": (lambda: zero(), "empty list"),
    "truth as channel": (lambda: zero(True), "True is not a whole number"),
    "half a channel": (lambda: zero(0.5), "0.5 is not a whole number"),
    "no layer": (lambda: Ablation("", (1,)), "not the name of a layer"),
    "a number for channels": (lambda: Ablation(SITE, 3), r"write \(3,\)"),
    "text for channels": (lambda: Ablation(SITE, "3"), "not a tuple"),
    "two numbers for a span": (lambda: zero(1, span=(700, 400)), r"write Span\(700, 400\)"),
    "pixels for a mask": (lambda: zero(1, mask=np.ones((4, 4), bool)), "is a ndarray, and not a name"),
    "infinite factor": (lambda: scale(float("inf"), 1), "inf of 'mid_attn.fn' is not a finite"),
    "no number": (lambda: scale(float("nan"), 1), "nan .* is not a finite"),
    "infinite direction": (lambda: Steer(SITE, (1.0, float("inf"))), "inf .* is not a finite"),
    "beyond float32": (lambda: Steer(SITE, (1e39,)), "not a finite"),
    "strength 0": (lambda: Steer(SITE, (1.0,), 0.0), "changes nothing"),
    "no direction": (lambda: Steer(SITE, (0.0, -0.0, 1e-60)), "changes nothing"),
    "empty direction": (lambda: Steer(SITE, ()), "without numbers"),
    "unknown mode": (lambda: zero(1, mode="zeros"), "did you mean 'zero'"),
    "unknown statistic": (lambda: OwnChannel(200, statistic="summ"), "did you mean 'sum'"),
    "negative step": (lambda: Switch(-1, 7), "-1 .* step of a switch"),
    "negative label": (lambda: Switch(1, -7), "-7 .* label of a switch"),
    "flip of nothing": (lambda: Flip(0), "turns none over"),
    "no donor": (lambda: Patch((SITE,)), "names no donor"),
    "letters for layers": (lambda: Patch(SITE, 6), "names no layers"),
    "no layers": (lambda: Patch((), 6), "names no layers"),
    "difference of the same": (lambda: Difference((1, 2), (2, 1), 200, (0,)), "is nothing"),
    "difference of nobody": (lambda: Difference((1,), (2,), 200, ()), "empty list"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_value_that_makes_no_sense_is_refused(what):
    make, words = WRONG[what]
    with pytest.raises(DefinitionError, match=words):
        make()


def test_values_need_no_torch():
    code = "import sys, flowprofile.conditioning.fitting as f; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
