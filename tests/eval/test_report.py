"""`python -m eval.report`: what it writes about real records, by the toy policy and reward."""

import csv
import html
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean

import pytest
import toy_study
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from scipy.stats import false_discovery_control

from eval import overrides, resolvers
from eval.analysis.configuration import by_method
from eval.analysis.intervals import Interval
from eval.analysis.views import Cost
from eval.configuration import hash_config
from eval.report import figures
from eval.report.__main__ import main
from eval.report.chart import Chart, Point, Series
from eval.report.charts import make_charts
from eval.report.figures import COLOURS
from eval.report.findings import analyse_study
from eval.report.folders import find_runs, write_commands
from eval.report.page import SECTIONS
from eval.report.scripts import digest_list, read_script
from eval.report.studies import group_studies
from eval.report.table import Cell, Table, difference, markdown_table
from rsalign import BestOf, ConfigError, Plain
from rsalign.selectors import Soft

HOSTILE = "</p><script>alert(1)</script><b onmouseover=x>| *x* `y`"
PAIRED = ["wins", "ties", "losses", "difference", "p", "adjusted p"]
QUICK = ["--resamples", "100", "--no-figures"]


class Tags(HTMLParser):
    """All elements of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "\n".join(self.texts)


def make(folder, strategy, size, *, seeds=(0, 1), changed=lambda record: record, **changes):
    records = [changed(record) for record in toy_study.answer(strategy, seeds=seeds)]
    toy_study.write(folder, strategy, size, records, **changes)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Run folders of all strategies at two sizes; one wrote what no page must run."""
    folder = tmp_path_factory.mktemp("outputs")

    def hostile(record):
        answers = [{**record["answers"][0], "text": HOSTILE}]
        proposals = [{**one, "text": HOSTILE} for one in record["proposals"]]
        return {**record, "prompt": HOSTILE, "answers": answers, "proposals": proposals}

    for size in (1, 4):
        for name, strategy in toy_study.strategies(size).items():
            if (name, size) != ("plain", 4):
                changed = hostile if name == "soft" else lambda record: record
                make(folder / f"{name}-{size}", strategy, size, changed=changed)
    return folder


