"""Write the install cell of every notebook: `make install-cells`, after `[project.urls]` in pyproject.toml changed.

The course is on no package index, so no cell may install it by name: whoever registered that name would run code on
learners' machines. A cell installs the folder that its notebook is in, with the extras that notebooks need. Outside of
that folder it installs one commit of the repository (the name before ``@`` only carries the extras: pip looks up no
index), or, while pyproject.toml names no repository, says that the course has to be cloned.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = "lab,quant,peft"
# What only these notebooks need, by their first two digits.
MORE = {"08": ",trade", "09": ",curation", "10": ",trade", "11": ",trade", "12": ",serve,llama,trade"}
BLOCK = re.compile(r"^try:\n    import labkit as lk\nexcept ImportError.*?\n    import labkit as lk$", re.M | re.S)
COURSE = """[f"{file.parent}[EXTRAS]" for file in files if b'name = "finetune-labkit"' in file.read_bytes()]"""
OPENING = """\
try:
    import labkit as lk
except ImportError as problem:  # install it from the course's folder, which holds this notebook
    from pathlib import Path

    here = Path.cwd()
    files = [file for folder in (here, *here.parents) for file in folder.glob("pyproject.toml")]
    files += here.glob("*/pyproject.toml")  # on Colab, the clone lies below
    course = COURSE
""".replace("COURSE", COURSE)
LOCAL_ONLY = """\
    if not course:
        message = "This notebook isn't inside the course's folder; clone the course with git and open it there."
        raise ImportError(message) from problem
    %pip install --quiet "{course[0]}"
    import labkit as lk"""
WITH_ADDRESS = """\
    course += ["finetune-labkit[EXTRAS] @ git+ADDRESS@COMMIT"]
    %pip install --quiet "{course[0]}"
    import labkit as lk"""


def install_cell(address: str = "", commit: str = "", notebook: str = "") -> str:
    """Return the code that opens a notebook; without an address it installs from the notebook's own folder alone.

    A notebook's name says which extras it needs.

    Both go into a line that IPython and a shell read, so nothing but a plain address and a full hash may enter.
    """
    extras = EXTRAS + MORE.get(notebook[:2], "")
    # Wrapped as the formatter does it where the line is too long, and again where it still is.
    wrapped = COURSE[1:-1]
    if len(wrapped.replace("EXTRAS", extras)) > 120 - 8:  # a line, less its indentation
        wrapped = re.sub(r" (?=for |if )", "\n        ", wrapped)
    opening = OPENING if extras == EXTRAS else OPENING.replace(COURSE, f"[\n        {wrapped}\n    ]")
    if not address:
        return (opening + LOCAL_ONLY).replace("[EXTRAS]", f"[{extras}]")
    if not re.fullmatch(r"https://[\w.-]+(/[\w.~-]+)+", address, re.ASCII):
        raise SystemExit(f"The repository's address in pyproject.toml must be a plain https://… one, not {address!r}.")
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise SystemExit(f"The commit must be a full hash of 40 hexadecimal digits, not {commit!r}.")
    cell = opening + WITH_ADDRESS.replace("ADDRESS", address).replace("COMMIT", commit)
    return cell.replace("[EXTRAS]", f"[{extras}]")


def repository(root: Path = ROOT) -> str:
    """Return the repository's address from ``[project.urls]``; empty where there is none."""
    urls = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    return urls.get("Repository", "")


def lessons(root: Path = ROOT) -> list[Path]:
    """Return the notebooks that begin with an install cell."""
    return sorted((root / "notebooks").glob("*.ipynb"))


def rewritten(path: Path, cell: str) -> str:
    """Return a notebook's text with ``cell`` in place of its install code, all else the same to the byte."""
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    if _as_text(notebook) != text:
        raise SystemExit(f"{path} isn't laid out as Jupyter does it: save it in JupyterLab first.")
    first = next((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), {"source": ""})
    source = "".join(first["source"])  # a list of lines, or one text
    if len(BLOCK.findall(source)) != 1:
        raise SystemExit(f"The first code cell of {path} has no `try: import labkit as lk … except ImportError`.")
    changed = BLOCK.sub(lambda _: cell, source)
    first["source"] = changed if isinstance(first["source"], str) else changed.splitlines(keepends=True)
    return _as_text(notebook)


def _as_text(notebook: dict) -> str:
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def write(path: Path, text: str) -> None:
    """Replace a file at once: a reader, or a crash, finds the old text or the new one."""
    descriptor, new = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(new, path.stat().st_mode)
        os.replace(new, path)
    except BaseException:
        Path(new).unlink()
        raise


def main(arguments: list[str] | None = None, root: Path = ROOT) -> None:
    """Rewrite the install cells of all notebooks, or of none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commit", help="what to install outside of a clone (default: the commit checked out here)")
    options = parser.parse_args(arguments)
    address, commit = repository(root), options.commit
    if address and commit is None:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, check=True, capture_output=True, text=True)
        commit = asked.stdout.strip()
    cells = {path: install_cell(address, commit or "", path.name) for path in lessons(root)}
    for path, text in [(path, rewritten(path, cell)) for path, cell in cells.items()]:
        write(path, text)
        print(path.relative_to(root))


if __name__ == "__main__":
    main()
