"""A definition from a stranger: of any size, depth, value or type, and naming code."""

import os
from pathlib import Path

from catalogue import times
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strangers import counted, opened, working_folder

HEAD = 'model = "mixture16"\nsampler = { steps = 8 }\n'
CASES = '[cases]\nseeds = "0:2"\nlabels = [0]\n'
STAGE = "[stages.trajectory]\n"
GOOD = HEAD + CASES + STAGE
DIGITS = "9" * 10_000


def _deep(open_, close, n):
    return f"x = {open_ * n}{close * n}"


ABSURD = {
    "two megabytes": GOOD + "# " + "x" * (2 << 20),
    "lists in lists, 10,000 deep": GOOD + _deep("[", "]", 10_000),
    "tables in tables, 10,000 deep": HEAD + "x = " + "{a=" * 10_000 + "1" + "}" * 10_000,
    "a key of 10,000 parts": HEAD + ".".join(["a"] * 10_000) + " = 1\n" + CASES + STAGE,
    "a table of 10,000 parts": GOOD + "[" + ".".join(["a"] * 10_000) + "]\n",
    "a hundred thousand keys": GOOD + "\n".join(f"k{n} = 1" for n in range(100_000)),
    "a megabyte of open brackets": "[" * 1_000_000,
    "two hundred stages": HEAD + CASES + "".join(f"[stages.s{n}]\nuse = 'ssim'\n" for n in range(200)),
    "10^9 seeds": GOOD.replace("0:2", "0:1000000000"),
    "10^18 seeds": GOOD.replace("0:2", "0:1" + "0" * 17),
    "seeds of 10^4 digits": GOOD.replace('"0:2"', f"[{DIGITS}]"),
    "a range of 10^4 digits": GOOD.replace("0:2", f"0:{DIGITS}"),
    "seeds backwards": GOOD.replace("0:2", "5:0"),
    "a seed of 2^63": GOOD.replace('"0:2"', f"[{2**63}]"),
    "NaN seeds": GOOD.replace('"0:2"', "[nan]"),
    "a label of 10^4 digits": GOOD.replace("[0]", f"[{DIGITS}]"),
    "a label of 10^4 hexadecimal digits": GOOD.replace("[0]", f"[0x{'f' * 10_000}]"),
    "a NaN label": GOOD.replace("[0]", "[nan]"),
    "a label that is a date": GOOD.replace("[0]", "[1979-05-27]"),
    "10^6 labels": GOOD.replace("[0]", f"[{', '.join(['0'] * 300_000)}]"),
    "steps of 10^4 digits": GOOD.replace("steps = 8", f"steps = {DIGITS}"),
    "10^18 steps": GOOD.replace("steps = 8", f"steps = {10**18}"),
    "negative steps": GOOD.replace("steps = 8", "steps = -8"),
    "NaN steps": GOOD.replace("steps = 8", "steps = nan"),
    "infinite steps": GOOD.replace("steps = 8", "steps = inf"),
    "a guidance of NaN": GOOD.replace("steps = 8", "steps = 8, guidance_scale = nan"),
    "an eta of NaN": GOOD.replace("steps = 8", 'steps = 8, rule = "ddim", eta = nan'),
    "a batch of 10^9": f"{GOOD}[numerics]\nbatch = {10**9}\n",
    "a filter of 10^18": GOOD + f'keep = "::{10**18}"\n',
    "a filter of 10^4 digits": GOOD + f'keep = "::{DIGITS}"\n',
    "a filter of a million states": GOOD + f"keep = [{', '.join(map(str, range(100_000)))}]\n",
    "a filter of NaN": GOOD + "keep = [nan]\n",
    "a window of 10^18": f"{GOOD}[stages.m]\nuse = 'ssim'\nwindow = {10**18}\n",
    "a window of NaN": f"{GOOD}[stages.m]\nuse = 'ssim'\nwindow = nan\n",
    "a stage of 255 letters": f"{HEAD}{CASES}[stages.{'s' * 255}]\nuse = 'trajectory'\n",
    "a stage of no letters": f'{HEAD}{CASES}[stages.""]\n',
    "a stage that leads out": f'{HEAD}{CASES}[stages."../../etc"]\n',
    "a stage with NUL": f'{HEAD}{CASES}[stages."a\\u0000b"]\n',
    "a model of code": GOOD.replace("mixture16", "os:system"),
    "a model that is a device": GOOD.replace("mixture16", "/dev/zero"),
    "a model that is a folder": GOOD.replace("mixture16", "/etc"),
    "a model with NUL": GOOD.replace('"mixture16"', '"a\\u0000b"'),
    "a model of 10^5 letters": GOOD.replace("mixture16", "m" * 100_000),
    "a model that is a table": GOOD.replace('"mixture16"', "{ a = 1 }"),
    "a model that is a list": GOOD.replace('"mixture16"', "[1]"),
    "a model that is a number": GOOD.replace('"mixture16"', "7"),
    "a stage of code": f"{GOOD}[stages.x]\nuse = 'os:system'\n",
    "a stage of a program": f"{GOOD}[stages.x]\nuse = 'os:system(\"id\")'\n",
    "a stage of a builtin": f"{GOOD}[stages.x]\nuse = 'builtins:exec'\n",
    "a stage that imports": f"{GOOD}[stages.x]\nuse = 'evil:stage'\n",
    "a model that imports": GOOD.replace("mixture16", "evil:stage"),
    "a reader of code": f"{GOOD}[stages.x]\nuse = 'fidelity'\nreader = 'evil:stage'\n",
    "no model": CASES + STAGE,
    "nothing": "",
    "no text": "\x00\x01\x02",
    "a date for a table": GOOD + "[report]\n2020 = 1979-05-27\n",
    "extends a number": "extends = 7\n" + GOOD,
    "extends a list": 'extends = ["a"]\n' + GOOD,
    "extends a file of the system": 'extends = "/etc/passwd"\n' + GOOD,
    "extends what leads out": 'extends = "../../../../etc/passwd"\n' + GOOD,
    "extends a device": 'extends = "/dev/zero"\n' + GOOD,
    "extends with NUL": 'extends = "a\\u0000b"\n' + GOOD,
    "ten thousand interventions": GOOD + "".join(f"[interventions.i{n}]\nkind = 'switch'\nat = {n}\nto = 1\n" for n in range(10_000)),
    "an intervention of NaN": f"{GOOD}[interventions.a]\nkind = 'switch'\nat = nan\nto = 1\n",
    "an intervention of 10^18": f"{GOOD}[interventions.a]\nkind = 'switch'\nat = {10**18}\nto = {10**18}\n",
    "pictures of the system": GOOD.replace('seeds = "0:2"\n', "") + '[source]\nimages = "/etc"\n',
    "pictures of a device": GOOD.replace('seeds = "0:2"\n', "") + '[source]\nimages = ["/dev/zero"]\n',
    "10^18 draws": f'{GOOD}[source]\nimages = "/etc"\ndraws = {10**18}\n',
    "noise of a device": GOOD.replace("steps = 8", 'steps = 8, noise = { file = "/dev/zero" }'),
    "a report of 10^18 seeds": f"{GOOD}[report]\nseeds = {10**18}\n",
}  # fmt: skip


