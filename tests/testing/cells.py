"""Cells whose stored outputs are a little off, and what nbval says of each with labkit's plugin.

``labkit refresh`` has to judge them alike.
"""

import nbformat
import pandas as pd
from nbformat.v4 import new_code_cell, new_notebook, new_output

TABLE = 'import pandas as pd\ntable = pd.DataFrame({"loss": [%s, 12.5], "steps": [10, 20]})\ntable'


def stream(text, name="stdout"):
    return [new_output("stream", name=name, text=text)]


def table(loss):
    frame = pd.DataFrame({"loss": [loss, 12.5], "steps": [10, 20]})
    data = {"text/plain": repr(frame), "text/html": frame._repr_html_()}
    return [new_output("execute_result", data=data, execution_count=1)]


# Source, stored outputs, and what the report says where the cell fails.
CELLS = {
    "equal": ("print(4.30)", stream("4.3\n"), None),
    "digits": ("print(4.3)", stream("4.31\n"), "reference_output == test_output failed"),
    "near": ("print('loss', 4.3)  # ±2%", stream("loss 4.35\n"), None),
    "planted": (
        "print('loss', 4.3)  # ±2%",
        stream("loss 4.48\n"),
        "4.48 is stored, and 4.3 is new; ±2% allows 0.0896",
    ),
    "text": ("print('loss', 4.3)  # ±2%", stream("Loss 4.3\n"), "reference_output == test_output failed"),
    "more": ("print(4.3, 1.0)  # ±2%", stream("4.3\n"), "reference_output == test_output failed"),
    "integer": ("print(100)  # ±2%", stream("101\n"), "whole numbers must be equal"),
    "steps": ("print(100)  # ±3", stream("101\n"), None),
    "table": (TABLE % 4.3 + "  # ±2%", table(4.35), None),
    "wider table": (TABLE % 9.99 + "  # ±2%", table(10.01), None),
    "wrong table": (TABLE % 4.3 + "  # ±2%", table(4.5), "text/html, line"),
    "two streams": (
        "import sys\nprint(1.0)\nprint(2.0, file=sys.stderr)  # ±2%",
        [*stream("1.01\n"), *stream("2.01\n", "stderr")],
        None,
    ),
    "two markers": ("print(1.0)  # ±2%\nprint(2.0)  # ±3%", stream("1.0\n2.0\n"), "several"),
    "pictures and widgets": (
        "from IPython.display import display\n"
        "display({'image/png': 'bmV3', 'application/vnd.jupyter.widget-view+json': {'model_id': 'b'},"
        " 'text/plain': 'a figure'}, raw=True)",
        [
            new_output(
                "display_data",
                data={
                    "image/png": "b2xk",
                    "application/vnd.jupyter.widget-view+json": {"model_id": "a"},
                    "text/plain": "a figure",
                },
            )
        ],
        None,
    ),
    "words of a picture": (
        "from IPython.display import display\ndisplay({'image/png': 'bmV3', 'text/plain': 'mean 3.1'}, raw=True)",
        [new_output("display_data", data={"image/png": "b2xk", "text/plain": "mean 3.0"})],
        None,
    ),
    "ignored": ("# NBVAL_IGNORE_OUTPUT\nprint(1.0)  # ±2%", stream("9.0\n"), None),
    "error": ("1 / 0  # ±2%", [], "ZeroDivisionError"),
}


def write_notebook(path, cells=CELLS):
    made = [new_code_cell(source, outputs=outputs, execution_count=1) for source, outputs, _ in cells.values()]
    nbformat.write(new_notebook(cells=made), path)
