"""Interventions in a definition: what tables mean for a model, and every refusal with file, line and key."""

import json
import re

import numpy as np
import pytest

import flowprofile as fp
from flowprofile import running
from flowprofile.conditioning.interventions import (
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
from flowprofile.definitions import Pipeline, read
from flowprofile.errors import DefinitionError
from flowprofile.intervening import notes
from flowprofile.models.layers import layer_ids
from flowprofile.models.zoo import card, unet_config
from flowprofile.stages import schema

HEAD = """model = "faces32"
sampler = {{ rule = "ddim", steps = {steps} }}
cases = {{ seeds = "0:2", labels = [6, 7] }}
[stages.trajectory]
"""
FIRST = 6
"""The line on which a definition's interventions begin."""


@pytest.fixture
def meant(tmp_path):
    """What the tables of a definition mean: intervention to the labels it is applied to, in order."""

    def meant(tables, *, steps=1000, overrides=(), head=HEAD):
        path = tmp_path / "mine.toml"
        path.write_text(f"{head.format(steps=steps)}\n{tables}")
        ready = running.assembled(path, overrides=overrides)
        sweep = ready.sweep
        assert sweep.interventions[0] == "none"
        done = ready.context.interventions
        assert tuple(done) == sweep.interventions[1:]
        return {one: sweep.labels_of(name) for name, one in done.items()}

    return meant


def only(found, part):
    assert list(found) == [Intervention((part,))]
    return True


EACH = {
    'kind="ablate", layer="mid_attn.fn", channel=17': Ablation("mid_attn.fn", (17,)),
    'kind="ablate", layer="mid_attn.fn", channel=[17, 3], value="mean"': Ablation("mid_attn.fn", (3, 17), "mean"),
    'kind="ablate", layer="mid_attn", channel=3, value={scale=0.50}': Ablation("mid_attn", (3,), "scale", 0.5),
    'kind="ablate", layer="mid_attn.fn", channel=3, time=[700, 400]': Ablation("mid_attn.fn", (3,), span=Span(700, 400)),
    'kind="ablate", layer="mid_attn.fn", channel=3, time=[999, 0]': Ablation("mid_attn.fn", (3,)),
    'kind="ablate", layer="mid_attn.fn", channel={from="max_channel", time=200, statistic="abs"}': Ablation(
        "mid_attn.fn", OwnChannel(200, statistic="abs")
    ),
    'kind="switch", at=600, to=5': Switch(600, 5),
    'kind="switch", at=600, to="0101"': Switch(600, 5),
    'kind="switch", at=600, to=["male", "lipstick"]': Switch(600, 5),
    'kind="switch", at=600, to={flip="lipstick"}': Switch(600, Flip(1)),
    'kind="switch", at=600, to={flip=["bangs", "lipstick"]}': Switch(600, Flip(9)),
    'kind="patch", layers=["mid_attn.fn", "init_conv"], from={label="0101", seed=4}, time=[5, 5]': Patch(
        ("init_conv", "mid_attn.fn"), 5, 4, Span(5, 5)
    ),
    'kind="steer", layer="mid_attn.fn", vector={from="difference", plus=[7], minus=[[]], time=200, seeds="0:3"}, scale=2': Steer(
        "mid_attn.fn", Difference((7,), (0,), 200, (0, 1, 2)), 2.0
    ),
}  # fmt: skip


@pytest.mark.parametrize("table", EACH)
def test_a_table_means_one_value_for_all_labels(table, meant):
    found = meant(f"[interventions]\none = {{ {table} }}")
    assert only(found, EACH[table])
    assert list(found.values()) == [(6, 7)]
    assert [one.title for one in found] == ["one"]


def test_the_last_channel_is_one_below_the_bound(meant):
    assert only(meant(f"[interventions.x]\n{ABLATE}".replace("=1", "=15")), Ablation("ups.1.2.fn", (15,)))


def test_a_glob_means_an_intervention_of_each_layer_or_one_of_all_together(meant):
    table = '[interventions.a]\nkind="ablate"\nlayer=["ups.*.2.fn", "downs.0.2.fn"]\nchannel=1\n'
    layers = ["downs.0.2.fn", "ups.0.2.fn", "ups.1.2.fn"]
    each = [Intervention((Ablation(layer, (1,)),)) for layer in layers]
    assert sorted(meant(table), key=lambda one: one.name) == each
    assert list(meant(table + "together=true\n")) == [
        Intervention(tuple(p for one in each for p in one.parts))
    ]
    assert len(meant('[interventions.a]\nkind="ablate"\nlayer="*"\nchannel=1')) == len(
        layer_ids(unet_config(card("faces32")))
    )


def test_random_channels_are_single_ones_fixed_by_seed_and_layer_and_only_extended_by_more(meant):
    def drawn(n, seed=0, layer="mid_attn.fn", **more):
        channel = f'{{ from="random", n={n}, seed={seed} }}'
        found = meant(
            f'[interventions.r]\nkind="ablate"\nlayer="{layer}"\nchannel={channel}\n' + more.get("tail", "")
        )
        return [[(part.layer, part.channels[0]) for part in one.parts] for one in found]

    few, all_ = drawn(5), drawn(64)
    assert all_[:5] == few
    assert sorted(channel for ((_, channel),) in all_) == list(range(64))
    assert [c for ((_, c),) in few] == [26, 45, 20, 62, 47], "drawn channels are part of stored identities"
    others = [drawn(5, seed=1), drawn(5, layer="ups.0.2.fn")]
    assert len({tuple(c for ((_, c),) in some) for some in [few, *others]}) == 3
    both = drawn(3, layer="*.1.2.fn", tail="together=true\n")
    assert [[layer for layer, _ in row] for row in both] == [["downs.1.2.fn", "ups.1.2.fn"]] * 3


def test_switches_leave_out_the_label_they_lead_to(meant):
    found = meant('[interventions.sw]\nkind="switch"\nat=[900, 800]\nto=7')
    assert {one.name: labels for one, labels in found.items()} == {
        "switch@900->7": (6,),
        "switch@800->7": (6,),
    }
    assert list(meant('[interventions.sw]\nkind="switch"\nat=9\nto={flip="lipstick"}').values()) == [(6, 7)]
    assert list(
        meant('[interventions.sw]\nkind="switch"\nat=9\nto={flip="lipstick"}\nlabels=["0111"]').values()
    ) == [(7,)]
    assert list(meant('[interventions.p]\nkind="patch"\nlayers="*"\nfrom={label=7}').values()) == [(6,)]


def test_on_a_respaced_sampler_a_state_stands_for_the_step_through_it(meant):
    tables = """[interventions]
    sw = { kind="switch", at=600, to=5 }
    early = { kind="switch", at=999, to=5 }
    some = { kind="ablate", layer="mid_attn.fn", channel=1, time=[700, 400] }
    most = { kind="ablate", layer="mid_attn.fn", channel=2, time=[999, 400] }
    whole = { kind="ablate", layer="mid_attn.fn", channel=3, time=[800, 0] }
    """
    assert [one.name for one in meant(tables, steps=4)] == [
        "switch@500->5",
        "switch@750->5",
        "zero mid_attn.fn[1] t=500..250",
        "zero mid_attn.fn[2] t>=250",
        "zero mid_attn.fn[3]",
    ]
    with pytest.raises(DefinitionError, match=r"asked for twice, by 'sw' and by 'too'"):
        meant('[interventions]\nsw={kind="switch", at=600, to=5}\ntoo={kind="switch", at=700, to=5}', steps=4)


def test_parts_are_composed_in_either_way_of_writing(meant):
    inline = '[interventions.x]\nkind="all"\nparts=[{kind="switch", at=600, to=7}, {kind="ablate", layer="*.0.2.fn", channel=1}]'
    blocks = '[interventions.x]\nkind="all"\n[[interventions.x.parts]]\nkind="ablate"\nlayer="*.0.2.fn"\nchannel=1\n[[interventions.x.parts]]\nkind="switch"\nat=600\nto=7'
    found = meant(inline)
    assert found == meant(blocks)
    assert [one.name for one in found] == ["switch@600->7 + zero downs.0.2.fn[1] + zero ups.0.2.fn[1]"]
    assert list(found.values()) == [(6, 7)], "for label 7 the ablation acts"


def test_what_is_done_to_a_label_is_what_any_of_its_parts_does(meant):
    def labels(parts):
        return list(meant(f'[interventions.x]\nkind="all"\nparts=[{parts}]').values())

    ablate, switch = '{kind="ablate", layer="init_conv", channel=1}', '{kind="switch", at=600, to=7}'
    patch = '{kind="patch", layers="mid_attn.fn", from={label=7}}'
    assert labels(f"{ablate}, {switch}") == labels(f"{ablate}, {patch}") == [(6, 7)]
    assert labels(f"{patch}, {switch}") == [(6,)], "nothing of it acts on label 7"
    assert labels(switch.replace("to=7", "to=7, labels=[7]") + f", {ablate}") == [(7,)]
    assert labels(patch.replace("=7", "=6") + f", {switch}") == [(6, 7)], "each label has a part of its own"


def test_cells_at_which_nothing_would_act_are_named_and_so_is_a_factor_of_one(meant, tmp_path):
    def said(tables):
        meant(tables)
        ready = running.assembled(tmp_path / "mine.toml")
        return notes(ready.sweep, ready.context.interventions)

    told = said('[interventions.sw]\nkind="switch"\nat=[900, 800]\nto=7')
    assert list(told) == ["interventions.sw"]
    assert re.search(r"not run for label 7: .*'not requested'", told["interventions.sw"])
    both = '[interventions.x]\nkind="all"\nparts=[{kind="switch", at=600, to=7}, {kind="ablate", layer="init_conv", channel=1}]'
    assert said(both) == {}, "one part acts"
    one = said('[interventions.one]\nkind="ablate"\nlayer="init_conv"\nchannel=1\nvalue={scale=1.0}')
    assert "multiplies by 1" in one["interventions.one"]
    assert said('[interventions.sw]\nkind="switch"\nat=9\nto={flip="lipstick"}\nlabels=[6]') == {}, (
        "as it was asked"
    )


def test_a_vector_comes_from_a_file_beside_the_definition(meant, tmp_path):
    direction = np.linspace(-1, 1, 64).astype(np.float32)
    np.save(tmp_path / "v.npy", direction)
    written = ", ".join(map(str, direction.tolist()))
    one = '[interventions.v]\nkind="steer"\nlayer="mid_attn.fn"\nvector='
    assert meant(one + '"v.npy"') == meant(f"{one}[{written}]")
    np.save(tmp_path / "bad.npy", np.array([{}], object))
    for wrong, words in (("bad.npy", "allow_pickle"), ("no.npy", "No such file")):
        with pytest.raises(DefinitionError, match=rf"'{wrong}' cannot be read .*line 9(?s:.*){words}"):
            meant(f'{one}"{wrong}"')


def test_extends_merges_tables_and_set_reaches_into_them(meant, tmp_path):
    (tmp_path / "base.toml").write_text(
        HEAD.format(steps=10) + '[interventions.sw]\nkind="switch"\nat=600\nto=5\n'
    )
    head = 'extends = "base"\n'
    assert [one.name for one in meant("[interventions.sw]\nat=300", head=head)] == ["switch@300->5"]
    other = '[interventions.more]\nkind="switch"\nat=0\nto=5'
    assert [one.name for one in meant(other, head=head)] == ["switch@600->5", "switch@0->5"]
    chosen = meant("", head=head, overrides=["interventions.sw.at=[200, 100]", 'interventions.sw.to="0111"'])
    assert [one.name for one in chosen] == ["switch@200->7", "switch@100->7"]
    with pytest.raises(DefinitionError, match=r"--set interventions.sw.at=1000, key interventions.sw.at"):
        meant("", head=head, overrides=["interventions.sw.at=1000"])
    with pytest.raises(DefinitionError, match=r"base.toml, line 5, key interventions.sw"):
        meant("", head=head, overrides=["cases.labels=[5]"])


def test_python_values_stand_where_tables_may():
    def pipeline(**values):
        return Pipeline(
            model="digits",
            sampler={"steps": 4},
            cases={"seeds": [0], "labels": [3, 5]},
            interventions=values,
            stages={"trajectory": {}},
        )

    both = Intervention((Switch(600, 5), Ablation("mid_attn.fn", (1,), span=Span(999, 400))))
    ready = running.assembled(
        pipeline(part=fp.Ablation("mid_attn.fn", (3,)), both=both, table={"kind": "switch", "at": 0, "to": 5})
    )
    names = ["zero mid_attn.fn[3]", "switch@500->5 + zero mid_attn.fn[1] t>=250", "switch@0->5"]
    assert list(ready.context.interventions) == names
    assert [one.title for one in ready.context.interventions.values()] == ["part", "both", "table"]
    assert [ready.sweep.labels_of(name) for name in names] == [(3, 5), (3, 5), (3,)]
    json.dumps(ready.definition())
    wrong = {
        "'mid_attn.fn' has 32 channels, and no channel 431": Ablation("mid_attn.fn", (431,)),
        "no layer 'mid_atn'": Patch(("mid_atn",), 5),
        "A switch at t = 1000 is outside 0 .. 999": Switch(1000, 5),
        "A span from t = 1000": Ablation("mid_attn.fn", (3,), span=Span(1000, 4)),
        "Label 12 is out of range": Switch(600, 12),
        "0 attributes, and no bits 1 to flip": Switch(600, Flip(1)),
        "no step into t = 200": Ablation("mid_attn.fn", OwnChannel(200)),
        "A vector of 2 numbers for the 32 channels": Steer("mid_attn.fn", (1.0, 2.0)),
        "Label 11 is out of range": Steer("mid_attn.fn", Difference((11,), (3,), 250, (0,))),
        "without parts": Intervention(),
    }
    for words, value in wrong.items():
        with pytest.raises(DefinitionError, match=rf"{words}.*key interventions\.wrong"):
            running.assembled(pipeline(wrong=value))


def test_a_formula_has_labels_to_switch_and_no_layers(meant):
    head = HEAD.replace("faces32", "mixture16").replace("[6, 7]", "[0]")
    assert [one.name for one in meant('[interventions.sw]\nkind="switch"\nat=600\nto=1', head=head)] == [
        "switch@600->1"
    ]
    with pytest.raises(
        DefinitionError, match=r"'mixture16' has no layers .*line 8, key interventions.a.layer"
    ):
        meant('[interventions.a]\nkind="ablate"\nlayer="*"\nchannel=1', head=head)


ABLATE = 'kind="ablate"\nlayer="ups.1.2.fn"\nchannel=1\n'
SWITCH = 'kind="switch"\nat=600\nto=7\n'
STEER = 'kind="steer"\nlayer="mid_attn.fn"\nvector={from="difference", plus=[7], minus=[6], time=200, seeds=[0]}\n'
WRONG = {
    "unknown kind": (SWITCH.replace("switch", "swich"), 1, "kind", "no kind 'swich'.*did you mean 'switch'"),
    "no kind": ("at=600\nto=7", 0, "", "key 'kind' is missing"),
    "missing key": ('kind="switch"\nat=600', 0, "to", "key 'to' is missing"),
    "unknown key": (ABLATE + "chanel=3", 4, "chanel", "Unknown key 'chanel'.*did you mean 'channel'"),
    "unknown key below": (ABLATE.replace("channel=1", 'channel={from="random", n=2, sed=1}'), 3, "channel.sed", "'sed'.*'seed'"),
    "unknown source": (ABLATE.replace("channel=1", 'channel={from="max_chanel", time=2}'), 3, "channel", "A channel is a number, a list"),
    "channel beyond": (ABLATE.replace("=1", "=431"), 3, "channel", r"'ups.1.2.fn' has 16 channels, and no channel 431.*0 to 15"),
    "channel at the bound": (ABLATE.replace("=1", "=16"), 3, "channel", "16 channels, and no channel 16"),
    "negative channel": (ABLATE.replace("=1", "=-1"), 3, "channel", "-1 is not a whole number of at least 0"),
    "truth as channel": (ABLATE.replace("=1", "=true"), 3, "channel", "valid integer"),
    "no channel": (ABLATE.replace("=1", "=[]"), 3, "channel", "empty list"),
    "too many random": (ABLATE.replace("=1", '={from="random", n=17}'), 3, "channel", "17 random channels.*which has 16"),
    "unknown layer": (ABLATE.replace("ups.1", "ups.9"), 2, "layer", "no layer 'ups.9.2.fn'.*did you mean 'ups"),
    "no such glob": (ABLATE.replace("ups.1", "up.*"), 2, "layer", r"no layer 'up\.\*"),
    "no layers": (ABLATE.replace('"ups.1.2.fn"', "[]"), 2, "layer", "empty list of layers"),
    "ascending time": (ABLATE + "time=[400, 700]", 4, "time", "counts down"),
    "time beyond": (ABLATE + "time=[1000, 700]", 4, "time", "A span from t = 1000 is outside 0 .. 999"),
    "time as one": (ABLATE + "time=700", 4, "time", r"time is \[first, last\]"),
    "wrong value": (ABLATE + 'value="zeros"', 4, "value", "'zero' or 'mean'"),
    "infinite factor": (ABLATE + "value={scale=inf}", 4, "value.scale", "finite"),
    "unknown mask": (ABLATE + 'mask="eyess"', 4, "mask", "eyess"),
    "own channel off the grid": (ABLATE.replace("=1", '={from="max_channel", time=1000}'), 3, "channel", "no step into t = 1000.*999"),
    "gradient of nothing": (ABLATE.replace("=1", '={from="gradient_channel", time=9}'), 3, "channel.mask", "The key .mask. is missing"),
    "unknown statistic": (ABLATE.replace("=1", '={from="max_channel", time=9, statistic="sun"}'), 3, "channel.statistic", "'sum'"),
    "step beyond": (SWITCH.replace("600", "1000"), 2, "at", "A switch at t = 1000 is outside 0 .. 999"),
    "negative step": (SWITCH.replace("600", "[600, -1]"), 2, "at", "t = -1 is outside"),
    "no steps": (SWITCH.replace("600", "[]"), 2, "at", "at least 1 item"),
    "label outside": (SWITCH.replace("=7", "=16"), 3, "to", "Label 16 is out of range 0 .. 15"),
    "unknown attribute": (SWITCH.replace("=7", '={flip="lipstik"}'), 3, "to", "'lipstik'.*did you mean 'lipstick'"),
    "not in the sweep": (SWITCH + "labels=[6, 3]", 4, "labels", r"\[3\] are not in the sweep.*\[6, 7\]"),
    "same label": (SWITCH + "labels=[7]", 0, "", "switch to the same label changes nothing: 'switch@600->7' for label 7"),
    "same label too": (SWITCH + "labels=[6, 7]", 0, "", "switch to the same label changes nothing"),
    "patch from itself": ('kind="all"\nparts=[{kind="patch", layers="init_conv", from={label=6}}, {kind="switch", at=9, to=6, labels=[6]}]', 0, "", "Its parts change nothing: .* for label 6"),
    "region of each sample": (ABLATE + 'mask={region="eyes", read=true}', 4, "mask", "'own eyes' has no pixels.*before there is a picture"),
    "strength 0": (STEER + "scale=0", 4, "scale", "0 times a vector, which changes nothing"),
    "no direction": (STEER.split("vector")[0] + f"vector={[0.0] * 64}", 3, "vector", "a vector of zeros, which changes nothing"),
    "no donor": ('kind="patch"\nlayers="*"\nfrom={}', 3, "from", "names no donor"),
    "donor outside": ('kind="patch"\nlayers="*"\nfrom={label=16}', 3, "from", "Label 16 is out of range"),
    "patch of all": ('kind="patch"\nlayers="nothing*"\nfrom={label=6}', 2, "layers", r"no layer 'nothing\*'"),
    "short direction": (STEER.split("vector")[0] + "vector=[1.0, 2.0]", 3, "vector", "2 numbers for the 64 channels"),
    "infinite direction": (STEER.split("vector")[0] + "vector=[1.0, nan]", 3, "vector", "nan.*finite"),
    "difference of nobody": (STEER.replace("[7]", "[]"), 3, "vector.plus", "at least 1 item"),
    "difference of the same": (STEER.replace("[7]", "[6]"), 3, "vector", "is nothing"),
    "unknown label": (STEER.replace("[7]", '["0119"]'), 3, "vector", "Label 119 is out of range"),
    "difference off the grid": (STEER.replace("200", "1000"), 3, "vector", "no step into t = 1000"),
    "infinite strength": (STEER + "scale=nan", 4, "scale", "finite"),
    "no parts": ('kind="all"\nparts=[]', 2, "parts", "at least 1 item"),
    "unknown part": ('kind="all"\n[[interventions.x.parts]]\n' + SWITCH + "[[interventions.x.parts]]\n" + ABLATE + "tim=3", 10, "parts.1.tim", "'tim'.*'time'"),
    "part beyond": ('kind="all"\n[[interventions.x.parts]]\n' + SWITCH + "[[interventions.x.parts]]\n" + ABLATE.replace("=1", "=99"), 9, "parts.1.channel", "no channel 99"),
    "all in all": ('kind="all"\nparts=[{kind="all", parts=[]}]', 2, "parts.0.kind", "no kind 'all'"),
    "part that is many": ('kind="all"\nparts=[{kind="switch", at=[9, 8], to=7}]', 2, "parts.0", "means 2 of them"),
    "part of many channels": ('kind="all"\nparts=[{kind="ablate", layer="*.fn", channel={from="random", n=2}}]', 2, "parts.0", "of them"),
    "do not commute": (f'kind="all"\nparts=[{{{ABLATE.strip()}, value="mean"}}, {{{ABLATE.strip()}}}]'.replace("\n", ", ").replace('"all", ', '"all"\n'), 0, "", "do not commute"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_table_is_refused_with_file_line_and_key(what, meant):
    table, line, key, pattern = WRONG[what]
    with pytest.raises(DefinitionError) as refused:
        meant(f"[interventions.x]\n{table}")
    said = str(refused.value).replace("\n", " ")
    place = f"mine.toml, line {FIRST + line}, key interventions.x{'.' if key else ''}{key})"
    assert place in said, said
    assert said.count("key interventions") == 1, said
    assert re.search(pattern, said), said
    assert refused.value.remedy


def test_the_shape_is_checked_when_a_file_is_read_and_kept_as_it_was_written(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(HEAD.format(steps=9) + '[interventions.x]\nkind="steer"\nlayer="a"\nvector=[1]\n')
    found, _ = read(path)
    assert found.interventions == {"x": {"kind": "steer", "layer": "a", "vector": [1]}}
    with pytest.raises(DefinitionError, match=r"line 5, key interventions.x.at"):
        read(path, overrides=["interventions.x.kind='switch'", "interventions.x.to=7"])
    path.write_text(HEAD.format(steps=9) + '[interventions]\nx = "switch"\n')
    with pytest.raises(DefinitionError, match=r"line 6, key interventions.x"):
        read(path)


def test_compat_and_noise_are_chosen_by_name():
    def made(**values):
        return Pipeline(
            model="digits", cases={"seeds": [0], "labels": [3]}, stages={"trajectory": {}}, **values
        )

    assert (made().compat, made().sampler.noise) == (None, "philox")
    assert made(compat="thesis-2023", sampler={"noise": "torch"}).sampler.noise == "torch"
    assert made(sampler={"noise": {"file": "x.npy"}}).sampler == made(sampler={"noise": "x.npy"}).sampler
    assert made(sampler={"noise": "x.npy"}).model_dump()["sampler"]["noise"] == {"file": "x.npy"}


def test_a_wrong_noise_or_compat_is_refused(meant):
    with pytest.raises(
        DefinitionError, match=r"no noise 'torhc': did you mean 'torch'.*line 2, key sampler.noise"
    ):
        meant("", head=HEAD.replace("steps =", 'noise = "torhc", steps ='))
    with pytest.raises(DefinitionError, match=r"Unknown key 'fil'.*line 2, key sampler.noise.fil"):
        meant("", head=HEAD.replace("steps =", 'noise = {{ file = "x", fil = 2 }}, steps ='))
    with pytest.raises(DefinitionError, match=r"thesis-2023.*line 1, key compat"):
        meant("", head='compat = "thesis"\n' + HEAD)


def test_the_schema_tells_every_key_of_every_table():
    full = schema()
    tables = full["properties"]["interventions"]["additionalProperties"]["oneOf"]
    assert {table["$ref"] for table in tables} == {
        f"#/$defs/{name}" for name in ("Ablate", "SwitchTo", "PatchFrom", "SteerBy", "Together")
    }
    assert set(full["$defs"]["Ablate"]["properties"]) == {
        "kind",
        "layer",
        "together",
        "channel",
        "value",
        "mask",
        "time",
    }
    assert set(full["$defs"]["FromRandom"]["properties"]) == {"from", "n", "seed"}
    assert {"compat", "interventions"} <= set(full["properties"])
    assert "noise" in full["$defs"]["Sampler"]["properties"]
    references = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(full)))
    assert references <= set(full["$defs"])
