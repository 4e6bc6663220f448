"""What the check of a file says of each fault in ``labkit.exports.FAULTS``, planted in small Llamas."""

FOUND = [
    (
        "wrong template",
        True,
        r"the chat template \(.*\) has .* where the model's own has .<\|im_end",
    ),
    ("missing end token", True, "the token that ends a text .* is missing, not 14"),
    ("wrong rope base", True, "the base of the rotary positions .* is 5000.0, not 50000.0"),
    ("permuted q and k", True, r"blk.0.attn_q.weight has its rows in the order of transformers.* blk.1.attn_k.weight"),
    ("lost tied head", False, "output.weight is missing. The head of this model is not tied"),
    ("lost tied head", True, "output.weight is not of this model: the head, which this model ties"),
]
