"""The notebooks in a real JupyterLab, as a learner has them: run `make test-browser`, with NOTEBOOKS="02 05" or so."""

import os
import shutil
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from jupyter_lab import BROWSERS, chromium, serving
from lab_page import CONTROLS, WINDOW, LabPage, label

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = Path(os.environ.get("LABKIT_SCREENSHOTS") or ROOT / "tests" / "browser" / "screenshots")
ASKED = os.environ.get("NOTEBOOKS", "00 03").split()
LESSONS = [path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.stem[:2] in ASKED or ASKED == ["all"]]
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
LIMIT = 0.5  # seconds for a widget to show something new
# Seconds for its picture. The planner plans a step anew, in up to a second of computing, and says so at once.
PICTURE = {"05_memory": 5.0}
TRIES = 3  # the best counts: other programs may hold up one
WORDS_ONLY = {"double quantization"}  # rounds the scales, which the explorer's picture does not show
QUESTIONS = """
import labkit as lk
which = lk.guess("Is 1 < 2, or would you say that it is the other way round, now that you have thought about it for \
as long as a question takes that is too long for one line?", ["Yes", "No", "It " + "really " * 30 + "depends"])
how_many = lk.guess("How many?")
---
which.reveal("No")
how_many.reveal(3)
"""
# Two models that say nonsense at once.
MODELS = """
import torch
import labkit as lk
from labkit.assets.fetch import ensure
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
reader = AutoTokenizer.from_pretrained(ensure("smollm2-135m"), local_files_only=True)
sizes = {"vocab_size": len(reader), "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
models = {}
for name, seed in {"before": 0, "after": 1}.items():
    torch.manual_seed(seed)
    network = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=2, max_position_embeddings=80)).eval()
    models[name] = lk.Model("tiny", network, reader, "causal", torch.float32)
---
"""
CHAT = f"""{MODELS}
lk.ChatWidget(models, system="Be brief.", max_new_tokens=12)
"""
SPECIALISTS = f"""{MODELS}
adapters = {{name: lk.LoRA(rank=2).apply(models["before"]) for name in ("hospital", "law")}}
for model in adapters.values():
    for weight in model.trainable().values():
        torch.nn.init.normal_(weight)
prompts = ["Finding: <b>high</b> fever\\nDepartment:", "License: as you like\\nCategory:"]
lk.SideBySide(lk.Specialists(models["before"], adapters), prompts)
"""
EPISODES = """
import labkit as lk
from labkit.generation.replies import Reply
from labkit.training.episodes import Episode
def episode(prompt, asked, tokens, advantages, rewards, stopped=True):
    reply = Reply("".join(tokens), len(tokens), stopped, tuple(range(len(tokens))))
    return Episode(prompt, asked, reply, tuple(tokens), tuple(advantages), sum(rewards.values()), rewards)
asked = [{"role": "system", "content": "Answer with yes or no."}, {"role": "user", "content": "Is 1 < 2?"}]
lk.show_episodes([
    episode(1, asked, ["Yes", ",", " it", " is", ".\\n"] + [" Really"] * 30, [0.75] * 35, {"right": 1, "short": -0.25}),
    episode(1, asked, ["No"], [-0.75], {"right": 0, "short": 0.0}, stopped=False),
    episode(2, "Go on:", [" a", " b", "c" * 90, " d"], [0.25, 1.0, -0.5, 0.001], {"right": 1.0}),
])
"""
WRITTEN = {"questions": QUESTIONS, "chat": CHAT, "specialists": SPECIALISTS, "episodes": EPISODES}


@pytest.fixture(scope="module")
def browser():
    path = chromium()
    assert path or not os.environ.get("LABKIT_CHROMIUM"), "what LABKIT_CHROMIUM names does not start"
    if path is None:
        pytest.skip(f"no browser: LABKIT_CHROMIUM names none, and none of {', '.join(BROWSERS)} is on the PATH")
    reason = 'needs the extra browser: pip install -e ".[browser]"'
    api = pytest.importorskip("playwright.sync_api", reason=reason)
    pytest.importorskip("axe_playwright_python", reason=reason)
    with api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path)


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory):
    """A JupyterLab that serves copies of the notebooks, and those that are written here."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for name, code in WRITTEN.items():
        cells = [nbformat.v4.new_code_cell(source.strip()) for source in code.split("---")]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")
    with serving(folder, tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def open_lab(browser, address):
    """A function that opens a notebook; afterwards, the browser must not have complained."""
    pages = []

    def opened(notebook):
        pages.append(LabPage(browser.new_page(viewport=WINDOW), address, notebook))
        return pages[-1]

    yield opened
    for page in pages:
        page.close()
    for page in pages:
        assert page.complaints == []


def require_accessible(lab, name):
    """In both themes: keep pictures, and require that axe finds no fault with what the cells show."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    faults = {}
    for short, theme in THEMES.items():
        lab.theme(theme)
        lab.shoot(SCREENSHOTS, f"{name}-{short}")
        faults[short] = lab.faults()
    assert not any(faults.values()), faults


def within(limits, times):
    return all(time < limit for time, limit in zip(times, limits, strict=True))


