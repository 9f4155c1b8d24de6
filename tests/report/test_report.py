"""The report opens in a real browser: complete, offline, readable in light, dark, on a phone and without scripts."""

import json
import re

import matplotlib.image
import numpy as np
import pytest
from selenium.webdriver.support.ui import WebDriverWait

from harness.claims.report.page import write_report
from tests.report.browser import DESKTOP, PHONE, Browser

HOSTILE = "<script>alert(1)</script></script><img src=x onerror=alert(2)>"
SIZE_LIMIT = 3_000_000


def write_run(folder, seed, *, status="done", commit="a" * 40, metric="val/acc", picture="samples", text="plain"):
    """Write a run folder as a run leaves it; returns the folder."""
    (folder / "tables").mkdir(parents=True)
    (folder / "pictures").mkdir()
    generator = np.random.default_rng(seed)
    lock = {
        "overrides": ["experiment=toy", f"seed={seed}"],
        "config": {"seed": seed},
        "code": {"commit": commit, "changes": None},
        "python": "3.11.7",
        "packages": {"torch": "2.15.0", "zipp": "3.0"},
        "hardware": {"machine": "x86_64", "system": "Linux", "cores": 2, "threads": 2, "gpus": []},
        "data": "0123456789abcdef",
    }
    cost = {"seconds": 12.5, "test_seconds": 3.25, "parameters": 100024, "trainable": 512}
    result = {"headline": ["test/acc"], "metrics": {"test/acc": 70.0 + seed, "test/nan": "nan"}, "cost": cost}
    rows = [{"step": 10 * i + 9, metric: generator.random(), "train/loss": 1 / (i + 1), "epoch": i} for i in range(8)]
    rows[3] |= {metric: "nan", "train/loss": "inf"}
    lines = [json.dumps(row) for row in [*rows, {"step": None, metric: 1.0}]]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 89, "val/a']))
    table = {"columns": ["score", "acc", text], "rows": [["one", "70.00", 1.5 + seed], ["two", f"7{seed}.50", text]]}
    (folder / "tables" / "scores.json").write_text(json.dumps(table))
    matplotlib.image.imsave(folder / "pictures" / f"{picture}.png", generator.random((32, 48, 3)))
    for name, value in {"lock": lock, "result": result, "status": {"status": status}}.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    if status != "done":
        (folder / "result.json").unlink()
    return folder


def part(text, method, effect, interval, verdict, **more):
    values = {"method_values": [81.0, 80.5, None], "baseline_values": [70.0, 70.25, 71.0], "seeds": [0, 1, 2]}
    told = {"text": text, "metric": "test/acc", "baseline_metric": "test/acc", "method": method, "baseline": "base"}
    told |= {"direction": "up", "least": 5.0, "effect": effect, "interval": interval, "verdict": verdict}
    return told | values | {"reason": f"It {verdict}.", "controls": []} | more


def write_claim(arms, missing=(), word="toy", metric="val/acc"):
    """Return a claim on arms; `missing` names runs that have no folder."""
    names = list(arms)
    summary = {"mean": 71.0, "sd": 1.0, "interval": [68.5, 73.5], "values": [70.0, 71.0, 72.0]}
    statuses = {
        path: json.loads((path / "status.json").read_text())["status"] for paths in arms.values() for path in paths
    }
    told = {
        name: {
            "words": f"experiment=toy arm={name}",
            "about": f"about {name}",
            "runs": [{"seed": i, "folder": str(p), "status": statuses[p]} for i, p in enumerate(paths)]
            + [{"seed": 9, "folder": f"runs/toy/{name}-9", "status": "missing"} for n in missing if n == name],
            "metrics": {"test/acc": summary},
            "cost": {"seconds": 12.5, "test_seconds": 3.25, "parameters": 100024, "trainable": 512},
        }
        for name, paths in arms.items()
    }
    control = {"name": f"control of {word}", "arm": names[-1], "metric": "test/acc", "baseline_metric": "test/acc"}
    control |= {"effect": -0.0001, "interval": [-0.5, 0.5], "verdict": "holds", "reason": "It shows nothing."}
    parts = [part("first", names[1], 10.5, [9.0, 12.0], "holds", controls=[control])]
    parts.append(part("", names[1], None, None, "undecided", method_values=[], baseline_values=[]))
    statements = [
        {"name": "it_works", "text": f"The {word} works.", "verdict": "undecided", "reason": "1 of 2.", "parts": parts},
        {"name": "not_this", "text": "This does not.", "verdict": "fails", "reason": "0 of 1.", "parts": []},
    ]
    statements[1]["parts"] = [part("second", names[1], -3.0, [-4.0, -2.0], "fails", direction="down")]
    return {
        "claim": word,
        "paper": f"A paper about {word} (ICLR 2099)",
        "text": f"The claim of {word}.",
        "stand_in": f"rendered {word}s (procedural)",
        "takes": "1 min, CPU",
        "seeds": [0, 1, 2],
        "verdict": "fails",
        "statements": statements,
        "arms": told,
        "columns": ["test/acc", "test/none"],
        "scatter": {"x": "cost/trainable", "y": "test/acc"},
        "curves": [metric, "train/loss", "never/logged"],
        "paper_numbers": {
            "source": f"Table 1 of {word}",
            "columns": ["method", "acc"],
            "rows": [[word, 73.28], ["b", None]],
        },
        "commands": ["python run.py claim=toy"],
        "cost": {"seconds": 612.0, "runs": 9},
        "lock": {"code": {"commit": "a" * 40, "changes": "beef"}, "python": "3.11.7", "packages": {"torch": "2.15.0"}},
    }