@pytest.fixture(scope="module")
def page(outputs):
    assert main([str(outputs), *QUICK]) == 0
    return (outputs / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def tables(page, outputs):
    return (outputs / "report" / "tables.md").read_text()


def rows_of(tables, title):
    """A table of the Markdown file as lists of cells, header first."""
    section = tables.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [cells[0], *cells[2:]]


def test_three_views_are_at_equal_cost(page, tables):
    for cost in ("drawn tokens", "reward calls", "seconds"):
        title = f"Against best-of-N at equal {cost}"
        header, *rows = rows_of(tables, title)
        assert header[2:] == [cost, *PAIRED]
        assert len(rows) == 9
        assert cost == "seconds" or [row for row in rows if row[6] != "-"]  # the clock may differ
        for row in rows:
            wins, ties, losses = (0 if cell == "-" else int(cell) for cell in row[3:6])
            is_told = row[6] != "-"
            assert wins + ties + losses == is_told * len(toy_study.ITEMS)
        note = tables.split(f"## {title}\n")[1].split("\n| ")[0]
        assert ("judged for the record" in note) == (cost == "reward calls")
    assert "Score against seconds" in Tags(page).text


def test_a_nominal_size_is_shown_with_what_both_cost(tables):
    header, *rows = rows_of(tables, "Against best-of-N of the same nominal size")
    assert header[2:] == ["drawn tokens", "best-of-N's drawn tokens", *PAIRED]
    all_header, *all_rows = rows_of(tables, "All configurations")
    tokens = {(row[0], row[1]): row[all_header.index("drawn tokens")] for row in all_rows}
    assert rows
    for row in rows:
        assert row[2] == tokens[row[0], row[1]]
        assert row[3] == tokens["BestOf Hard", row[1]]


def test_tests_are_adjusted_for_their_own_view(outputs):
    [study] = group_studies(find_runs([outputs]))
    found = analyse_study(study, resamples=100)
    for view in (*found.equal_cost.values(), found.same_size):
        ps = [one.comparison.p_value for one in view]
        if ps:  # at equal seconds it depends on the clock whether there are any
            assert [one.adjusted for one in view] == pytest.approx(false_discovery_control(ps))


def pages(outputs):
    return [outputs / "report" / "index.html", *sorted((outputs / "report" / "items").iterdir())]


def test_pages_fetch_nothing_and_run_only_their_own_scripts(page, outputs):
    own = [read_script("tables.js"), read_script("items.js")]
    assert len(pages(outputs)) == 2 + len(toy_study.ITEMS)
    for file in pages(outputs):
        text = file.read_text()
        tags = Tags(text)
        assert not {"img", "link", "iframe", "object"} & {tag for tag, _ in tags.elements}
        for tag, attributes in tags.elements:
            assert not [name for name in attributes if name.startswith("on") or name == "src"], tag
            target = attributes.get("href", "#")
            assert target.startswith("#") or (file.parent / target).exists()
        assert "url(" not in text
        assert "@import" not in text
        [policy] = [
            one["content"] for _, one in tags.elements if "content" in one and "src" in str(one)
        ]
        scripts = re.findall("<script>(.*?)</script>", text, re.DOTALL)
        assert scripts == [script for script in own if script in text]
        assert policy.startswith("default-src 'none'")
        assert (digest_list(scripts) if scripts else "script-src") in policy or not scripts
        assert ("script-src" in policy) == bool(scripts)


def test_every_item_has_a_page_with_all_answers(page, outputs):
    records = [one for run in find_runs([outputs]) for one in run.records]
    listed = Tags((outputs / "report" / "items" / "index.html").read_text())
    rows = [one for _, one in listed.elements if "data-search" in one]
    assert len(rows) == len(toy_study.ITEMS)
    items = sorted(toy_study.ITEMS, key=lambda item: item.id)
    for item, row, file in zip(items, rows, pages(outputs)[2:], strict=True):
        shown = Tags(file.read_text())
        of_item = [one for one in records if one["item"] == item.id]
        assert item.id in shown.texts
        answers = [one for _, one in shown.elements if one.get("class", "").startswith("shown ")]
        assert len(answers) == len(of_item)
        for record in of_item:
            assert record["answers"][0]["text"] in shown.text
        scores = json.loads(row["data-scores"])
        assert len(scores) == 11
        assert item.id in row["data-search"]


def test_results_have_a_row_for_each_answer(page, outputs):
    records = [one for run in find_runs([outputs]) for one in run.records]
    with (outputs / "report" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(records)
    assert sorted((row["item"], int(row["seed"])) for row in rows) == sorted(
        (one["item"], one["seed"]) for one in records
    )
    total = sum(float(row["reward"]) for row in rows)
    assert total == pytest.approx(sum(one["answers"][0]["reward"] for one in records))


# what a click on a column does, and which tables are wider than the window, as the page's title
PROBE = """
  const table = document.querySelector("table[data-name=results]");
  const heads = [...table.tHead.rows[0].cells];
  const column = heads.findIndex(cell => cell.textContent.trim() === "reward");
  heads[column].querySelector("button").click();
  const rows = [...table.tBodies[0].rows];
  const values = rows.map(row => parseFloat(row.cells[column].textContent));
  const isSorted = values.every((value, i) => !i || values[i - 1] >= value);
  const saves = document.querySelectorAll("button.save").length;
  const width = document.documentElement.clientWidth;
  const open = [...document.querySelectorAll(".part[open] table")];
  const wide = open.filter(one => one.scrollWidth > width).map(one => one.dataset.name);
  document.title = JSON.stringify({isSorted, column, saves, wide});
"""


@pytest.mark.parametrize("width", [1400, 400])
def test_a_browser_sorts_tables_and_cuts_nothing_off(page, width, tmp_path):
    """The scripts run under the page's own policy, to which only the probe is added."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    own = page.replace("</body>", f"<script>{PROBE}</script></body>")
    scripts = re.findall("<script>(.*?)</script>", own, re.DOTALL)
    probe = tmp_path / "probe.html"
    probe.write_text(re.sub('script-src [^"]*', f"script-src {digest_list(scripts)}", own))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    done = subprocess.run(
        [browser, *flags, "--dump-dom", probe.as_uri()], capture_output=True, text=True, check=True
    )
    found = json.loads(html.unescape(re.search("<title>(.*?)</title>", done.stdout)[1]))
    assert found["isSorted"]
    assert found["column"] > 0
    assert found["saves"] > 5
    assert found["wide"] == []


def test_what_a_model_wrote_is_shown_as_it_is(page):
    assert page.count("&lt;script&gt;") >= 3  # prompt, answer, proposals
    assert "alert(1)</script>" in Tags(page).text


def test_all_anchors_exist_and_are_unique(page):
    tags = Tags(page).elements
    anchors = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(anchors) == len(set(anchors))
    targets = [attributes["href"] for _, attributes in tags if "href" in attributes]
    links = {target[1:] for target in targets if target.startswith("#")}
    assert links
    assert links <= set(anchors)


def test_every_table_and_figure_has_its_place(page, tables):
    titles = re.findall(r"^## (.*)$", tables, re.MULTILINE)
    text = Tags(page).text
    assert len(titles) == len(set(titles)) == sum(len(section.tables) for section in SECTIONS)
    assert all(title.replace("\\", "") in text for title in titles)
    assert page.count("<figure") == sum(len(section.charts) for section in SECTIONS)


def test_every_method_can_be_hidden(page):
    for number in range(6):
        assert f'id="show-{number}" checked' in page
        assert f"body:has(#show-{number}:not(:checked)) .method-{number} " in page
        assert f'class="series series-{number} method-{number}"' in page
        assert f'<tr class="method-{number}">' in page


def test_results_are_sorted_by_score(tables):
    header, *rows = rows_of(tables, "All configurations")
    assert len(rows) == 11
    scores = [float(row[header.index("score")].split()[0]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert {row[0] for row in rows} == {
        "BestOf Hard",
        "BestOf MajorityVote",
        "BestOf Soft",
        "Calibrate(Cards)",
        "Plain",
        "QAlign",
    }


def test_the_reference_is_not_compared_with_itself(tables):
    for title in re.findall(r"## (Against best-of-N .*)", tables):
        rows = rows_of(tables, title)[1:]
        assert rows
        assert not [row for row in rows if row[0] == "BestOf Hard"]


def test_what_is_no_divergence_of_the_answer_is_marked_and_not_drawn(tables, outputs):
    header, *rows = rows_of(tables, "Divergence from the policy")
    shown = {(row[0], row[1]): dict(zip(header, row, strict=True)) for row in rows}
    assert shown["QAlign", "4"]["KL by log Z"] == "too few draws"
    assert shown["Calibrate(Cards)", "1"]["KL by tries"].endswith(", too low")
    found = analyse_study(group_studies(find_runs([outputs]))[0], resamples=100)
    colours = {row.configuration.method: 0 for row in found.rows}
    [kl] = [chart for chart in make_charts(found, colours) if chart.key == "score-kl"]
    tips = " ".join(point.tip for series in kl.series for point in series.points)
    assert "BestOf Hard @ 4" in tips
    assert "QAlign" not in tips
    assert "Calibrate(Cards) @ 1" not in tips


def test_examples_show_every_method_and_its_proposals(page):
    text = Tags(page).text
    assert text.count("BestOf Soft @ 4") >= text.count("toy-")  # its name, and in charts
    assert re.search(r"4 proposals:\s+(\d accepted, \d rejected|\d rejected, \d accepted)", text)
    verdicts = set(re.findall(r'class="verdict-(\w+)"', page))
    assert {"right", "wrong"} <= verdicts


def test_reports_are_the_same_every_time(outputs, page, tables, tmp_path):
    assert main([str(outputs), *QUICK, "--output", str(tmp_path)]) == 0
    assert (tmp_path / "index.html").read_text() == page
    assert (tmp_path / "tables.md").read_text() == tables


def test_figures_are_files_for_papers(outputs, tmp_path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    given = [str(outputs / "plain-1"), "--resamples", "100", "--output", str(tmp_path)]
    assert main(given) == 0
    drawn = sorted((tmp_path / "figures").iterdir())
    names = {path.name for path in drawn}
    assert {"score-drawn-tokens.png", "reward-kl.pdf"} <= names
    assert len(names) == 2 * (tmp_path / "index.html").read_text().count("<figure")
    pixels = pyplot.imread(tmp_path / "figures" / "score-drawn-tokens.png")[..., :3]
    inside = pixels[:, : pixels.shape[1] * 3 // 4]  # left of the legend
    colour = [int(COLOURS[0][0][i : i + 2], 16) / 255 for i in (1, 3, 5)]
    assert (abs(inside - colour).max(axis=-1) < 0.02).sum() > 20
    for path in drawn:
        begins = {".png": b"\x89PNG", ".pdf": b"%PDF"}[path.suffix]
        assert path.read_bytes().startswith(begins)


def test_figures_of_several_studies_are_apart(tmp_path, monkeypatch):
    folders = []
    monkeypatch.setattr(figures, "save_files", lambda charts, folder: folders.append(folder))
    strategy = Plain(max_tokens=toy_study.MAX_TOKENS)
    make(tmp_path / "a", strategy, 1)
    make(tmp_path / "b", strategy, 1, policy={"_target_": "other"})
    assert main([str(tmp_path), "--resamples", "100", "--output", str(tmp_path / "report")]) == 0
    assert folders == [tmp_path / "report" / "figures" / name for name in ("0-toy", "1-toy")]


def test_seeds_in_folders_of_their_own_are_one_configuration(tmp_path):
    strategy = BestOf(n=4, inner=Plain(max_tokens=toy_study.MAX_TOKENS))
    make(tmp_path / "a", strategy, 4, seeds=(0,))
    make(tmp_path / "b", strategy, 4, seeds=(1,))
    make(tmp_path / "c", strategy, 4, seeds=(0, 1))
    apart = group_studies(find_runs([tmp_path / "a", tmp_path / "b"]))
    together = group_studies(find_runs([tmp_path / "c"]))
    all_of = group_studies(find_runs([tmp_path]))
    found = [analyse_study(one, resamples=100).rows[0] for [one] in (apart, together, all_of)]
    assert len({(row.num_answers, row.score, row.reward) for row in found}) == 1
    assert apart[0].seeds == [0, 1]


def test_a_strategy_that_no_budget_changes_is_one_configuration(tmp_path):
    for size in (4, 1, 16):
        make(tmp_path / f"plain-{size}", Plain(max_tokens=toy_study.MAX_TOKENS), size)
    [study] = group_studies(find_runs([tmp_path]))
    [one] = study.configurations
    assert (one.name, len(one.records)) == ("Plain @ 1", 2 * len(toy_study.ITEMS))


def test_what_cannot_be_compared_is_kept_apart(tmp_path):
    strategy = Plain(max_tokens=toy_study.MAX_TOKENS)
    make(tmp_path / "a", strategy, 1)
    make(tmp_path / "b", strategy, 1, task={"_target_": "toy", "max_tokens": 3})
    make(tmp_path / "c", strategy, 1, policy={"_target_": "other", "model": "large"})
    make(tmp_path / "d", strategy, 1, reward={"_target_": "rewards.Other"})
    found = group_studies(find_runs([tmp_path]))
    assert [len(study.configurations) for study in found] == [1, 1, 1, 1]
    assert len({study.settings for study in found}) == 4
    titles = [study.title for study in found]
    assert len(set(titles)) == 4
    assert sum("policy.model=large" in title for title in titles) == 1
    assert sum("reward=rewards.Other" in title for title in titles) == 1


def test_a_task_of_more_items_is_the_same_task(tmp_path):
    strategy = Plain(max_tokens=toy_study.MAX_TOKENS)
    make(tmp_path / "a", strategy, 1)
    make(tmp_path / "b", BestOf(n=4, inner=strategy), 4, task={"_target_": "toy", "limit": 3})
    [study] = group_studies(find_runs([tmp_path]))
    assert study.title == "toy"


def test_runs_without_a_reward_stand_beside_those_of_each_reward(tmp_path):
    strategy = Plain(max_tokens=toy_study.MAX_TOKENS)
    make(tmp_path / "a", strategy, 1, reward=None)
    make(tmp_path / "b", BestOf(n=4, inner=strategy), 4)
    make(tmp_path / "c", BestOf(n=4, inner=strategy), 4, reward={"_target_": "rewards.Other"})
    found = group_studies(find_runs([tmp_path]))
    methods = [[one.method for one in study.configurations] for study in found]
    assert methods == [["BestOf", "Plain"]] * 2


def test_a_hard_limit_is_a_size(tmp_path):
    """Each is compared with best-of-N that such a limit ends."""
    plain = Plain(max_tokens=toy_study.MAX_TOKENS)
    for tokens in (60, 9):
        budget = {"answers": 4, "limit": {"policy_tokens": tokens, "seconds": None}}
        make(tmp_path / f"best-{tokens}", BestOf(n=4, inner=plain), 4, budget=budget)
        soft = BestOf(n=4, inner=plain, select=Soft(temperature=1.0))
        make(tmp_path / f"soft-{tokens}", soft, 4, budget=budget)
    make(tmp_path / "unlimited", BestOf(n=4, inner=plain), 4)
    [study] = group_studies(find_runs([tmp_path]))
    sizes = by_method(study.configurations)
    assert {name: [str(one.size) for one in of] for name, of in sizes.items()} == {
        "BestOf Hard (limited by policy_tokens)": ["4, policy_tokens=9", "4, policy_tokens=60"],
        "BestOf Hard": ["4"],
        "BestOf Soft": ["4, policy_tokens=9", "4, policy_tokens=60"],
    }
    found = analyse_study(study, resamples=100)
    assert {name: [str(one.size) for one in of] for name, of in found.references.items()} == {
        f"BestOf Soft @ 4, policy_tokens={n}": [
            "4, policy_tokens=9",
            "4, policy_tokens=60",
        ]
        for n in (9, 60)
    }


def test_comparisons_use_the_seeds_that_both_sides_have(tmp_path):
    plain = Plain(max_tokens=toy_study.MAX_TOKENS)
    soft = BestOf(n=4, inner=plain, select=Soft(temperature=1.0))
    make(tmp_path / "both" / "soft", soft, 4)
    make(tmp_path / "both" / "best", BestOf(n=4, inner=plain), 4)
    make(tmp_path / "more", BestOf(n=4, inner=plain), 4, seeds=(2,))
    [both] = group_studies(find_runs([tmp_path / "both"]))
    [more] = group_studies(find_runs([tmp_path]))
    assert both.warnings == [few_items(both)]
    assert "Not all seeds are done in BestOf Soft @ 4 (0, 1)." in " ".join(more.warnings)
    of_both, of_more = analyse_study(both, resamples=100), analyse_study(more, resamples=100)
    assert of_both.same_size[0].comparison == of_more.same_size[0].comparison
    means = [
        {row.configuration.method: row.score.mean for row in of.rows} for of in (of_both, of_more)
    ]
    assert means[0]["BestOf Hard"] != means[1]["BestOf Hard"]


def test_a_colour_says_what_the_adjusted_test_says():
    """An interval that excludes 0 is no verdict where the test and its neighbours say otherwise."""
    value = Interval(-0.125, -0.292, -0.042, 12)
    assert difference(value, 1.0) == Cell("-0.125 [-0.292, -0.042]")
    assert difference(value, 0.049).kind == "worse"
    assert difference(Interval(0.1, -0.1, 0.3, 12), 0.01).kind == "better"


def test_points_stand_where_they_are():
    """Series at one cost are drawn at one place, on a logarithmic axis too."""
    drawn = Chart(
        key="k",
        title="t",
        x_name="x",
        y_name="y",
        logarithmic=True,
        series=[
            Series(
                name=str(i),
                number=i,
                points=[Point(x=x, y=i, low=i, high=i, tip="") for x in (1, 16, 256)],
            )
            for i in range(5)
        ],
    )
    svg = figures.draw_svg(drawn, "k")
    xs = sorted({round(float(x), 3) for x in re.findall(r'<use [^>]*x="([\d.]+)"', svg)})
    assert len(xs) == 3
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.01)


def few_items(study):
    """The warning of every study of fewer than 30 items."""
    [warning] = [one for one in study.warnings if one.startswith("Few ")]
    assert f"({study.num_items}): the intervals are wide" in warning
    return warning


@pytest.mark.parametrize(
    ("num_clusters", "size", "unit"),
    [
        (30, 1, None),
        (29, 1, "items (29)"),
        (29, 2, "independent groups of items (29)"),
        (30, 3, None),
    ],
)
def test_few_independent_items_are_told(tmp_path, num_clusters, size, unit):
    [record] = toy_study.answer(Plain(max_tokens=toy_study.MAX_TOKENS))[:1]
    records = [
        record | {"item": f"{cluster}-{i}", "cluster": str(cluster)}
        for cluster in range(num_clusters)
        for i in range(size)
    ]
    toy_study.write(tmp_path / "a", Plain(max_tokens=toy_study.MAX_TOKENS), 1, records)
    [study] = group_studies(find_runs([tmp_path]))
    told = [one.split(":")[0] for one in study.warnings if one.startswith("Few ")]
    assert told == ([] if unit is None else [f"Few {unit}"])


def test_readers_are_warned(tmp_path):
    strategy = Plain(max_tokens=toy_study.MAX_TOKENS)
    journal = tmp_path / "journal"
    toy_study.answer(strategy, journal=journal)
    toy_study.write(tmp_path / "a", strategy, 1, toy_study.answer(strategy, journal=journal))
    half = toy_study.answer(BestOf(n=4, inner=strategy))[:5]
    for record in half:
        record["usage"]["replayed"] = 1
    half[0] |= {"error": {"kind": "PolicyError", "message": "gone"}, "grade": None, "answers": []}
    toy_study.write(tmp_path / "b", BestOf(n=4, inner=strategy), 4, half)
    [study] = group_studies(find_runs([tmp_path]))
    warnings = " ".join(study.warnings)
    assert "Not all items are done in BestOf @ 4;" in warnings
    assert "1 answers failed" in warnings
    assert "No seconds are known of 2 of the 2 configurations" in warnings
    assert main([str(tmp_path), *QUICK]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    text = Tags(page).text
    assert "against seconds" not in text
    assert '<th scope="col">seconds</th>' not in page
    assert all(warning in text for warning in study.warnings)


def test_seconds_are_of_fresh_runs(tmp_path):
    """Those that shared their draws have none, and get them from runs that did not."""
    strategy = BestOf(n=4, inner=Plain(max_tokens=toy_study.MAX_TOKENS))
    journal = tmp_path / "journal"
    toy_study.answer(strategy, journal=journal)
    replayed = toy_study.answer(strategy, journal=journal)
    toy_study.write(tmp_path / "shared", strategy, 4, replayed)
    [alone] = group_studies(find_runs([tmp_path / "shared"]))
    assert Cost.SECONDS not in alone.costs
    fresh = toy_study.answer(strategy, seeds=(0,))
    toy_study.write(tmp_path / "fresh", strategy, 4, fresh)
    [both] = group_studies(find_runs([tmp_path / "fresh", tmp_path / "shared"]))
    assert both.costs == list(Cost)
    assert both.warnings == [few_items(both)]
    [row] = analyse_study(both, resamples=100).rows
    assert row.num_answers == 2 * len(fresh)
    assert row.usage["seconds"] == pytest.approx(
        fmean(record["usage"]["seconds"] for record in fresh)
    )


def test_the_commands_compose_to_the_same_configuration(tmp_path):
    resolvers.register()
    composed = overrides.compose_config(["strategy=qalign", "budget=4", "task=arithmetic"])
    folder = tmp_path / hash_config(composed)
    make(folder, Plain(max_tokens=toy_study.MAX_TOKENS), 4)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(composed, resolve=True))
    [command] = write_commands(find_runs([folder]))
    assert f"--config-path={folder} --config-name=config" in command
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        again = compose("config", overrides=["output=outputs/again"])
    assert hash_config(again) == folder.name


def test_commands_are_safe_in_a_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(Path("a b; rm"), Plain(max_tokens=toy_study.MAX_TOKENS), 1)
    [command] = write_commands(find_runs([Path("a b; rm")]))
    assert shlex.split(command)[2] == "--config-path=$PWD/a b; rm"
    [command] = write_commands(find_runs([tmp_path / "a b; rm"]))
    assert shlex.split(command)[2] == f"--config-path={tmp_path}/a b; rm"


@pytest.mark.parametrize(
    ("name", "says"),
    [("missing", "is no folder"), ("empty", "there are no records"), ("other", "not a run folder")],
)
def test_what_cannot_be_read_is_told(tmp_path, name, says, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "records.jsonl").write_text("{}\n")
    assert main([str(tmp_path / name), *QUICK]) == 2
    assert says in capsys.readouterr().err


def test_too_few_resamples_are_refused(outputs, capsys):
    assert main([str(outputs), "--resamples", "5"]) == 2
    assert "at least 100" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_told(outputs, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([str(outputs / "plain-1"), *QUICK, "--output", str(tmp_path / "file")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_markdown_means_what_it_says():
    table = Table(
        key="x",
        title="a|b",
        notes=["<i>"],
        columns=["n_1"],
        rows=[[Cell("*1* | 2\n3", "worse")]],
    )
    text = markdown_table(table)
    assert "## a\\|b" in text
    assert "\\<i\\>" in text
    assert "| **\\*1\\* \\| 2 3** |" in text
    assert "| n\\_1 |" in text


@pytest.mark.parametrize(("low", "high"), [(1, 256), (80, 900), (0.02, 0.5), (2, 3e6), (7, 7)])
def test_ticks_are_round_and_few(low, high):
    points = [Point(x=x, y=-1.0, low=-1.5, high=-0.5, tip="") for x in (low, high)]
    series = [Series(name="one", number=0, points=points)]
    drawn = Chart(key="k", title="t", x_name="x", y_name="y", series=series, logarithmic=True)
    svg = figures.draw_svg(drawn, "k")
    labels = re.findall(r"<text[^>]*>([\d.]+[kM]?)</text>", svg)
    sizes = {"k": 1e3, "M": 1e6}
    xs = [float(label.rstrip("kM")) * sizes.get(label[-1], 1) for label in labels]
    assert 1 <= len(xs) <= 14
    assert all(f"{x:e}"[0] in "12357" for x in xs)
    assert low == high or len(xs) > 1


def test_a_drawing_suits_light_and_dark_ground(page):
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == sum(len(section.charts) for section in SECTIONS)
    for drawing in drawings:
        assert "var(--series-" in drawing
        assert not re.search(r"(fill|stroke): ?(#|black|white)", drawing)


def test_what_a_method_is_called_is_text_in_a_drawing():
    points = [Point(x=x, y=1.0, low=0.5, high=1.5, tip='<b>&"') for x in (1, 2)]
    series = [Series(name='<i>&"$x$', number=0, points=points)]
    chart = Chart(key="k", title='a "b"', x_name="x", y_name="y", series=series, logarithmic=False)
    tags = Tags(figures.draw_svg(chart, "k"))
    assert not {"b", "i"} & {tag for tag, _ in tags.elements}
    assert '<b>&"' in tags.texts
    assert '<i>&"$x$' in tags.texts
    assert dict(tags.elements)["svg"]["aria-label"] == 'a "b"'


def test_paths_must_be_given():
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    with pytest.raises(ConfigError, match="there are no records"):
        find_runs([])
