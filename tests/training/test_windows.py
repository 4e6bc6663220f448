import labkit as lk
from labkit.training.windows import encode_text


def test_plain_text_is_learned_but_for_its_first_token(tiny):
    (example,) = encode_text(tiny, ["The cat sat on the mat.", "a"], 512)  # one token has nothing before it
    assert tiny.tokenizer.decode(example.tokens) == "The cat sat on the mat."
    assert example.learned == len(example.tokens) - 1
    assert encode_text(tiny, ["a", "b"], 512) == []


def test_long_text_is_learned_in_parts(tiny):
    text = "The cat sat on the mat and it sat there."
    parts = encode_text(tiny, [text], 5)
    learned = [token for part in parts for token in part.tokens[-part.learned :]]
    assert learned == tiny.tokenizer(text)["input_ids"][1:]
    assert {len(part.tokens) for part in parts} == {5}


def test_no_window_is_wider_than_the_model_can_read(llama, smollm, triage):
    small = lk.Model(
        "small", llama(len(smollm.tokenizer), max_position_embeddings=24), smollm.tokenizer, "causal", None
    )
    assert max(len(example.tokens) for example in encode_text(small, triage.train["prompt"][:12], 512)) == 24