def _written(tmp_path, texts):
    cases = []
    for n, (name, text) in enumerate(texts.items()):
        path = tmp_path / f"{n}.toml"
        path.write_bytes(text.encode())
        cases.append((name, "definition", str(path)))
    return cases


def _evil():
    text = 'import os, pathlib\npathlib.Path(os.environ["FLOWPROFILE_CANARY"]).touch()\ndef stage(): ...\n'
    (working_folder() / "evil.py").write_text(text)


def test_absurd_definitions_are_refused_in_words(tmp_path, catalogue):
    _evil()
    cases = _written(tmp_path, ABSURD)
    (tmp_path / "not-text.toml").write_bytes(b"\xff\xfe\x00")
    cases.append(("bytes", "definition", str(tmp_path / "not-text.toml")))
    with catalogue.row("absurd definition", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        fine = {one.name for one in found if one.ended == "value"}
        assert fine <= {
            "two hundred stages",
            "a label that is a date",
            "a stage of 255 letters",
            "negative steps",
        }, fine
    with catalogue.twin("absurd definition", "I6") as row:
        (tmp_path / "huge.toml").write_text(GOOD)
        os.truncate(tmp_path / "huge.toml", 1 << 30)
        huge = opened([("huge", "definition", str(tmp_path / "huge.toml"))], twin="any_size")
        row.unprotected += sum(one.lost for one in huge)


def test_code_that_a_definition_names_is_not_imported(tmp_path, catalogue):
    _evil()
    names = [name for name in ABSURD if "imports" in name or "code" in name or "builtin" in name]
    cases = _written(tmp_path, {name: ABSURD[name] for name in names})
    cases += [
        ("on the command line", "override", text) for text in ("model=evil:stage", "stages.x.use=evil:stage")
    ]
    with catalogue.row("definition that names code", "I6") as row:
        found = opened(cases)
        counted(row, found)
        assert {one.ended for one in found} == {"refused"}, [one for one in found if one.ended == "value"]
    with catalogue.twin("definition that names code", "I6") as row:
        row.unprotected += sum(one.executed for one in opened(cases, twin="any_code"))


def test_chains_of_extends_end(tmp_path, catalogue):
    """A long one that ends in a good definition, one that ends nowhere, and three that never do."""
    for n in range(50):
        (tmp_path / f"d{n}.toml").write_text(f'extends = "d{n + 1}"\n')
        (tmp_path / f"g{n}.toml").write_text(f'extends = "g{n + 1}"\n')
    (tmp_path / "g50.toml").write_text(GOOD)
    (tmp_path / "self.toml").write_text('extends = "self.toml"\n')
    (tmp_path / "a.toml").write_text('extends = "b"\n')
    (tmp_path / "b.toml").write_text('extends = "a"\n')
    (tmp_path / "link.toml").symlink_to(tmp_path / "link.toml")
    cases = [
        (name, "definition", str(tmp_path / f"{name}.toml")) for name in ("d0", "g0", "self", "a", "link")
    ]
    with catalogue.row("definitions that extend each other", "I6") as row:
        found = opened(cases)
        counted(row, found)
        assert {one.ended for one in found} == {"refused"}
    with catalogue.twin("definitions that extend each other", "I6") as row:
        row.unprotected += sum(one.ended != "refused" for one in opened(cases, twin="any_chain"))


VALUES = st.recursive(
    st.one_of(
        st.integers(-(2**70), 2**70), st.floats(allow_subnormal=False), st.booleans(), st.text(max_size=8), st.just("0:2"), st.just("os:system"),
        st.sampled_from(["::2", "ssim", "trajectory", "mixture16", "ddim", "/dev/zero", "..", "all"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["use", "steps", "a", "file", "from"]), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
KEYS = {
    "": ("model", "extends", "description", "compat", "sampler", "cases", "stages", "numerics", "source", "interventions", "report"),
    "sampler": ("rule", "steps", "eta", "variance", "guidance_scale", "noise", "options"),
    "cases": ("seeds", "labels"),
    "stages.trajectory": ("keep", "use", "needs", "dtype"),
    "stages.m": ("use", "between", "window", "needs", "time", "keep"),
    "numerics": ("batch",),
    "source": ("images", "how", "draws", "attributes", "columns"),
    "interventions.i": ("kind", "at", "to", "layer", "channels", "factor", "seed", "label"),
}  # fmt: skip
MISSPELT = {"": "modell", "sampler": "stepz", "cases": "seedz", "numerics": "batchs", "source": "imagez"}
"""Keys that no table has: whoever writes one must be told."""


def _written_at(table, where, key, value):
    """Put a value into a table, as far as there are tables on its way."""
    for part in where.split(".") if where else ():
        table = table.setdefault(part, {}) if isinstance(table, dict) else {}
    if isinstance(table, dict):
        table[key] = value


def _text(changes):
    """A good definition with values of any type in any place, and whether one of its keys is misspelt."""
    table = {"model": "mixture16", "sampler": {"steps": 8}, "cases": {"seeds": "0:2", "labels": [0]},
             "stages": {"trajectory": {}, "m": {"use": "ssim"}}}  # fmt: skip
    for where, number, value in changes:
        keys = (*KEYS[where], *([MISSPELT[where]] if where in MISSPELT else []))
        _written_at(table, where, keys[number % len(keys)], value)
    wrong = any(
        key in (table if not where else table.get(where) or ())
        for where, key in MISSPELT.items()
        if isinstance(table if not where else table.get(where, {}), dict)
    )
    return "\n".join(f"{key} = {_toml(value)}" for key, value in table.items()), wrong


def _toml(value):
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, str):
        return (
            '"'
            + "".join(
                c if c.isprintable() and c not in '"\\' else f"\\u{min(ord(c), 0xD7FF):04x}" for c in value
            )
            + '"'
        )
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(part)}" for key, part in value.items()) + " }"
    return str(value)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=times(40, 1500),
)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(sorted(KEYS)), st.integers(0, 10), VALUES), min_size=1, max_size=3
    )
)
def test_any_value_anywhere_is_refused_or_planned(tmp_path, catalogue, changes):
    """Whatever Python would raise is a failure, and so is a plan of a definition with a key that nobody knows."""
    text, misspelt = _text(changes)
    path = Path(tmp_path / "random.toml")
    path.write_text(text, "utf-8")
    with catalogue.row("definition of random values", "I6") as row:
        found = opened([(text, "definition", str(path))])
        counted(row, found)
        row.silent += misspelt and found[0].ended == "value"


def test_a_key_that_nobody_knows_is_refused(tmp_path, catalogue):
    texts = {where: _text([(where, len(KEYS[where]), 1)]) for where in MISSPELT if where != "source"}
    assert all(misspelt for _, misspelt in texts.values())
    cases = _written(tmp_path, {where: text for where, (text, _) in texts.items()})
    with catalogue.row("definition of random values", "I6") as row:
        found = opened(cases)
        counted(row, found)
        assert {one.ended for one in found} == {"refused"}
        assert all("Unknown key" in one.told for one in found)
    with catalogue.twin("definition of random values", "I6") as row:
        row.unprotected += sum(one.ended == "value" for one in opened(cases, twin="any_key"))
