"""A notebook open in JupyterLab: run it, move its widgets, look at it in a theme."""

import re
from pathlib import Path

# A list to choose from has a picture of an arrow behind it, and a block is no text: axe can tell no contrast of these.
CONTRASTLESS = re.compile(r"^<select|^<b>█</b>$")
# What axe says of a sign alone, such as that of a line's end. It has the colours of its neighbours.
SIGNS = "only non-text characters"
WINDOW = {"width": 1280, "height": 900}
RUN = 900  # seconds that a notebook may take
# What axe looks at: what cells show, not JupyterLab's own toolbars and menus.
# JupyterLab 4 shows no alternative text of pictures in outputs: what is asked of these is in `faults`.
OUTPUTS = {"include": [[".jp-OutputArea-output"]], "exclude": [[".jp-RenderedImage > img"]]}
# Contrast, names, roles, alternative texts and the order of focus; "experimental" has the rule on this order.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental"]}
CONTROLS = "select, .widget-toggle-buttons, [role=slider], input"

# JupyterLab's debugger asks a kernel for its state, and complains if it is restarted meanwhile.
HARMLESS = ("Could not restore the debugger state",)

HELPERS = """
window.course = {
  panel: () => jupyterapp.shell.currentWidget,
  node: selector => course.panel().content.node.querySelector(selector),
  kernel: () => course.panel()?.sessionContext?.session?.kernel,
  code: () => course.panel().content.widgets.map(cell => cell.model)
    .filter(model => model.type === "code" && model.sharedModel.source.trim()),
  outputs: () => course.code().flatMap(model => model.outputs.toJSON()),
  errors: () => course.outputs().filter(out => out.output_type === "error"),
  height: () => new Promise(end =>  // after the next frame, which may bring more of the cells
    requestAnimationFrame(() => requestAnimationFrame(() => end(course.node(".jp-WindowedPanel-inner").offsetHeight)))),
  // The promise of run-all-cells ends with the run; a wait for it could not be told from one for a dead kernel.
  ran: () => course.errors().length > 0 ||
    course.code().every(model => model.executionCount) && course.kernel().status === "idle",
  // Note when somebody first touches a widget, and when what it shows has changed since: its picture, its words.
  watch: root => {
    const seen = course.seen = {};
    const touched = () => seen.touched ??= performance.now();
    for (const kind of ["pointerdown", "keydown", "change"])
      root.addEventListener(kind, touched, {capture: true, once: true});
    course.observer = new MutationObserver(changes => changes.forEach(async ({target}) => {
      const picture = target.matches("img") ? target : target.querySelector(":scope > img");
      if (picture) await picture.decode();
      if (picture || target.matches(".widget-html-content")) {
        seen[picture ? "picture" : "words"] = performance.now();
        seen.first ??= performance.now();
      }
    }));
    course.observer.observe(root, {subtree: true, childList: true, attributes: true, attributeFilter: ["src"]});
  },
}
"""