@pytest.fixture(scope="module")
def browser():
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three arms: whole, one failed run and one of another commit, one with an empty folder."""
    root = tmp_path_factory.mktemp("runs")
    base = [write_run(root / f"base-{i}", i) for i in range(3)]
    method = [write_run(root / f"method-{i}", i, commit="b" * 40) for i in range(2)]
    method.append(write_run(root / "method-2", 2, status="failed"))
    method[2].joinpath("metrics.jsonl").write_text('{"step": 9, "val/acc": 0.5}\n')
    control = [write_run(root / "control-0", 0, picture="other"), root / "control-1"]
    control[1].mkdir()
    (control[1] / "status.json").write_text('{"status": "running"}')
    (control[0] / "pictures" / "broken.png").write_bytes(b"no picture")
    (control[0] / "tables" / "broken.json").write_text('{"columns": ')
    return {"base": base, "method": method, "control": control}


@pytest.fixture(scope="module")
def report(folders, tmp_path_factory):
    path = tmp_path_factory.mktemp("claim") / "new" / "report.html"
    write_report(path, folders, write_claim(folders, missing=["control"]), ["python run.py claim=toy"])
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return path


OVERFLOW = "document.documentElement.scrollWidth"
# Every element with text of its own, against the nearest ground behind it (WCAG 2, relative luminance).
LOW_CONTRAST = """(() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const linear = value => value <= 10.3 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ground = element => {
    const rgb = numbers(getComputedStyle(element).backgroundColor);
    return rgb.length < 4 || rgb[3] > 0 ? rgb : ground(element.parentElement);
  };
  const ratio = element => {
    const [low, high] = [numbers(getComputedStyle(element).color), ground(element)].map(light).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const texts = [...document.body.querySelectorAll('*')].filter(e => !e.closest('svg, script, style')
    && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  return texts.filter(e => ratio(e) < 4.5).map(e => `${e.outerHTML.slice(0, 80)} ${ratio(e)}`);
})()"""


@pytest.mark.parametrize(
    ("size", "dark", "name"),
    [
        (DESKTOP, False, "report-light-desktop.png"),
        (DESKTOP, True, "report-dark-desktop.png"),
        (PHONE, False, "report-phone.png"),
    ],
)
def test_the_page_is_whole_and_readable(browser, report, size, dark, name):
    browser.open(report, size, dark=dark)
    assert browser.complaints() == []
    assert browser.ask("performance.getEntriesByType('resource').filter(e => /^http/.test(e.name)).length") == 0
    assert browser.ask(OVERFLOW) <= size[0]
    lines = "[...document.querySelectorAll('.curves .plot')].map(p => p.data.filter(t => t.mode !== 'none').length)"
    assert browser.ask(lines) == [3, 3]
    traces = "document.querySelectorAll(arguments[0] + ' .plot svg.main-svg .scatterlayer .trace').length"
    assert browser.ask(traces, ".curves") == 2 * (3 + 2)
    # A mark for each row, a gate for each comparison.
    assert browser.ask(traces, ".forest") == (3 + 2) + (1 + 1)
    assert browser.ask(traces, "#scatter") == 3
    assert browser.ask("[...document.images].map(i => i.complete && i.naturalWidth > 0 && i.alt !== '')") == [True] * 3
    assert browser.ask(LOW_CONTRAST) == []
    browser.screenshot(name)


def test_light_and_dark_differ(browser, report):
    grounds = []
    for dark in (False, True):
        browser.open(report, dark=dark)
        grid = "[...document.querySelectorAll('.plot')].map(p => p.querySelector('.gridlayer path').style.stroke)"
        drawn = browser.ask(grid)
        assert len(drawn) == 5
        assert len(set(drawn)) == 1
        grounds.append((browser.ask("getComputedStyle(document.body).backgroundColor"), drawn))
    assert grounds[0][0] != grounds[1][0]
    assert grounds[0][1] != grounds[1][1]


# Of every row of the first statement: its track, and what is drawn in it.
MARKS = """(() => {
  const forest = document.querySelector('.forest'), box = e => e.getBoundingClientRect();
  const middle = e => [box(e).left + box(e).width / 2, box(e).top + box(e).height / 2];
  const dots = [...forest.querySelectorAll('.points path')].map(middle);
  const bars = [...forest.querySelectorAll('.errorbars path.xerror')];
  const gates = [...forest.querySelectorAll('.lines path.js-line')].map(middle);
  return [...forest.querySelectorAll('.track')].map(track => {
    const within = ([x, y]) => y > box(track).top && y < box(track).bottom;
    const drawn = {dots: dots.filter(within), gates: gates.filter(within), bars: bars.filter(b => within(middle(b)))
      .map(b => box(b).width)};
    return {track: middle(track), left: box(track).left, width: box(track).width, ...drawn};
  });
})()"""


@pytest.mark.parametrize(("size", "printing"), [(DESKTOP, False), (PHONE, False), (DESKTOP, True), (PHONE, True)])
def test_effects_and_gates_are_drawn_in_their_rows_and_to_scale(browser, report, size, printing):
    browser.open(report, size, dark=True)
    if printing:
        browser.ask("dispatchEvent(new Event('beforeprint'))")
        assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 252)"
        assert browser.ask("document.querySelector('main').getBoundingClientRect().width") < 670
    first, control, nothing = browser.ask(MARKS)
    # From -0.5 to 12, with a tenth of that on either side.
    for row, dots, gates in ((first, [10.5], [5.0]), (control, [-0.0001], []), (nothing, [], [5.0])):
        for drawn, values in ((row["dots"], dots), (row["gates"], gates)):
            x = [row["left"] + row["width"] * (value + 0.5 + 1.25) / 15 for value in values]
            assert [place[0] for place in drawn] == pytest.approx(x, abs=1.5)
            assert all(place[1] == pytest.approx(row["track"][1], abs=1.5) for place in drawn)
    for row, length in ((first, 3.0), (control, 1.0)):
        assert row["bars"] == [pytest.approx(row["width"] * length / 15, abs=1.5)]
    assert nothing["bars"] == []
    if printing:
        browser.ask("dispatchEvent(new Event('afterprint'))")
        assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
        assert browser.ask(MARKS)[0]["width"] != first["width"]


def test_figures_follow_the_width_of_the_window(browser, report):
    browser.open(report)
    browser.resize(1000, 900)
    places = "[...document.querySelectorAll('.curves .plot, #scatter .plot')]"
    fits = f"{places}.every(p => p._fullLayout.width === p.clientWidth)"
    WebDriverWait(browser.driver, 20).until(lambda driver: browser.ask(fits))
    assert browser.ask("document.querySelector('#scatter .plot').clientWidth") < 1000
    row = browser.ask(MARKS)[0]
    assert row["dots"][0][1] == pytest.approx(row["track"][1], abs=1.5)


def test_what_the_page_says(browser, report):
    browser.open(report)
    text = browser.text()
    assert browser.ask("document.querySelector('#verdict strong').innerText") == "fails"
    assert browser.ask("document.querySelector('#verdict svg').getBoundingClientRect().width") > 40
    for shown in (
        "A paper about toy",
        "The claim of toy.",
        "Procedural or stand-in: rendered toys (procedural).",
        "+10.50",
        "95 %: +9.00 to +12.00",
        "least: 5.00",
        "method: 71.00 at 512 (68.50 to 73.50)",
        "control of toy",
        "71.00 ± 1.00",
        "68.50 to 73.50",
        "100,024",
        "not measured here",
        "python run.py claim=toy",
        f"{'a' * 40}, with uncommitted changes (hash beef)",
        "seed 9: missing",
        "3 of 9 runs are not done: method seed 2 (failed), control seed 1 (running), control seed 9 (missing).",
        "different commits or states of the code",
        "broken.png is not readable",
        "scores · base · mean of seeds 0, 1, 2",
        "scores · method · mean of seeds 0, 1",
        "base: left out, because not finite: 1",
        "fails: 1",
        "How a verdict is reached",
    ):
        assert shown in text, shown
    assert "scores · method · mean of seeds 0, 1, 2" not in text
    assert "different hardware" not in text
    assert not re.search(r"[-\u2212]0\.0+(?!\d)", text)
    arms = browser.ask("[...document.querySelectorAll('.arms tbody th')].map(t => t.firstChild.data)")
    assert arms == ["base", "method", "control"]
    assert browser.ask("document.querySelectorAll('th:not([scope])').length") == 0


def test_a_failed_run_does_not_cut_the_curves_short(browser, report):
    browser.open(report)
    longest = "document.querySelector('.curves .plot').data.filter(t => t.mode !== 'none').map(t => t.x.length)"
    assert browser.ask(longest) == [8, 8, 8]
    gaps = "document.querySelector('.curves .plot').data.filter(t => t.mode !== 'none').map(t => t.y.indexOf(null))"
    assert browser.ask(gaps) == [3, 3, 3]


def test_a_legend_box_takes_an_arm_out_of_all_figures(browser, report):
    browser.open(report)
    browser.ask("document.querySelectorAll('.legend input')[1].click()")
    names = "document.querySelector('.curves .plot').data.filter(t => t.mode !== 'none').map(t => t.name)"
    assert browser.ask(names) == ["base", "control"]


def test_a_picture_is_enlarged_and_put_back(browser, report):
    browser.open(report)
    browser.ask("document.querySelector('.zoom').click()")
    width = "document.querySelector('.zoom img').getBoundingClientRect().width"
    assert browser.ask(width) >= DESKTOP[0] - 20
    browser.ask("dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
    assert browser.ask(width) < DESKTOP[0] / 2


def test_without_scripts_all_but_the_figures_is_there(browser, report):
    browser.open(report, scripts=False)
    text = browser.text()
    assert browser.ask("document.querySelector('#verdict strong').innerText") == "fails"
    for shown in ("71.00 ± 1.00", "+10.50", "95 %: +9.00 to +12.00", "method: 71.00 at 512 (68.50 to 73.50)"):
        assert shown in text
    assert text.count("scripting is off") == 2 + 1 + 2
    assert browser.ask("document.querySelectorAll('.plot svg.main-svg').length") == 0
    assert browser.ask("[...document.images].every(i => i.naturalWidth > 0)")
    assert browser.complaints() == []


def test_the_page_is_small(report):
    assert report.stat().st_size < SIZE_LIMIT


def test_hostile_words_are_shown_as_words(browser, tmp_path):
    arms = {
        name: [write_run(tmp_path / f"{i}-0", 0, metric=HOSTILE, text=HOSTILE)]
        for i, name in enumerate((HOSTILE, "b" + HOSTILE))
    }
    path = tmp_path / "report.html"
    claim = write_claim(arms, word=HOSTILE, metric=HOSTILE)
    claim["paper_numbers"]["columns"] = [HOSTILE, HOSTILE]
    claim["verdict"] = HOSTILE
    write_report(path, arms, claim, [HOSTILE])
    browser.open(path)
    assert browser.complaints() == []
    assert browser.ask("window.alerted") is None
    assert browser.ask("document.querySelectorAll('img[src=x]').length") == 0
    assert browser.ask("document.querySelector('h1').innerText") == f"A paper about {HOSTILE} (ICLR 2099)"
    assert browser.ask("document.querySelector('.curves h3').textContent") == HOSTILE
    assert browser.ask("document.querySelector('.arms tbody th').firstChild.data") == HOSTILE
    assert browser.ask("document.querySelectorAll('.plot svg.main-svg').length") > 0
    assert browser.ask(OVERFLOW) <= DESKTOP[0]
    browser.open(path, PHONE)
    assert browser.ask(OVERFLOW) <= PHONE[0]


def test_any_runs_are_compared_without_a_claim(browser, folders, tmp_path):
    path = tmp_path / "report.html"
    runs = [*folders["base"][:2], folders["method"][2], folders["control"][1]]
    write_report(path, {run.name: [run] for run in runs}, None, ["python run.py mode=report"])
    browser.open(path)
    assert browser.complaints() == []
    text = browser.text()
    assert "Comparison of runs" in text
    assert browser.ask("document.querySelector('#verdict')") is None
    assert browser.ask("[...document.querySelectorAll('.arms thead th')].map(t => t.innerText)")[1] == "acc"
    assert browser.ask("[...document.querySelectorAll('.curves h3')].map(t => t.innerText)") == [
        "train/loss",
        "val/acc",
    ]
    assert re.search(r"base-1\s+71\.00\s+1 of 1", text)
    assert "torch 2.15.0" in text
    assert "zipp" not in text


def test_nothing_but_empty_folders(browser, tmp_path):
    (tmp_path / "empty").mkdir()
    write_report(tmp_path / "report.html", {"a": [tmp_path / "empty"], "b": []}, None, [])
    browser.open(tmp_path / "report.html")
    assert browser.complaints() == []
    assert "0 of 1" in browser.text()
    assert (tmp_path / "report.html").stat().st_size < 50_000
