"""Write the Modelfile from which Ollama makes a model."""

from __future__ import annotations

from pathlib import Path

from labkit.conversations.templates import render
from labkit.errors import LabkitError
from labkit.exports.errors import ExportError
from labkit.exports.gguf_tokenizer import all_ends
from labkit.models.model import Model
from labkit.storage.files import write_text

_TURNS = [{"role": "user", "content": "x1"}, {"role": "assistant", "content": "y2"}, {"role": "user", "content": "z3"}]


def write_modelfile(
    model: Model, path: str | Path, weights: str = "model-q8_0.gguf", adapter: str | None = None
) -> None:
    """Write a Modelfile: run ``ollama create NAME -f Modelfile`` in its folder.

    Ollama renders conversations with Go's templates and not with the tokenizer's. A wrong one is the usual reason
    why a model answers badly there, so the template is written only where it gives the same text as the tokenizer's.

    Args:
        model: what was exported.
        path: the file to write.
        weights: the GGUF file that Ollama loads, as seen from the Modelfile's folder.
        adapter: a GGUF adapter for it.

    Raises:
        ExportError: labkit knows no Go template for the tokenizer's chat template, or a name does not fit on a line.
        LabkitError: the tokenizer has no chat template, or the disk is full.
    """
    lines = [f"FROM {_file(weights)}"]
    if adapter is not None:
        lines.append(f"ADAPTER {_file(adapter)}")
    lines.append(f'TEMPLATE """{go_template(model)}"""')
    ends = [str(model.tokenizer.decode([token])) for token in sorted(all_ends(model))]
    lines += [f'PARAMETER stop "{end}"' for end in ends]
    write_text(Path(path), "\n".join(lines) + "\n")


def go_template(model: Model) -> str:
    """Return the Go template that renders conversations as a tokenizer with ChatML does, its default system included.

    Raises:
        ExportError: the tokenizer's template is another.
    """
    begin, tokenizer = "<|im_start|>", model.tokenizer

    def chatml(turns: list[dict[str, str]]) -> str:
        said = "".join(f"{begin}{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
        return f"{said}{begin}assistant\n"

    system = {"role": "system", "content": "s0"}
    written = render(tokenizer, _TURNS, reply=True)
    default = written.removesuffix(chatml(_TURNS))
    same = written.endswith(chatml(_TURNS)) and "x1" not in default
    if not (same and render(tokenizer, [system, *_TURNS], reply=True) == chatml([system, *_TURNS])):
        raise ExportError(
            f"labkit knows no Go template that renders conversations as {model.name}'s tokenizer does.",
            "Known is ChatML (<|im_start|>role … <|im_end|>), which SmolLM2 uses. Write the TEMPLATE by hand.",
        )
    if "{{" in default or '"""' in default:
        raise ExportError(
            f"The system message that {model.name} has by default cannot stand in a Modelfile: {default!r}.",
            'It must hold neither {{ nor """.',
        )
    first = f"{{{{ if not .System }}}}{default}{{{{ end }}}}" if default else ""
    turns = f"{{{{ range .Messages }}}}{begin}{{{{ .Role }}}}\n{{{{ .Content }}}}<|im_end|>\n{{{{ end }}}}"
    return f"{first}{turns}{begin}assistant\n"


def _file(name: str) -> str:
    if not name or name != name.strip() or not name.isprintable() or '"' in name:
        raise LabkitError(
            f"A Modelfile cannot name the file {name!r}.", "Choose a name of letters, digits, spaces, - and _."
        )
    return name if name.startswith(("/", "./", "../")) else f"./{name}"