class LabPage:
    """A notebook in JupyterLab, and what the browser complained of meanwhile."""

    def __init__(self, page, address: str, notebook: str):
        self.page, self.complaints = page, []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda line: self.complaints.append(line.text) if is_complaint(line) else None)
        page.add_init_script(HELPERS)
        page.goto(address.format(notebook))
        self.wait("window.jupyterapp && course.kernel()?.status === 'idle'")

    def wait(self, condition: str, seconds: float = 60) -> None:
        self.page.wait_for_function(condition, timeout=1000 * seconds)

    def command(self, name: str, **arguments) -> None:
        # Not awaited here: some commands end with the run that they start, or with a dialog.
        start = "([name, given]) => {course.ended = jupyterapp.commands.execute(name, given)}"
        self.page.evaluate(start, [name, arguments])

    def run_all(self) -> None:
        """Clear all outputs, run all cells, and require that each ran and none failed."""
        self.command("notebook:clear-all-cell-outputs")
        self.page.evaluate("course.ended")
        self.command("notebook:run-all-cells")
        self.wait("course.ran()", RUN)
        assert self.page.evaluate("course.errors()") == []

    def restart(self) -> None:
        """Restart the kernel, and say yes when asked."""
        self.command("kernelmenu:restart")
        self.page.get_by_role("button", name="Confirm Kernel Restart").click()
        self.page.evaluate("course.ended")
        self.wait("course.kernel().status === 'idle'")

    def run(self, cell: int) -> None:
        """Run a single cell."""
        self.page.evaluate("cell => {course.panel().content.activeCellIndex = cell}", cell)
        self.command("notebook:run-cell")
        self.wait("course.panel().content.activeCell.model.executionCount && course.ran()")

    def printed(self) -> str:
        """Return what the cells printed."""
        streams = "course.outputs().filter(out => out.output_type === 'stream')"
        return self.page.evaluate(f"{streams}.map(out => [out.text].flat().join('')).join('')")

    def close(self) -> None:
        """End the kernel, which holds gigabytes, and close the page."""
        self.page.evaluate("course.panel().sessionContext.shutdown()")
        self.page.close()

    def theme(self, name: str) -> None:
        self.command("apputils:change-theme", theme=name)
        self.wait(f"document.body.dataset.jpThemeName === '{name}' && !document.querySelector('#jupyterlab-splash')")

    def widgets(self):
        """Return the widgets that hold a control and a picture."""
        outputs = self.page.locator(".jp-OutputArea-output")
        return outputs.filter(has=self.page.locator(CONTROLS)).filter(has=self.page.locator("img")).all()

    def tab_stops(self, widget) -> tuple[list[str], list[str]]:
        """Return where the Tab key stops within a widget, and where it should: all that takes focus, in order."""
        widget.evaluate("root => {course.stops = [...root.querySelectorAll('button, input, select, [tabindex]')]}")
        expected = self.page.evaluate("course.stops.map(it => it.outerHTML)")
        self.page.evaluate("course.stops[0].focus()")
        stops = []
        for _ in expected:
            stops.append(self.page.evaluate("document.activeElement.outerHTML"))
            self.page.keyboard.press("Tab")
        return stops, expected

    def seconds_to_answer(self, widget, control, answer: str) -> tuple[float, float]:
        """Move a control; return after how many seconds the widget showed anything new, and its ``answer``.

        An answer is ``"words"`` or a ``"picture"``. The page's own clock is read, so the test's overhead doesn't count.
        """
        widget.evaluate("root => course.watch(root)")
        move(control)
        self.wait(f"course.seen.{answer} && course.kernel().status === 'idle'")
        self.page.evaluate("course.observer.disconnect()")
        seen = self.page.evaluate("course.seen")
        return (seen["first"] - seen["touched"]) / 1000, (seen[answer] - seen["touched"]) / 1000

    def faults(self) -> list[str]:
        """Return what axe finds wrong with the outputs, in the theme that is on."""
        from axe_playwright_python.sync_playwright import Axe  # of the extra `browser`

        # JupyterLab's body has no height and hides what leaves it: axe would take all for hidden.
        self.page.evaluate("document.body.style.height = '100vh'")
        found = Axe().run(self.page, context=OUTPUTS, options=RULES).response
        # Nothing passes where nothing is seen; and of a contrast that axe can't tell, nobody knows that it is enough.
        assert "color-contrast" in {rule["id"] for rule in found["passes"]}
        unknown = [rule for rule in found["incomplete"] if rule["id"] == "color-contrast"]
        faults = [
            f"{rule['id']}: {' '.join(node['failureSummary'].split())}: {node['html'][:200]}"
            for rule in found["violations"] + unknown
            for node in rule["nodes"]
            if rule not in unknown or not (CONTRASTLESS.search(node["html"]) or SIGNS in node["failureSummary"])
        ]
        # Where other programs find the words for a figure, and JupyterLab may one day.
        figures = [out for out in self.page.evaluate("course.outputs()") if "image/png" in out.get("data", {})]
        mute = [out["data"]["text/plain"] for out in figures if not out["metadata"].get("image/png", {}).get("alt")]
        return faults + [f"a figure without words: {text}" for text in mute]

    def shoot(self, folder: Path, name: str) -> None:
        """Keep pictures of the whole notebook, in a window as high as it is, and of each figure."""
        # JupyterLab draws cells out of sight later, and guesses their height until then.
        self.page.add_style_tag(content=".jp-Cell {content-visibility: visible !important}")
        shown = 0
        while (height := self.page.evaluate("course.height()")) > shown:
            shown = height + 100
            self.page.set_viewport_size({"width": 1280, "height": shown + 100})  # of menus and bars
        self.page.evaluate("course.node('.jp-WindowedPanel-outer').scrollTop = 0")
        self.page.screenshot(path=folder / f"{name}.png")
        for number, figure in enumerate(self.page.locator(".jp-OutputArea-output:has(img)").all(), 1):
            figure.screenshot(path=folder / f"{name}-{number:02}.png")


def is_complaint(line) -> bool:
    return line.type == "error" and not line.text.startswith(HARMLESS)


def move(control) -> None:
    """Move a control as a person would: to the next choice, one step on, or to the button beside the one that is on."""
    kind = control.evaluate("it => it.type || it.role || it.tagName")
    if kind == "select-one":
        control.select_option(index=control.evaluate("it => (it.selectedIndex + 1) % it.length"))
    elif kind == "slider":
        control.press("ArrowRight")
    elif kind == "checkbox":
        control.click()
    else:
        control.locator("button:has(+ .mod-active), .mod-active + button").first.click()


def label(control) -> str:
    """Return the words beside a control."""
    row = control.locator("xpath=ancestor-or-self::*[contains(@class, 'widget-')][label][1]")
    return " ".join(row.locator("label").last.text_content().split())
