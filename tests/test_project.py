"""What stands around the code: workflows, forms, citation, lock, dev container and links agree with the project."""

import copy
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").iterdir() if path.name != "config.yml")
CACHE = 'echo "LABKIT_HOME=${RUNNER_TEMP}/labkit" >> "${GITHUB_ENV}"'


class Loader(yaml.SafeLoader):
    """YAML 1.2, as GitHub reads it: ``on`` is a word, not true."""


Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if letter in "tTfF" or tag != "tag:yaml.org,2002:bool"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader)


def faults(document, schema):
    schema = json.loads((ROOT / "tests" / "schemas" / f"{schema}.json").read_text(encoding="utf-8"))
    return [fault.message for fault in jsonschema.Draft7Validator(schema).iter_errors(document)]


def jobs():
    """Yield the name of each workflow, and each of its jobs."""
    for path in WORKFLOWS:
        for job in read(path)["jobs"].values():
            yield path.name, job


def make_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split())


def test_what_github_reads_follows_its_schemas():
    for path in WORKFLOWS:
        document = read(path)
        assert faults(document, "github-workflows") == [], path.name
        for spoil in (
            lambda it: it.pop("on"),
            lambda it: it.update(permissions={"contents": "all"}),
            lambda it: next(iter(it["jobs"].values())).pop("runs-on"),
            lambda it: next(iter(it["jobs"].values()))["steps"].append({"name": "neither run nor uses"}),
            lambda it: next(iter(it["jobs"].values())).update({"timeout_minutes": 5}),
        ):
            spoiled = copy.deepcopy(document)
            spoil(spoiled)
            assert faults(spoiled, "github-workflows"), path.name
    for path in FORMS:
        form = read(path)
        assert faults(form, "github-issue-forms") == [], path.name
        assert faults(form | {"body": [{"type": "text"}]}, "github-issue-forms"), path.name
        asked = [question["id"] for question in form["body"]]
        assert len(set(asked)) == len(asked), path.name
    config = read(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml")
    assert faults(config, "github-issue-config") == []
    assert faults(config | {"links": []}, "github-issue-config")


def test_workflows_may_do_little_and_end():
    for path in WORKFLOWS:
        workflow = read(path)
        assert workflow["permissions"] == {"contents": "read"}, path.name
        assert workflow["concurrency"]["group"], path.name
        assert "pull_request_target" not in workflow["on"], path.name
    for name, job in jobs():
        assert job["timeout-minutes"] <= 180, name
        assert "permissions" not in job, name
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|[0-9a-f]{40})", step["uses"]), (name, step)
            # What a stranger can write, such as a title, must not become part of a command.
            assert "${{" not in step.get("run", ""), (name, step)


def test_workflows_run_what_a_person_runs():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    typed = {line.strip() for block in readme.split("```")[1::2] for line in block.splitlines()}
    seen = set()
    for name, job in jobs():
        commands = [line for step in job["steps"] for line in step.get("run", "").splitlines()]
        # The cache is worth nothing unless the folder is set before it, and both before anything is fetched.
        cache = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/cache@"))
        assert cache["with"]["path"] == "${{ env.LABKIT_HOME }}/assets", name
        assert job["steps"].index({"run": CACHE}) < job["steps"].index(cache), name
        assert commands.pop(0) == CACHE, name
        for command in commands:
            if command.startswith("make "):
                target, *settings = command.split()[1:]
                assert target in make_targets(), (name, command)
                assert set(settings) <= {"LOCK="}, (name, command)
                seen.add(" ".join([target, *settings]))
            else:
                assert job["runs-on"] == "windows-latest", (name, command)
                assert command.replace(".venv/Scripts/", ".venv/bin/") in typed, (name, command)
                seen.add(command)
    assert seen >= {"check", "unit", "notebooks", "unit LOCK=", "notebooks LOCK="}
    # On Windows nothing of the README's tests is left out.
    tests = next(block for block in readme.split("```")[1::2] if "--nbval" in block)
    assert {line.replace(".venv/bin/", ".venv/Scripts/") for line in tests.split("\n") if line} <= seen


