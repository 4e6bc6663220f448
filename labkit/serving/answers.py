"""What a reply looks like to an OpenAI client: whole, or in chunks."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

DONE = "data: [DONE]\n\n"


def event(content: dict[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


@dataclass
class Answer:
    """The answer to a request.

    Attributes:
        model: the name that was asked for.
        read: the prompt's tokens.
        chat: whether it is a chat's answer or a completion.
        id, created: the same in all chunks of an answer.
    """

    model: str
    read: int
    chat: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, finish: str, tokens: int) -> dict[str, Any]:
        """Return the answer of a request that doesn't stream."""
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        return self._frame("", [self._choice(said, finish)]) | {"usage": self.usage(tokens)}

    def first(self) -> dict[str, Any] | None:
        """Return the chunk before the text: a chat's says who speaks."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None) if self.chat else None

    def piece(self, text: str, finish: str | None) -> dict[str, Any]:
        """Return a chunk with text, or with the reason why there will be no more."""
        return self._chunk({"delta": {"content": text} if text else {}} if self.chat else {"text": text}, finish)

    def counts(self, tokens: int) -> dict[str, Any]:
        """Return the chunk with the counts of tokens."""
        return self._frame(".chunk", []) | {"usage": self.usage(tokens)}

    def usage(self, tokens: int) -> dict[str, int]:
        """Return how many tokens were read and written."""
        return {"prompt_tokens": self.read, "completion_tokens": tokens, "total_tokens": self.read + tokens}

    def _chunk(self, said: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return self._frame(".chunk", [self._choice(said, finish)])

    def _choice(self, said: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {"index": 0, **said, "logprobs": None, "finish_reason": finish}

    def _frame(self, part: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        prefix, kind = ("chatcmpl", f"chat.completion{part}") if self.chat else ("cmpl", "text_completion")
        return {
            "id": f"{prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
