import pytest
import torch
from families import families, llama_of
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

import labkit as lk
from labkit.models.encoding import prompt_ids
from labkit.models.generation import continue_text

PROMPT = "The sky in the north"
HOSTILE = {
    "no_repeat_ngram_size": 1,
    "num_beams": 3,
    "repetition_penalty": 5.0,
    "min_length": 400,
    "max_length": 3,
    "suppress_tokens": list(range(10, 60)),
    "begin_suppress_tokens": list(range(60, 200)),
    "bad_words_ids": [[token] for token in range(200, 300)],
    "forced_bos_token_id": 7,
    "forced_eos_token_id": 9,
    "exponential_decay_length_penalty": (1, 50.0),
    "sequence_bias": [[[8], 1000.0]],
    "max_time": 0.0,
    "cache_implementation": "static",
}


@torch.no_grad()
def likeliest_ids(model, prompt, count):
    """The prompt and what follows; everything is read anew for each token."""
    (start,) = prompt_ids(model, [prompt])
    ids = torch.tensor([start])
    for _ in range(count):
        ids = torch.cat([ids, model.module(ids).logits[:, -1:].argmax(-1)], 1)
    return start, ids[0, len(start) :].tolist()


def likeliest(model, prompt, count):
    start, added = likeliest_ids(model, prompt, count)
    before, whole = (model.tokenizer.decode(ids, skip_special_tokens=True) for ids in (start, start + added))
    return whole.removeprefix(before)


def quiet(model):
    """A model to which no token ends a text."""
    model.tokenizer.eos_token = None
    model.module.config.eos_token_id = model.module.generation_config.eos_token_id = None
    return model


@pytest.fixture
def fresh():
    def make(name="byte-level", **sizes):
        tokenizer = families()[name].tokenizer
        own = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>")
        return llama_of(own, **sizes)

    return make


def test_what_the_files_say_of_generation_makes_no_difference(fresh):
    model = quiet(fresh())
    expected = likeliest(model, PROMPT, 8)
    assert len(expected) > 4
    for name, value in {**HOSTILE, "do_sample": True}.items():
        model.module.generation_config = GenerationConfig(**{name: value})
        assert model.generate(PROMPT, 8) == expected, name
    model.module.generation_config = GenerationConfig(**HOSTILE)
    assert model.generate(PROMPT, 8) == expected
    model.module.config.use_cache = False
    assert model.generate(PROMPT, 8) == expected


def test_any_token_that_ends_a_text_ends_it(fresh):
    model = quiet(fresh())
    _, added = likeliest_ids(model, PROMPT, 6)
    place = next(n for n in range(1, 6) if added[n] not in added[:n])
    before = likeliest(model, PROMPT, place)
    end, config = added[place], model.module.config
    for eos in (end, [300, end]):
        config.eos_token_id = eos
        assert model.generate(PROMPT, 6) == before
        config.eos_token_id, model.module.generation_config.eos_token_id = 301, eos
        assert model.generate(PROMPT, 6) == before
        model.module.generation_config.eos_token_id = None
    model.tokenizer.eos_token = model.tokenizer.convert_ids_to_tokens(end)
    assert model.tokenizer.eos_token_id == end != config.eos_token_id
    assert model.generate(PROMPT, 6) == before


def test_the_answer_is_what_follows_in_the_text(fresh):
    """A first word keeps its space, whatever the tokenizer does to a text that begins with it."""
    for name, model in families().items():
        wanted = model.tokenizer(" sea", add_special_tokens=False)["input_ids"][-1]

        def prefer(module, args, output, wanted=wanted):
            output.logits[..., wanted] += 1000
            return output

        handle = model.module.register_forward_hook(prefer)
        (start,) = prompt_ids(model, ["The"])
        both = [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in (start, [*start, wanted])]
        assert model.generate("The", 1) == both[1].removeprefix(both[0]) != "", name
        handle.remove()


def test_generation_starts_from_nothing(fresh):
    model = fresh()
    assert model.generate("", 3) == continue_text(model, "<s>", 3) != ""
    model.tokenizer.bos_token = None
    assert model.generate("", 3) == continue_text(model, "</s>", 3)
    model = quiet(model)
    with pytest.raises(lk.LabkitError, match=r"is empty.*no token that begins a text"):
        model.generate("", 3)
    assert model.generate("The sky", 3)  # neither an end nor a padding token is needed


def test_prompt_and_answer_fit_what_the_model_can_read(fresh):
    model = fresh("byte-level, <s> $A", max_position_embeddings=16)
    long, seen = "The sky in the north is blue, and rivers run into the sea.", []
    (ids,) = prompt_ids(model, [long])
    model.module.register_forward_pre_hook(lambda m, a, inputs: seen.append(inputs["input_ids"][0]), with_kwargs=True)
    with pytest.warns(lk.TruncationWarning, match=r"^The prompt was longer than 12 tokens and lost its beginning\.$"):
        model.generate(long, 4)
    assert seen[0].tolist() == [1, *ids[-11:]]
    for count in (15, 16, 400):
        with pytest.raises(lk.LabkitError, match=r"Nothing is left of prompt 1.*can read 16 tokens"):
            model.generate(long, count)


def test_a_count_of_tokens_is_a_count(fresh):
    for count in (0, -1, 1.5, True, None, "3"):
        with pytest.raises(lk.LabkitError, match="max_new_tokens must be a whole number from 1 up"):
            fresh().generate(PROMPT, count)


SIZES = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"initializer_range": 0.2, "init_std": 0.2, "intermediate_size": 64, "ffn_dim": 64, "word_embed_proj_dim": 32}
SIZES |= {"n_positions": 64, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ARCHITECTURES = {
    **{
        "gpt2": {},
        "gpt_neox": {},
        "opt": {},
        "falcon": {},
        "bloom": {},
        "phi3": {},
        "qwen2": {"num_key_value_heads": 4},
        "mamba": {},
    },
    "mistral": {"sliding_window": 6, "num_key_value_heads": 4},
    "gemma2": {"head_dim": 8, "sliding_window": 6},
    "gemma3_text": {"head_dim": 8, "sliding_window": 6},
}


def test_the_cache_changes_nothing_in_any_architecture(fresh):
    tokenizer = quiet(fresh()).tokenizer
    for name, more in ARCHITECTURES.items():
        torch.manual_seed(0)
        config = AutoConfig.for_model(name, **SIZES, **more)
        model = lk.Model(name, AutoModelForCausalLM.from_config(config).eval(), tokenizer, "causal", torch.float32)
        assert quiet(model).generate(PROMPT, 8) == likeliest(model, PROMPT, 8) != "", name