@pytest.mark.parametrize("notebook", LESSONS, ids=lambda path: path.stem)
def test_a_notebook_runs_answers_and_is_accessible(notebook, open_lab):
    lab = open_lab(f"notebooks/{notebook.name}")
    lab.run_all()
    code = "".join(cell.source for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code")
    assert lab.page.locator(".labkit-guess").count() == code.count("lk.guess(")
    for widget in lab.widgets():
        stops, expected = lab.tab_stops(widget)
        assert stops == expected
        for control in widget.locator(CONTROLS).all():
            name, tries = label(control), []
            shown = "words" if name in WORDS_ONLY else "picture"
            limits = (LIMIT, PICTURE.get(notebook.stem, LIMIT))
            while len(tries) < TRIES and not any(within(limits, times) for times in tries):
                tries.append(lab.seconds_to_answer(widget, control, shown))
            print(f"{notebook.stem}: {name}: {shown} after", *(f"{answer:.2f} s" for _, answer in tries))
            assert any(within(limits, times) for times in tries), (name, tries)
    require_accessible(lab, notebook.stem)


def test_a_guess_is_asked_for_kept_and_revealed(open_lab):
    lab = open_lab("questions.ipynb")
    lab.run_all()
    assert lab.page.locator(".labkit-guess").count() == 2
    assert lab.printed() == ""  # nothing is revealed before there is a guess
    lab.page.get_by_role("radio", name="No", exact=True).click()
    number = lab.page.get_by_role("textbox", name="your guess")
    number.fill("many")
    number.press("Enter")
    lab.page.get_by_text("Write a number").wait_for()
    number.fill("4,5")
    number.press("Tab")
    lab.page.get_by_text("Write a number").wait_for(state="hidden")
    lab.run(1)
    for _ in range(2):
        assert "You guessed No; it is No." in lab.printed()
        assert "You guessed 4.5; it is 3. Right so far: 2 of 2." in lab.printed()
        lab.restart()
        lab.run_all()
        assert lab.page.get_by_role("radio", name="No", exact=True).is_checked()
        assert number.input_value() == "4.5"
    require_accessible(lab, "questions")


def test_a_message_is_answered_by_two_models_side_by_side(open_lab):
    from playwright.sync_api import expect

    lab = open_lab("chat.ipynb")
    lab.run_all()
    logs = [lab.page.get_by_role("log", name=f"Conversation with {name}") for name in ("before", "after")]
    left, right = (log.bounding_box() for log in logs)
    assert left["x"] + left["width"] <= right["x"]
    assert left["y"] == right["y"]
    message, send = lab.page.get_by_role("textbox", name="message"), lab.page.get_by_role("button", name="Send")
    for question in ("Where do <b>rivers</b> end?\nAnd where do they begin?", "Why? " * 5):
        message.fill(question)
        send.click()
        for log in logs:
            expect(log).to_contain_text(question.replace("\n", " ").strip())
    expect(lab.page.get_by_text("lost its oldest turns")).to_be_visible()
    assert message.input_value() == ""
    replies = [log.text_content().split("Model:")[1:] for log in logs]
    assert [len(said) for said in replies] == [2, 2]
    assert replies[0] != replies[1]
    require_accessible(lab, "chat")
    lab.page.get_by_role("button", name="Reset").click()
    expect(logs[0]).not_to_contain_text("Why?")


def test_a_prompt_is_continued_by_all_specialists_side_by_side(open_lab):
    from playwright.sync_api import expect

    lab = open_lab("specialists.ipynb")
    lab.run_all()
    regions = [lab.page.get_by_role("region", name=f"Reply of {name}") for name in ("tiny", "hospital", "law")]
    boxes = [region.bounding_box() for region in regions]
    assert all(one["x"] + one["width"] <= other["x"] for one, other in pairwise(boxes))
    assert len({box["y"] for box in boxes}) == 1
    prompt, ask = lab.page.get_by_role("textbox", name="prompt"), lab.page.get_by_role("button", name="Ask all")
    example = lab.page.get_by_role("combobox", name="example")
    prompt.fill(" ")
    expect(example).to_have_value("(your own)")
    ask.click()
    expect(lab.page.get_by_text("Write a prompt first.")).to_be_visible()
    example.select_option(label="Finding: <b>high</b> fever ⏎ Department:")
    expect(prompt).to_have_value("Finding: <b>high</b> fever\nDepartment:")
    example.focus()
    for control in (prompt, ask):  # by keyboard
        lab.page.keyboard.press("Tab")
        expect(control).to_be_focused()
    lab.page.keyboard.press("Enter")
    expect(lab.page.get_by_text("3 replies in one batch")).to_be_visible()
    for region in regions:
        expect(region).to_contain_text("24 tokens")
    assert len({region.text_content() for region in regions}) == 3
    expect(ask).to_be_enabled()
    require_accessible(lab, "specialists")


def test_sampled_replies_with_their_rewards_can_be_read(open_lab):
    lab = open_lab("episodes.ipynb")
    lab.run_all()
    assert lab.page.get_by_role("table").count() == 2
    figure = lab.page.get_by_role("figure", name="Rewards of 3 replies to 2 prompts")
    assert figure.evaluate("it => it.scrollWidth <= it.clientWidth")
    whole = "all => all.map(it => it.getClientRects().length)"
    tokens = figure.locator("span[title]").evaluate_all(whole)
    assert len(tokens) == 40
    assert sum(lines > 1 for lines in tokens) == 1  # the one that is longer than a line
    lines = """all => all.map(it => {
        const text = document.createRange()
        text.selectNodeContents(it)
        return text.getClientRects().length
    })"""
    assert {*figure.get_by_role("columnheader").evaluate_all(lines)} == {1}
    require_accessible(lab, "episodes")
