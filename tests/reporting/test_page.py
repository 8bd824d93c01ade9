"""The HTML page: by itself, complete, escaped, honest, and never larger than it may be."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from limner.errors import LimnerError
from limner.reporting import SIZE_LIMIT_BYTES, ReportInputs, write_report
from tests.reporting.made_up import LIKENESS, MANY, RAW, write_run
from tests.reporting.reading import Page, markdown_links

NASTY = '<script>alert("x")</script> & `code` | [a](b) *'


def page_of(made, folder: Path, **options) -> Page:
    folder.mkdir()
    write_report(ReportInputs(*made.arguments), folder, **options)
    return Page(folder / "index.html")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def page(made, tmp_path_factory) -> Page:
    return page_of(made, tmp_path_factory.mktemp("page") / "report")


def test_everything_it_loads_lies_inside_it(page):
    assert page.loads
    assert all(target.startswith("data:image/webp;base64,") for target in page.loads)
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_likeness_is_not_said_to_be_missing_where_it_was_not_asked_for(tmp_path):
    raw = {**RAW, "render": {**RAW["render"], "prompts": [*RAW["render"]["prompts"], {"name": "c", "prompt": "a cat"}]}}
    made = write_run(tmp_path / "run", raw=raw)
    page = page_of(made, tmp_path / "report")
    table = re.search(r'<table class="plate".*?</table>', page.source, re.S)
    assert table
    groups = {part.split("</span>")[0]: part for part in table[0].split('<span class="name">')[1:]}
    assert [groups[name].count("<dt>likeness</dt>") > 0 for name in ("garden", "pencil", "c")] == [True, True, False]
    assert "not measurable" not in groups["c"]
    (line,) = [
        line for line in (tmp_path / "report" / "README.md").read_text().splitlines() if line.startswith("| **c**")
    ]
    assert "likeness" not in line
    assert "prompt 0." in line


def test_lines_of_ranks_differ_without_colour_and_sentences_do_not_break_at_a_sign(tmp_path):
    page = page_of(write_run(tmp_path / "run", raw=MANY), tmp_path / "report")
    card = page.source.partition('<article class="card"')[2].partition("</svg>")[0]
    dashes = re.findall(r'class="line k\d+"(?: stroke-dasharray="([^"]*)")?', card)
    assert sorted(dashes) == [
        "",
        "",
        "",
        "10 3",
        "2 3",
        "5 3",
    ]  # base, full and the highest rank have markers of their own
    told = re.findall(r"<li>(.*?)</li>", page.source)
    assert any("p\u00a0=\u00a00." in each for each in told)
    assert not any(" = " in each for each in told if "corrected" in each)


def test_its_tags_are_nested_as_they_should_be_and_its_identifiers_differ(page):
    assert page.misnested == []
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")} <= set(names)


def test_every_cell_reference_and_photo_is_there_with_words_for_it(made, page):
    ranked = re.findall(r'<ol class="ranked".*?</ol>', page.source, re.S)  # they stand in the table too
    again = sum(part.count('class="print"') for part in ranked)
    linked = sorted({attributes["href"] for attributes in page.all("a", **{"class": "print"})})
    wanted = [f"images/renders/{cell.file}" for cell in made.renders.cells]
    wanted += [f"images/control/{cell.file}" for cell in made.controls.cells]
    wanted += [f"images/photos/{file.name}" for file in made.photo_set.files]
    for entry in made.controls.references:
        wanted += [f"images/control/{entry.image}", f"images/control/{entry.canny}"]
    assert sorted(linked) == sorted(wanted)
    shown = [image for image in page.all("img") if "src" in image]
    assert len(shown) == len(wanted) + again + 2  # the two that are compared
    assert all(len(image["alt"]) > 5 and int(image["width"]) > 0 for image in shown)


def test_a_row_holds_one_seed_of_every_column_in_order(made, page):
    rows = re.findall(r'<tr class="pictures"[^>]*>(.*?)</tr>', page.source, re.S)
    labels = list(dict.fromkeys(cell.variant for cell in made.renders.cells))
    assert labels[0] == "base"
    first = re.findall(r'href="images/renders/([^/]+)/([^/]+)/(\d+)\.png"', rows[0])
    assert first == [(label, "garden", "42") for label in labels]
    heads = [match.strip() for match in re.findall(r"</svg>([^<]+)</span>", page.source)]
    assert heads[: len(labels)] == labels


def test_scores_stand_under_their_pictures_and_gains_are_against_the_base(made, page):
    def value(variant):
        rows = made.scores.rows
        key = {"variant": variant, "prompt": "garden", "metric": LIKENESS, "reference": None}
        return next(row.value for row in rows if all(getattr(row, name) == wanted for name, wanted in key.items()))

    row = re.findall(r'<tr class="pictures"[^>]*>(.*?)</tr>', page.source, re.S)[0]
    cell = re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)[1]
    assert f"{value('dreambooth'):.3f}" in cell
    assert f"{value('dreambooth') - value('base'):+.3f}" in cell


def test_names_prompts_and_notes_are_escaped_in_both_reports(tmp_path):
    raw = {
        **RAW,
        "subject": {"photos": "photos", "class_noun": NASTY, "consent": NASTY},
        "render": {"size": [64, 64], "prompts": [{"name": "nasty", "prompt": "{subject} " + NASTY}]},
    }
    made = write_run(tmp_path / "run", raw=raw, photos=1)
    page = page_of(made, tmp_path / "report")
    assert "<script>alert" not in page.source
    assert len(page.all("script")) == 1
    assert f"{NASTY}" in page.text
    readme = (tmp_path / "report" / "README.md").read_text()
    assert "<script>" not in readme
    assert "[a](b)" not in re.sub(r'alt="[^"]*"', "", readme)
    table_rows = [line for line in readme.splitlines() if line.startswith("| **nasty**")]
    assert len(table_rows) == 1
    assert len(re.findall(r"(?<!\\)\|", table_rows[0])) == 1 + 1 + 5  # edges of the table, name, five columns


@pytest.mark.parametrize(("photos", "scored"), [(1, False), (3, True)])
def test_what_was_not_measured_is_said_and_never_a_number(tmp_path, photos, scored):
    made = write_run(tmp_path / "run", photos=photos, scored=scored)
    page = page_of(made, tmp_path / "report")
    assert "ceiling not measurable" in page.text
    assert "Copying: not measurable." in page.text
    assert "nan" not in page.text.lower().replace("finan", "")
    if not scored:
        assert "Likeness could not be measured" in page.text
        assert "Prompt fidelity could not be measured" in page.text
        assert not page.all("svg", **{"class": "chart"})
        assert page.text.count("not measurable") > 2 * len(made.renders.cells)


def test_many_big_pictures_are_made_small_enough(tmp_path):
    rng = np.random.default_rng(0)

    def noise(size, index):  # the worst that can be compressed
        return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))

    raw = {**RAW, "render": {**RAW["render"], "size": [256, 256], "seeds": [1, 2]}}
    raw.pop("control")
    made = write_run(tmp_path / "run", raw=raw, draw=noise)
    limit = 250_000
    page = page_of(made, tmp_path / "report", size_limit_bytes=limit)
    assert limit / 3 < len(page.source.encode()) <= limit
    names = {image["alt"] for image in page.all("img") if image.get("src", "").startswith("data:")}
    assert len(names) == len(made.renders.cells) + 5
    assert SIZE_LIMIT_BYTES == 15 * 1024 * 1024


def test_where_not_even_small_pictures_fit_they_are_linked_and_text_alone_too_large_is_an_error(made, tmp_path):
    text_bytes = len(re.sub(r'src="data:[^"]*"', "", source_of(made, tmp_path / "a")).encode())
    page = page_of(made, tmp_path / "b", size_limit_bytes=text_bytes)
    assert not page.loads
    linked = {attributes["href"] for attributes in page.all("a", **{"class": "withheld"})}
    assert len(linked) == len(made.renders.cells) + len(made.controls.cells) + 4 + 5
    with pytest.raises(LimnerError, match="text alone"):
        page_of(made, tmp_path / "c", size_limit_bytes=10_000)


def source_of(made, folder: Path) -> str:
    return page_of(made, folder).source


def test_a_flagged_picture_is_linked_and_not_shown(tmp_path):
    made = write_run(tmp_path / "run", flagged=True)
    page = page_of(made, tmp_path / "report")
    flagged = made.renders.cells[0]
    assert [a["href"] for a in page.all("a", **{"class": "withheld"})] == [f"images/renders/{flagged.file}"]
    assert "blanked one picture" in page.text


def test_adapters_without_a_log_say_so_and_those_with_one_are_drawn(tmp_path, page):
    assert len(page.all("svg", **{"class": "chart curve"})) == 4
    without = page_of(write_run(tmp_path / "run", logged=False), tmp_path / "report")
    assert without.text.count("has no training log") == 4
    assert not without.all("svg", **{"class": "chart curve"})


def test_training_seeds_stack_in_one_column_and_strengths_have_their_own(tmp_path):
    raw = {
        **RAW,
        "variants": [{"method": "lora", "rank": [4], "steps": 10, "training_seeds": [0, 1, 2]}],
        "render": {**RAW["render"], "lora_scales": [1.0, 0.5]},
    }
    page = page_of(write_run(tmp_path / "run", raw=raw), tmp_path / "report")
    plate = re.findall(r"<thead>(.*?)</thead>", page.source, re.S)[0]
    assert re.findall(r"</svg>([^<]+)</span>", plate) == ["base", "lora-4", "lora-4 × 0.5"]
    assert "seed 42, training seed 2" in page.text
    assert "descriptive only" not in page.text
    assert len(page.all("a", href="images/renders/base/garden/42.png")) == 1


def test_one_training_seed_is_called_descriptive(page):
    assert "One training seed per variant: descriptive only" in page.text
    assert "nothing is tested: the sentences describe these pictures" in page.text
    assert "Intervals are over training seeds, for" not in page.text


def test_every_link_of_the_markdown_report_leads_somewhere(made, page, tmp_path):
    write_report(ReportInputs(*made.arguments), tmp_path)
    links = markdown_links((tmp_path / "README.md").read_text())
    assert len([link for link in links if link.startswith("images/")]) >= 2 * len(made.renders.cells)
    assert [link for link in links if not (tmp_path / link).is_file()] == []


def test_the_markdown_report_has_charts_the_scorecard_and_the_most_and_least_alike(made, tmp_path):
    write_report(ReportInputs(*made.arguments), tmp_path)
    text = (tmp_path / "README.md").read_text()
    for name in ("trade-off", "rank"):
        assert f"images/charts/{name}.svg" in markdown_links(text)
        drawn = ElementTree.parse(tmp_path / f"images/charts/{name}.svg").getroot()
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        styled = drawn[0].text or ""
        used = {name for each in drawn.iter() for name in each.get("class", "").split() if re.fullmatch(r"k\d+", name)}
        assert used
        assert all(f".{name}{{--k:#" in styled for name in used)
    assert "### Control scorecard" in text
    places = re.findall(r"^\| (\d+) \| <a", text.partition("### Most alike")[2], re.M)
    assert places == ["1", "2", "3", "4", "8", "7", "6", "5"]  # eight renders of four variants


def test_the_lines_for_using_an_adapter_name_files_that_exist(made, page):
    code = "\n".join(re.findall(r"<code>(from .*?)</code>", page.source, re.S)).replace("&#34;", '"')
    named = re.findall(r'"(adapters/[^"]+)"', code)
    assert len(named) == len(made.adapters)
    assert all((made.run / name).exists() for name in named)


def test_a_lora_on_a_full_result_loads_the_full_weights_first(tmp_path):
    on_top = {"method": "lora", "name": "on-top", "rank": [4], "steps": 10, "start_from": "dreambooth"}
    further = {**on_top, "name": "further", "start_from": "on-top"}
    made = write_run(tmp_path / "run", raw={**RAW, "variants": [RAW["variants"][0], on_top, further]})
    page = page_of(made, tmp_path / "report")
    blocks = [block.replace("&#34;", '"') for block in re.findall(r"<code>(from .*?)</code>", page.source, re.S)]
    for block, label in zip(blocks[1:], ["on-top", "further"], strict=True):
        places = re.findall(r'"(adapters/[^"]+)"', block)
        assert places == ["adapters/dreambooth/unet.safetensors", f"adapters/{label}"]


@pytest.mark.parametrize(("language", "codes"), [("en", {"en"}), ("ru", {"ru"}), ("both", {"en", "ru"})])
def test_conclusions_and_meanings_are_in_the_languages_of_the_study(tmp_path, language, codes):
    variants = [{**variant, "training_seeds": [0, 1, 2]} for variant in RAW["variants"]]
    made = write_run(tmp_path / "run", raw={**RAW, "variants": variants, "report": {"language": language}})
    page = page_of(made, tmp_path / "report")
    readme = (tmp_path / "report" / "README.md").read_text()
    assert {attributes["lang"] for attributes in page.all("ul", **{"class": "conclusions"})} == codes
    for code, words in {
        "en": ("would have been found with 80% power", "Trade-off front", "how near an image embedding"),
        "ru": ("с мощностью 80", "Граница компромисса", "насколько эмбеддинг изображения"),
    }.items():
        for text in (page.text, readme):
            assert all((phrase in text) == (code in codes) for phrase in words)


def test_many_comparisons_are_folded_away_and_none_is_lost(tmp_path):
    page = page_of(write_run(tmp_path / "run", raw=MANY), tmp_path / "report")
    folds = re.findall(r'<details class="further">(.*?)</details>', page.source, re.S)
    assert folds
    for fold in folds:
        count, undecided = map(int, re.findall(r"Further comparisons: (\d+); .* in (\d+) of them", fold)[0])
        assert fold.count("<li>") == count > 4
        assert fold.count("No difference in") == undecided
    said = (tmp_path / "report" / "README.md").read_text()
    assert said.count("No difference in") == page.source.count("No difference in") > 20
    open_pairs = [
        i for i in re.sub(r"<details.*?</details>", "", page.source, flags=re.S).split("<li>") if "No diff" in i
    ]
    assert all("and the base" in each for each in open_pairs)


def test_conclusions_have_a_chapter_a_score_with_drift_diversity_class_and_edges(tmp_path):
    page = page_of(write_run(tmp_path / "run", raw=MANY), tmp_path / "report")
    chapters = re.findall(r'<h4 lang="en">([^<]+)</h4>', page.source)
    wanted = ["Likeness", "Prompt fidelity", "Class likeness", "Drift", "Diversity", "Edge agreement"]
    assert chapters[: len(wanted)] == wanted
    for sentence in ("Mean drift, from highest to lowest: dreambooth 0.", "Class likeness is higher for dreambooth",
                     "Diversity is higher for the base than for dreambooth", "95% interval"):  # fmt: skip
        assert sentence in page.text
