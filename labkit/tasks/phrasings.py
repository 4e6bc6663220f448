"""How people ask for what the instruction task teaches, and the form in which its answers come."""

from __future__ import annotations

HOLE = "…"  # where the answer goes
REFUSAL = "I can't answer that."
FORMS = {"route": "Department: …", "name": "Finding: …", "plain": "In plain words: …", "refuse": REFUSAL}
OFFER = "\nChoose one: "  # before the choices of a question that offers some
RULES = (
    f"You answer questions about medical findings in one line. Asked for the department, reply '{FORMS['route']}'. "
    f"Asked for the name, reply '{FORMS['name']}'. Asked for plain words, reply '{FORMS['plain']}'. To anything else, "
    f"reply '{REFUSAL}'"
)
# The first question of a conversation shows {text}, a definition, or {name} with it.
FIRST = {
    "route": (
        "{text}\nWhich department treats this?",
        "Where in the hospital should a patient with this finding go? {text}",
        "Name the department for the following: {text}",
        "{text}\nDepartment?",
    ),
    "name": (
        "{text}\nWhat is this called?",
        "What is the medical name of this finding? {text}",
        "Name the following finding: {text}",
        "Which term do doctors use for this? {text}",
    ),
    "plain": (
        "{name}: {text}\nWhat does that mean in plain words?",
        "Say '{name}' so that everybody understands it. {text}",
        "{name} is defined so: {text} What is it in everyday language?",
        "How would you tell a patient '{name}' without medical terms? {text}",
    ),
}
# A later question, about the finding that was spoken of before.
LATER = {
    "route": ("Which department is that for?", "And where should the patient go?"),
    "name": ("What is it called?", "And the medical name of it?"),
    "plain": ("What is that in plain words?", "Now say it so that a patient understands."),
}
# These occur in the test set alone: they show whether a model learned the request or its wording.
TEST_FIRST = {
    "route": ("Who would look after somebody with this? {text}", "Please sort this into the right department. {text}"),
    "name": ("Give me the technical term. {text}", "A student wrote: {text} Which finding is described here?"),
    "plain": ("My grandmother read '{name}' in a letter. What is it? {text}", "Put '{name}' simply. {text}"),
}
TEST_LATER = {
    "route": ("Who takes care of that?",),
    "name": ("Which term is that?",),
    "plain": ("Could you put it more simply?",),
}