def test_workflows_cover_three_systems_and_two_pythons():
    covered = set()
    for name, job in jobs():
        if name == "test.yml":
            matrix = job["strategy"]["matrix"]
            covered |= {(s, p) for s in matrix.get("system", [job["runs-on"]]) for p in matrix["python"]}
    assert covered == {(f"{s}-latest", p) for s in ("ubuntu", "macos", "windows") for p in ("3.11", "3.13")}


def test_forms_ask_for_what_is_needed_to_answer():
    asked = {path.stem: {question["id"]: question for question in read(path)["body"]} for path in FORMS}
    assert asked.keys() == {"bug", "notebook", "idea"}
    doctor = asked["bug"]["doctor"]
    assert "labkit doctor" in doctor["attributes"]["description"]
    assert doctor["validations"]["required"]
    offered = asked["notebook"]["notebook"]["attributes"]["options"]
    lessons = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
    assert [option for option in offered if re.match(r"\d\d_", option)] == lessons


def test_the_citation_agrees_with_pyproject():
    citation, project = read(ROOT / "CITATION.cff"), PROJECT["project"]
    assert faults(citation, "citation-file-format") == []
    assert faults({key: value for key, value in citation.items() if key != "authors"}, "citation-file-format")
    for key in ("version", "license", "keywords"):
        assert citation[key] == project[key], key
    # No address is known until the course has one: then both files name it.
    assert citation.get("repository-code", "") == project.get("urls", {}).get("Repository", "")


def test_one_lock_serves_make_the_readme_and_binder():
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert all(re.match(r"[\w.-]+==[\w.]+( ;|$)", line) for line in lock)
    torch = next(line for line in lock if line.startswith("torch=="))
    assert PROJECT["tool"]["uv"]["constraint-dependencies"] == [torch]
    assert f" install {torch}\n" in (ROOT / "README.md").read_text(encoding="utf-8")
    # pip resolves -r beside the file that holds it, but -e beside the folder that it is called from.
    (line,) = (ROOT / "binder" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    option, path = line.split()
    assert option == "-r"
    assert (ROOT / "binder" / path).resolve() == ROOT / "requirements.lock"


def test_the_dev_container_is_set_up_by_make():
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"python:3\.(11|13)", container["image"])
    make, target = container["postCreateCommand"].split()
    assert make == "make"
    assert target in make_targets()


def test_every_package_is_installed():
    found = {path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("labkit/**/__init__.py")}
    assert {*PROJECT["tool"]["setuptools"]["packages"]} - {"labkit.data"} == {name.replace("/", ".") for name in found}


def dry_run(*arguments):
    command = ["make", "--dry-run", "--always-make", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_installs_with_uv_or_pip_with_the_lock_or_without():
    for uv in ("", "/a/folder/uv"):
        for lock in ("requirements.lock", ""):
            lines = [line for line in dry_run("setup", f"UV={uv}", f"LOCK={lock}") if "pip install" in line]
            torch, course = (re.sub(" +", " ", line) for line in lines)
            for line in (torch, course):
                tries = line.split(" || ")
                assert tries.pop().startswith(".venv/bin/python -m pip install ")  # where uv fails, pip takes over
                assert [word.split()[0] for word in tries] == ([uv] if uv else [])
                # [tool.uv] holds torch back, which must not count without the lock.
                assert ("--no-config" in line) == (uv != "" and lock == "")
            assert bool(re.search(r" torch==\S+$", torch)) == bool(lock)
            assert course.count("--constraint requirements.lock") == (len(course.split(" || ")) if lock else 0)
    asked = [line for line in dry_run("setup", "TORCH_INDEX=ADDRESS") if "--index-url" in line]
    assert len(asked) == 1  # for torch, and for nothing else
    assert "--index-url ADDRESS torch==" in asked[0]


def test_links_lead_to_files_that_exist():
    pages = [
        *ROOT.glob("*.md"),
        *(path for room in ("docs", "data", "notebooks") for path in ROOT.glob(f"{room}/**/*.md")),
    ]
    texts = {path: path.read_text(encoding="utf-8") for path in pages}
    for path in ROOT.glob("notebooks/**/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts[path] = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    seen = 0
    for path, text in texts.items():
        for target in re.findall(r"\]\(([^()\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
            if not re.match(r"https?:|#", target):
                seen += 1
                assert (path.parent / target.split("#")[0]).exists(), f"{path.relative_to(ROOT)}: {target}"
    assert seen > 20
