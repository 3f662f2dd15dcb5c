"""The alerts, judged by promtool. To add a case, add a file to a folder of alerts/.

alerts/FOLDER/mesh.yaml     a mesh
alerts/FOLDER/NAME.yaml     series, and what fires when: everything that fires, and nothing else

`series` are those of promtool; $HUB stands for the labels of the exporter's target, $WG for those and the interface,
$FRIEND for those of a target that belongs to anna. `expect` is time -> alert -> the labels of each one that fires,
without `mesh` and `severity`, which the rule itself sets.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshwright.desired.facts import ClusterFacts, Facts
from meshwright.desired.monitoring import rules, series
from meshwright.desired.resource import Resource
from meshwright.spec import load
from meshwright.spec.duration import milliseconds
from meshwright.spec.model import Mesh

HERE = Path(__file__).parent / "alerts"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
FOLDERS = sorted(path.parent.name for path in HERE.glob("*/mesh.yaml"))
CASES = sorted(str(path.relative_to(HERE)) for path in HERE.glob("*/*.yaml") if path.name != "mesh.yaml")
PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*")')
FRIEND = 'job="anna/shop",namespace="anna",instance="10.42.0.9:8080",tenant="anna"'


def made(folder: str) -> tuple[Mesh, list[Resource]]:
    mesh = load.load(HERE / folder / "mesh.yaml", NOW).mesh
    assert mesh.observability
    return mesh, [*rules.build(mesh, mesh.observability, Facts(NOW, cluster=ClusterFacts("1.36")))]


def groups(objects: list[Resource]) -> list[dict[str, Any]]:
    return [group for found in objects for group in found.attrs["spec"]["groups"]]


def alerts(objects: list[Resource]) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in groups(objects) for rule in group["rules"] if "alert" in rule}


def promtool(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """promtool is no part of Python: without it nothing here is judged, which CI does not take."""
    if not shutil.which("promtool"):
        if os.environ.get("CI") == "true":
            pytest.fail("promtool is missing: script/bootstrap --dev installs it")
        pytest.skip("promtool is missing, so NO ALERT WAS JUDGED: script/bootstrap --dev installs it")
    return subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


def asked(case: Mapping[str, Any], mesh: Mesh, known: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The tests of a case as promtool has them: at each time, each alert that there is, none of which may fire.

    So it prints what does, with every word.
    """
    watch = mesh.observability
    assert watch
    hub = f'job="{series.job(mesh, watch)}",namespace="{series.namespace(watch)}",instance="192.0.2.10:9586"'
    named = {"$HUB": hub, "$WG": f'{hub},interface="{mesh.hub.interface}"', "$FRIEND": FRIEND}
    for number, test in enumerate(case["tests"]):
        inputs = []
        for name, values in test["series"].items():
            whole = re.sub(r"\$[A-Z]+", lambda word: named[word[0]], name)
            inputs.append({"series": whole, "values": values})
        checks = [
            {"eval_time": moment, "alertname": alert, "exp_alerts": []} for moment in test["expect"] for alert in known
        ]
        interval = test.get("interval", "1m")
        yield {"name": f"test {number}", "interval": interval, "input_series": inputs, "alert_rule_test": checks}


