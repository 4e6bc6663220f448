"""What a request may say: the parameters that are honoured. Any other is refused by its name, never ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# Parameters of OpenAI's that change nothing at these values; ``user`` only names who asks.
NEUTRAL: dict[str, list[Any]] = {
    "best_of": [1],
    "echo": [False],
    "frequency_penalty": [0],
    "logit_bias": [{}],
    "logprobs": [False],
    "n": [1],
    "parallel_tool_calls": [False, True],
    "presence_penalty": [0],
    "response_format": [{"type": "text"}],
    "store": [False],
    "suffix": [""],
    "tool_choice": ["none"],
    "tools": [[]],
    "top_logprobs": [0],
}
GREEDY = 0.01  # below this temperature, the likeliest token is taken: the next one would hardly ever be drawn


def _whole(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise ValueError("the text holds half a character (a lone surrogate)") from problem
    return text


Whole = Annotated[str, AfterValidator(_whole)]
Text = Annotated[Whole, Field(min_length=1)]


class Strict(BaseModel):
    """A part of a request: numbers are no texts, and what nobody reads is refused."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_neutral(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        kept = {}
        for name, value in given.items():
            if name in cls.model_fields:
                kept[name] = value
            elif value is not None and value not in NEUTRAL.get(name, ()):
                known = ", ".join(cls.model_fields)
                raise ValueError(f"{name!r} is not supported here; these are: {known}")
        return kept


class StreamOptions(Strict):
    """What a stream brings beside the reply."""

    include_usage: bool | None = None


class Asked(Strict):
    """What both kinds of requests have."""

    model: Text
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    stop: Text | Annotated[list[Text], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Whole | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the reply."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the counts of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


class Part(Strict):
    """A part of a message; only texts can be read."""

    type: Literal["text"]
    text: Whole


class Message(Strict):
    """A turn of a conversation."""

    role: Whole
    content: Whole | list[Part]

    def plain(self) -> dict[str, str]:
        """Return the message with one text."""
        whole = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": whole}


class ChatRequest(Asked):
    """The body of ``/v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> ChatRequest:
        if self.max_tokens is not None and self.max_completion_tokens not in (None, self.max_tokens):
            raise ValueError("max_tokens and max_completion_tokens differ: give one of them")
        return self


class CompletionRequest(Asked):
    """The body of ``/v1/completions``."""

    prompt: (
        Whole | Annotated[list[Whole], Field(min_length=1, max_length=1)] | Annotated[list[int], Field(min_length=1)]
    )