@cache
def fired(case: str, folder: Path) -> list[tuple[int, str, str, dict[str, str], dict[str, str]]]:
    """(number of the test, alert, time as promtool writes it, labels, annotations) of all that fires in a case."""
    mesh, objects = made(case.partition("/")[0])
    found = yaml.safe_load((HERE / case).read_text())
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups(objects)}))
    document = {
        "rule_files": ["rules.yaml"],
        "group_eval_order": [group["name"] for group in groups(objects)],
        "evaluation_interval": found.get("evaluation_interval", "1m"),
        "tests": [*asked(found, mesh, alerts(objects))],
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", "test.yaml", cwd=folder)
    printed = done.stdout + done.stderr
    out = []
    number, alert, moment = -1, "", ""
    for line in printed.splitlines():
        if about := re.match(r"\s*name: test (\d+),", line):
            number = int(about[1])
        elif about := re.match(r"\s*alertname: (\w+), time: (\w+),", line):
            alert, moment = about[1], about[2]
        elif about := re.match(r"\s*(Labels|Annotations):\{(.*)\}", line):
            pairs = {name: json.loads(value) for name, value in PAIR.findall(about[2])}
            if about[1] == "Labels":
                out.append((number, alert, moment, pairs, {}))
            else:
                out[-1][4].update(pairs)
    assert len(out) == printed.count("Labels:{"), printed
    assert out or done.returncode == 0, printed
    return out


def seconds(text: str) -> int:
    """A duration as promtool writes or reads it."""
    weeks, _, rest = text.rpartition("w")
    return int(weeks or 0) * 604_800 + milliseconds(rest) // 1000


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder for each case, the same for all tests, so that promtool runs once for each."""
    return cache(lambda case: tmp_path_factory.mktemp("promtool"))


@pytest.mark.parametrize("case", CASES)
def test_what_fires(case: str, folder_of: Callable[[str], Path]) -> None:
    _, objects = made(case.partition("/")[0])
    rules_ = alerts(objects)
    found = yaml.safe_load((HERE / case).read_text())
    got: dict[tuple[str, int], list[tuple[str, dict[str, str]]]] = {
        (test["name"], seconds(moment)): [] for test in found["tests"] for moment in test["expect"]
    }
    wanted = {key: list(each) for key, each in got.items()}
    for number, alert, moment, labels, _ in fired(case, folder_of(case)):
        got[(found["tests"][number]["name"], seconds(moment))].append((alert, labels))
    for test in found["tests"]:
        for moment, fires in test["expect"].items():
            for alert, several in fires.items():
                always = {"alertname": alert, **rules_[alert]["labels"]}
                wanted[(test["name"], seconds(moment))] += [(alert, always | labels) for labels in several]
    for each in (got, wanted):
        for key in each:
            each[key].sort(key=repr_of)
    assert got == wanted


def repr_of(one: tuple[str, dict[str, str]]) -> str:
    return json.dumps(one, sort_keys=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_an_alert_says(folder: str, folder_of: Callable[[str], Path], update: bool) -> None:
    """alerts/FOLDER/texts.md: what the first of each alert said in the cases, as promtool fills it in."""
    texts: dict[str, str] = {}
    for case in (case for case in CASES if case.startswith(f"{folder}/")):
        for _, alert, _, labels, notes in fired(case, folder_of(case)):
            head = f"## {alert} ({labels['severity']})"
            texts.setdefault(alert, f"{head}\n\n{notes['summary']}\n\n{notes['description']}\n")
    whole = "\n".join(texts[alert] for alert in sorted(texts))
    golden = HERE / folder / "texts.md"
    if update:
        golden.write_text(whole)
    assert whole == golden.read_text()
    _, objects = made(folder)
    assert texts.keys() == alerts(objects).keys()
    assert not re.search(r"[{}<]|no value|%!", whole), "a template that was not filled in"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_alert_has_a_case_in_which_it_fires(folder: str) -> None:
    _, objects = made(folder)
    cases = [yaml.safe_load((HERE / case).read_text()) for case in CASES if case.startswith(f"{folder}/")]
    moments = [moment for case in cases for test in case["tests"] for moment in test["expect"].values()]
    assert {alert for moment in moments for alert in moment} == set(alerts(objects))


@pytest.mark.parametrize("folder", FOLDERS)
def test_promtool_has_nothing_to_say_of_the_rules(folder: str, tmp_path: Path) -> None:
    _, objects = made(folder)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups(objects)}))
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", cwd=tmp_path)
    said = [line for line in done.stdout.splitlines() if line.strip() and not line.startswith("Checking ")]
    count = sum(len(group["rules"]) for group in groups(objects))
    assert (done.returncode, said, done.stderr) == (0, [f"  SUCCESS: {count} rules found"], "")
